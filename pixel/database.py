"""The relational store: what people decide (keys, websites, members), in SQLite in WAL mode or in PostgreSQL."""

import os
import threading
from collections import OrderedDict
from contextlib import contextmanager
from datetime import UTC
from functools import wraps
from typing import Any

from flask import g, has_app_context
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import DateTime, MetaData, TypeDecorator, event, func, select
from sqlalchemy.orm import Session

from pixel import clock, postgresql, turns

db = SQLAlchemy(
    metadata=MetaData(
        naming_convention={
            "ix": "ix_%(column_0_label)s",
            "uq": "uq_%(table_name)s_%(column_0_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    ),
    session_options={"expire_on_commit": False},
)


class Moment(TypeDecorator):
    """A time in UTC. SQLite keeps no zone, so it is put back on the way out."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value, dialect):
        return value and value.astimezone(UTC)

    def process_result_value(self, value, dialect):
        return value and (value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC))


@contextmanager
def transaction():
    """A session for one change: all of it is kept, synced to disk, or none.

    It takes the write lock at once, on all servers: what it reads, nobody else changes until it is over. In SQLite a
    read that turns into a write later would fail whatever the busy timeout.
    """
    # Who holds a connection and waits for another, as many others do, waits for all of them.
    let_go()
    try:
        with Session(_writing(), expire_on_commit=False) as session, session.begin():
            yield session
    finally:
        # What was read before must not be taken for what is there now; objects that are in use keep what they hold.
        db.session.close()
        g.pop("memory", None)
        for memory in _memories.values():
            memory.round = None


def let_go():
    """Give back the connection that was read with: what takes long must not keep it from others."""
    if has_app_context() and db.session.registry.has():
        db.session.close()


@contextmanager
def migration():
    """A connection for a change of the tables: one at a time, and for as long as it takes."""
    with _writing().connect() as connection:
        if _is_postgresql(connection.engine):
            postgresql.be_patient(connection)
        yield connection
        connection.commit()


def now(session):
    """The time by the one clock that all servers share: the database's."""
    return session.scalar(select(func.clock_timestamp())) if _is_postgresql(session.get_bind()) else clock.now()


def has_model(thing, name, kind, _reflected, _compared):
    """For Alembic: whether a table or an index is one of the models'. The loaders' `claims` are not."""
    return (name if kind == "table" else getattr(thing, "table", thing).name) != "claims"


def options(url):
    """How the engine for this URL is made."""
    # More than there are threads: nobody waits for a connection, least of all the thread that reads what comes.
    own = postgresql.OPTIONS if url.startswith("postgresql") else {"max_overflow": 60}
    # Values of a failed statement could be secrets, and error texts go to the log.
    return {"hide_parameters": True, **own}


def bind(app):
    """Connect `db` to the app's database and set up every connection of it."""
    db.init_app(app)
    with app.app_context():
        engine = db.engine
        _engines.add(engine)
        if _is_postgresql(engine):
            postgresql.set_up(engine)
        else:
            event.listen(engine, "connect", _set_up)
        event.listen(engine, "begin", _begin)


def _is_postgresql(engine):
    return engine.dialect.name == "postgresql"


def _writing():
    isolation = {"isolation_level": "READ COMMITTED"} if _is_postgresql(db.engine) else {}
    return db.engine.execution_options(writes=True, **isolation)


def _set_up(connection, _record):
    # The driver's own transactions begin too late for BEGIN IMMEDIATE; ours are begun by `_begin`.
    connection.isolation_level = None
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "busy_timeout=5000", "foreign_keys=ON", "cache_size=-512"):
        connection.execute(f"PRAGMA {pragma}")


def _begin(connection):
    writes = connection.get_execution_options().get("writes")
    if not _is_postgresql(connection):
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
    elif writes:
        postgresql.lock(connection)


_engines = set()
_memories = {}


class _Memory(threading.local):
    """What a thread has read from one database, good for as long as nobody has changed that database.

    SQLite tells in a few microseconds whether any other connection has committed since (PRAGMA data_version), and
    PostgreSQL in a round trip, so a remembered key is as fresh as one read now: the call after a revocation sees it,
    in every process of every server. Each thread has its own, because a lock around the question would be passed on
    at the pace of Python's interpreter lock.
    """

    #: Answers that are kept, and how many there may be when one that says "none" is kept too: callers invent names.
    SIZE, SIZE_WITH_NONE = 1000, 100

    def __init__(self, asks):
        self._ask = asks()
        self.version = self.round = None
        self.found = OrderedDict()

    def check(self):
        """Forget everything if the database has changed.

        For requests that are answered in turn, once a round is enough: each had begun to come before the round did.
        """
        turn = turns.current()
        if turn and turn.round == self.round:
            return
        version = self._ask()
        if version != self.version:
            self.version = version
            self.found.clear()
        if turn:
            self.round = turn.round

    def keep(self, question: tuple, answer: Any) -> None:
        """Keep an answer, unless it is None and many are kept."""
        if answer is None and len(self.found) >= self.SIZE_WITH_NONE:
            return
        self.found[question] = answer
        if len(self.found) > self.SIZE:
            self.found.popitem(last=False)


def _memory_of(engine):
    if _is_postgresql(engine):
        version = postgresql.Version(engine)
        return _Memory(lambda: version)
    return _Memory(lambda: _data_version(engine))


def _data_version(engine):
    """What tells SQLite's version. Not from the pool: it is relative to one connection, which must never write."""
    arguments, options = engine.dialect.create_connect_args(engine.url)
    connection = engine.dialect.connect(*arguments, **options)
    connection.isolation_level = None
    connection.execute("PRAGMA cache_size=-64")
    return lambda: connection.execute("PRAGMA data_version").fetchone()


def remembered(read):
    """Let `read(*args)` be asked often: its answer is kept until the database changes.

    For plain reads whose answer depends on the arguments and the database alone. Call within an app context.
    """

    @wraps(read)
    def ask(*args):
        context = g._get_current_object()
        memory = context.get("memory")
        # Once a request is enough: what changes after it began may as well have changed after it ended.
        if memory is None:
            memory = _memories.get(engine := db.engine) or _memories.setdefault(engine, _memory_of(engine))
            memory.check()
            context.memory = memory
        question = (read, *args)
        if question in memory.found:
            # What is asked for often stays, however many other things are asked once.
            memory.found.move_to_end(question)
            return memory.found[question]
        try:
            answer = read(*args)
        finally:
            # A request that waits for its client, or yields to others, must not hold a connection.
            let_go()
        memory.keep(question, answer)
        return answer

    return ask


def _after_fork():
    for engine in _engines:
        engine.dispose(close=False)
    _memories.clear()


os.register_at_fork(after_in_child=_after_fork)
