"""The embedded ClickHouse engine, in the one process that may open its folder."""

import io
import os
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path

import orjson

from pixel import private_files
from pixel.errors import AnalyticsError
from pixel.warehouse.pool import Clients

#: A query that takes longer is given up.
QUERY_SECONDS = 10
#: Queries that run at once; more wait.
QUERIES = 4
#: Cores that one query may use; while others run, its share of what there is, since threads cost more than their work.
THREADS = 2
_CORES = os.cpu_count() or 1

#: What reports are asked with.
SETTINGS = {
    "max_execution_time": QUERY_SECONDS,
    "max_threads": THREADS,
    "output_format_json_quote_64bit_integers": 0,
    "output_format_json_named_tuples_as_objects": 1,
    "date_time_output_format": "iso",
    # Compiling to machine code costs more than it saves on queries of this size.
    "compile_expressions": 0,
    "compile_aggregate_expressions": 0,
    "compile_sort_description": 0,
}
#: The same here, where the engine's version is known. Up to some 300,000 visitors their events are gathered in one hash
#: table and not in 256 small ones, whose small blocks cost a report of a million events a sixth of its time.
_EMBEDDED = SETTINGS | {
    "enable_adaptive_aggregator": 0,
    "group_by_two_level_threshold": 300_000,
    "group_by_two_level_threshold_bytes": 150_000_000,
    # It finds nothing here, and looks for it in every condition: a tenth of the time to understand a report.
    "optimize_and_compare_chain": 0,
    # What is joined with is small, and not worth a table for each thread.
    "join_algorithm": "hash",
}
#: Reports read all that they are about: a better plan costs them more than it saves. Lists that end after so many rows
#: need one. Indexes and partitions are used all the same.
_REPORT = {"query_plan_enable_optimizations": 0}
#: What is asked once, of everything, may take its time.
PATIENT = SETTINGS | {"max_execution_time": 3600}
#: An export may, too, but not the memory of everything else.
EXPORT = {
    "max_execution_time": 3600,
    "max_threads": 1,
    "max_block_size": 8192,
    "max_bytes_before_external_sort": 64 << 20,
    "format_csv_null_representation": "",
}
_TABLES = Path(__file__).parent / "tables"


class Embedded:
    """An open engine. One client a thread at a time: clients are handed out and given back."""

    #: How long it knows again a block that is inserted once more, and how long an insert may go on after who asked for
    #: it has been told of a failure or has died. It does neither: it lives and dies with who asks.
    REMEMBERS_SECONDS = STRAGGLES_SECONDS = 0
    #: Whether its files are here, and whether visitors can be taken out of it.
    IS_HERE = CAN_ERASE = True

    def __init__(self, folder: str | Path) -> None:
        # Here and not above: only the engine's process pays the seconds and megabytes of this import.
        import clickhouse_connect

        self._open = partial(clickhouse_connect.create_client, interface="chdb", path=str(folder))
        private_files.create_folder(folder)
        # History may be backfilled, so a load may touch every month since 2010.
        writing = {"max_partitions_per_insert_block": 0}
        self._writer = self._open(settings=writing)
        reader = partial(self._open, settings=_EMBEDDED)
        self._readers = Clients([reader() for _ in range(QUERIES)], reader, QUERY_SECONDS)

    def set_up(self):
        """Make the tables, views and functions. Every statement may run again, and does at each start."""
        for statement in definitions():
            self._writer.command(statement)

    def query(self, sql, parameters, settings=None):
        """The answer as JSON bytes in ClickHouse's own JSON format. Raises AnalyticsError."""
        with translated(), self._readers.one() as client:
            settings = dict(settings or {})
            if THREADS * self._readers.lent > _CORES:
                settings["max_threads"] = max(1, _CORES // self._readers.lent)
            if settings:
                sql += "\nSETTINGS " + ", ".join(f"{name} = {value}" for name, value in settings.items())
            return client.raw_query(sql, parameters=parameters, fmt="JSON")

    def report(self, sql, parameters):
        """As `query`, of a pipe."""
        return self.query(sql, parameters, _REPORT)

    def export(self, sql, parameters, format, path):
        """Have the engine write the rows of a query into a new file, in one of its formats.

        Rows are sorted on disk when there are many, so memory stays as it is. Raises AnalyticsError.
        """
        named = path.replace("\\", "\\\\").replace("'", "\\'")
        with translated(), closing(self._open(settings=SETTINGS | EXPORT)) as client:
            client.command(f"{sql} INTO OUTFILE '{named}' FORMAT {format}", parameters=parameters)

    def patient_query(self, sql, parameters):
        """As `query`, for what may take longer than a report."""
        with translated(), closing(self._open(settings=PATIENT)) as client:
            return client.raw_query(sql, parameters=parameters, fmt="JSON")

    def rows(self, sql):
        """The rows of a query as `insert` takes them, to be read line by line."""
        # Without a buffer its lines are read byte by byte.
        return io.BufferedReader(self._writer.raw_stream(sql, fmt="JSONEachRow"), 1 << 20)

    def insert(self, table, rows: bytes, token=""):
        """Insert rows given as JSON objects, one a line; they are synced to disk when this returns.

        Raises the client's DatabaseError.
        """
        self._writer.raw_insert(table, insert_block=rows, fmt="JSONEachRow")

    def command(self, sql, parameters=None):
        """Run one statement that answers nothing."""
        self._writer.command(sql, parameters=parameters)

    def close(self):
        self._readers.close()
        self._writer.close()


def parsed(answer: bytes):
    """An answer as a dict. Raises AnalyticsError when the engine failed half-way: it says so after what it had."""
    try:
        return orjson.loads(answer)
    except orjson.JSONDecodeError as error:
        raise AnalyticsError() from error


def definitions():
    """The statements that make the tables, views and functions, in order. Every one may run again."""
    for file in sorted(_TABLES.glob("*.sql")):
        yield from statements(file.read_text())


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
