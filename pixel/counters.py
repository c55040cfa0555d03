"""Rate-limit counters on one SQLite file, exact over all the processes of a machine."""

import logging
import sqlite3
import threading
import time
from urllib.parse import urlsplit

from limits import RateLimitItem
from limits.storage import RedisStorage as _RedisStorage
from limits.storage import Storage, storage_from_string
from redis.backoff import NoBackoff
from redis.retry import Retry

from pixel import telemetry
from pixel.breaker import Breaker

#: How long the counters are left alone after they failed. Calls go on meanwhile, uncounted.
PAUSE_SECONDS = 3
#: How long Redis may take for one answer.
REDIS_SECONDS = 0.2
#: How long a call waits for the counters' file when another program holds it.
WAIT_SECONDS = 2
_LOG = logging.getLogger("pixel")


class Counters:
    """The rate-limit counters of this installation: a storage of the `limits` library, chosen by its address."""

    def __init__(self):
        self.storage = None

    def bind(self, uri):
        self.storage = storage_from_string(uri)
        self._breaker = Breaker(PAUSE_SECONDS)

    def hit(self, item: RateLimitItem, *identifiers: str) -> tuple[int, float] | None:
        """Count a call under a RateLimitItem. Return the calls in the window so far and when it ends, in seconds.

        Return None while the counters are unavailable.
        """
        if not self._breaker.lets_ask():
            telemetry.count("pixel_ratelimit_uncounted")
            return None
        key = item.key_for(*identifiers)
        try:
            hit = self.storage.incr(key, item.get_expiry()), self.storage.get_expiry(key)
        except self.storage.base_exceptions as error:
            telemetry.count("pixel_ratelimit_uncounted")
            if self._breaker.failed():
                _LOG.warning("rate-limit counters are away, calls go on uncounted: %s", error)
            return None
        self._breaker.worked()
        return hit

    def count(self, item: RateLimitItem, *identifiers: str) -> int:
        """Return the calls in the current window, without counting one: 0 while the counters are unavailable."""
        if not self._breaker.lets_ask():
            return 0
        try:
            calls = self.storage.get(item.key_for(*identifiers))
        except self.storage.base_exceptions as error:
            if self._breaker.failed():
                _LOG.warning("rate-limit counters are away, calls go on uncounted: %s", error)
            return 0
        self._breaker.worked()
        return calls

    def refund(self, item: RateLimitItem, *identifiers: str, reset: float) -> None:
        """Take one call back from the window that ends at `reset`, in seconds since 1970, unless it has ended."""
        if not self._breaker.lets_ask():
            return
        try:
            self.storage.refund(item.key_for(*identifiers), reset)
        except self.storage.base_exceptions as error:
            if self._breaker.failed():
                _LOG.warning("rate-limit counters are away, calls go on uncounted: %s", error)
            return
        self._breaker.worked()

    def sweep(self):
        """Drop the counters whose window has ended, where the storage does not do so itself."""
        self.storage.sweep()

    def check(self):
        """Whether the counters answer."""
        try:
            return self.storage.check()
        except self.storage.base_exceptions:
            return False


class SQLiteStorage(Storage):
    """A fixed-window storage for the `limits` library: one upsert a hit.

    The file is of its own, so that a hit never waits for another write, and is not synced: a power cut costs the
    counts of one minute. A hit is one step of the engine, its commit included: with RETURNING, the write lock would be
    held until this thread has Python's interpreter lock again, and all other processes would wait for that. So a
    trigger of the connection leaves the new count in a table of the connection.
    """

    STORAGE_SCHEME = ["pixel-sqlite"]
    NAME = "SQLite"

    _HIT = (
        "INSERT INTO counters VALUES (?1, ?2, ?3 + ?4) ON CONFLICT (key) DO UPDATE SET"
        " count = iif(expires BETWEEN ?3 AND ?3 + ?4 + 5, count, 0) + ?2,"
        # A window that ends much later than one begun now was begun before the clock was set back, and would last for
        # hours; a little later, by a call that read the clock after this one and came first.
        " expires = iif(expires BETWEEN ?3 AND ?3 + ?4 + 5, expires, ?3 + ?4)"
    )
    _SET_UP = """
        PRAGMA journal_mode=WAL;
        PRAGMA synchronous=OFF;
        PRAGMA temp_store=MEMORY;
        PRAGMA cache_size=-128;
        CREATE TABLE IF NOT EXISTS counters (key TEXT PRIMARY KEY, count INT, expires REAL) WITHOUT ROWID;
        CREATE TEMP TABLE hit (id INTEGER PRIMARY KEY, count INT, expires REAL);
        INSERT INTO hit VALUES (1, 0, 0);
        PRAGMA busy_timeout=0;
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

    def refund(self, key: str, reset: float) -> None:
        """Subtract 1 from the window of `key` that ends at `reset`. A later window starts at 0 and stays as it is."""
        self._run(
            "UPDATE counters SET count = count - 1 WHERE key = ? AND expires = ? AND expires > ? AND count > 0",
            (key, reset, time.time()),
        )

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
            connection = sqlite3.connect(self.path, timeout=WAIT_SECONDS, isolation_level=None)
            connection.executescript(self._SET_UP)
            self._local.connection = connection
        begun, pause = None, 0.00001
        while True:
            try:
                return connection.execute(sql, values)
            except sqlite3.OperationalError as error:
                begun = begun or time.monotonic()
                # The lower byte tells the kind: it may be busy for several reasons.
                busy = error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY
                if not busy or time.monotonic() - begun > WAIT_SECONDS:
                    raise
            # Another process has the lock, for microseconds. SQLite itself would wait for a millisecond at least, which
            # is several requests.
            time.sleep(pause)
            pause = min(pause * 1.5, 0.01)


class RedisStorage(_RedisStorage):
    """The library's storage in Redis, which tells the count and the end of the window in one answer, soon or never."""

    STORAGE_SCHEME = ["redis", "rediss"]
    NAME = "Redis"

    _HIT = """
        local count = redis.call("INCRBY", KEYS[1], ARGV[1])
        local left = redis.call("PTTL", KEYS[1])
        if left < 0 then
            left = tonumber(ARGV[2])
            redis.call("PEXPIRE", KEYS[1], left)
        end
        return {count, left}
    """
    #: Windows last a minute or more, so a difference below a second means the same window.
    _REFUND = """
        local left = redis.call("PTTL", KEYS[1])
        if left > 0 and math.abs(left - tonumber(ARGV[1])) < 1000 and tonumber(redis.call("GET", KEYS[1])) > 0 then
            redis.call("DECR", KEYS[1])
        end
    """

    def __init__(self, uri, wrap_exceptions=False, **options):
        super().__init__(
            uri,
            wrap_exceptions=wrap_exceptions,
            socket_timeout=REDIS_SECONDS,
            socket_connect_timeout=REDIS_SECONDS,
            # Two tries take twice as long, and nobody is turned away when one fails.
            retry=Retry(NoBackoff(), 0),
            **options,
        )
        self._hit = self.storage.register_script(self._HIT)
        self._refund = self.storage.register_script(self._REFUND)
        self._local = threading.local()

    def refund(self, key: str, reset: float) -> None:
        """Subtract 1 from the window of `key` that ends at `reset`. A later window starts at 0 and stays as it is."""
        self._refund([self.prefixed_key(key)], [int((reset - time.time()) * 1000)])

    def incr(self, key, expiry, amount=1):
        """Count `amount` more for `key`, whose window of `expiry` seconds begins with its first hit."""
        count, left = self._hit([self.prefixed_key(key)], [amount, expiry * 1000])
        self._local.last = key, time.time() + left / 1000
        return count

    def get_expiry(self, key):
        """When the window of `key` ends. Right after a hit on the same thread it is known without asking."""
        if (last := getattr(self._local, "last", None)) and last[0] == key:
            return last[1]
        return time.time() + max(0, self.storage.pttl(self.prefixed_key(key))) / 1000

    def sweep(self):
        """Redis drops what has run out itself."""
