"""Reading what a request carries: its query string and its body."""

import zlib

from flask import g, request
from marshmallow import ValidationError
from werkzeug.exceptions import ClientDisconnected

from pixel import envelope, errors

JSON = "application/json"
#: What a browser's beacon says its JSON is.
TEXT = "text/plain"
NDJSON = "application/x-ndjson"


def query(schema):
    """The query parameters, each given once, loaded by `schema`. Raises InvalidQuery."""
    if not request.environ.get("QUERY_STRING"):
        return {}
    given = request.args.to_dict(flat=False)
    wrong = {name[:100]: ["Given more than once."] for name, values in given.items() if len(values) > 1}
    if wrong:
        raise errors.InvalidQuery(**wrong)
    try:
        return schema.load({name: values[0] for name, values in given.items()})
    except ValidationError as error:
        raise errors.InvalidQuery(**errors.flat(_as_parameters(error.messages))) from None


def json(*types):
    """The JSON body, sent as one of these types. Raises UnsupportedMediaType, PayloadTooLarge or NotStrictJson."""
    return envelope.loads(_raw(*(types or (JSON,))))


def lines():
    """The events of a batch: `{"events": [...]}` or NDJSON, which may be gzipped. An item is a value, or NotStrictJson.

    Raises UnsupportedMediaType, PayloadTooLarge or InvalidBody.
    """
    raw = _raw(JSON, NDJSON, gzip=True)
    if request.mimetype == NDJSON:
        return [_line(line) for line in raw.split(b"\n") if line.strip()]
    body = envelope.loads(raw)
    if not isinstance(body, dict) or body.keys() != {"events"} or not isinstance(body["events"], list):
        raise errors.InvalidBody(_body=['Must be a JSON object with one field, "events", a list.'])
    return body["events"]


def _line(line):
    try:
        return envelope.loads(line)
    except envelope.NotStrictJson as error:
        return error


def _raw(*expected, gzip=False):
    asked = request._get_current_object()
    if asked.environ.get("CONTENT_TYPE") != JSON:
        charset = asked.mimetype_params.get("charset", "utf-8").lower()
        if asked.mimetype not in expected or charset not in ("utf-8", "utf8"):
            raise errors.UnsupportedMediaType(expected=list(expected))
    encoding = asked.environ.get("HTTP_CONTENT_ENCODING", "identity").lower()
    if encoding not in (("identity", "gzip") if gzip else ("identity",)):
        raise errors.UnsupportedMediaType(
            f"The Content-Encoding {encoding[:20]!r} is not taken here.", expected=list(expected)
        )
    try:
        raw = asked.get_data(cache=False)
    except ClientDisconnected:
        raise errors.InvalidBody(_body=["The body ended before its Content-Length."]) from None
    if len(raw) > g.most_bytes:
        raise errors.PayloadTooLarge(limit_bytes=g.most_bytes)
    if encoding == "gzip":
        raw = _inflated(raw, g.most_bytes)
    g.entry.body = raw
    return raw


def _inflated(raw, most_bytes):
    """The gzip data inflated, and never much beyond `most_bytes`."""
    inflater = zlib.decompressobj(wbits=31)
    try:
        inflated = inflater.decompress(raw, most_bytes + 1)
    except zlib.error:
        raise errors.InvalidBody(_body=["Not gzip data."]) from None
    if len(inflated) > most_bytes:
        raise errors.PayloadTooLarge(limit_bytes=most_bytes)
    if not inflater.eof or inflater.unused_data:
        raise errors.InvalidBody(_body=["The gzip data is cut short, or more follows it."])
    return inflated


def _as_parameters(messages):
    """The same messages, speaking of parameters."""
    return {
        name: [message.replace("Unknown field", "Unknown parameter") for message in found]
        for name, found in messages.items()
    }
