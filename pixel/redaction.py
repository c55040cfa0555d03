"""What a request log must not keep is taken out here, before it is written anywhere."""

import re
from functools import lru_cache

MOST_BYTES = 8 * 1024

#: What is taken out: how it begins (or what it cannot do without), its pattern, and what stands in its place. A text
#: without the first is not searched for the second, which is what keeps this cheap.
_SECRETS = (
    ("eyJ", re.compile(r"\beyJ[\w-]{5,}\.[\w-]{5,}\.[\w-]*"), "[token]"),
    ("pxl_", re.compile(r"(pxl_[a-z]{1,10}_[0-9A-Za-z]{0,3})[0-9A-Za-z]*"), r"\1…[key]"),
    ("@", re.compile(r"[^\s@\"'<>(),:;=&/?\\]{1,64}@(?=[\w-]+\.)"), "[…]@"),
)
_MANY_DIGITS = re.compile(r"\d[\d -]{11,}\d")
_CARD = re.compile(r"(?<![\w.])\d(?:[ -]?\d){12,18}(?![\w.])")
_FIELDS = re.compile(
    r'("(?:ip|password|passwd|secret|token|authorization|api_?key|access_?token|refresh_?token|cookie|cvc|cvv)"\s*:\s*)'
    r'("(?:[^"\\]|\\.)*"?|[\w.+-]+)',
    re.IGNORECASE,
)
_PARAMETERS = re.compile(r"((?:^|&)(?:token|key|api_key|access_token|password|secret)=)[^&]*", re.IGNORECASE)


def body(raw: bytes):
    """A request or response body as text that may be kept: at most 8 KiB, without secrets or addresses."""
    cut = len(raw) > MOST_BYTES
    text = raw[:MOST_BYTES].decode("utf-8", "replace")
    if cut:
        # What the cut split could be half a secret, which no pattern knows.
        text = re.sub(r"[^\s\",{}\[\]]{0,400}\Z", "", text)
    text = _secrets(_FIELDS.sub(r'\1"[redacted]"', text))
    return text + f"… [{len(raw)} bytes in all]" if cut else text


def query(text: str):
    """A query string that may be kept."""
    return _secrets(_PARAMETERS.sub(r"\1[redacted]", text[:MOST_BYTES])) if text else ""


def line(text: str):
    """A path or a header that may be kept."""
    return _secrets(text[:2000])


def _secrets(text):
    for sign, pattern, instead in _SECRETS:
        if sign in text:
            text = pattern.sub(instead, text)
    return _CARD.sub("[card number]", text) if _MANY_DIGITS.search(text) else text


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
