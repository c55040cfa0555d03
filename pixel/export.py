"""Exports: a website's events as files, by day or month, written by the engine itself."""

import os
import shutil
import tempfile
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import NamedTuple
from zoneinfo import ZoneInfo

from pixel import clock, private_files
from pixel.extensions import warehouse

#: Formats by the ending of their files, as the engine calls them.
FORMATS = {"parquet": "Parquet", "csv": "CSVWithNames", "ndjson": "JSONEachRow"}
#: The first day of a period, by how long periods are; "" is one period of everything.
PERIODS = {"day": "toDate(timestamp, {timezone:String})", "month": "toStartOfMonth(timestamp, {timezone:String})"}
#: How long after a period's end its events may still be on their way into the warehouse.
LATE_SECONDS = 3600
_APART = ".unfinished-"
#: What events have for the server's own use.
_OWN = ("workspace_id", "event_key", "visitor", "place", "hit", "attribution")

_OF_WEBSITE = """
    workspace_id = {workspace:String} AND website_id = {website:String}
    AND timestamp >= {since:DateTime64(3, 'UTC')} AND timestamp < {until:DateTime64(3, 'UTC')}
"""


class Written(NamedTuple):
    """A file of an export. `events` is None for one that an earlier run has finished."""

    path: Path
    events: int | None


def write(site, target, format, first=None, last=None, period="day"):
    """Write a website's events from the day `first` to `last`, both inclusive and in its zone, yielding each Written.

    `target` is a folder, or with an ending of FORMATS one file of everything. Each file is whole once it has its name;
    run again, what was written after its period was over is kept. Raises ValueError, OSError or AnalyticsError.
    """
    first, last = first or date(1970, 1, 1), last or date(2100, 1, 1)
    if first > last:
        raise ValueError("The first day is after the last.")
    warehouse.load()
    target, zone = Path(target), ZoneInfo(site.timezone)
    since, until = _edges(first, last, zone)
    if target.suffix[1:] in FORMATS:
        yield _written(site, target, target.suffix[1:], since, until, target.parent)
        return
    private_files.create_folder(target)
    _remove_unfinished(target)
    for start in _periods(site, period, since, until):
        days = max(start, first), min(_last_day(start, period), last)
        begin, end = _edges(*days, zone)
        path = target / f"events-{_name(start, days, period)}.{format}"
        yield Written(path, None) if _is_finished(path, end) else _written(site, path, format, begin, end, target)


def _written(site, path, format, since, until, folder):
    """Have a file written apart, where nobody else may look, and give it its place once it is on the disk."""
    asked_at = clock.seconds()
    with tempfile.TemporaryDirectory(prefix=_APART, dir=folder) as apart:
        part, asked = Path(apart).resolve() / path.name, _asked(site, since, until)
        warehouse.export(_select(format), asked, FORMATS[format], str(part))
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


def _select(format):
    props = " REPLACE (toJSONString(props) AS props)" if format == "csv" else ""
    return (
        f"SELECT * EXCEPT ({', '.join(_OWN)}){props} FROM events WHERE {_OF_WEBSITE}"
        " ORDER BY timestamp, event_id, received_at"
    )


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
