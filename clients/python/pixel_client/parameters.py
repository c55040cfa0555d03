"""How parameters of Python are spelled for the API."""

from collections.abc import Mapping, Sequence
from datetime import date
from typing import TypeGuard
from urllib.parse import quote

#: What a parameter of a report may be. A list is given once for each of its values; None is not given.
Value = str | float | date | Sequence[str | float] | None


def pairs(parameters: Mapping[str, Value]) -> tuple[tuple[str, str], ...]:
    """A query string's names and texts."""
    return tuple((_bare(name), text) for name, value in parameters.items() for text in _texts(value))


def fixed(parameters: Mapping[str, Value]) -> dict[str, str | list[str]]:
    """The same as an object: a text, or a list of texts where a list was given."""
    return {
        _bare(name): _texts(value) if _is_list(value) else _texts(value)[0]
        for name, value in parameters.items()
        if value is not None
    }


def segment(text: str) -> str:
    """Any text as one segment of a path."""
    return quote(text, safe="")


def _bare(name: str) -> str:
    """`from` cannot be a name in Python, `from_` can."""
    return name.removesuffix("_")


def _texts(value: Value) -> list[str]:
    if value is None:
        return []
    if isinstance(value, date):
        return [f"{value:%Y-%m-%d}"]
    return [str(one) for one in value] if _is_list(value) else [str(value)]


def _is_list(value: Value) -> TypeGuard[Sequence[str | float]]:
    return isinstance(value, Sequence) and not isinstance(value, str)
