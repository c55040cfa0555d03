"""Case of ASCII tokens: codes, schemes, header values.

`str.upper` and `str.lower` turn some other letters into ASCII ones ('ı' into 'I', 'ſ' into 'S', 'ß' into 'SS', the
Kelvin sign into 'k'), so that a misspelt token would be accepted. These functions change A to Z and a to z only.
"""

from collections.abc import Callable


def lower(text: str) -> str:
    """Return `text` with A to Z in lower case."""
    return text.lower() if text.isascii() else _fold(text, bytes.lower)


def upper(text: str) -> str:
    """Return `text` with a to z in upper case."""
    return text.upper() if text.isascii() else _fold(text, bytes.upper)


def _fold(text: str, fold: Callable[[bytes], bytes]) -> str:
    return fold(text.encode("utf-8", "surrogatepass")).decode("utf-8", "surrogatepass")
