"""Rate-limit counters on one SQLite file, exact over all the processes of a machine."""

import logging
import sqlite3
import threading
import time
from urllib.parse import urlsplit

from limits.storage import Storage, storage_from_string

from pixel import telemetry

_LOG = logging.getLogger("pixel")


class Counters:
    """The rate-limit counters of this installation: a storage of the `limits` library, chosen by its address."""

    def __init__(self):
        self.storage = None

    def bind(self, uri):
        self.storage = storage_from_string(uri)

    def hit(self, item, *identifiers, amount=1):
        """Count a call under a RateLimitItem: (calls in the window so far, when the window ends).

        None when the counters are away.
        """
        key = item.key_for(*identifiers)
        try:
            return self.storage.incr(key, item.get_expiry(), amount), self.storage.get_expiry(key)
        except self.storage.base_exceptions as error:
            _LOG.warning("rate-limit counters are away: %s", error)
            telemetry.count("pixel_ratelimit_uncounted")
            return None


class SQLiteStorage(Storage):
    """A fixed-window storage for the `limits` library: one upsert a hit.

    The file is of its own, so that a hit never waits for another write, and is not synced: a power cut costs the
    counts of one minute. A hit is one step of the engine, its commit included: with RETURNING, the write lock would be
    held until this thread has Python's interpreter lock again, and all other processes would wait for that. So a
    trigger of the connection leaves the new count in a table of the connection.
    """

    STORAGE_SCHEME = ["pixel-sqlite"]

    _HIT = (
        "INSERT INTO counters VALUES (?1, ?2, ?3 + ?4) ON CONFLICT (key) DO UPDATE SET"
        " count = iif(expires BETWEEN ?3 AND ?3 + ?4, count, 0) + ?2,"
        # A window that ends later than one begun now was begun before the clock was set back: it would last for hours.
        " expires = iif(expires BETWEEN ?3 AND ?3 + ?4, expires, ?3 + ?4)"
    )
    _SET_UP = """
        PRAGMA journal_mode=WAL;
        PRAGMA synchronous=OFF;
        PRAGMA temp_store=MEMORY;
        PRAGMA cache_size=-128;
        CREATE TABLE IF NOT EXISTS counters (key TEXT PRIMARY KEY, count INT, expires REAL) WITHOUT ROWID;
        CREATE TEMP TABLE hit (id INTEGER PRIMARY KEY, count INT, expires REAL);
        INSERT INTO hit VALUES (1, 0, 0);
        CREATE TEMP TRIGGER first AFTER INSERT ON main.counters BEGIN
            UPDATE hit SET count = new.count, expires = new.expires; END;
        CREATE TEMP TRIGGER further AFTER UPDATE ON main.counters BEGIN
            UPDATE hit SET count = new.count, expires = new.expires; END;
    """

    def __init__(self, uri, wrap_exceptions=False, **options):
        super().__init__(uri, wrap_exceptions=wrap_exceptions, **options)
        self.path = urlsplit(uri).path
        self._local = threading.local()

    @property
    def base_exceptions(self):
        return sqlite3.Error

    def incr(self, key, expiry, amount=1):
        """Count `amount` more for `key`, whose window of `expiry` seconds begins with its first hit."""
        self._run(self._HIT, (key, amount, time.time(), expiry))
        count, expires = self._one("SELECT count, expires FROM hit", ())
        self._local.last = key, expires
        return count

    def get(self, key):
        return (self._one("SELECT count FROM counters WHERE key = ? AND expires > ?", (key, time.time())) or (0,))[0]

    def get_expiry(self, key):
        """When the window of `key` ends. Right after a hit on the same thread it is known without asking."""
        if (last := getattr(self._local, "last", None)) and last[0] == key:
            return last[1]
        return (self._one("SELECT expires FROM counters WHERE key = ?", (key,)) or (time.time(),))[0]

    def check(self):
        return self._one("SELECT 1", ()) == (1,)

    def reset(self):
        return self._run("DELETE FROM counters", ()).rowcount

    def clear(self, key):
        self._run("DELETE FROM counters WHERE key = ?", (key,))

    def sweep(self):
        """Drop the counters whose window has ended."""
        self._run("DELETE FROM counters WHERE expires <= ?", (time.time(),))

    def _one(self, sql, values):
        return self._run(sql, values).fetchone()

    def _run(self, sql, values):
        connection = getattr(self._local, "connection", None)
        if connection is None:
            connection = sqlite3.connect(self.path, timeout=2, isolation_level=None)
            connection.executescript(self._SET_UP)
            self._local.connection = connection
        return connection.execute(sql, values)
