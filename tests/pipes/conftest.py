"""A warehouse of its own for the reports' tests, asked as the server asks: the same places, bound by the same code."""

import json
from contextlib import closing
from unittest.mock import patch

import clickhouse_connect
import pytest

from pixel import clock, identities, metrics, pipes
from pixel.extensions import warehouse as open_one
from pixel.warehouse import embedded

TIMES = ("timestamp", "received_at", "at")


class Warehouse:
    """A database in the engine that this process has open, which takes one folder a process."""

    def __init__(self, folder):
        settings = {**embedded.SETTINGS, "max_partitions_per_insert_block": 0}
        with closing(clickhouse_connect.create_client(interface="chdb", path=str(folder))) as client:
            client.command("CREATE DATABASE definitions")
        self.client = clickhouse_connect.create_client(
            interface="chdb", path=str(folder), database="definitions", settings=settings
        )
        for statement in embedded.definitions():
            self.client.command(statement)
        for table in ("events", "identities", "drops"):
            self.client.command(f"ALTER TABLE {table} MODIFY SETTING fsync_after_insert = 0, fsync_part_directory = 0")

    def holds(self, events, parts=1, identified=(), drops=()):
        """Nothing but these rows, in this order, the events inserted in so many pieces."""
        for table in ("events", "identities", "drops"):
            self.client.command(f"TRUNCATE TABLE {table}")
        for part in range(parts):
            self._insert("events", events[part::parts])
        self._insert("identities", identified)
        self._insert("drops", drops)

    def _insert(self, table, rows):
        block = "\n".join(json.dumps(_row(row), default=str) for row in rows).encode()
        if block:
            self.client.raw_insert(table, column_names=None, insert_block=block, fmt="JSONEachRow")

    def query(self, sql, parameters=None):
        return embedded.parsed(self.client.raw_query(sql, parameters=parameters, fmt="JSON"))

    def ask(self, pipe, question):
        """The rows of a report, as dicts. A question is one of `worlds`; it is put whole and as short as can be."""
        pipe = pipes.all()[pipe]
        with patch.object(identities, "warehouse", self):
            bound = metrics._bound(pipe, question["workspace"], question["websites"], question, question["now"])
        rows = self.query(pipe.sql, bound)["data"]
        if (short := pipe.statement(bound)) != pipe.sql:
            assert self.query(short, bound)["data"] == rows
        return rows


def _row(row):
    """A row as the server writes it: what is empty is left out, and times are as the warehouse takes them."""
    row = {name: value for name, value in row.items() if value not in ("", None)}
    return row | {name: clock.warehouse_moment(row[name]) for name in TIMES if name in row}


@pytest.fixture(scope="session")
def warehouse(app):
    open_one.start()
    warehouse = Warehouse(open_one.folder / "data")
    yield warehouse
    warehouse.client.close()
