"""How this server is: whether it can do its work now, and the numbers that Prometheus keeps of it."""

import platform
import sqlite3
from concurrent.futures import ThreadPoolExecutor, wait

from flask import current_app
from prometheus_client.core import GaugeMetricFamily, InfoMetricFamily
from sqlalchemy import text

from pixel import telemetry
from pixel.database import db
from pixel.extensions import journal, warehouse
from pixel.journal import probe, set_aside

CONTENT_TYPE = telemetry.CONTENT_TYPE
#: How long an answer waits for all checks together. A check that takes longer has failed.
SECONDS = 1.0

_running = {}


def ready():
    """Whether everything answers within SECONDS, and the checks by name: each with `ok`, and what it found."""
    app = current_app._get_current_object()
    asked = {name: _asked(name, look, app) for name, look in _CHECKS.items()}
    wait(asked.values(), SECONDS)
    checks = {name: _outcome(future) for name, future in asked.items()}
    checks["lag"] = _lag()
    return all(check["ok"] for check in checks.values()), checks


def metrics():
    """Everything that is counted, and how far behind the warehouse is, in Prometheus' text format as bytes."""
    lag = _lag()
    gauges = [
        _gauge("pixel_journal_behind_bytes", "Bytes of the journal that are not in the warehouse.", lag.get("bytes")),
        _gauge("pixel_journal_oldest_seconds", "Age of the oldest record among them.", lag.get("seconds")),
        _gauge("pixel_engine_up", "Whether the engine answers.", float(_engine_answers())),
        _gauge("pixel_warehouse_up", "Whether the ClickHouse server is reached.", warehouse.server_answers()),
        _gauge("pixel_set_aside_files", "Journal files of what could not be loaded.", len(set_aside(journal.folder))),
        InfoMetricFamily(
            "pixel_build",
            "What runs here.",
            {"version": current_app.config["VERSION"], "python": platform.python_version()},
        ),
    ]
    return telemetry.exposition([gauge for gauge in gauges if gauge])


def _database():
    with db.engine.connect() as connection:
        connection.execute(text("SELECT 1"))
    return {}


def _journal():
    return {"sync_milliseconds": round(probe(journal.folder), 3)}


def _engine():
    status = warehouse.probe(0.9 * SECONDS)
    return {"failure": status["failure"]} if status["failure"] else {}


def _warehouse():
    """The engine is well without its server: events are taken, and reports are not."""
    if warehouse.server_answers() is False:
        raise ConnectionError
    return {}


_CHECKS = {"database": _database, "journal": _journal, "engine": _engine, "warehouse": _warehouse}


def _asked(name, look, app):
    """The check that runs already, if it hangs since the last question or somebody else asks just now; else a new one.

    So however often a server that stands still is asked, it has one thread for each check and no more.
    """
    future = _running.get(name)
    if future is None or future.done():
        if name == "engine" and warehouse.folder is None:
            look = _no_warehouse
        threads = ThreadPoolExecutor(1, thread_name_prefix=f"check-{name}")
        future = _running[name] = threads.submit(_within, app, look)
        threads.shutdown(wait=False)
    return future


def _within(app, look):
    with app.app_context():
        return look()


def _no_warehouse():
    raise LookupError("its analytics setting is missing")


def _outcome(future):
    if not future.done():
        return {"ok": False, "says": f"no answer within {SECONDS:g} s"}
    if error := future.exception():
        # Not its text: that may name paths, and be as long as it likes.
        return {"ok": False, "says": type(error).__name__}
    return {"ok": True, **future.result()}


def _lag():
    """How far the warehouse is behind. Being behind is no failure: events are taken all the same."""
    if warehouse.folder is None:
        return {"ok": True, "bytes": 0, "seconds": 0.0}
    try:
        behind, seconds = warehouse.lag()
    except (OSError, sqlite3.Error) as error:
        return {"ok": False, "says": type(error).__name__}
    return {"ok": True, "bytes": behind, "seconds": round(seconds, 3)}


def _engine_answers():
    try:
        return warehouse.folder is not None and bool(warehouse.probe(0.9 * SECONDS))
    except (OSError, EOFError):
        return False


def _gauge(name, about, value):
    return None if value is None else GaugeMetricFamily(name, about, value=float(value))
