"""Rows as text: an aligned table for people, CSV for spreadsheets, JSON for programs."""

import csv
import io
import json
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

_NUMBER = re.compile(r"-?\d+(\.\d+)?([eE][+-]?\d+)?", re.ASCII)
#: The signs that begin a formula in a spreadsheet. The small and full-width forms work like the ASCII ones.
_SIGNS = frozenset("=+-@＝＋－＠﹢﹣﹦﹫")
#: Characters after which a spreadsheet may begin another cell.
_SEPARATORS = frozenset(";\t\r\n")
#: Unicode categories of white space and invisible characters, which a spreadsheet may drop from the start of a cell.
_DROPPED = ("Zs", "Zl", "Zp", "Cc", "Cf", "Cs", "Co")


def table(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> str:
    """A line for the names of the columns and one for each row. Numbers stand to the right."""
    cells = [[visible(_rounded(row.get(name))) for name in columns] for row in rows]
    lines = [list(columns), *cells]
    widths = [max(_width(line[place]) for line in lines) for place in range(len(columns))]
    right = [bool(cells) and all(_NUMBER.fullmatch(line[place]) for line in cells) for place in range(len(columns))]
    return "".join(_line(line, widths, right) for line in lines)


def comma_separated(columns: Sequence[str], rows: Iterable[Mapping[str, Any]], raw: bool = False) -> str:
    """Return CSV as RFC 4180 defines it.

    A text that a spreadsheet would run as a formula starts with a single quote, unless `raw` is set. Numbers stay as
    they are.
    """
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow([_cell(name, raw) for name in columns])
    writer.writerows([_cell(row.get(name), raw) for name in columns] for row in rows)
    return text.getvalue()


def harmless(text: str) -> str:
    """Return the text with a single quote before each place where a spreadsheet would run it as a formula.

    A formula begins with a tab, a line break, or one of = + - @ after any white space and invisible characters. It also
    begins after a separator within the text: where Excel separates cells by semicolons, it ignores the quotes of RFC
    4180.
    """
    first = next((c for c in text if unicodedata.category(c) not in _DROPPED), "")
    starts_formula = first in _SIGNS or text.startswith(("\t", "\r", "\n"))
    return ("'" if starts_formula else "") + _quoted_after_separators(text)


def _quoted_after_separators(text: str) -> str:
    if _SEPARATORS.isdisjoint(text):
        return text
    characters, separated = [], False
    for character in text:
        if separated and character in _SIGNS:
            characters.append("'")
        separated = character in _SEPARATORS or (separated and unicodedata.category(character) in _DROPPED)
        characters.append(character)
    return "".join(characters)


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


def _cell(value: Any, raw: bool) -> str:
    text = _text(value)
    if raw or isinstance(value, int | float):
        return text
    # JSON keeps its meaning if its semicolons, which stand in strings only, are escaped.
    return text.replace(";", "\\u003b") if isinstance(value, dict) else harmless(text)
