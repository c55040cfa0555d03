"""PostgreSQL as the relational store: how it is reached, and that nothing waits for it long.

What fails because PostgreSQL is away, locked, frozen or restarted comes out as SQLAlchemy's OperationalError.
"""

import logging
from collections import deque

import psycopg
from psycopg.pq import TransactionStatus
from psycopg.types.string import StrDumperUnknown
from sqlalchemy import event
from sqlalchemy.exc import OperationalError

from pixel.breaker import Breaker

#: How the engine is made. A read is a statement of its own; only a change is a transaction (see `lock`).
OPTIONS = {
    "isolation_level": "AUTOCOMMIT",
    "pool_pre_ping": True,
    "pool_timeout": 3,
    "connect_args": {
        "connect_timeout": 2,
        "application_name": "pixel",
        # Milliseconds. Who is gone or stands still in the midst of a change holds up all others no longer than that.
        "options": "-c timezone=UTC -c lock_timeout=2000 -c statement_timeout=3000"
        " -c idle_in_transaction_session_timeout=5000",
    },
}
#: The advisory lock of whoever changes something.
_LOCK = int.from_bytes(b"pixel")
#: Errors that tell of the server's state and not of the statement: read-only, a session that was ended, no tables yet.
_NOT_NOW = ("25006", "25P03", "25P04", "42P01", "42703")
_VERSION = "SELECT pg_current_snapshot()::text"
_LOG = logging.getLogger("pixel")
_breaker = Breaker(1)


class Connection(psycopg.Connection):
    """A connection that waits for no answer longer than `patience` seconds: a frozen server ends no statement."""

    patience = 4

    def wait(self, gen, interval=0.1, timeout=None):
        try:
            return super().wait(gen, interval, self.patience if timeout is None else timeout)
        except psycopg.OperationalError:
            if self.pgconn.transaction_status == TransactionStatus.ACTIVE:
                # The answer may still come, and must not be taken for that to the next statement.
                self.pgconn.finish()
                _breaker.failed()
            raise


class _Text(StrDumperUnknown):
    """No row of PostgreSQL has a NUL or half a surrogate pair, so nothing is found by them, and nothing fails."""

    def dump(self, obj):
        return obj.replace("\0", "\ufffd").encode("utf-8", "replace")


def set_up(engine):
    """Have an engine that was made with OPTIONS reach PostgreSQL in this way."""
    event.listen(engine, "do_connect", lambda dialect, _record, arguments, options: _connect(arguments, options))
    event.listen(engine, "handle_error", _tell_as_away)


def lock(connection):
    """At the start of a transaction, wait for all others that change something: one writes at a time, as in SQLite."""
    connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_LOCK})")


def be_patient(connection):
    """Before its first statement, let this connection take as long as it needs, and have it closed afterwards.

    Only for a lock it waits no longer than 10 seconds, because all others wait behind it.
    """
    connection.detach()
    driver = connection.connection.dbapi_connection
    driver.patience = None
    driver.autocommit = True
    driver.execute("SET statement_timeout = 0")
    driver.execute("SET idle_in_transaction_session_timeout = 0")
    driver.execute("SET lock_timeout = 10000")
    driver.autocommit = False


class Version:
    """Tells what of the database can be seen now: a text that is another one as soon as anybody has changed anything.

    It is PostgreSQL's own snapshot: which transactions are over. So it changes with what other programs and people
    change, too. Its connections are its own, so that asking is one round trip.
    """

    def __init__(self, engine):
        self._arguments, self._options = engine.dialect.create_connect_args(engine.url)
        self._options |= OPTIONS["connect_args"] | {"autocommit": True}
        self._idle = deque()

    def __call__(self):
        try:
            return self._of_idle() or self._of(_connect(self._arguments, self._options))
        except psycopg.Error as error:
            raise OperationalError(_VERSION, None, error) from error

    def _of_idle(self):
        try:
            return self._of(self._idle.pop())
        except IndexError:
            return None
        except psycopg.OperationalError:
            # The server was restarted, or does not answer: a new connection will tell, and the others are as old.
            while self._idle:
                self._idle.pop().close()
            return None

    def _of(self, connection):
        try:
            version = connection.execute(_VERSION, prepare=True).fetchone()[0]
        except psycopg.Error:
            connection.close()
            raise
        self._idle.append(connection)
        return version


def _connect(arguments, options):
    if not _breaker.lets_ask():
        raise psycopg.OperationalError("PostgreSQL did not answer a moment ago.")
    try:
        connection = Connection.connect(*arguments, **options)
    except psycopg.OperationalError as error:
        if _breaker.failed():
            _LOG.warning("PostgreSQL is away: %s", error)
        raise
    _breaker.worked()
    connection.adapters.register_dumper(str, _Text)
    return connection


def _tell_as_away(context):
    error = context.original_exception
    if getattr(error, "sqlstate", None) in _NOT_NOW:
        return OperationalError(context.statement, None, error)
    return None
