"""The warehouse: where events are kept and reports are asked. One interface, whoever runs the engine.

One process of a machine is its engine: it loads the journal and does what is to be done by the clock. Under gunicorn
that is the engine process; a plain `flask run`, a command or a test becomes the engine itself. Whoever holds the
folder's lock is the engine and listens on a socket.

The embedded warehouse takes one process per folder, so everyone else asks through the engine. A server is asked by
every process itself.
"""

import threading
import time

import orjson

from pixel.errors import AnalyticsError
from pixel.private_files import UnsafeFolder
from pixel.warehouse.claims import Shared
from pixel.warehouse.embedded import Embedded, parsed
from pixel.warehouse.remote import Remote

#: Questions of one process that may wait for their answers at once. More are refused at once: every one holds a thread
#: (gunicorn.conf.py), and some must be left for taking events.
WAITING = 36


class Warehouse:
    """This process's way to the warehouse: the engine itself, or the line to it."""

    def __init__(self):
        self.folder = self.journal_folder = None
        self._may_be_engine = False
        #: Called with the engine when this process becomes it, and before each question.
        self.on_start = None
        self.before_query = lambda: None
        self._engine = None
        self._line = None
        self._remote = None
        self._shared_claims = None
        self._lock = threading.Lock()
        self._waiting = threading.BoundedSemaphore(WAITING)

    def bind(self, folder, journal_folder, may_be_engine, server="", claims=""):
        """Say where everything is. Nothing is opened yet.

        `server` is the URL of a ClickHouse server, without which the warehouse is embedded; `claims` that of the
        PostgreSQL database in which several machines note what they have counted.
        """
        self.folder, self.journal_folder = folder, journal_folder
        self._may_be_engine = may_be_engine
        self._remote = Remote(server) if server else None
        self._shared_claims = Shared(claims) if claims else None

    def start(self):
        """Become the engine if this process may and no other is; else make ready to ask the one that is.

        Returns the engine, or None when another process is it.
        """
        from pixel.warehouse.engine import Engine, EngineRuns
        from pixel.warehouse.line import Line

        if self.folder is None:
            raise AnalyticsError("This server has no warehouse: its analytics setting is missing.")
        with self._lock:
            if self._engine is None and self._may_be_engine:
                try:
                    self._engine = Engine(self.folder, self.journal_folder, self._open, self._shared_claims)
                    if self.on_start:
                        self.on_start(self._engine)
                except EngineRuns:
                    pass
                except UnsafeFolder as error:
                    raise AnalyticsError(str(error)) from error
            if self._engine is None and self._line is None:
                self._line = Line(self.folder)
        return self._engine

    def become_engine(self):
        """Be the engine, as soon as whoever still is has let go of the folder."""
        self._may_be_engine = True
        while self.start() is None:
            time.sleep(0.1)

    def stop(self):
        """Let go of the engine, if this process is it."""
        with self._lock:
            engine, self._engine, self._line = self._engine, None, None
        if engine is not None:
            engine.stop()

    def query(self, sql, parameters=None):
        """The engine's own answer as a dict: `data` (rows), `meta` (names and types), `rows`, `statistics`.

        `parameters` fill the `{name:Type}` places. Raises AnalyticsError, also when too many others wait.
        """
        return self._answer("query", sql, parameters or {})

    def report(self, sql, parameters):
        """As `query`, of a pipe, which reads all that it asks about."""
        return self._answer("report", sql, parameters)

    def _answer(self, action, sql, parameters):
        if not self._waiting.acquire(blocking=False):
            raise AnalyticsError("The analytics warehouse is busy.")
        try:
            self.before_query()
            answer = parsed(self._ask(action, sql, parameters))
        finally:
            self._waiting.release()
        answer.pop("rows_before_limit_at_least", None)
        return answer

    def status(self):
        """How the engine is: pid, bytes and seconds that the journal is ahead of the warehouse, the last failure."""
        return orjson.loads(self._ask("status"))

    def probe(self, seconds):
        """As `status`, within so many seconds and past all that waits. Raises OSError or EOFError."""
        from pixel.warehouse import line

        return self.status() if self._engine else orjson.loads(line.probe(self.folder, seconds))

    def server_answers(self):
        """Whether the ClickHouse server is reached; None where the warehouse is embedded."""
        return self._remote and self._remote.is_reached()

    def lag(self):
        """How far it is behind the journal, engine or not: (bytes, seconds). Raises OSError or sqlite3.Error."""
        from pixel.warehouse import loader

        return loader.lag(self.journal_folder, self.folder / "loader.sqlite")

    def load(self):
        """Load what the journal holds now, and return when it is loaded. Raises AnalyticsError."""
        self._ask("load")

    def export(self, sql, parameters, format, path):
        """Have the rows of a query written into a new file, in a format of ClickHouse's.

        Raises AnalyticsError.
        """
        self._ask("export", sql, parameters, format, path)

    def erase(self, workspace_id, website_ids, visitor_ids):
        """Take visitors out of the warehouse, the journal and the request log: how many rows, as {place: number}.

        Whatever was acknowledged before this was called is gone when it returns. Raises AnalyticsError.
        """
        return orjson.loads(self._ask("erase", workspace_id, website_ids, visitor_ids))

    def snapshot(self):
        """Set the warehouse aside as it is now, with everything that was acknowledged: see `snapshot.take`.

        It takes hardly any room, until `leave_snapshot()`. Raises AnalyticsError.
        """
        return orjson.loads(self._ask("snapshot"))

    def leave_snapshot(self):
        """Forget what was set aside. Raises AnalyticsError."""
        self._ask("leave_snapshot")

    def take_in(self, folders):
        """Copy parts, from one folder for each table, into this warehouse. Raises AnalyticsError."""
        self._ask("take_in", folders)

    def _open(self):
        return self._remote or Embedded(self.folder / "data")

    def _ask(self, action, *arguments):
        if action in ("query", "report") and self._remote:
            return self._remote.query(*arguments)
        if self._engine is None and self._line is None:
            self.start()
        return (self._engine or self._line).ask(action, *arguments)
