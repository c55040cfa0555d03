"""From an installation that stood alone to PostgreSQL and ClickHouse: everything is copied, and compared afterwards.

Nothing of the source is changed, save that its journal is loaded to the end. It may be killed at any point and run
again: the control data are copied in one transaction, and a partition of the warehouse that is not the same on both
sides is emptied and copied anew.
"""

import secrets
import sqlite3
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import sqlalchemy as sa
from alembic.migration import MigrationContext

import config
from pixel import clock, journal, metrics, pipes, websites
from pixel.database import db, migration
from pixel.warehouse.claims import Shared
from pixel.warehouse.embedded import Embedded, parsed
from pixel.warehouse.engine import EngineRuns, take
from pixel.warehouse.loader import Loader
from pixel.warehouse.remote import Remote
from pixel.workspaces import Workspace

#: Claims, and bytes of the warehouse's rows, that go over at once.
CLAIMS = 50_000
BLOCK_BYTES = 32 << 20
#: How far back reports are compared: nearly as far as they go.
_DAYS = 700
_STEPS = {"steps": ["path:/*", "goal:signup", "payment"]}
_ASKED = {"p_funnel": _STEPS, "p_funnel_v2": _STEPS}
#: What every installation has of its own.
_NOT_MOVED = {"leases"}
_PARTITIONS = "SELECT DISTINCT _partition_id AS id FROM {table} ORDER BY id"
_CONTENT = (
    "SELECT toString(count()) AS rows, toString(sum(sipHash64(toString(tuple(*))))) AS content FROM {table}"
    " WHERE _partition_id = {{id:String}}"
)


class Unfit(ValueError):
    """The move cannot be made, and why."""


def run(settings, folder, say):
    """Move what the instance `folder` keeps to the stores that `settings` name; `say` is told of each step.

    Raises Unfit, and OutcomeUnknown, Refused, AnalyticsError or the database's errors when a store is away; then it can
    be run again.
    """
    folder = Path(folder).resolve()
    _refuse_unless(settings.warehouse_server(), "ANALYTICS_URL must name a ClickHouse server, to move to.")
    _refuse_unless(settings.shared_claims(), "DATABASE_URL must name a PostgreSQL database, to move to.")
    _refuse_unless((folder / "pixel.sqlite").exists(), f"{folder} is no instance folder: it has no pixel.sqlite.")
    _refuse_another_secret(settings, folder)
    with _source(folder) as source, _closing(Remote(settings.warehouse_server())) as target:
        say(f"{_control(folder)} rows of control data are there.")
        say(f"{_claims(folder, settings.shared_claims())} claims are there.")
        target.set_up()
        for table in journal.TABLES:
            say(f"{_table(source, target, table, say)} rows of {table} are there.")
        say(f"{_compare(source, target)} answers of reports are the same.")
    for path in journal.set_aside(folder / "journal"):
        say(f"Not copied, because it could not be loaded: {path}")


def _refuse_unless(fine, sentence):
    if not fine:
        raise Unfit(sentence)


def _refuse_another_secret(settings, folder):
    kept = folder / "secret_key"
    same = not kept.exists() or kept.read_text() == config.secret_key(settings)
    _refuse_unless(same, f"SECRET_KEY must be the one in {kept}: sessions, keys and visitor ids are derived from it.")


@contextmanager
def _source(folder):
    """The embedded warehouse of a folder that no server has, with its journal loaded."""
    try:
        lock = take(folder / "warehouse" / "engine.lock")
    except EngineRuns:
        raise Unfit(f"A server or a command uses {folder}. Stop it first.") from None
    # The lock goes with the process, however it ends.
    with _closing(Embedded(folder / "warehouse" / "data")) as source, open(lock, "rb"):
        source.set_up()
        with _closing(Loader(source, folder / "journal", folder / "warehouse" / "loader.sqlite")) as loader:
            loader.load()
            _refuse_unless(not loader.status()["behind_bytes"], "The journal could not be loaded to the end.")
        yield source


@contextmanager
def _closing(store):
    try:
        yield store
    finally:
        store.close()


# -- control data


def _control(folder):
    """Copy all tables in one transaction, unless they have been. Returns how many rows there are."""
    source = sa.create_engine(f"sqlite:///{folder / 'pixel.sqlite'}")
    tables = [table for table in db.metadata.sorted_tables if table.name not in _NOT_MOVED]
    with source.connect() as reading, migration() as writing:
        _refuse_other_revisions(reading, writing)
        there = {table.name: _rows(reading, table) for table in tables}
        here = {table.name: _rows(writing, table) for table in tables}
        if here != there:
            _refuse_unless(not any(here.values()), "The PostgreSQL database has control data of its own.")
            for table in tables:
                _copy(reading, writing, table)
    source.dispose()
    return sum(there.values())


def _refuse_other_revisions(reading, writing):
    old, new = (MigrationContext.configure(each).get_current_revision() for each in (reading, writing))
    _refuse_unless(new, "The PostgreSQL database has no tables. Run: flask --app app db upgrade")
    _refuse_unless(old == new, f"The tables are of {old} there and of {new} here. Run: flask --app app db upgrade")


def _rows(connection, table):
    return connection.scalar(sa.select(sa.func.count()).select_from(table))


def _copy(reading, writing, table):
    for rows in reading.execute(sa.select(table)).mappings().partitions(1000):
        writing.execute(sa.insert(table), [dict(row) for row in rows])


def _claims(folder, url):
    """Take over what has been counted. Returns how many claims there are."""
    with (
        _closing(sqlite3.connect(folder / "warehouse" / "loader.sqlite")) as own,
        _closing(Shared(url)) as shared,
    ):
        claimed = own.execute("SELECT key, at FROM seen")
        while some := claimed.fetchmany(CLAIMS):
            shared.take_over(some)
        return own.execute("SELECT count(*) FROM seen").fetchone()[0]


# -- the warehouse


def _table(source, target, table, say):
    """Make a table the same on both sides, partition by partition. Returns how many rows it has."""
    rows, ours = 0, _partitions(source, table)
    extra = set(_partitions(target, table)) - set(ours)
    _refuse_unless(not extra, f"The ClickHouse server has {table} of its own.")
    for id in ours:
        wanted = _content(source, table, id)
        if _content(target, table, id) != wanted:
            say(f"Copying {wanted['rows']} rows of {table}, partition {id} ...")
            _copy_partition(source, target, table, id)
            _refuse_unless(
                _content(target, table, id) == wanted, f"{table} {id} is not the same afterwards. Run again."
            )
        rows += int(wanted["rows"])
    return rows


def _partitions(warehouse, table):
    return [row["id"] for row in parsed(warehouse.patient_query(_PARTITIONS.format(table=table), {}))["data"]]


def _content(warehouse, table, id):
    return parsed(warehouse.patient_query(_CONTENT.format(table=table), {"id": id}))["data"][0]


def _copy_partition(source, target, table, id):
    # What an attempt before has left. Ids of partitions are plain letters and digits.
    target.command(f"ALTER TABLE {table} DROP PARTITION ID '{id}' SETTINGS max_partition_size_to_drop = 0")
    with source.rows(f"SELECT * FROM {table} WHERE _partition_id = '{id}'") as lines:
        while block := lines.readlines(BLOCK_BYTES):
            target.insert(table, b"".join(block), secrets.token_hex(16))


# -- comparing


def _compare(source, target):
    """Ask every report of every website, and all of a workspace's together, on both sides. Returns how many."""
    compared = 0
    for caller in _callers():
        for pipe in pipes.all().values():
            someone = {"visitor_id": [_visitor(source, caller)]} if "linked" in pipe.places else {}
            asked = metrics.filled(pipe, caller, _long() | _ASKED.get(pipe.name, {}) | someone)
            old, new = (parsed(each.patient_query(pipe.sql, asked))["data"] for each in (source, target))
            _refuse_unless(old == new, f"{pipe.name} of {caller.websites or caller.workspace_id} is not the same.")
            compared += 1
    return compared


def _long():
    today = clock.now().date()
    return {"from": [str(today - timedelta(days=_DAYS))], "to": [str(today)], "limit": ["1000"], "bots": ["include"]}


def _callers():
    """Somebody for each website, and for each workspace, who may read it."""
    for workspace_id in db.session.scalars(sa.select(Workspace.id)).all():
        sites = websites.of(workspace_id)
        for only in (None, *((id,) for id in sites)):
            key = SimpleNamespace(timezone="UTC")
            yield SimpleNamespace(workspace_id=workspace_id, websites=only, key=key)


def _visitor(source, caller):
    """The id of one who came often."""
    asked = (
        "SELECT topK(1)(visitor_id)[1] AS id FROM events WHERE workspace_id = {workspace:String} AND visitor_id != ''"
        " AND website_id IN {sites:Array(String)}"
    )
    sites = sorted(websites.visible(caller.workspace_id, caller.websites))
    found = source.patient_query(asked, {"workspace": caller.workspace_id, "sites": sites})
    return parsed(found)["data"][0]["id"] or "nobody"
