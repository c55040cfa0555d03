"""The engine: the one process of a machine that loads the journal into the warehouse and does what is to be done by the
clock. It has the embedded warehouse open, and answers for it."""

import ctypes
import fcntl
import logging
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path

import orjson

from pixel import journal, private_files, telemetry
from pixel.errors import AnalyticsError
from pixel.warehouse import eraser, line, snapshot
from pixel.warehouse.claims import Shared
from pixel.warehouse.embedded import Embedded, translated
from pixel.warehouse.loader import Loader
from pixel.warehouse.remote import Remote

#: Between two loads: each makes a part in the warehouse, and a report may be this much behind.
LOAD_SECONDS = 0.3

_LOG = logging.getLogger("pixel.engine")


class EngineRuns(Exception):
    """Another process is the engine of this folder."""


class Engine:
    """Lock, warehouse, loader and switchboard of one folder.

    `open_warehouse()` is called once the folder is ours; `shared` are the claims of several machines, if there are.
    """

    def __init__(
        self,
        folder: str | Path,
        journal_folder: str | Path,
        open_warehouse: Callable[[], Embedded | Remote],
        shared: Shared | None = None,
    ) -> None:
        self.folder = Path(folder)
        private_files.claim_folder(self.folder)
        # Before the lock: without a safe place for the socket this process must not be the engine.
        address = line.address(self.folder)
        self._lock = take(self.folder / "engine.lock")
        try:
            self._warehouse = open_warehouse()
            self._set_up()
        except BaseException:
            os.close(self._lock)
            raise
        self._loader = Loader(self._warehouse, journal_folder, self.folder / "loader.sqlite", shared)
        self._actions = {
            "query": self._warehouse.query,
            "report": self._warehouse.report,
            "status": self._status,
            "load": self._load,
            "export": self._warehouse.export,
            "erase": self._erase,
            "snapshot": self._snapshot,
            "leave_snapshot": self._leave_snapshot,
            "take_in": self._take_in,
        }
        self._stopping = threading.Event()
        self._loading = threading.Lock()
        self._jobs = []
        self._at_stop = []
        self._switchboard = line.Switchboard(address, self.ask)
        self._threads = [
            threading.Thread(target=run, name=name, daemon=True)
            for name, run in (("loader", self._load_for_ever), ("jobs", self._run_jobs_for_ever))
        ]
        for thread in self._threads:
            thread.start()

    def every(self, seconds, job):
        """Call `job()` every so many seconds, from a thread that all jobs share; what it waits for holds up no load."""
        self._jobs.append([seconds, time.monotonic() + seconds, job])

    def at_stop(self, call):
        """Call `call()` when the engine has stopped its jobs and before it lets go of its folder."""
        self._at_stop.append(call)

    def ask(self, action, *arguments):
        """Answer one question, of `_actions`, as bytes. Raises AnalyticsError."""
        return self._actions[action](*arguments)

    def command(self, sql):
        """Run a statement that answers nothing, between two loads."""
        with self._loading:
            self._warehouse.command(sql)

    def give_back_memory(self):
        """Give back what an embedded warehouse keeps for its next questions: its allocator does it in its own time."""
        if self._warehouse.IS_HERE:
            self.command("SYSTEM JEMALLOC PURGE")

    def stop(self):
        """Load what is there, then let go of the folder."""
        self._stopping.set()
        for thread in self._threads:
            thread.join(timeout=10)
        for call in self._at_stop:
            call()
        self._switchboard.close()
        self._loader.close()
        self._warehouse.close()
        os.close(self._lock)

    def _load_for_ever(self):
        while not self._stopping.wait(LOAD_SECONDS):
            try:
                self._load()
                telemetry.flush()
            except AnalyticsError as error:
                telemetry.count("pixel_load_failures")
                _LOG.error("load failed: %s", error.__cause__ or error)
                self._stopping.wait(1)
            except Exception:
                # Whatever it is, what is in the journal must be tried again.
                _LOG.exception("load failed")
                self._stopping.wait(1)

    def _load(self):
        with self._loading:
            if self._failure:
                self._set_up()
            if self._failure:
                raise AnalyticsError(self._failure)
            self._loader.load()

    def _set_up(self):
        """Make the tables; a server that is away gets them when it is back."""
        try:
            self._warehouse.set_up()
            self._failure = ""
        except AnalyticsError as error:
            self._failure = str(error.__cause__ or error)

    def _erase(self, workspace_id, website_ids, visitor_ids):
        """Load what there is, take some visitors out of everything, and tell how much that was as JSON."""
        if not self._warehouse.CAN_ERASE:
            raise AnalyticsError("Visitors cannot be erased from a cluster by this command.")
        with self._all_loaded():
            found = eraser.erase(self._warehouse, self._loader, workspace_id, website_ids, visitor_ids)
        return orjson.dumps(found)

    def _snapshot(self):
        """Load what there is, set the warehouse aside as it is then, and tell where as JSON."""
        self._refuse_unless_here()
        with self._all_loaded():
            return orjson.dumps(snapshot.take(self._warehouse, self.folder, self.folder / "loader.sqlite"))

    def _leave_snapshot(self):
        self._refuse_unless_here()
        with self._loading, translated():
            snapshot.leave(self._warehouse, self.folder)

    def _take_in(self, folders):
        """Copy the parts in some folders, by table, into the warehouse."""
        self._refuse_unless_here()
        with self._loading, translated():
            parts = {}
            for table, folder in folders.items():
                found = sorted(path for path in Path(folder).glob("*") if path.is_dir())
                for path in found:
                    shutil.copytree(path, snapshot.detached(self._warehouse, table) / path.name)
                parts[table] = [path.name for path in found]
            snapshot.attach(self._warehouse, parts)

    def _refuse_unless_here(self):
        if not self._warehouse.IS_HERE:
            raise AnalyticsError("The warehouse is a ClickHouse server: it is backed up and restored by its own means.")

    @contextmanager
    def _all_loaded(self):
        """Hold up the loader when all is loaded that was acknowledged before, and all that was answered is logged."""
        time.sleep(4 * journal.FLUSH_SECONDS)
        with self._loading, translated():
            self._loader.load()
            yield

    def _run_jobs_for_ever(self):
        while not self._stopping.wait(LOAD_SECONDS):
            for entry in self._jobs:
                seconds, due, job = entry
                if time.monotonic() >= due and not self._stopping.is_set():
                    entry[1] = time.monotonic() + seconds
                    try:
                        job()
                    except Exception:
                        _LOG.exception("job %s failed", job.__name__)

    def _status(self):
        status = self._loader.status()
        return orjson.dumps({"pid": os.getpid(), **status, "failure": self._failure or status["failure"]})


def die_with_parent():
    """Have the kernel kill this process when its parent dies: an orphan would hold the folder's lock."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def take(path):
    """Lock the file of an engine's folder, until what is returned is closed. Raises EngineRuns."""
    fd = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        raise EngineRuns(f"Another process has the warehouse in {path.parent} open.") from None
    return fd
