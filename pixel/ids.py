"""Names for things: ids in order of time, and random ones."""

import base64
import os
import re
import secrets
import threading
import time
from functools import lru_cache

_CROCKFORD = bytes.maketrans(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", b"0123456789abcdefghjkmnpqrstvwxyz")
_BASE62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_LAST = {"dev": "d", "live": "v"}
_REQUEST_ID = re.compile(r"req_[0-7][0-9a-hjkmnp-tv-z]{25}")


def in_time(prefix):
    """`prefix` and a UUIDv7 (RFC 9562) as 26 characters of lower-case Crockford base32: sorts by its time."""
    if not _chance.stock:
        _chance.stock = _random_parts()
    return prefix + _time_part(time.time_ns() // 1_000_000) + _chance.stock.pop()


def of_request(environment):
    """A new request id. Its last character tells the environment: d for dev, v for live."""
    return in_time("req_")[:-1] + _LAST[environment]


def environment(request_id):
    """The environment that a request id was made in, or None where it does not tell."""
    return {last: name for name, last in _LAST.items()}.get(request_id[-1])


class _Chance(threading.local):
    """Random bytes in stock, because each call to the system lets go of Python's interpreter lock."""

    stock = ()


_chance = _Chance()


@lru_cache(2)
def _time_part(milliseconds):
    """The first ten characters: the 48 bits of time, after two of nothing."""
    return base64.b32encode((milliseconds << 30).to_bytes(10, "big"))[:10].translate(_CROCKFORD).decode()


def _random_parts():
    """A hundred times the last sixteen characters: version, variant and 74 random bits."""
    numbers = bytearray(os.urandom(1000))
    for start in range(0, 1000, 10):
        numbers[start] = 0x70 | numbers[start] & 0x0F
        numbers[start + 2] = 0x80 | numbers[start + 2] & 0x3F
    text = base64.b32encode(numbers).translate(_CROCKFORD).decode()
    return [text[start : start + 16] for start in range(0, 1600, 16)]


def _after_fork():
    global _chance
    _chance = _Chance()


os.register_at_fork(after_in_child=_after_fork)


def milliseconds(in_time_id):
    """When an id of `in_time` was made, in milliseconds since 1970."""
    digits = in_time_id[-26:].upper()
    number = 0
    for digit in digits:
        number = number * 32 + "0123456789ABCDEFGHJKMNPQRSTVWXYZ".index(digit)
    return number >> 80


def find_request_id(text):
    """The first request id within `text`, or None: it may come with quotes, spaces or a whole error around it."""
    found = _REQUEST_ID.search(text)
    return found.group() if found else None


def random(length):
    """`length` random base62 characters: 5.95 bits each."""
    return "".join(secrets.choice(_BASE62) for _ in range(length))


def base62(number, length):
    """A number as `length` base62 characters, padded with zeros."""
    digits = ""
    for _ in range(length):
        number, rest = divmod(number, 62)
        digits = _BASE62[rest] + digits
    return digits
