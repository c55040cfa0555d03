"""A ClickHouse server or cluster, over HTTP."""

import hashlib
import io
import logging
import re
import shutil
from contextlib import contextmanager
from functools import partial
from urllib.parse import parse_qs, unquote, urlsplit

from pixel.errors import AnalyticsError
from pixel.warehouse import cluster
from pixel.warehouse.embedded import EXPORT, PATIENT, QUERIES, QUERY_SECONDS, SETTINGS, definitions, parsed
from pixel.warehouse.loader import ABOUT_A_ROW, OutcomeUnknown
from pixel.warehouse.pool import Clients

CONNECT_SECONDS = 2
#: An insert that takes longer is given up, by the server first.
INSERT_SECONDS = 30
#: The tables are made, and rows are deleted, by statements that take as long as they take.
COMMAND_SECONDS = 600

_PORTS = {"clickhouse": 8123, "clickhouses": 8443}
_COMMON = {"session_timezone": "UTC"}
#: On a cluster: what one server alone cannot answer is answered by all of them or fails, never in part.
_ON_CLUSTER = {"distributed_product_mode": "global", "skip_unavailable_shards": 0}
#: A replica that is behind may not know yet what was inserted.
_UP_TO_DATE = {
    "max_replica_delay_for_distributed_queries": 5,
    "fallback_to_stale_replicas_for_distributed_queries": 0,
}
#: What the tables of a cluster were made of, and how many servers have others. To make them again takes as long as the
#: slowest server.
_MADE = "CREATE OR REPLACE VIEW definitions ON CLUSTER '{cluster}' AS SELECT '{made}' AS made"
_WITHOUT = """
SELECT toUInt32(countIf(NOT made)) AS servers FROM (
    SELECT host, max(has) AS made FROM (
        SELECT hostName() AS host, 0 AS has FROM clusterAllReplicas({cluster:String}, system.one)
        UNION ALL
        SELECT hostName() AS host, 1 AS has FROM clusterAllReplicas({cluster:String}, system.tables)
        WHERE database = {database:String} AND name = 'definitions' AND position(create_table_query, {made:String}) > 0
    )
    GROUP BY host
)
"""
_INSERT = {
    # An insert is answered once its rows are on disk; the tables say fsync.
    "async_insert": 0,
    "wait_end_of_query": 1,
    "insert_deduplicate": 1,
    # The server knows a block again by its token and its number in the insert, so there must be just one.
    "max_insert_threads": 1,
    "max_insert_block_size": 10_000_000,
    "min_insert_block_size_rows": 10_000_000,
    "min_insert_block_size_bytes": 1 << 30,
    # History may be backfilled, so a load may touch every month since 2010.
    "max_partitions_per_insert_block": 0,
}
_INSERT_ON_CLUSTER = {
    "distributed_foreground_insert": 1,
    "insert_distributed_timeout": INSERT_SECONDS,
    "insert_quorum": "auto",
    "insert_quorum_timeout": INSERT_SECONDS * 1000,
}
#: Functions may be shared through the Keeper already; then ON CLUSTER would be refused.
_MAKE_ON_CLUSTER = {"ignore_on_cluster_for_replicated_udf_queries": 1}
#: A server that is away makes its tables when it is back, and nobody waits for it. Only what may be made again is said
#: like this: rows that are dropped later than it seems could be others.
_UNHURRIED = {"distributed_ddl_task_timeout": 5, "distributed_ddl_output_mode": "null_status_on_timeout"}
#: Why a request never left this machine.
_NEVER_SENT = ("NewConnectionError", "ConnectTimeoutError", "NameResolutionError")
# What its client says of a failure is said here, with what came of it.
logging.getLogger("clickhouse_connect").addHandler(logging.NullHandler())


class Remote:
    """The server or cluster that a URL names. Nothing is connected before it is asked. One client a thread at a time.

    `clickhouse://user:password@host:port/database` is HTTP, `clickhouses://` HTTPS; `?cluster=NAME` makes and fills
    the tables on all servers of that cluster.
    """

    #: How long it surely knows a block again; and how long an insert may go on that was not answered: until the server
    #: gives it up, and as long again for one that was late to begin.
    REMEMBERS_SECONDS = 60
    STRAGGLES_SECONDS = 2 * INSERT_SECONDS
    IS_HERE = False

    def __init__(self, url):
        self._target, self._cluster = parse(url)
        # What is erased is named in a table in memory, which a cluster has once for each server.
        self.CAN_ERASE = not self._cluster
        on_cluster = _ON_CLUSTER if self._cluster else {}
        self._patient = PATIENT | on_cluster | (_UP_TO_DATE if self._cluster else {})
        reading = _COMMON | SETTINGS | on_cluster
        self._readers = self._pool(QUERIES, reading, QUERY_SECONDS + 2)
        writing = _COMMON | _INSERT | on_cluster | (_INSERT_ON_CLUSTER if self._cluster else {})
        self._inserters = self._pool(1, writing | {"max_execution_time": INSERT_SECONDS}, INSERT_SECONDS + 5)
        self._commanders = self._pool(1, _COMMON | (_MAKE_ON_CLUSTER if self._cluster else {}), COMMAND_SECONDS)
        # Of its own, so that the loader and the jobs need not wait for one that takes long.
        self._exporters = self._pool(1, _COMMON | on_cluster, COMMAND_SECONDS)
        self._pingers = self._pool(1, _COMMON, CONNECT_SECONDS)

    def set_up(self):
        """Make the tables, views and functions. Every statement may run again. Raises AnalyticsError."""
        statements = [one for statement in definitions() for one in self._made_for_it(statement)]
        made = hashlib.sha256("\0".join(statements).encode()).hexdigest()
        if self._cluster and self._is_made_of(made):
            return
        if self._cluster:
            statements.append(_MADE.format(cluster=self._cluster, made=made))
        for statement in statements:
            self._run(statement, settings=_UNHURRIED if self._cluster else None)

    def is_reached(self):
        """Whether the server answers at all."""
        try:
            with _translated(), self._pingers.one() as client:
                return client.ping()
        except AnalyticsError:
            return False

    def query(self, sql, parameters):
        """The answer as JSON bytes in ClickHouse's own JSON format. Raises AnalyticsError."""
        with _translated(), self._readers.one() as client:
            return client.raw_query(sql, parameters=parameters, fmt="JSON")

    report = query

    def patient_query(self, sql, parameters):
        """As `query`, for what may take longer than a report and must know all that was inserted."""
        with _translated(), self._commanders.one() as client:
            return client.raw_query(sql, parameters=parameters, settings=self._patient, fmt="JSON")

    def export(self, sql, parameters, format, path):
        """Write the rows of a query into a new file, in one of ClickHouse's formats. Raises AnalyticsError."""
        with (
            _translated(),
            self._exporters.one() as client,
            open(path, "xb") as file,
            client.raw_stream(sql, parameters=parameters, settings=EXPORT, fmt=format) as rows,
        ):
            shutil.copyfileobj(rows, file)

    def insert(self, table, rows: bytes, token=""):
        """Insert rows given as JSON objects, one a line; they are on disk when this returns.

        A block of the same token is not inserted again. Raises Refused with ClickHouse's `code`, OutcomeUnknown when it
        may have been inserted or may be yet, and AnalyticsError when it was not even sent.
        """
        from clickhouse_connect.driver.exceptions import ClickHouseError

        with _translated(), self._inserters.one() as client:
            try:
                # A file, because bytes would be sent again by the client itself when a connection breaks.
                block, settings = io.BytesIO(rows), {"insert_deduplication_token": token}
                client.raw_insert(table, insert_block=block, fmt="JSONEachRow", settings=settings)
            except ClickHouseError as error:
                raise self._failure(error) from Failure(error)

    def command(self, sql, parameters=None):
        """Run one statement that answers nothing; one about a table, for all its rows. Raises AnalyticsError."""
        self._run(cluster.on_local(sql, self._cluster) if self._cluster else sql, parameters)

    def close(self):
        for clients in (self._readers, self._inserters, self._commanders, self._exporters, self._pingers):
            clients.close()

    def _is_made_of(self, made):
        """Whether all servers that are reached have what this program would make."""
        asked = {"cluster": self._cluster, "database": self._target["database"], "made": made}
        with _translated(), self._commanders.one() as client:
            found = client.raw_query(_WITHOUT, parameters=asked, settings={"skip_unavailable_shards": 1}, fmt="JSON")
        return parsed(found)["data"][0]["servers"] == 0

    def _made_for_it(self, statement):
        return cluster.for_cluster(statement, self._cluster) if self._cluster else [cluster.for_server(statement)]

    def _run(self, sql, parameters=None, settings=None):
        with _translated(), self._commanders.one() as client:
            client.command(sql, parameters=parameters, settings=settings)

    def _pool(self, number, settings, answer_seconds):
        import clickhouse_connect

        open_one = partial(
            clickhouse_connect.create_client,
            **self._target,
            settings=settings,
            connect_timeout=CONNECT_SECONDS,
            send_receive_timeout=answer_seconds,
            query_retries=0,
            # A session takes one query at a time, and is nothing we need.
            autogenerate_session_id=False,
            dedicated_pool=True,
        )
        return Clients([None] * number, open_one, answer_seconds)

    def _failure(self, error):
        """What a failed insert is to the loader."""
        if _reason(error) in _NEVER_SENT:
            return AnalyticsError()
        # The servers of a cluster answer for each other: one's failure may leave another at work.
        if error.code is None or (self._cluster and error.code not in ABOUT_A_ROW):
            return OutcomeUnknown(str(Failure(error)))
        return Refused(error)


class Failure(Exception):
    """What went wrong, in words without the address that was asked: what is asked for stands in it."""

    def __init__(self, error):
        super().__init__(str(error)[:500] if error.code else f"The warehouse did not answer: {_reason(error)}")


class Refused(Failure):
    """The warehouse did not take rows; `code` is ClickHouse's."""

    def __init__(self, error):
        super().__init__(error)
        self.code = error.code


def _reason(error):
    """The name of what broke a connection."""
    broken = error.__cause__ or error
    return type(getattr(broken, "reason", None) or broken).__name__


@contextmanager
def _translated():
    from clickhouse_connect.driver.exceptions import ClickHouseError

    try:
        yield
    except ClickHouseError as error:
        raise AnalyticsError() from Failure(error)


def parse(url):
    """What a URL names: the client's arguments, and the cluster or None. Raises ValueError, without the URL."""
    try:
        parts = urlsplit(url)
        asked = parse_qs(parts.query, keep_blank_values=True)
        port, database = parts.port or _PORTS[parts.scheme], parts.path.strip("/") or "default"
    except (ValueError, KeyError):
        raise ValueError("not a URL") from None
    name = asked.pop("cluster", [None])[-1]
    words = [database] + ([name] if name is not None else [])
    if not parts.hostname or asked or not all(re.fullmatch(r"[\w.-]+", word, re.ASCII) for word in words):
        raise ValueError("not a server")
    target = {
        "interface": "https" if parts.scheme == "clickhouses" else "http",
        "host": parts.hostname,
        "port": port,
        "username": unquote(parts.username or "default"),
        "password": unquote(parts.password or ""),
        "database": database,
    }
    return target, name
