"""The embedded ClickHouse engine, in the one process that may open its folder."""

import threading
from collections import deque
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import orjson

from pixel.errors import AnalyticsError

#: A query that takes longer is given up.
QUERY_SECONDS = 10
#: Queries that run at once; more wait.
QUERIES = 4

_SETTINGS = {
    "max_execution_time": QUERY_SECONDS,
    "max_threads": 2,
    "output_format_json_quote_64bit_integers": 0,
    "output_format_json_named_tuples_as_objects": 1,
    "date_time_output_format": "iso",
    # Compiling to machine code costs more than it saves on queries of this size.
    "compile_expressions": 0,
    "compile_aggregate_expressions": 0,
    "compile_sort_description": 0,
}
#: An export may take its time, but not the memory of everything else.
_EXPORT = {
    "max_execution_time": 3600,
    "max_threads": 1,
    "max_block_size": 8192,
    "max_bytes_before_external_sort": 64 << 20,
    "format_csv_null_representation": "",
}
_TABLES = Path(__file__).parent / "tables"


class Embedded:
    """An open engine. One client a thread at a time: clients are handed out and given back."""

    def __init__(self, folder):
        # Here and not above: only the engine's process pays the seconds and megabytes of this import.
        import clickhouse_connect

        self._open = partial(clickhouse_connect.create_client, interface="chdb", path=str(folder))
        Path(folder).mkdir(parents=True, exist_ok=True)
        self._clients = _InTurn()
        # History may be backfilled, so a load may touch every month since 2010.
        writing = {"max_partitions_per_insert_block": 0}
        self._writer = self._open(settings=writing)
        for _ in range(QUERIES):
            self._clients.put(self._open(settings=_SETTINGS))
        self.set_up()

    def set_up(self):
        """Make the tables, views and functions. Every statement may run again, and does at each start."""
        for file in sorted(_TABLES.glob("*.sql")):
            for statement in statements(file.read_text()):
                self._writer.command(statement)

    def query(self, sql, parameters):
        """The answer as JSON bytes in ClickHouse's own JSON format. Raises AnalyticsError."""
        with self._client() as client, translated():
            return client.raw_query(sql, parameters=parameters, fmt="JSON")

    def export(self, sql, parameters, format, path):
        """Have the engine write the rows of a query into a new file, in one of its formats.

        Rows are sorted on disk when there are many, so memory stays as it is. Raises AnalyticsError.
        """
        named = path.replace("\\", "\\\\").replace("'", "\\'")
        with translated():
            client = self._open(settings=_SETTINGS | _EXPORT)
            try:
                client.command(f"{sql} INTO OUTFILE '{named}' FORMAT {format}", parameters=parameters)
            finally:
                client.close()

    def insert(self, table, rows: bytes):
        """Insert rows given as JSON objects, one a line; they are synced to disk when this returns.

        Raises the client's DatabaseError.
        """
        self._writer.raw_insert(table, insert_block=rows, fmt="JSONEachRow")

    def command(self, sql, parameters=None):
        """Run one statement that answers nothing."""
        self._writer.command(sql, parameters=parameters)

    def close(self):
        for client in self._clients.things:
            if client:
                client.close()
        self._writer.close()

    @contextmanager
    def _client(self):
        client = self._clients.get(QUERY_SECONDS)
        try:
            client = client or self._open(settings=_SETTINGS)
            yield client
        except BaseException:
            # What a failed query has written comes out before the next answer on its connection, so that ends here.
            if client:
                client.close()
            client = None
            raise
        finally:
            self._clients.put(client)


class _InTurn:
    """Things for many, lent to who asked first: a lock or a queue of Python's may leave one waiting for ever."""

    def __init__(self):
        self.things = []
        self._waiting = deque()
        self._lock = threading.Lock()

    def put(self, thing):
        with self._lock:
            if self._waiting:
                turn = self._waiting.popleft()
                turn.append(thing)
                turn.bell.set()
            else:
                self.things.append(thing)

    def get(self, timeout_seconds):
        """One of the things. Raises AnalyticsError when none is given back in time."""
        with self._lock:
            if self.things:
                return self.things.pop()
            turn = _Turn()
            self._waiting.append(turn)
        turn.bell.wait(timeout_seconds)
        with self._lock:
            if not turn:
                self._waiting.remove(turn)
                raise AnalyticsError("The analytics warehouse is busy.")
        return turn[0]


class _Turn(list):
    """Where a waiting thread finds what it is lent."""

    __hash__ = object.__hash__

    def __init__(self):
        super().__init__()
        self.bell = threading.Event()

    def __eq__(self, other):
        return self is other


def parsed(answer: bytes):
    """An answer as a dict. Raises AnalyticsError when the engine failed half-way: it says so after what it had."""
    try:
        return orjson.loads(answer)
    except orjson.JSONDecodeError as error:
        raise AnalyticsError() from error


def statements(sql):
    """The statements of a file: each ends with a semicolon at the end of a line."""
    return [statement for statement in (part.strip() for part in (sql + "\n").split(";\n")) if statement]


@contextmanager
def translated():
    """Raise AnalyticsError for whatever the client raises."""
    from clickhouse_connect.driver.exceptions import ClickHouseError

    try:
        yield
    except ClickHouseError as error:
        raise AnalyticsError() from error
