"""Remove from texts what the request log must not keep, before they are written anywhere.

Each pattern takes linear time for any text: callers choose what is matched here. Repetitions are possessive where a
pattern could otherwise go back, and a match starts only where a run of its characters starts.
"""

import re
from collections.abc import Callable

from pixel import percent
from pixel.text_cache import remember

MOST_BYTES = 8 * 1024
#: Characters that are kept of a query string.
MOST_QUERY = 4000
#: Longer than any secret that is known only by how it ends.
_MARGIN = 512
_MOST_TRACE = 256 * 1024
#: An IPv6 address with an IPv4 address at its end has 45 characters, and a zone a few more.
_LONGEST_ADDRESS = 64


def _any_case(words: str) -> str:
    """Return a pattern of `words` in upper or lower case: IGNORECASE takes eight times as long to begin a match."""
    return re.sub("[a-z]", lambda letter: f"[{letter[0]}{letter[0].upper()}]", words)


_KEY = re.compile(r"([pP][xX][lL]_[0-9A-Za-z]{1,10}+_[0-9A-Za-z]{0,3}+)[0-9A-Za-z]*+(?:…\[key\])?")
_TOKEN = re.compile(r"eyJ(?<!\weyJ)[\w-]{5,}+(?:\.[\w-]*+){0,2}")
_PARAMETER_NAMES = _any_case("token|key|api_key|access_token|id_token|refresh_token|password|secret")
_PARAMETER = re.compile(rf"([?&#](?=[A-Za-z_]{{3,13}}=)(?:{_PARAMETER_NAMES})=)[^&#\s\"\\]+")
#: The same behind each "&" of a query string that begins with one, whatever characters the value has.
_QUERY_PARAMETER = re.compile(rf"(&(?=[A-Za-z_]{{3,13}}=)(?:{_PARAMETER_NAMES})=)[^&]*")
_NAME_CHARACTER = r"[^\s@\"'<>(),:;=&/?\\]"
#: An e-mail address up to its @. The group is its domain, which is kept.
_EMAIL_NAME = re.compile(rf"(?<!{_NAME_CHARACTER}){_NAME_CHARACTER}++@(?=([\w-]++\.))")
_MANY_DIGITS = re.compile(r"[0-9][0-9 -]{12}")
#: Numbers with one space or dash between them, none of them part of a word or a decimal.
_NUMBERS = re.compile(
    r"([0-9](?<![\w.][0-9])(?=(?:[ -]?[0-9]){4})(?=[0-9 -]{12})[0-9]*+(?!\.?\w)(?:[ -][0-9]++(?!\.?\w))*+)"
)
_ASCII_ESCAPE = re.compile(r"%[2-7][0-9A-Fa-f]")
_LEAST_DIGITS, _MOST_DIGITS = 13, 19
_FIELD_NAMES = _any_case(
    "ip|password|passwd|secret|token|authorization|api_?key|access_?token|refresh_?token|cookie|cvc|cvv"
)
_FIELD = re.compile(rf'("(?=[A-Za-z_]{{2,13}}")(?:{_FIELD_NAMES})"\s*+:\s*+)(?:"[^"\\]*+(?:\\.[^"\\]*+)*+"?|[\w.+-]+)')
#: Printable characters that JSON spells as escapes, but for the quote and the backslash.
_ESCAPE = re.compile(r"\\u00((?!22|5[cC])[2-7][0-9a-fA-F])")


def body(raw: bytes) -> str:
    """Return a request or response body as text that may be kept: at most 8 KiB, without secrets or addresses."""
    text = raw[: MOST_BYTES + _MARGIN].decode("utf-8", "replace")
    if "\\u00" in text:
        parts = _ESCAPE.split(text)
        parts[1::2] = bytes.fromhex("".join(parts[1::2])).decode("ascii")
        text = "".join(parts)
    cut = len(raw) > MOST_BYTES
    if cut:
        text = text[: _before_any_secret(text, MOST_BYTES)]
    text = _bounded(_secrets(_keep_group(_FIELD, '"[redacted]"', text)))
    return text + f"… [{len(raw)} bytes in all]" if cut else text


def query(text: str) -> str:
    """Return a query string that may be kept, decoded if a secret shows only then."""
    kept = _seen_through(text[: MOST_QUERY + _MARGIN], _query_secrets)
    return kept if len(kept) <= MOST_QUERY else f"{kept[:MOST_QUERY]}… [{len(text)} characters in all]"


def line(text: str) -> str:
    """Return a path or a header that may be kept, decoded if a secret shows only then."""
    return _seen_through(text[: 2000 + _MARGIN], _secrets)[:2000]


def trace(text: str) -> str:
    """Return the end of a traceback that may be kept."""
    text = _secrets(_keep_group(_FIELD, '"[redacted]"', text[-_MOST_TRACE:]))
    return text[-MOST_BYTES:]


def _seen_through(text: str, redact: Callable[[str], str]) -> str:
    """Return `text` without the secrets that `redact` finds in it, or in what it decodes to in up to three steps."""
    kept = text = redact(text)
    for _ in range(3):
        # Other escapes are no part of a secret.
        if "+" not in text and not _ASCII_ESCAPE.search(text):
            break
        text = percent.decode(text)
        if (clean := redact(text)) != text:
            kept = text = clean
    return kept


def _query_secrets(text: str) -> str:
    if "=" in text:
        text = _keep_group(_QUERY_PARAMETER, "[redacted]", "&" + text)[1:]
    return _secrets(text, parameters="?" in text or "#" in text)


def _secrets(text: str, parameters: bool = True) -> str:
    # Most texts lack the sign of a pattern, and are not searched for it.
    if "eyJ" in text:
        text = _TOKEN.sub("[token]", text)
    if "pxl_" in text or "PXL_" in text:
        text = _keep_group(_KEY, "…[key]", text)
    if parameters and "=" in text:
        text = _keep_group(_PARAMETER, "[redacted]", text)
    if "@" in text:
        text = _EMAIL_NAME.sub("[…]@", text)
    if _MANY_DIGITS.search(text):
        parts = _NUMBERS.split(text)
        parts[1::2] = [numbers if len(numbers) < _LEAST_DIGITS else _without_card(numbers) for numbers in parts[1::2]]
        text = "".join(parts)
    return text


def _without_card(numbers: str) -> str:
    """Return the replacement for numbers with as many digits together as a card number has."""
    if numbers.isdecimal():
        return numbers if len(numbers) > _MOST_DIGITS else "[card number]"
    digits = len(numbers) - numbers.count(" ") - numbers.count("-")
    return numbers if digits < _LEAST_DIGITS else "[card number]"


def _keep_group(pattern: re.Pattern, replacement: str, text: str) -> str:
    r"""Return `pattern.sub(r"\1" + replacement, text)`, in a quarter of its time per match."""
    parts = pattern.split(text)
    if len(parts) == 1:
        return text
    parts[1::2] = [group + replacement for group in parts[1::2]]
    return "".join(parts)


def _before_any_secret(text: str, place: int) -> int:
    """Return the last place up to `place` where a cut does not divide a secret that is known by how it ends.

    These are addresses and numbers. Half of any other secret still matches its pattern.
    """
    begin = max(0, place - 2 * _MARGIN)
    around = text[begin:]
    spans = [(match.start(), match.end(1)) for match in _EMAIL_NAME.finditer(around)]
    spans += [match.span() for match in _NUMBERS.finditer(around)]
    for start, end in sorted(spans, reverse=True):
        if begin + start < place < begin + end:
            place = begin + start
    return place


def _bounded(text: str) -> str:
    # A replacement may be longer than the secret.
    return text.encode()[:MOST_BYTES].decode("utf-8", "ignore") if len(text) * 4 > MOST_BYTES else text


def address(text: str) -> str:
    """Return a client address without its last part: 203.0.113.0 for 203.0.113.9, and an IPv6 address's /48.

    A text that is too long to be an address becomes ''.
    """
    return _without_last_part(text) if len(text) <= _LONGEST_ADDRESS else ""


@remember(512 << 10)
def _without_last_part(text: str) -> str:
    if ":" in text and "." not in text:
        return ":".join(_full_ipv6(text)[:3]) + "::"
    head, dot, _ = text.rpartition(".")
    return f"{head}.0" if dot else ""


def _full_ipv6(text):
    head, _, tail = text.split("%")[0].partition("::")
    left = [part for part in head.split(":") if part]
    right = [part for part in tail.split(":") if part]
    return left + ["0"] * (8 - len(left) - len(right)) + right
