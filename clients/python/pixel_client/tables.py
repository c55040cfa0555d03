"""Rows as text: an aligned table for people, CSV for spreadsheets, JSON for programs."""

import csv
import io
import json
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

_NUMBER = re.compile(r"-?\d+(\.\d+)?([eE][+-]?\d+)?", re.ASCII)
#: What a spreadsheet takes for the beginning of a formula.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def table(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> str:
    """A line for the names of the columns and one for each row. Numbers stand to the right."""
    cells = [[visible(_rounded(row.get(name))) for name in columns] for row in rows]
    lines = [list(columns), *cells]
    widths = [max(_width(line[place]) for line in lines) for place in range(len(columns))]
    right = [bool(cells) and all(_NUMBER.fullmatch(line[place]) for line in cells) for place in range(len(columns))]
    return "".join(_line(line, widths, right) for line in lines)


def comma_separated(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> str:
    """CSV as RFC 4180 has it. What a spreadsheet would take for a formula gets a single quote before it."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow([_harmless(name) for name in columns])
    writer.writerows([_harmless(_text(row.get(name))) for name in columns] for row in rows)
    return text.getvalue()


def indented(thing: Any) -> str:
    """JSON for programs and for people."""
    return json.dumps(thing, indent=2, ensure_ascii=False) + "\n"


def facts(thing: Mapping[str, Any], under: str = "") -> list[dict[str, Any]]:
    """An object as rows of field and value; what is within another has a dotted name."""
    rows = []
    for name, value in thing.items():
        if isinstance(value, Mapping):
            rows += facts(value, f"{under}{name}.")
        else:
            rows.append({"field": under + name, "value": value})
    return rows


def visible(text: str) -> str:
    """The text on one line, without what a terminal would obey."""
    return "".join(c if c.isprintable() or unicodedata.category(c) == "Zs" else "�" for c in text)


def _line(cells: Sequence[str], widths: Sequence[int], right: Sequence[bool]) -> str:
    padded = [
        " " * (width - _width(cell)) + cell if to_the_right else cell + " " * (width - _width(cell))
        for cell, width, to_the_right in zip(cells, widths, right, strict=True)
    ]
    return "  ".join(padded).rstrip() + "\n"


def _width(text: str) -> int:
    """How many columns of a terminal the text takes."""
    return sum(2 if unicodedata.east_asian_width(c) in "WF" else not unicodedata.combining(c) for c in text)


def _rounded(value: Any) -> str:
    return f"{value:.4f}".rstrip("0").rstrip(".") if isinstance(value, float) else _text(value)


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, list) and not any(isinstance(one, list | dict) for one in value):
        return ", ".join(map(_text, value))
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _harmless(text: str) -> str:
    return f"'{text}" if text.startswith(_FORMULA) and not _NUMBER.fullmatch(text) else text
