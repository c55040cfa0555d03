"""From the journal into the warehouse: every acknowledged event once, whatever dies in between.

A pass takes the next records of all journal files in the order they were accepted, and

1. begins: notes in `loader.sqlite`, synced as all that follows there, which records it has taken, and its own new id;
2. claims them: each new key is written down under that id, duplicates are dropped (see `claims`), and the places of the
   rows it will load are noted;
3. inserts the rows into the warehouse, which syncs them;
4. forgets the pass, and removes the journal files that are loaded to the end.

Killed after 1, the next start claims the same records for the same pass: what it had claimed already is its own. Killed
after 2, it inserts the rows again. A journal file is never removed before all of it is loaded.

What is inserted again must not be there twice. Of an embedded warehouse the loader asks which rows have arrived, and
inserts the others. A server may still be at work on an insert whose answer was lost. So for REMEMBERS_SECONDS the very
same blocks are sent again, each with a token by which the server knows it; later, and no sooner than STRAGGLES_SECONDS
after the last insert that was not answered, it too is asked what has arrived.
"""

import hashlib
import logging
import os
import sqlite3
import struct
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson

from pixel import clock, journal, private_files, telemetry
from pixel.errors import AnalyticsError
from pixel.warehouse import claims
from pixel.warehouse.embedded import parsed

#: How much of the journal one pass takes, and from how many files. A file's share must hold its longest record.
PASS_BYTES = 16 << 20
PASS_FILES = 8
#: After so many tries a pass is loaded in ever smaller blocks, so that what fails together may go in apart.
PATIENCE = 3
SWEEP_SECONDS = 60

_PLACE = struct.Struct("<Q")
#: What tells a row of each table from all others, besides its time.
_IDENTITIES = {
    "events": ("event_key", "received_at"),
    "requests": ("request_id", "at"),
    "identities": ("request_id", "received_at"),
    "drops": ("request_id", "at"),
}
#: ClickHouse's codes for rows it cannot read; anything else is about the warehouse itself.
ABOUT_A_ROW = {6, 26, 27, 33, 38, 41, 53, 69, 72, 117, 131, 321, 349, 407}
_LOG = logging.getLogger("pixel.loader")

_SCHEMA = """
CREATE TABLE IF NOT EXISTS files (name TEXT PRIMARY KEY, taken INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS pending (name TEXT PRIMARY KEY, start INTEGER NOT NULL, places BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS pass (id BLOB NOT NULL, claimed INTEGER NOT NULL);
-- What was pending before passes had ids.
INSERT INTO pass SELECT zeroblob(16), 1 WHERE EXISTS (SELECT 1 FROM pending) AND NOT EXISTS (SELECT 1 FROM pass);
"""


class OutcomeUnknown(Exception):
    """An insert was sent and not answered: it may have been carried out, or be carried out yet."""


class Loader:
    """The loading end of one journal folder. Used by one thread at a time.

    `shared` are the claims of several machines; without them this one has its own.
    """

    def __init__(
        self,
        warehouse: Any,
        folder: str | Path,
        index_path: str | Path,
        shared: claims.Shared | None = None,
    ) -> None:
        self._warehouse = warehouse
        self.folder = self._folder = Path(folder)
        private_files.claim_folder(self._folder)
        self._index = sqlite3.connect(index_path, isolation_level=None, check_same_thread=False)
        self._index.execute("PRAGMA journal_mode=WAL")
        self._index.execute("PRAGMA synchronous=FULL")
        self._index.executescript(_SCHEMA)
        self._claims = shared or claims.Own(self._index)
        self._taken = dict(self._index.execute("SELECT name, taken FROM files"))
        self._segments = {}
        self._bounds = {}
        self._swept = 0
        self._tries, self._most_rows = 0, sys.maxsize
        self._pass_id, self._claimed = b"", 0
        # Whoever was the loader before may have died with an insert on its way.
        self._quiet_from = time.monotonic() + warehouse.STRAGGLES_SECONDS
        self._repeated = []
        self._status = {"loaded": 0, "duplicates": 0, "failure": ""}

    def load(self):
        """Load all that the journal holds now. Raises AnalyticsError when the warehouse does not take it."""
        try:
            self._finish_pending()
            while self._pass():
                pass
            self._sweep()
        except (sqlite3.Error, claims.Away) as error:
            self._status["failure"] = str(error)[:500]
            raise AnalyticsError() from error

    def status(self):
        """Rows loaded and duplicates dropped since the start, bytes behind, and the last failure while it lasts."""
        return self._status | {"behind_bytes": sum(map(self._behind, self._folder.glob("*.journal")))}

    def reached(self):
        """How far each journal file is loaded, as [(path, bytes)]."""
        return [(path, self._taken.get(path.name, journal.HEADER.size)) for path in self._folder.glob("*.journal")]

    def close(self):
        self._claims.close()
        self._index.close()

    def _pass(self):
        """Take, claim and insert the next records. Returns whether there may be more."""
        records, reached, more = self._take()
        if records:
            self._begin(reached)
            self._insert(self._claim(records))
            self._settle()
            telemetry.observe("pixel_load_lag_seconds", clock.seconds() - min(r.received for *_, r in records) / 1000)
        self._remove_loaded(more)
        return more

    # -- taking

    def _take(self):
        """The next records in order, as [(name, end, Record)], how far they reach by file, and whether more wait.

        What was acknowledged first must come first, so that of two events with one id the first wins. A record that
        is sent after another was acknowledged is stamped after that other was written. So what may be missing from a
        file is bounded by the latest stamp read from it, and nothing later than any such bound, or than the start of
        this pass, is taken.
        """
        horizon = now = (True, time.monotonic_ns())
        waiting = sorted((s for s in self._known_segments() if self._behind(s.path)), key=self._bound)
        found = []
        for segment in waiting[:PASS_FILES]:
            records, cut = self._read(segment)
            found.append((segment, records))
            if cut and records:
                horizon = min(horizon, max(_order(segment, record) for _, record in records))
        if len(waiting) > PASS_FILES:
            horizon = min(horizon, self._bound(waiting[PASS_FILES]))
        return *self._until(horizon, found), horizon is not now

    def _until(self, horizon, found):
        """Of each file what precedes its first record past the horizon, in order; and how far that reaches."""
        taken, reached = [], {}
        for segment, records in found:
            name = segment.path.name
            for end, record in records:
                order = _order(segment, record)
                if order > horizon:
                    self._bounds[name] = order
                    break
                self._bounds[name] = max(self._bound(segment), order)
                taken.append((order, name, end, record))
                reached[name] = end
        taken.sort(key=lambda entry: entry[0])
        return [entry[1:] for entry in taken], reached

    def _bound(self, segment):
        """Nothing that is yet to be taken from this file was acknowledged before this."""
        return self._bounds.get(segment.path.name) or _order_of_file(segment)

    def _read(self, segment):
        try:
            return segment.read(self._taken.get(segment.path.name, 0), PASS_BYTES // PASS_FILES)
        except journal.DamagedJournal as damage:
            if not damage.found and segment.is_final():
                self._keep_damaged(segment.path, damage)
            return damage.found, False

    def _keep_damaged(self, path, damage):
        kept = path.rename(path.with_suffix(".damaged"))
        _LOG.error("%s What follows is not loaded; the file is kept as %s.", damage, kept.name)

    def _keep_torn(self, path):
        """Keep a file that ends within a record: a crash leaves that of one never acknowledged, and a cut does too."""
        kept = path.rename(path.with_suffix(".torn"))
        _LOG.warning("%s ends within a record. All before it is loaded; the file is kept as %s.", path.name, kept.name)

    def _known_segments(self):
        """The journal's files."""
        paths = {path.name: path for path in self._folder.glob("*.journal")}
        for name in self._segments.keys() - paths.keys():
            del self._segments[name]
        for name in paths.keys() - self._segments.keys():
            try:
                self._segments[name] = journal.Segment(paths[name])
            except ValueError as damage:
                self._keep_damaged(paths[name], damage)
        return list(self._segments.values())

    def _behind(self, path):
        """How many bytes of this file are yet to be taken."""
        try:
            return path.stat().st_size - self._taken.get(path.name, journal.HEADER.size)
        except FileNotFoundError:
            return 0

    # -- claiming

    def _begin(self, reached):
        """Note, durably, which records a new pass has taken: those of each file up to where it has reached."""
        self._pass_id = os.urandom(16)
        with self._transaction() as index:
            index.execute("INSERT INTO pass VALUES (?, 0)", (self._pass_id,))
            starts = [(name, self._taken.get(name, 0)) for name in reached]
            index.executemany("INSERT INTO pending VALUES (?, ?, x'')", starts)
            index.executemany("INSERT OR REPLACE INTO files VALUES (?, ?)", reached.items())
        self._taken |= reached

    def _claim(self, records):
        """Write down the keys of new records, durably, and return those records."""
        with self._transaction() as index:
            fresh = self._claims.claim(self._pass_id, records)
            for name in {name for name, *_ in fresh}:
                places = b"".join(_PLACE.pack(end) for n, end, _ in fresh if n == name)
                index.execute("UPDATE pending SET places = ? WHERE name = ?", (places, name))
            self._claimed = clock.milliseconds()
            index.execute("UPDATE pass SET claimed = ?", (self._claimed,))
        counted = {(name, end) for name, end, _ in fresh}
        self._repeated = [record for name, end, record in records if (name, end) not in counted]
        self._status["duplicates"] += len(self._repeated)
        return fresh

    # -- inserting

    def _insert(self, fresh, arrived=frozenset()):
        """Insert what of `fresh` has not arrived. Raises AnalyticsError; then the pass stays pending."""
        self._tries += 1
        # Always in the same order, which the order of acceptance is not after a new start of the machine.
        fresh = sorted(fresh, key=lambda entry: entry[:2])
        failure, worked = None, False
        for table, block in self._blocks(fresh, arrived):
            try:
                loaded = self._insert_block(table, block)
                self._status["loaded"] += loaded
                telemetry.count("pixel_loaded_rows", table, amount=loaded)
                self._most_rows, worked = self._most_rows * 2, True
            except AnalyticsError as error:
                # After one that went in, it may have been too large; after one that did not, the warehouse is away.
                if not worked:
                    raise
                failure, worked = error, False
        if failure:
            raise failure

    def _blocks(self, fresh, arrived):
        """The rows to insert: (table, [row]), of each table as many at once as may be."""
        for table in journal.TABLES:
            rows = [r.row for *_, r in fresh if r.table == table and (not arrived or _identity(r) not in arrived)]
            while rows:
                block, rows = rows[: self._most_rows], rows[self._most_rows :]
                yield table, block

    def _insert_block(self, table, rows):
        """Insert rows as one block, and by halves when some cannot be read. Returns how many went in."""
        try:
            self._put(table, rows)
            return len(rows)
        except Exception as error:
            if getattr(error, "code", None) not in ABOUT_A_ROW:
                self._give_up(rows, error)
            if len(rows) == 1:
                self._set_aside(table, rows[0], error)
                return 0
            middle = len(rows) // 2
            return self._insert_block(table, rows[:middle]) + self._insert_block(table, rows[middle:])

    def _give_up(self, rows, error):
        """Leave the pass pending. Some of the rows may be there all the same, so only the next try may divide them."""
        reason = error.__cause__ if isinstance(error, AnalyticsError) else error
        self._status["failure"] = str(reason)[:500]
        if self._tries >= PATIENCE and not self._is_remembered() and not self._may_straggle():
            self._most_rows = max(1, len(rows) // 2)
        raise AnalyticsError() from reason

    def _is_remembered(self):
        """Whether the warehouse itself knows again whatever was sent of this pass."""
        return 0 <= clock.milliseconds() - self._claimed < self._warehouse.REMEMBERS_SECONDS * 1000

    def _put(self, table, rows):
        """Insert rows as one block. The same rows of the same pass are the same block to the warehouse."""
        block = b"\n".join(rows)
        token = hashlib.blake2b(self._pass_id + table.encode() + block, digest_size=16).hexdigest()
        try:
            self._warehouse.insert(table, block, token)
        except OutcomeUnknown:
            self._quiet_from = time.monotonic() + self._warehouse.STRAGGLES_SECONDS
            raise

    def _may_straggle(self):
        """Whether an insert of before may still be at work."""
        return time.monotonic() < self._quiet_from

    def _set_aside(self, table, row, error):
        """Keep a row that the warehouse cannot read, so that it neither blocks the others nor is lost."""
        with open(self._folder / journal.REFUSED, "ab") as file:
            file.write(b'{"table":"%s","row":%s}\n' % (table.encode(), row))
            file.flush()
            os.fsync(file.fileno())
        _LOG.error("the warehouse cannot read a row of %s, which is kept in refused.ndjson: %s", table, error)

    def _tell_repeated(self):
        """Note how many events of each website were not counted again. When that fails it is not tried again."""
        repeated, self._repeated = self._repeated, []
        telemetry.count("pixel_events_dropped", "duplicate", amount=len(repeated))
        rows = {}
        try:
            for record in repeated:
                if record.table == "events":
                    _count_repeated(rows, orjson.loads(record.row))
            if rows:
                self._put("drops", list(map(orjson.dumps, rows.values())))
        except Exception as error:
            _LOG.warning("repeated events were not noted: %s", error)

    # -- settling

    def _settle(self):
        self._tries, self._most_rows = 0, sys.maxsize
        with self._transaction() as index:
            index.execute("DELETE FROM pending")
            index.execute("DELETE FROM pass")
        self._status["failure"] = ""
        self._tell_repeated()

    def _finish_pending(self):
        """Carry on with a pass that was cut short."""
        found = self._index.execute("SELECT id, claimed FROM pass").fetchone()
        if found:
            self._pass_id, self._claimed = found
            if self._claimed:
                fresh = self._pending(claimed=True)
                self._insert(fresh, self._arrived_if_forgotten(fresh))
            else:
                self._insert(self._claim(self._pending(claimed=False)))
            self._settle()

    def _pending(self, claimed):
        """The records of the pass that is pending, in order: those it has claimed, or all it has taken."""
        found = []
        for name, start, places in self._index.execute("SELECT name, start, places FROM pending").fetchall():
            wanted = {place for (place,) in _PLACE.iter_unpack(places)}
            end = max(wanted, default=0) if claimed else self._taken[name]
            if end:
                segment, (records, _) = journal.Segment(self._folder / name), self._whole(name, start, end)
                found += [(_order(segment, r), name, at, r) for at, r in records if at in wanted or not claimed]
        found.sort(key=lambda entry: entry[0])
        return [entry[1:] for entry in found]

    def _arrived_if_forgotten(self, fresh):
        """What has arrived of a pass that is tried again; nothing as long as the warehouse knows its blocks again."""
        if not fresh or self._is_remembered():
            return frozenset()
        if self._may_straggle():
            self._status["failure"] = "An insert was not answered; before it is tried again it must have ended."
            raise AnalyticsError(self._status["failure"])
        return self._arrived(fresh)

    def _whole(self, name, start, end):
        segment = journal.Segment(self._folder / name)
        try:
            return segment.read(start, end - start)
        except journal.DamagedJournal as damage:
            return damage.found, False

    def _arrived(self, fresh):
        """The identities of those rows that the warehouse has already, and of some others."""
        found = set()
        for table, (id_column, time_column) in _IDENTITIES.items():
            times = [record.received for *_, record in fresh if record.table == table]
            if times:
                rows = self._warehouse.patient_query(
                    f"SELECT {id_column} AS id, toUnixTimestamp64Milli({time_column}) AS at FROM {table}"
                    f" WHERE {time_column} BETWEEN fromUnixTimestamp64Milli({{low:Int64}})"
                    f" AND fromUnixTimestamp64Milli({{high:Int64}})",
                    {"low": min(times), "high": max(times)},
                )
                found |= {(table, row["id"], row["at"]) for row in parsed(rows)["data"]}
        return found

    def _remove_loaded(self, more):
        """Remove the files that have ended and been taken whole; nothing of them is pending any more."""
        for segment in self._known_segments():
            name = segment.path.name
            if more and self._behind(segment.path):
                continue
            if segment.is_final() and not self._read(segment)[0] and segment.path.exists():
                if self._behind(segment.path):
                    self._keep_torn(segment.path)
                else:
                    segment.path.unlink()
                self._index.execute("DELETE FROM files WHERE name = ?", (name,))
                for known in (self._taken, self._bounds, self._segments):
                    known.pop(name, None)

    def _sweep(self):
        """Now and then, forget the event ids that are older than the window."""
        if time.monotonic() - self._swept > SWEEP_SECONDS:
            self._swept = time.monotonic()
            self._claims.sweep()

    @contextmanager
    def _transaction(self):
        self._index.execute("BEGIN IMMEDIATE")
        try:
            yield self._index
        except BaseException:
            self._index.execute("ROLLBACK")
            raise
        self._index.execute("COMMIT")


def lag(folder, index_path):
    """How far the warehouse is behind a journal folder: (bytes, seconds since the oldest record came, or 0).

    It reads what the loader has written down, so it tells even when no engine answers. Raises OSError or sqlite3.Error.
    """
    taken, behind, oldest = _taken(index_path), 0, None
    for path in Path(folder).glob("*.journal"):
        reached = taken.get(path.name, journal.HEADER.size)
        try:
            waiting = path.stat().st_size - reached
            received = journal.received_at(path, reached) if waiting > 0 else None
        except FileNotFoundError:
            continue
        behind += max(0, waiting)
        oldest = min(filter(None, (oldest, received)), default=None)
    return behind, max(0.0, clock.seconds() - oldest / 1000) if oldest else 0.0


def _taken(index_path):
    """How far each journal file is loaded, as {name: bytes}."""
    if not Path(index_path).exists():
        return {}
    index = sqlite3.connect(f"file:{index_path}?mode=ro", uri=True, timeout=0.5)
    try:
        return dict(index.execute("SELECT name, taken FROM files"))
    finally:
        index.close()


def _order(segment, record):
    """Where a record stands among all: those of earlier boots by the clock, those of this boot by the monotonic one."""
    ours = segment.boot == journal.boot_id()
    return ours, record.monotonic if ours else record.received * 1_000_000


def _order_of_file(segment):
    ours = segment.boot == journal.boot_id()
    return ours, segment.created if ours else int(segment.path.name.split("-")[0])


def _count_repeated(rows, event):
    """Count a repeated event in its website's row of the drops."""
    row = rows.setdefault(event["website_id"], {
        "workspace_id": event["workspace_id"], "website_id": event["website_id"], "at": event["received_at"],
        "reason": "duplicate", "events": 0, "request_id": event["request_id"],
    })  # fmt: skip
    row["events"] += 1


def _identity(record):
    row = orjson.loads(record.row)
    return record.table, row[_IDENTITIES[record.table][0]], record.received
