"""Exports: a website's events as files, by day or month, written by the engine itself."""

import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import NamedTuple
from zoneinfo import ZoneInfo

from pixel import clock, private_files
from pixel.extensions import warehouse
from pixel.websites import Website

#: Formats by the ending of their files, as the engine calls them.
FORMATS = {"parquet": "Parquet", "csv": "CSVWithNames", "ndjson": "JSONEachRow"}
#: The first day of a period, by how long periods are; "" is one period of everything.
PERIODS = {"day": "toDate(timestamp, {timezone:String})", "month": "toStartOfMonth(timestamp, {timezone:String})"}
#: How long after a period's end its events may still be on their way into the warehouse.
LATE_SECONDS = 3600
_APART = ".unfinished-"
#: The beginning of a formula in a spreadsheet, as an RE2 pattern: a tab or a line break, or one of = + - @ after any
#: white space and invisible characters. The small and full-width forms of the signs work like the ASCII ones.
_FORMULA = r"^([\t\r\n]|[\pZ\pC]*[=+@＝＋－＠﹢﹣﹦﹫-])"
#: The beginning of a formula within a text, for a spreadsheet that separates cells by semicolons. Excel does so in many
#: countries, and ignores the quotes of RFC 4180 then.
_FORMULA_WITHIN = r"([;\t\r\n][\pZ\pC]*)([=+@＝＋－＠﹢﹣﹦﹫-])"
#: Types of columns whose cells are text. The maps in `props` are written as JSON, which starts with a brace.
_TEXT_TYPE = r"(LowCardinality\()?(Nullable\()?(String|FixedString\(\d+\))\)*"
#: What events have for the server's own use.
_OWN = ("workspace_id", "event_key", "visitor", "place", "hit", "attribution")

#: With the table's name, because a bare name is the changed text where a column is replaced.
_OF_WEBSITE = """
    events.workspace_id = {workspace:String} AND events.website_id = {website:String}
    AND events.timestamp >= {since:DateTime64(3, 'UTC')} AND events.timestamp < {until:DateTime64(3, 'UTC')}
"""


class Written(NamedTuple):
    """A file of an export. `events` is None for one that an earlier run has finished."""

    path: Path
    events: int | None


def write(
    site: Website,
    target: str,
    format: str,
    first: date | None = None,
    last: date | None = None,
    period: str = "day",
    raw: bool = False,
) -> Iterator[Written]:
    """Write a website's events from the day `first` to `last`, both inclusive and in its zone, yielding each Written.

    `target` is a folder, or one file of all events when it ends in one of FORMATS. A file gets its name when it is
    complete. A second run keeps the files that were written after the end of their period. In CSV, a text that a
    spreadsheet would run as a formula starts with a single quote, unless `raw` is set. Raises ValueError, OSError or
    AnalyticsError.
    """
    first, last = first or date(1970, 1, 1), last or date(2100, 1, 1)
    if first > last:
        raise ValueError("The first day is after the last.")
    warehouse.load()
    target, zone = Path(target), ZoneInfo(site.timezone)
    since, until = _edges(first, last, zone)
    if target.suffix[1:] in FORMATS:
        kind = target.suffix[1:]
        yield _written(site, target, FORMATS[kind], _select(kind, raw), since, until, target.parent)
        return
    private_files.create_folder(target)
    _remove_unfinished(target)
    select = _select(format, raw)
    for start in _periods(site, period, since, until):
        days = max(start, first), min(_last_day(start, period), last)
        begin, end = _edges(*days, zone)
        path = target / f"events-{_name(start, days, period)}.{format}"
        if _is_finished(path, end):
            yield Written(path, None)
        else:
            yield _written(site, path, FORMATS[format], select, begin, end, target)


def _written(
    site: Website, path: Path, engine_format: str, select: str, since: datetime, until: datetime, folder: Path
) -> Written:
    """Write a file in a private folder, then move it to `path` once it is on disk."""
    asked_at = clock.seconds()
    with tempfile.TemporaryDirectory(prefix=_APART, dir=folder) as apart:
        part, asked = Path(apart).resolve() / path.name, _asked(site, since, until)
        warehouse.export(select, asked, engine_format, str(part))
        events = warehouse.query(f"SELECT count() AS n FROM events WHERE {_OF_WEBSITE}", asked)["data"][0]["n"]
        part.chmod(0o600)
        # A file's time tells what may be in it, however long its writing took.
        os.utime(part, (asked_at, asked_at))
        _sync(part)
        part.replace(path)
    _sync(folder)
    return Written(path, events)


def _is_finished(path, end):
    """Whether a file was written when all events of a period that ended at `end` were there."""
    return path.exists() and path.stat().st_mtime >= end.timestamp() + LATE_SECONDS


def _select(format: str, raw: bool) -> str:
    """Return the statement that reads the events of a file, in the order of time."""
    columns = {"props": "toJSONString(props)"} if format == "csv" else {}
    if format == "csv" and not raw:
        columns = {name: _harmless(name) for name in _text_columns()}
        # JSON keeps its meaning if its semicolons, which stand in strings only, are escaped.
        columns["props"] = r"replaceAll(toJSONString(props), ';', '\\u003b')"
    replaced = ", ".join(f"{expression} AS {name}" for name, expression in columns.items())
    return (
        f"SELECT * EXCEPT ({', '.join(_OWN)}){f' REPLACE ({replaced})' if replaced else ''} FROM events"
        f" WHERE {_OF_WEBSITE} ORDER BY events.timestamp, events.event_id, events.received_at"
    )


def _text_columns() -> list[str]:
    """Return the names of the exported columns that hold text."""
    columns = warehouse.query(f"DESCRIBE (SELECT * EXCEPT ({', '.join(_OWN)}) FROM events)", {})["data"]
    return [column["name"] for column in columns if re.fullmatch(_TEXT_TYPE, column["type"])]


def _harmless(column: str) -> str:
    """Return the expression for a text column in which no cell starts like a formula."""
    start, within = (pattern.replace("\\", "\\\\") for pattern in (_FORMULA, _FORMULA_WITHIN))
    text = f"replaceRegexpAll(events.{column}, '{within}', '\\\\1\\'\\\\2')"
    return f"if(match(events.{column}, '{start}'), concat('\\'', {text}), {text})"


def _periods(site, period, since, until):
    """The first days of the periods in which there is any event, oldest first."""
    rows = warehouse.query(
        f"SELECT DISTINCT toString({PERIODS[period]}) AS start FROM events WHERE {_OF_WEBSITE} ORDER BY start",
        _asked(site, since, until) | {"timezone": site.timezone},
    )["data"]
    return [date.fromisoformat(row["start"]) for row in rows]


def _asked(site, since, until):
    return {
        "workspace": site.workspace_id,
        "website": site.id,
        "since": clock.warehouse_moment(since),
        "until": clock.warehouse_moment(until),
    }


def _edges(first, last, zone):
    """The moments at which the first day begins and the last ends."""
    return tuple(datetime(d.year, d.month, d.day, tzinfo=zone) for d in (first, last + timedelta(days=1)))


def _last_day(start, period):
    if period == "day":
        return start
    return (start + timedelta(days=31)).replace(day=1) - timedelta(days=1)


def _name(start, days, period):
    """What a file is called: by its period, or by its days when it has only some of them."""
    if days != (start, _last_day(start, period)):
        return "{}-to-{}".format(*days)
    return start.isoformat()[: 10 if period == "day" else 7]


def _remove_unfinished(folder):
    for path in folder.glob(f"{_APART}*"):
        shutil.rmtree(path, ignore_errors=True)


def _sync(path):
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
