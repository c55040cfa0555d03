"""The journal: what makes a 202 true.

Each process appends records to files of its own under `instance/journal/` and syncs them before it answers; requests
that arrive together share one sync (group commit). The engine reads all files in order, loads the rows into the
warehouse, and only then removes them.

A file is a header (magic, boot id, creation time) and frames. A frame is `size, crc32` and a body: the record's fixed
part (see `Record`) and its row as JSON. A writer holds a lock on its file for as long as it lives, so a file that can
be locked is final, however its writer ended. A file is never changed behind what may have been read: after a failed
write it is cut back to the last good frame and a new one begun.
"""

import fcntl
import os
import struct
import threading
import time
import zlib
from functools import cache
from pathlib import Path
from typing import NamedTuple

from pixel import private_files, turns
from pixel.errors import ServiceUnavailable

MAGIC = b"PXLJ0001"
HEADER = struct.Struct("<8s16sQ")
FRAME = struct.Struct("<II")
FIXED = struct.Struct("<BBQQ16s16s")

SEGMENT_BYTES = 8 << 20
#: How long a row that nobody waits for may stay in memory.
FLUSH_SECONDS = 0.05

TABLES = ("events", "requests", "identities", "drops")
NO_KEY = bytes(16)
#: Where rows are kept that the warehouse could not read.
REFUSED = "refused.ndjson"

#: Flags of a record.
FOREVER = 1


class Record(NamedTuple):
    """One row on its way to the warehouse.

    `key` is what it is counted once by, for 24 hours or, with the flag FOREVER, for good; `other_key` is a second such
    key that is always for good (a payment's transaction). NO_KEY counts always. `monotonic` (nanoseconds) orders the
    records of one boot over all processes; `received` is milliseconds since 1970.
    """

    table: str
    flags: int
    monotonic: int
    received: int
    key: bytes
    other_key: bytes
    row: bytes


def frame(table, row, received, key=NO_KEY, other_key=NO_KEY, flags=0):
    """One record, ready to append. `row` is a JSON object of the table's columns, as bytes."""
    body = FIXED.pack(TABLES.index(table), flags, time.monotonic_ns(), received, key, other_key) + row
    return FRAME.pack(len(body), zlib.crc32(body)) + body


@cache
def boot_id():
    """What is the same for all processes until the machine starts anew, as 16 bytes."""
    return bytes.fromhex(Path("/proc/sys/kernel/random/boot_id").read_text().strip().replace("-", ""))


class Journal:
    """This process's end of the journal."""

    def __init__(self):
        self.folder = None
        self._begin_anew()
        os.register_at_fork(after_in_child=self._begin_anew)

    def bind(self, folder: str | Path) -> None:
        """Use `folder`, and create it if it is missing. No file is created before the first record."""
        self.folder = Path(folder)
        private_files.claim_folder(self.folder)

    def append(self, frames: bytes):
        """Write frames and return once they are synced to disk.

        Raises ServiceUnavailable; then none of it is accepted. The next call tries anew, with a new file.
        """
        turn = turns.current()
        error = turn.sync(frames) if turn else self.write(frames)
        if error:
            raise ServiceUnavailable("The journal cannot be written just now.", retry_after=5) from error

    def write(self, frames: bytes):
        """Write frames and sync them. Returns the error, or None when they are on disk."""
        return self._settle(frames, sync=True).error

    def append_later(self, frames: bytes):
        """Write frames within FLUSH_SECONDS, with the next sync if there is one. For rows nobody waits for."""
        with self._lock:
            self._gathering.frames.append(frames)
            if self._flusher is None:
                self._flusher = threading.Thread(target=self._flush_for_ever, name="journal", daemon=True)
                self._flusher.start()
        if not self._bell.is_set():
            self._bell.set()

    def flush(self):
        """Write what waits."""
        self._settle(b"", sync=False)

    def close(self):
        """Write what waits and end this process's file, so that the engine can remove it once it is loaded."""
        self.flush()
        with self._lock:
            self._end_file()

    def _begin_anew(self):
        # A forked child must not touch its parent's file: the lock on it is shared and the offsets are not.
        self._lock = threading.Lock()
        self._gathering = _Group()
        self._committing = False
        self._bell = threading.Event()
        self._flusher = None
        self._fd = None
        self._size = 0

    def _settle(self, frames, sync):
        """Add frames to the group that gathers, and return that group once it is written.

        Whoever finds nobody committing commits, for all that have gathered. Each of the others sleeps on a lock of
        its own, and is woken once: when its group is written, or when it is the one to commit the group.
        """
        with self._lock:
            group = self._gathering
            group.frames.append(frames)
            group.sync = group.sync or sync
            leads = not self._committing
            self._committing = True
            if not leads:
                turn = threading.Lock()
                turn.acquire()
                group.sleepers.append(turn)
        if not leads:
            turn.acquire()
        if not group.done:
            self._commit(group)
        return group

    def _commit(self, group):
        with self._lock:
            self._gathering = _Group()
        try:
            self._write(b"".join(group.frames), group.sync)
        except BaseException as error:
            group.error = error
            if not isinstance(error, Exception):
                raise
        finally:
            self._hand_over(group)

    def _hand_over(self, group):
        """Wake those of a group that is written, and have one of the next group commit that."""
        group.done = True
        with self._lock:
            heir = self._gathering.sleepers.pop(0) if self._gathering.sleepers else None
            self._committing = heir is not None
        for turn in group.sleepers:
            turn.release()
        if heir:
            heir.release()

    def _write(self, data, sync):
        if not data:
            return
        if self._fd is None:
            self._begin_file()
        try:
            _write_whole(self._fd, data)
            if sync:
                os.fdatasync(self._fd)
        except BaseException:
            # Whatever it was, a thread's end included: nothing may follow half a frame.
            self._cut_back()
            raise
        self._size += len(data)
        if self._size >= SEGMENT_BYTES:
            self._end_file()

    def _begin_file(self):
        """Make a file and let the engine see it only once it is locked and its name will survive a power cut."""
        name = self.folder / f"{time.time_ns()}-{os.getpid()}"
        hidden = name.with_suffix(".new")
        fd = os.open(hidden, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _write_whole(fd, HEADER.pack(MAGIC, boot_id(), time.monotonic_ns()))
            os.fdatasync(fd)
            os.rename(hidden, name.with_suffix(".journal"))
            _sync_folder(self.folder)
        except BaseException:
            os.close(fd)
            hidden.unlink(missing_ok=True)
            raise
        self._fd, self._size = fd, HEADER.size

    def _cut_back(self):
        """After a failed write: back to the last good frame, and a new file next time."""
        try:
            os.ftruncate(self._fd, self._size)
        except OSError:
            pass
        self._end_file()

    def _end_file(self):
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def _flush_for_ever(self):
        while True:
            self._bell.wait()
            self._bell.clear()
            time.sleep(FLUSH_SECONDS)
            self.flush()


class _Group:
    """What is written, and synced if anyone waits for it, at one go."""

    __slots__ = ("done", "error", "frames", "sleepers", "sync")

    def __init__(self):
        self.frames = []
        self.sleepers = []
        self.sync = False
        self.done = False
        self.error = None


class Segment:
    """The engine's view of one journal file."""

    def __init__(self, path):
        self.path = Path(path)
        with open(self.path, "rb") as file:
            header = file.read(HEADER.size)
        if not header.startswith(MAGIC) or len(header) < HEADER.size:
            raise ValueError(f"{self.path.name} is not a journal file.")
        _, self.boot, self.created = HEADER.unpack(header)

    def is_final(self):
        """Whether its writer has ended it, or has ended."""
        with open(self.path, "rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            return True

    def read(self, offset=0, most_bytes=-1):
        """The records from `offset` on, as a list of (end offset, Record), and whether there may be more.

        Stops before a frame that is not whole. A frame that is whole but does not match its checksum is damage, and
        raises DamagedJournal with what came before it.
        """
        with open(self.path, "rb") as file:
            file.seek(max(offset, HEADER.size))
            data = file.read(most_bytes)
            full = len(data) == most_bytes
        start, position, found = max(offset, HEADER.size), 0, []
        while position + FRAME.size <= len(data):
            size, crc = FRAME.unpack_from(data, position)
            end = position + FRAME.size + size
            if end > len(data):
                break
            body = data[position + FRAME.size : end]
            if zlib.crc32(body) != crc or size < FIXED.size:
                raise DamagedJournal(self.path, start + position, found)
            found.append((start + end, _record(body)))
            position = end
        return found, full


class DamagedJournal(Exception):
    """A journal file holds a frame that does not match its checksum at `offset`; `found` are the records before it."""

    def __init__(self, path, offset, found):
        super().__init__(f"{path.name} is damaged at byte {offset}.")
        self.offset, self.found = offset, found


def received_at(path, offset):
    """When the record at `offset` of a file came, in milliseconds since 1970, or None if it is not whole yet."""
    with open(path, "rb") as file:
        file.seek(offset + FRAME.size)
        fixed = file.read(FIXED.size)
    return FIXED.unpack(fixed)[3] if len(fixed) == FIXED.size else None


def probe(folder):
    """Write a byte beside the journal and sync it: how many milliseconds that took. Raises OSError."""
    path = Path(folder) / f".probe-{os.getpid()}"
    started = time.perf_counter()
    try:
        with open(path, "wb") as file:
            file.write(b"x")
            file.flush()
            os.fdatasync(file.fileno())
    finally:
        path.unlink(missing_ok=True)
    return (time.perf_counter() - started) * 1000


def segments(folder):
    """The files of a journal folder, oldest first."""
    return sorted((Segment(path) for path in Path(folder).glob("*.journal")), key=lambda s: s.path.name)


def set_aside(folder):
    """The files of a journal folder that hold what could not be loaded."""
    found = (path for pattern in ("*.damaged", "*.torn", REFUSED) for path in folder.glob(pattern))
    return sorted(path for path in found if path.stat().st_size)


def find(folder, needle: bytes):
    """The records of a journal folder whose row holds the bytes `needle`, oldest first, loaded yet or not."""
    for path in sorted(Path(folder).glob("*.journal")):
        try:
            if needle not in path.read_bytes():
                continue
            found, _ = Segment(path).read()
        except FileNotFoundError:
            continue
        except DamagedJournal as damage:
            found = damage.found
        yield from (record for _, record in found if needle in record.row)


def blank(path, end, is_meant):
    """Take the rows out of the records before `end`, all of them loaded, for which `is_meant(record)`: how many.

    Each is written over in its place with an empty row of its length, so that a writer may go on adding to the file.
    """
    blanked = 0
    with open(path, "r+b") as file:
        data = file.read(end)
        position = HEADER.size
        while position + FRAME.size <= end:
            size, _ = FRAME.unpack_from(data, position)
            start, position = position + FRAME.size, position + FRAME.size + size
            body = data[start:position]
            if is_meant(_record(body)):
                body = body[: FIXED.size] + b"{}".ljust(size - FIXED.size)
                file.seek(start - FRAME.size)
                file.write(FRAME.pack(size, zlib.crc32(body)) + body)
                blanked += 1
        file.flush()
        os.fdatasync(file.fileno())
    return blanked


def _record(body):
    table, flags, monotonic, received, key, other_key = FIXED.unpack_from(body)
    return Record(TABLES[table], flags, monotonic, received, key, other_key, body[FIXED.size :])


def _write_whole(fd, data):
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(fd, rest) :]


def _sync_folder(folder):
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
