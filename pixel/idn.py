"""Internationalised host names in ASCII, as browsers send them: UTS 46, non-transitional."""

import re
import unicodedata

import idna

LONGEST_NAME, LONGEST_LABEL = 253, 63

_PREFIX = "xn--"
#: The full stops that UTS 46 reads as a dot.
_DOTS = re.compile("[.\u3002\uff0e\uff61]")
_JOINERS = re.compile("[\u200c\u200d]")
_DIGITS = "abcdefghijklmnopqrstuvwxyz0123456789"


def to_ascii(name: str) -> str:
    """Return a host name in lower-case ASCII, or '' if it has no such form.

    A name is limited to 253 bytes and a label to 63 characters, before and after each step. The time is therefore
    bounded too: about 0.1 ms for the most expensive names.
    """
    if name.isascii():
        return name.lower() if len(name.removesuffix(".")) <= LONGEST_NAME else ""
    if len(name) > LONGEST_NAME or len(name.encode("utf-8", "replace")) > LONGEST_NAME:
        return ""
    labels: list[str] = []
    left = LONGEST_NAME + 1
    try:
        for label in _DOTS.split(name):
            labels.append(_encode_label(label))
            left -= len(labels[-1]) + 1
            if left < 0:
                return ""
    except ValueError:
        return ""
    return ".".join(labels)


def _encode_label(label: str) -> str:
    """Return one label in ASCII. Raise UnicodeError if it is too long or not valid."""
    if len(label) > LONGEST_LABEL:
        raise UnicodeError("label too long")
    mapped = idna.uts46_remap(label, std3_rules=False)
    if mapped.isascii():
        if len(mapped) > LONGEST_LABEL:
            raise UnicodeError("label too long")
        return mapped
    if len(mapped) > LONGEST_LABEL - len(_PREFIX):
        raise UnicodeError("label too long")
    if unicodedata.category(mapped[0]).startswith("M"):
        raise UnicodeError("label begins with a combining mark")
    for joiner in _JOINERS.finditer(mapped):
        if not idna.valid_contextj(mapped, joiner.start()):
            raise UnicodeError("joiner out of context")
    idna.check_bidi(mapped)
    return _PREFIX + _punycode(mapped, LONGEST_LABEL - len(_PREFIX))


def _punycode(text: str, limit: int) -> str:
    """Encode `text` (RFC 3492). Raise UnicodeError at the first output character beyond `limit`.

    Python's codec takes 0.5 ms for a label that turns out to be too long.
    """
    points = [ord(character) for character in text]
    output = [character for character in text if character.isascii()]
    handled = basic = len(output)
    if basic:
        output.append("-")
    point, delta, bias = 128, 0, 72
    for following in sorted({value for value in points if value >= 128}):
        delta += (following - point) * (handled + 1)
        point = following
        for value in points:
            if value < point:
                delta += 1
            elif value == point:
                _append_integer(output, delta, bias)
                if len(output) > limit:
                    raise UnicodeError("label too long")
                bias = _adapt(delta, handled + 1, handled == basic)
                delta = 0
                handled += 1
        delta += 1
        point += 1
    return "".join(output)


def _append_integer(output: list[str], value: int, bias: int) -> None:
    """Append `value` as a generalised variable-length integer (RFC 3492, section 3.3)."""
    base = 36
    while True:
        threshold = min(max(base - bias, 1), 26)
        if value < threshold:
            output.append(_DIGITS[value])
            return
        value, digit = divmod(value - threshold, 36 - threshold)
        output.append(_DIGITS[threshold + digit])
        base += 36


def _adapt(delta: int, length: int, first: bool) -> int:
    """Return the next bias (RFC 3492, section 6.1)."""
    delta //= 700 if first else 2
    delta += delta // length
    steps = 0
    while delta > 455:
        delta //= 35
        steps += 36
    return steps + 36 * delta // (delta + 38)
