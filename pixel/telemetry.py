"""How this server is doing, counted by all its processes together, for Prometheus.

What happens is put on a list; the thread that writes the log adds the list up and adds that to a small SQLite file. So
a request pays a microsecond, a worker that dies takes the last moments with it and no more, and no count is ever seen
to go back, as it would when each process kept a file of its own.
"""

import os
import sqlite3
import threading
from bisect import bisect_left
from collections import Counter, deque
from collections.abc import Iterable
from types import SimpleNamespace
from typing import NamedTuple

import orjson
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.metrics_core import Metric

from pixel import clock

CONTENT_TYPE = CONTENT_TYPE_LATEST


class _Family(NamedTuple):
    """A metric. With `bounds`, the upper ends of its buckets in seconds, it is a histogram.

    `dated` keeps the time of the last count with each combination of labels, for `last_seen`.
    """

    about: str
    labels: tuple = ()
    bounds: tuple = ()
    dated: bool = False


FAMILIES = {
    "pixel_http_requests": _Family(
        "Requests, by route, method, class of the status and error code.", ("route", "method", "status", "code")
    ),
    "pixel_http_request_seconds": _Family(
        "How long requests took.",
        ("route",),
        (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
    ),
    "pixel_events_accepted": _Family("Events that were synced to the journal."),
    "pixel_events_dropped": _Family("Events that came for a website and were not counted, by reason.", ("reason",)),
    "pixel_loaded_rows": _Family("Rows that the engine has put into the warehouse, by table.", ("table",)),
    "pixel_load_lag_seconds": _Family(
        "How long the oldest row of a load had waited, from its acceptance on.",
        (),
        (0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0, 3600.0),
    ),
    "pixel_load_failures": _Family("Loads that the warehouse did not take; what they held is tried again."),
    "pixel_sign_in_failures": _Family("Sign-ins with a wrong password, or refused because of too many."),
    "pixel_sign_in_alarms": _Family("Times of five minutes in which more than 200 sign-ins failed."),
    "pixel_ratelimit_uncounted": _Family("Calls that went uncounted, because the rate-limit counters were away."),
    "pixel_csp_reports": _Family(
        "Violations of the Content-Security-Policy that browsers reported, by directive.", ("directive",)
    ),
    "pixel_forwarding_ignored": _Family(
        "Requests whose forwarded headers or peer were not trusted, by case and kind of the peer's network.",
        ("case", "peer"),
        dated=True,
    ),
}

_SCHEMA = """
PRAGMA journal_mode=WAL;
PRAGMA synchronous=OFF;
CREATE TABLE IF NOT EXISTS series (name TEXT, labels TEXT, value REAL, PRIMARY KEY (name, labels)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS last_seen (name TEXT, labels TEXT, at REAL, PRIMARY KEY (name, labels)) WITHOUT ROWID;
"""
_DATE = "INSERT OR REPLACE INTO last_seen VALUES (?, ?, ?)"
_ADD = "INSERT INTO series VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET value = value + excluded.value"
#: What happened and is not added up yet: (name, labels, amount). A deque, because taking from it loses nothing.
_happened = deque()
_unsaved = Counter()
_file = SimpleNamespace(path=None, connection=None, lock=threading.Lock())


def bind(path):
    """Keep the counts in the SQLite file `path`, which is made when there is something to keep."""
    _file.path = path


def count(name, *labels, amount=1):
    """Note that something of FAMILIES happened, so many times."""
    _happened.append((name, labels, amount))


def observe(name, seconds, *labels):
    """Note how long something of FAMILIES took."""
    bounds = FAMILIES[name].bounds
    at = bisect_left(bounds, seconds)
    _happened.append((name + "_bucket", (*labels, bounds[at] if at < len(bounds) else "+Inf"), 1))
    _happened.append((name + "_sum", labels, seconds))


def flush():
    """Add what happened to the file. What cannot be written now stays for the next time."""
    with _file.lock:
        while _happened:
            name, labels, amount = _happened.popleft()
            _unsaved[name, labels] += amount
        if _unsaved and _file.path:
            _write([(name, orjson.dumps(labels).decode(), amount) for (name, labels), amount in _unsaved.items()])


def last_seen(name: str) -> dict[tuple, float]:
    """Return when each combination of labels of a dated metric was last counted, in seconds since 1970."""
    flush()
    rows = _read("SELECT labels, at FROM last_seen WHERE name = ?", name)
    return {tuple(orjson.loads(labels)): at for labels, at in rows}


def exposition(gauges: Iterable[Metric] = ()) -> bytes:
    """Return all counts, and `gauges` (metrics of the Prometheus client), in Prometheus' text format."""
    flush()
    found = {}
    for name, labels, value in _read("SELECT name, labels, value FROM series ORDER BY name, labels"):
        found.setdefault(name, {})[tuple(orjson.loads(labels))] = value
    families = [_family(name, family, found) for name, family in FAMILIES.items()]
    return generate_latest(SimpleNamespace(collect=lambda: [*families, *gauges]))


def _family(name, family, found):
    if not family.bounds:
        told = CounterMetricFamily(name, family.about, labels=family.labels)
        for labels, value in (found.get(name) or ({} if family.labels else {(): 0})).items():
            told.add_metric(labels, value)
        return told
    told = HistogramMetricFamily(name, family.about, labels=family.labels)
    buckets = found.get(name + "_bucket", {})
    for labels, total in found.get(name + "_sum", {}).items():
        told.add_metric(labels, _cumulative(family.bounds, labels, buckets), total)
    return told


def _cumulative(bounds, labels, buckets):
    total, told = 0, []
    for bound in (*bounds, "+Inf"):
        total += buckets.get((*labels, bound), 0)
        told.append((str(bound), total))
    return told


def _write(rows: list[tuple]) -> None:
    try:
        connection = _connected()
        connection.execute("BEGIN IMMEDIATE")
        try:
            connection.executemany(_ADD, rows)
            connection.executemany(_DATE, _dated(rows))
            connection.execute("COMMIT")
        except BaseException:
            connection.rollback()
            raise
        _unsaved.clear()
    except sqlite3.OperationalError:
        pass
    except sqlite3.DatabaseError:
        # Nothing here is synced, so a power cut may leave a file that cannot be read. It is only counts.
        _remove()


def _dated(rows: list[tuple]) -> list[tuple]:
    now = clock.seconds()
    return [(name, labels, now) for name, labels, _ in rows if (family := FAMILIES.get(name)) and family.dated]


def _read(sql: str, *parameters: str) -> list[tuple]:
    with _file.lock:
        try:
            return _connected().execute(sql, parameters).fetchall()
        except sqlite3.Error:
            return []


def _connected():
    if _file.connection is None:
        connection = sqlite3.connect(_file.path, timeout=1, isolation_level=None, check_same_thread=False)
        connection.executescript(_SCHEMA)
        _file.connection = connection
    return _file.connection


def _remove():
    if _file.connection:
        _file.connection.close()
        _file.connection = None
    for ending in ("", "-wal", "-shm"):
        try:
            os.unlink(f"{_file.path}{ending}")
        except OSError:
            pass


def _after_fork():
    # SQLite's connections do not survive a fork, and what the parent counted is the parent's to write.
    _file.inherited, _file.connection, _file.lock = _file.connection, None, threading.Lock()
    _happened.clear()
    _unsaved.clear()


os.register_at_fork(after_in_child=_after_fork)
