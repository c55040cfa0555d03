"""Reading what a request carries: its query string and its body."""

import re
import zlib
from itertools import islice
from typing import Any

from flask import g, request
from marshmallow import ValidationError
from werkzeug.exceptions import ClientDisconnected

from pixel import envelope, errors, letters
from pixel.intake import schemas

JSON = "application/json"
#: What a browser's beacon says its JSON is.
TEXT = "text/plain"
NDJSON = "application/x-ndjson"
_LINE = re.compile(rb"\S[^\n]*")
_BATCH = schemas.Batch()
#: Lines beyond this number are not counted.
_COUNTED = 100_000
#: Values of a batch for each event that it may have. An event has at most 90.
_VALUES_OF_EVENT = 200
#: The longest Content-Type and Content-Encoding that are parsed: parsing takes as long as a whole hit for some of 8 KB.
_LONGEST_HEADER = 200


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


def lines(most):
    """The events of a batch: `{"events": [...]}` or NDJSON, which may be gzipped. An item is a value, or NotStrictJson.

    Raises UnsupportedMediaType, PayloadTooLarge, ValidationError or InvalidBody, also when there is none or more than
    `most`.
    """
    found = _lines(_raw(JSON, NDJSON, gzip=True), most)
    _refuse_number(len(found), most)
    return found


def _lines(raw, most):
    if request.mimetype == NDJSON:
        # A kilobyte of gzip may be half a million lines: nothing is read before they are known to be few.
        begun = [line.start() for line in islice(_LINE.finditer(raw), _COUNTED)]
        _refuse_number(len(begun), most)
        return [_line(_LINE.match(raw, start)[0]) for start in begun]
    body = envelope.loads(raw, most * _VALUES_OF_EVENT)
    if not isinstance(body, dict):
        raise errors.InvalidBody(_body=['Must be a JSON object with one field, "events", a list.'])
    return _BATCH.load(body)["events"]


def _refuse_number(number: int, most: int) -> None:
    """Raise InvalidBody unless a batch of `number` events may be taken."""
    if not 1 <= number <= most:
        more = " or more" if number == _COUNTED else ""
        raise errors.InvalidBody(events=[f"Must have 1 to {most} events, not {number}{more}."])


def _line(line: bytes) -> Any:
    try:
        return envelope.loads(line, _VALUES_OF_EVENT)
    except envelope.NotStrictJson as error:
        # Its traceback would hold on to everything that was at hand.
        return error.with_traceback(None)


def _raw(*expected: str, gzip: bool = False) -> bytes:
    asked = request._get_current_object()
    content_type = asked.environ.get("CONTENT_TYPE", "")
    if content_type != JSON:
        if len(content_type) > _LONGEST_HEADER:
            raise errors.UnsupportedMediaType(expected=list(expected))
        charset = letters.lower(asked.mimetype_params.get("charset", "utf-8"))
        if asked.mimetype not in expected or charset not in ("utf-8", "utf8"):
            raise errors.UnsupportedMediaType(expected=list(expected))
    encoding = letters.lower(asked.environ.get("HTTP_CONTENT_ENCODING", "identity"))
    if encoding not in (("identity", "gzip") if gzip else ("identity",)):
        raise errors.UnsupportedMediaType(
            f"The Content-Encoding {encoding[:20]!r} is not taken here.", expected=list(expected)
        )
    raw = _read(asked)
    # gunicorn says that it ends the body, so Werkzeug takes for the whole what has come of it.
    if asked.content_length and len(raw) < asked.content_length:
        raise errors.InvalidBody(_body=["The body ended before its Content-Length."])
    if len(raw) > g.most_bytes:
        raise errors.PayloadTooLarge(limit_bytes=g.most_bytes)
    if encoding == "gzip":
        raw = _inflated(raw, g.most_bytes)
    g.entry.body = raw
    return raw


def _read(asked):
    """The body, and never much more of it than may come."""
    try:
        if asked.environ.get("wsgi.input_terminated"):
            # The server knows where it ends, and Werkzeug's own care would cost as much as reading it.
            return asked.environ["wsgi.input"].read(g.most_bytes + 1)
        return asked.get_data(cache=False)
    except (ClientDisconnected, OSError, ValueError):
        return b""


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
