"""Who counts an event: the keys that have been claimed, each by the first record that came with it.

One machine keeps its claims in its loader's own index (`Own`). Several machines share theirs in the control database
when that is PostgreSQL (`Shared`): one transaction for each pass of a loader, one after the other over all machines.
"""

from contextlib import contextmanager

import psycopg
from sqlalchemy import make_url

from pixel import clock, journal, postgresql

#: The longest time in which a repeated event_id is known again, in milliseconds.
WINDOW = 24 * 60 * 60 * 1000
_FOR_EVER = 1 << 62
#: The lock that passes of all machines take in turn.
_TURN = int.from_bytes(b"claims")

_OWN_TABLE = """
CREATE TABLE IF NOT EXISTS seen (key BLOB PRIMARY KEY, at INTEGER NOT NULL) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS seen_at ON seen (at) WHERE at < 4611686018427387904;
"""
#: A server that does not end a statement by itself is given up after this.
_PATIENCE_SECONDS = 35
# A server that hangs in the middle of its turn gives it up after a while, and nobody waits for ever.
_BEGIN_TURN = f"""
SET LOCAL synchronous_commit = on;
SET LOCAL lock_timeout = '20s';
SET LOCAL statement_timeout = '30s';
SET LOCAL idle_in_transaction_session_timeout = '10s';
SELECT pg_advisory_xact_lock({_TURN});
"""
_CLAIM = """
INSERT INTO claims (key, at, holder)
SELECT key, at, %s FROM unnest(%s::bytea[], %s::bigint[]) AS new (key, at)
ON CONFLICT (key) DO UPDATE SET at = excluded.at, holder = excluded.holder
"""


class Away(Exception):
    """The claims cannot be read or written just now."""


class Own:
    """The claims of one machine. They are made in the transaction of `index` that its loader has begun."""

    def __init__(self, index):
        self._index = index
        index.executescript(_OWN_TABLE)

    def claim(self, _holder, records):
        """Those of `records`, as [(name, end, Record)] in order, that count: their keys are claimed now."""
        fresh, claimed = _sorted_out(records, self._seen(_keys(records)))
        self._index.executemany("INSERT OR REPLACE INTO seen VALUES (?, ?)", claimed.items())
        return fresh

    def sweep(self):
        """Forget what nobody can repeat any more."""
        self._index.execute("DELETE FROM seen WHERE at < ?", (_oldest(),))

    def close(self):
        """The index is its loader's to close."""

    def _seen(self, keys):
        found = {}
        for i in range(0, len(keys), 500):
            part = keys[i : i + 500]
            marks = ",".join("?" * len(part))
            found.update(self._index.execute(f"SELECT key, at FROM seen WHERE key IN ({marks})", part))
        return found


class Shared:
    """The claims of all machines, in the PostgreSQL database at `url` (SQLAlchemy's form).

    A claim is synced when `claim` returns. Its holder is the pass that made it, so that a pass that dies before it has
    heard the answer asks again and gets the same one.
    """

    def __init__(self, url):
        url = make_url(url)
        _, self._target = url.get_dialect()().create_connect_args(url)
        self._connection = None

    def claim(self, holder, records):
        """As `Own.claim`, for the pass whose id is `holder`. Raises Away; then it may be claimed all the same."""
        if not _keys(records):
            return records
        with self._turn() as cursor:
            cursor.execute(
                "SELECT key, at FROM claims WHERE key = ANY(%s::bytea[]) AND holder <> %s", (_keys(records), holder)
            )
            fresh, claimed = _sorted_out(records, {bytes(key): at for key, at in cursor})
            cursor.execute(_CLAIM, (holder, list(claimed), list(claimed.values())))
        return fresh

    def take_over(self, claimed):
        """Add the claims of a machine that had its own, as [(key, at)]. Raises Away."""
        keys, times = zip(*claimed, strict=True)
        with self._turn() as cursor:
            cursor.execute(f"{_CLAIM} WHERE claims.at < excluded.at", (journal.NO_KEY, list(keys), list(times)))

    def sweep(self):
        """Forget what nobody can repeat any more. Raises Away."""
        with self._turn() as cursor:
            cursor.execute("DELETE FROM claims WHERE at < %s", (_oldest(),))

    def close(self):
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    @contextmanager
    def _turn(self):
        """A transaction while no other machine has one. Raises Away."""
        try:
            with self._connect().transaction(), self._connection.cursor() as cursor:
                cursor.execute(_BEGIN_TURN)
                yield cursor
        except psycopg.Error as error:
            self.close()
            raise Away(f"The control database does not take claims: {error}") from error
        except BaseException:
            self.close()
            raise

    def _connect(self):
        if self._connection is None:
            patience = {"connect_timeout": 5, "tcp_user_timeout": 10_000, "application_name": "pixel loader"}
            self._connection = postgresql.Connection.connect(**patience | self._target, autocommit=True)
            self._connection.patience = _PATIENCE_SECONDS
        return self._connection


def _sorted_out(records, seen):
    """Which of the records count, and the keys that they claim: (records, {key: the time from which it is known})."""
    fresh, claimed = [], {}
    for entry in records:
        record = entry[-1]
        if not _is_known(record, seen):
            for key, at in _claims(record):
                seen[key] = claimed[key] = at
            fresh.append(entry)
    return fresh, claimed


def _keys(records):
    return list({key for *_, r in records for key in (r.key, r.other_key) if key != journal.NO_KEY})


def _claims(record):
    """The keys that a counted record takes, each with the time from which it is known."""
    if record.key != journal.NO_KEY:
        yield record.key, _FOR_EVER if record.flags & journal.FOREVER else record.received
    if record.other_key != journal.NO_KEY:
        yield record.other_key, _FOR_EVER


def _is_known(record, seen):
    """Whether an earlier record with one of this one's keys counts in its place."""
    for key in (record.key, record.other_key):
        at = seen.get(key)
        if at is not None and (at == _FOR_EVER or abs(record.received - at) < WINDOW):
            return True
    return False


def _oldest():
    return clock.milliseconds() - 2 * WINDOW
