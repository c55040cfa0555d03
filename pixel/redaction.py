"""What a request log must not keep is taken out here, before it is written anywhere."""

import re
from functools import lru_cache
from urllib.parse import unquote_plus

MOST_BYTES = 8 * 1024
#: Longer than any secret that is known only by how it ends.
_MARGIN = 512
_MOST_TRACE = 256 * 1024

_KEY = re.compile(r"(pxl_[0-9a-z]{1,10}_[0-9A-Za-z]{0,3})[0-9A-Za-z]*", re.IGNORECASE)
#: What is taken out: how it begins (or what it cannot do without), its pattern, and what stands in its place. A text
#: without the first is not searched for the second, which is what keeps this cheap.
_SECRETS = (
    ("eyJ", re.compile(r"\beyJ[\w-]{5,}(?:\.[\w-]*){0,2}"), "[token]"),
    ("pxl_", _KEY, r"\1…[key]"),
    ("PXL_", _KEY, r"\1…[key]"),
    (
        "=",
        re.compile(r"([?&#](?:token|key|api_key|(?:access|id|refresh)_token|password|secret)=)[^&#\s\"\\]+", re.I),
        r"\1[redacted]",
    ),
    ("@", re.compile(r"[^\s@\"'<>(),:;=&/?\\]{1,64}@([\w-]+\.)"), r"[…]@\1"),
)
_MANY_DIGITS = re.compile(r"\d[\d -]{11,}\d")
_CARD = re.compile(r"(?<![\w.])\d(?:[ -]?\d){12,18}(?![\w.])")
_FIELDS = re.compile(
    r'("(?:ip|password|passwd|secret|token|authorization|api_?key|access_?token|refresh_?token|cookie|cvc|cvv)"\s*:\s*)'
    r'("(?:[^"\\]|\\.)*"?|[\w.+-]+)',
    re.IGNORECASE,
)
_PARAMETERS = re.compile(r"((?:^|&)(?:token|key|api_key|access_token|password|secret)=)[^&]*", re.IGNORECASE)
#: Printable characters that JSON spells as escapes, but for the quote and the backslash.
_ESCAPES = re.compile(r"\\u00((?!22|5[cC])[2-7][0-9a-fA-F])")


def body(raw: bytes):
    """A request or response body as text that may be kept: at most 8 KiB, without secrets or addresses."""
    text = raw[: MOST_BYTES + _MARGIN].decode("utf-8", "replace")
    if "\\u00" in text:
        text = _ESCAPES.sub(lambda escape: chr(int(escape[1], 16)), text)
    cut = len(raw) > MOST_BYTES
    if cut:
        text = text[: _before_any_secret(text, MOST_BYTES)]
    text = _bounded(_secrets(_FIELDS.sub(r'\1"[redacted]"', text)))
    return text + f"… [{len(raw)} bytes in all]" if cut else text


def query(text: str):
    """A query string that may be kept, decoded if a secret shows only then."""
    return _bounded(_seen_through(text, _parameters))


def line(text: str):
    """A path or a header that may be kept, decoded if a secret shows only then."""
    return _seen_through(text[: 2000 + _MARGIN], _secrets)[:2000]


def trace(text: str):
    """The end of a traceback that may be kept."""
    text = _secrets(_FIELDS.sub(r'\1"[redacted]"', text[-_MOST_TRACE:]))
    return text[-MOST_BYTES:]


def _seen_through(text, redact):
    """A text without what `redact` takes out of it, and out of what it is when decoded up to three times."""
    kept = text = redact(text)
    for _ in range(3):
        if "%" not in text and "+" not in text:
            break
        text = unquote_plus(text)
        if (clean := redact(text)) != text:
            kept = text = clean
    return kept


def _parameters(text):
    return _secrets(_PARAMETERS.sub(r"\1[redacted]", text))


def _secrets(text):
    for sign, pattern, instead in _SECRETS:
        if sign in text:
            text = pattern.sub(instead, text)
    return _CARD.sub("[card number]", text) if _MANY_DIGITS.search(text) else text


def _before_any_secret(text, place):
    """The last place up to `place` where a cut leaves no half of a secret, which no pattern would know."""
    spans = [
        match.span() for pattern in (_FIELDS, _CARD, *(p for _, p, _ in _SECRETS)) for match in pattern.finditer(text)
    ]
    while around := [start for start, end in spans if start < place < end]:
        place = min(around)
    return place


def _bounded(text):
    # What takes a secret's place may be longer than the secret was.
    return text.encode()[:MOST_BYTES].decode("utf-8", "ignore") if len(text) * 4 > MOST_BYTES else text


@lru_cache(10_000)
def address(text: str):
    """A client address without its last part: 203.0.113.9 is kept as 203.0.113.0, IPv6 as its /48."""
    if ":" in text and "." not in text:
        return ":".join(_full_ipv6(text)[:3]) + "::"
    head, dot, _ = text.rpartition(".")
    return f"{head}.0" if dot else ""


def _full_ipv6(text):
    head, _, tail = text.split("%")[0].partition("::")
    left = [part for part in head.split(":") if part]
    right = [part for part in tail.split(":") if part]
    return left + ["0"] * (8 - len(left) - len(right)) + right
