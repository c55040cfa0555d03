"""Is this installation well? Every setting, store and clock is tried, and what is wrong says what to do."""

import os
import shutil
import time
from datetime import timedelta
from typing import NamedTuple

from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from flask import Flask
from sqlalchemy import text

from pixel import agents, clock, forwarding, geo, private_files, telemetry
from pixel.database import db, now
from pixel.errors import PixelError
from pixel.extensions import answers, counters, journal, warehouse
from pixel.journal import probe, set_aside
from pixel.warehouse import line

#: Beyond this, lists of what changes outside are said to be old. Nothing fails by it, so it is no fault.
OLD = timedelta(days=180)
#: How long a request that does not fit the proxy settings is reported.
RECENT = timedelta(days=1)


class Check(NamedTuple):
    """One thing that was looked at."""

    name: str
    fine: bool
    says: str


def examine(app):
    """Look at everything, one Check after the other. Nothing is changed."""
    for name, look in (
        ("settings", _settings),
        ("proxies", _proxies),
        ("instance folder", _folder),
        ("control database", _database),
        ("rate-limit counters", _counters),
        ("journal", _journal),
        ("warehouse", _warehouse),
        ("clock", _clock),
        ("browsers and bots", _agents),
        ("countries", _countries),
    ):
        try:
            yield Check(name, *look(app))
        except (OSError, PixelError) as error:
            yield Check(name, False, str(error))
        except Exception as error:
            yield Check(name, False, f"{type(error).__name__}: {error}")


def _settings(app):
    missing = [n for n in ("ANALYTICS_URL", "ANALYTICS_INGEST_URL", "IDENTIFY_INGEST_URL") if not app.config[n]]
    if missing:
        return False, f"{', '.join(missing)} not set: what needs it answers 503. Set it, for instance to chdb://."
    return True, f"PIXEL_ENV is {app.config['PIXEL_ENV']}; all warehouse settings are there."


def _proxies(app: Flask) -> tuple[bool, str]:
    """Report what the running server counted in the last day, if it fits the settings in force."""
    hops = app.config["TRUSTED_HOPS"]
    oldest = clock.seconds() - RECENT.total_seconds()
    recent = {
        labels: seconds
        for labels, seconds in telemetry.last_seen(forwarding.COUNTER).items()
        if seconds > oldest and (labels[0] == forwarding.NO_HOPS) == (hops == 0)
    }
    if not recent:
        return True, f"TRUSTED_HOPS is {hops}, and the requests of the last 24 hours fit it."
    latest = {case: max(at for labels, at in recent.items() if labels[0] == case) for case, _ in recent}
    sentences = [f"{forwarding.CASES[case]} Last seen {_utc(at)}." for case, at in sorted(latest.items())]
    # Any client can send the header, so from the internet it is no proof of a proxy.
    return set(recent) == {(forwarding.NO_HOPS, forwarding.PUBLIC)}, " ".join(sentences)


def _folder(app: Flask) -> tuple[bool, str]:
    folder = app.instance_path
    if not os.access(folder, os.W_OK):
        return False, f"{folder} cannot be written. Give its owner write permission."
    if exposure := private_files.exposure(folder):
        return False, exposure
    free = shutil.disk_usage(folder).free
    if free < 1 << 30:
        return False, f"Only {free >> 20} MiB are free in {folder}. Make room: a full disk means 503 for events."
    return True, f"{folder}, {free >> 30} GiB free."


def _database(app):
    script = ScriptDirectory(os.path.join(app.root_path, "pixel", "migrations"))
    with db.engine.connect() as connection:
        connection.execute(text("SELECT 1"))
        current = MigrationContext.configure(connection).get_current_revision()
    kind = {"sqlite": "SQLite", "postgresql": "PostgreSQL"}[db.engine.dialect.name]
    if current != (head := script.get_current_head()):
        return False, f"{kind}, reached, but its tables are at {current}, not {head}. Run: flask --app app db upgrade"
    return True, f"{kind}, reached, its tables are current ({current})."


def _counters(app):
    there = counters.check()
    return there, f"{counters.storage.NAME}, {'reached.' if there else 'away: calls go on uncounted.'}"


def _journal(app):
    folder = journal.folder
    milliseconds = probe(folder)
    waiting = sum(path.stat().st_size for path in folder.glob("*.journal"))
    aside = [path.name for path in set_aside(folder)]
    torn = [name for name in aside if name.endswith(".torn")]
    if damaged := [name for name in aside if name not in torn]:
        return False, f"Set aside, not loaded: {', '.join(damaged)}. Keep them and ask for help."
    cut = f" Cut short, and loaded up to there: {', '.join(torn)}. Remove them if a crash explains it." if torn else ""
    return True, f"writable, a sync takes {milliseconds:.1f} ms, {waiting} bytes in {folder}.{cut}"


def _warehouse(app: Flask) -> tuple[bool, str]:
    if warehouse.folder is not None:
        line.address(warehouse.folder)
    status = warehouse.status()
    if status["failure"]:
        return False, f"The last load failed: {status['failure']}"
    rows = warehouse.query("SELECT count() AS n FROM events")["data"][0]["n"]
    return True, f"answers (process {status['pid']}), {rows} events, {status['behind_bytes']} bytes behind."


def _clock(app: Flask) -> tuple[bool, str]:
    if time.time() < 1_760_000_000:
        return False, "The clock is years behind. Set it: events from the future are refused."
    drift = time.time() - answers.folder.stat().st_mtime
    if drift < -300:
        return False, "The clock has jumped back: a file here was written in what is now the future."
    apart = abs((clock.now() - now(db.session())).total_seconds())
    if apart > 5:
        return False, f"This clock and the database server's are {apart:.0f} s apart. Run NTP on both."
    return True, f"{_utc(time.time())}."


def _agents(app):
    found = [f"{source.name} {source.version} ({source.newest})" for source in agents.sources()]
    old = any(_is_old(source.newest) for source in agents.sources())
    return True, f"by {', '.join(found)}.{' Old: newer ones come with newer releases of this program.' if old else ''}"


def _countries(app):
    path = app.config["GEOIP_DATABASE"]
    if not path:
        return True, "known only where they are sent: GEOIP_DATABASE names no file."
    edition = geo.edition(path)
    if edition is None:
        return False, f"{path} cannot be read any more. Put an MMDB file there: countries are unknown or out of date."
    old = " Old: addresses move, so put a newer file in its place." if _is_old(edition.built.date()) else ""
    return True, f"by {edition.kind} of {edition.built:%Y-%m-%d}, {path}.{old}"


def _utc(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(seconds))


def _is_old(day):
    return clock.now().date() - day > OLD
