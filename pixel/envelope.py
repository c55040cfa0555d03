"""The envelope of every response of the JSON API, and the strict parser of JSON bodies."""

import json
import math
import re
from itertools import islice
from typing import Any

import orjson
from flask import Response

MAX_DEPTH = 20
#: The values that one JSON text may have, unless the caller of `loads` sets another limit.
MOST_VALUES = 1000
_INT64 = range(-(2**63), 2**63)


class NotStrictJson(ValueError):
    """The text is not JSON as RFC 8259 and this API want it; the message says where and why."""


def success(data, request_id, status=200, **meta):
    """A response with `{"data": ..., "meta": {"request_id": ..., ...}}`."""
    return _response({"data": data, "meta": {"request_id": request_id, **meta}}, status)


def failure(error, request_id):
    """A response with `{"error": {...}, "meta": {"request_id": ...}}` for a PixelError."""
    body = {"error": {"code": error.code, "message": error.message, "details": error.details}}
    return _response(body | {"meta": {"request_id": request_id}}, error.status)


def bare(data):
    """A response with data alone, for what is no part of the API."""
    return _response(data, 200)


def _response(body, status):
    return Response(orjson.dumps(body, default=str), status=status, mimetype="application/json")


def loads(raw: bytes, most_values: int = MOST_VALUES) -> Any:
    """Parse JSON strictly. Raise NotStrictJson.

    Refused beyond plain syntax errors: anything but UTF-8 without a byte order mark, NaN, Infinity and numbers that
    overflow to it, integers past 64 bits, duplicate keys, lone surrogates, NUL, nesting over 20 levels, and more than
    `most_values` values, which bounds the time: a value takes as long as some 300 characters of text.
    """
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise NotStrictJson(f"Not UTF-8: byte {error.start}.") from None
    if text.startswith("\ufeff"):
        raise NotStrictJson("Must not begin with a byte order mark.")
    if text.count(",") >= most_values and _has_commas(text, most_values):
        raise NotStrictJson(f"Has more than {most_values:,} values.")
    try:
        value = _DECODER.decode(text)
    except json.JSONDecodeError as error:
        raise NotStrictJson(f"Not JSON: {error.msg}, line {error.lineno}, column {error.colno}.") from None
    except RecursionError:
        raise NotStrictJson(f"Nested deeper than {MAX_DEPTH} levels.") from None
    if text.count("[") + text.count("{") > MAX_DEPTH and _depth(value) > MAX_DEPTH:
        raise NotStrictJson(f"Nested deeper than {MAX_DEPTH} levels.")
    if "\\u" in text and _UNSTORABLE.search(text):
        _refuse_unstorable(value)
    return value


#: A comma between values, with all that stands before it.
_COMMA = re.compile(r'(?:[^",]++|"[^"\\]*+(?:\\.[^"\\]*+)*+"?)*+,', re.DOTALL)
#: What may be NUL or a lone surrogate.
_UNSTORABLE = re.compile(r"\\u(?:0000|[dD][89a-fA-F])")


def _has_commas(text: str, number: int) -> bool:
    """Return whether `text` has at least `number` commas outside of strings."""
    commas = iter(_COMMA.scanner(text).match, None)
    return next(islice(commas, number - 1, None), None) is not None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        seen: set[str] = set()
        for name, _ in pairs:
            if name in seen:
                raise NotStrictJson(f"Duplicate key {name[:100]!r}.")
            seen.add(name)
    return members


def _integer(digits):
    # int() is quadratic in the number of digits, so the length is looked at first.
    if len(digits) > 20 or int(digits) not in _INT64:
        raise NotStrictJson("An integer does not fit in 64 bits.")
    return int(digits)


def _number(text):
    value = float(text)
    if math.isinf(value):
        raise NotStrictJson("A number is too large.")
    return value


def _constant(name):
    raise NotStrictJson(f"{name} is not JSON.")


_DECODER = json.JSONDecoder(
    object_pairs_hook=_object, parse_int=_integer, parse_float=_number, parse_constant=_constant
)


def _depth(value):
    depth, level = 0, [value]
    while level := [v for v in level if isinstance(v, (dict, list))]:
        depth += 1
        if depth > MAX_DEPTH:
            break
        level = [item for v in level for item in (v.values() if isinstance(v, dict) else v)]
    return depth


def _refuse_unstorable(value):
    text = json.dumps(value, ensure_ascii=False)
    if "\\u0000" in text.replace("\\\\", ""):
        raise NotStrictJson("Text must not contain NUL.")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise NotStrictJson("Text must not contain a lone surrogate.") from None
