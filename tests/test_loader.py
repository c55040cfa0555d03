"""The loader against a warehouse that fails and a process that dies at any step: each record counted once, the first."""

import re
import tempfile
import time
from pathlib import Path

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pixel import clock, journal
from pixel.errors import AnalyticsError
from pixel.warehouse.claims import WINDOW
from pixel.warehouse.loader import Loader

WRITERS = 3


class Killed(BaseException):
    """The process ended here."""


class Rows:
    """In the warehouse's place: rows in memory, and a plan of what goes wrong with the next calls.

    `fail` refuses before anything is stored, `half` stores and then says it failed, `part` stores the first half, and
    `kill` and `late kill` end the process before and after it is stored.
    """

    REMEMBERS_SECONDS = STRAGGLES_SECONDS = 0

    def __init__(self):
        self.tables = {table: [] for table in journal.TABLES}
        self.plan = []

    def insert(self, table, block, token):
        rows = [orjson.loads(line) for line in block.split(b"\n")]
        what = self.plan.pop(0) if self.plan else "take"
        if what == "kill":
            raise Killed
        if what == "fail":
            raise OSError("the warehouse is away")
        self.tables[table] += rows[: len(rows) // 2] if what == "part" else rows
        if what == "late kill":
            raise Killed
        if what in ("half", "part"):
            raise OSError("the connection broke")

    def query(self, sql, parameters):
        id_column, table = re.match(r"SELECT (\w+) AS id, .* FROM (\w+) WHERE", sql).groups()
        found = [
            {"id": row[id_column], "at": row["at"]}
            for row in self.tables[table]
            if parameters["low"] <= row["at"] <= parameters["high"]
        ]
        return orjson.dumps({"data": found})


class World:
    """Writers, a loader that may die, and what was acknowledged in which order."""

    def __init__(self, folder):
        self.folder, self.rows = Path(folder), Rows()
        self.writers = [self._writer() for _ in range(WRITERS)]
        self.sent = []
        self.loader = None
        self.begin()

    def _writer(self):
        writer = journal.Journal()
        writer.bind(self.folder / "journal")
        return writer

    def begin(self):
        if self.loader:
            self.loader.close()
        self.loader = Loader(self.rows, self.folder / "journal", self.folder / "loader.sqlite")

    def send(self, writer, key, other, lasting):
        """Append a record; `key` and `other` are small numbers, or None."""
        number, at = len(self.sent), clock.milliseconds()
        row = {
            "event_key": f"{key}" if key is not None else f"n{number}",
            "request_id": f"r{number}",
            "at": at,
            "n": number,
        }
        keys = [
            b"%016d" % key if key is not None else journal.NO_KEY,
            b"o%015d" % other if other is not None else journal.NO_KEY,
        ]
        flags = journal.FOREVER if lasting else 0
        self.writers[writer].append(journal.frame("events", orjson.dumps(row), at, *keys, flags))
        self.sent.append({k for k in keys if k != journal.NO_KEY})

    def load(self, plan):
        self.rows.plan = list(plan)
        try:
            self.loader.load()
        except AnalyticsError:
            pass
        except Killed:
            self.begin()
        self.rows.plan = []

    def end_file(self, writer):
        self.writers[writer].close()

    def expected(self):
        known, counted = set(), []
        for number, keys in enumerate(self.sent):
            if not keys & known:
                known |= keys
                counted.append(number)
        return counted


NUMBERS = st.none() | st.integers(0, 4)
STEPS = st.one_of(
    st.tuples(st.just("send"), st.integers(0, WRITERS - 1), NUMBERS, NUMBERS, st.booleans()),
    st.tuples(st.just("send"), st.integers(0, WRITERS - 1), NUMBERS, st.none(), st.booleans()),
    st.tuples(st.just("end_file"), st.integers(0, WRITERS - 1)),
    st.tuples(st.just("begin")),
    st.tuples(
        st.just("load"), st.lists(st.sampled_from(["take", "fail", "half", "part", "kill", "late kill"]), max_size=5)
    ),
)


@settings(deadline=None, max_examples=150)
@given(st.lists(STEPS, max_size=40))
def test_whatever_fails_each_record_is_counted_once_and_the_first_wins(steps):
    with tempfile.TemporaryDirectory() as folder:
        world = World(folder)
        for name, *arguments in steps:
            getattr(world, name)(*arguments)
        for writer in range(WRITERS):
            world.end_file(writer)
        world.load([])
        assert sorted(row["n"] for row in world.rows.tables["events"]) == world.expected()
        # What is loaded to the end is removed, and a new start finds nothing left to do.
        assert list((world.folder / "journal").glob("*.journal")) == []
        world.begin()
        world.load([])
        assert len(world.rows.tables["events"]) == len(world.expected())
        assert world.loader.status()["behind_bytes"] == 0
        world.loader.close()


@pytest.fixture
def world(tmp_path):
    world = World(tmp_path)
    yield world
    world.loader.close()


def loaded(world):
    return sorted(row["n"] for row in world.rows.tables["events"])


def test_the_first_wins_over_the_files_of_several_writers(world):
    for writer, key in ((0, None), (1, 1), (0, 1), (2, 2), (1, 2), (0, 2)):
        world.send(writer, key, None, False)
    world.load([])
    assert loaded(world) == [0, 1, 3]


def test_an_id_is_known_for_a_day_and_a_lasting_one_and_a_payment_for_good(world, monkeypatch):
    world.send(0, 1, None, False)
    world.send(0, 2, None, True)
    world.send(0, 3, 3, False)
    world.load([])
    now = time.time()
    for ahead in (WINDOW - 60_000, WINDOW + 60_000):
        monkeypatch.setattr(clock, "seconds", lambda ahead=ahead: now + ahead / 1000)
        for key, other, lasting in ((1, None, False), (2, None, True), (4, 3, False)):
            world.send(1, key, other, lasting)
        world.load([])
    # Only the first comes again, and only after a day.
    assert loaded(world) == [0, 1, 2, 6]


def test_a_row_that_the_warehouse_cannot_read_is_set_aside_and_the_others_go_in(world):
    class Unreadable(Exception):
        code = 117

    take = world.rows.insert

    def insert(table, block, token):
        if b'"n":3' in block:
            raise Unreadable
        take(table, block, token)

    world.rows.insert = insert
    for _ in range(8):
        world.send(0, None, None, False)
    world.load([])
    assert loaded(world) == [0, 1, 2, 4, 5, 6, 7]
    aside = [orjson.loads(line) for line in (world.folder / "journal" / "refused.ndjson").read_bytes().splitlines()]
    assert [(line["table"], line["row"]["n"]) for line in aside] == [("events", 3)]


def test_a_damaged_file_is_kept_and_the_others_are_loaded(world):
    for writer in range(2):
        for _ in range(3):
            world.send(writer, None, None, False)
        world.end_file(writer)
    first, _ = sorted((world.folder / "journal").glob("*.journal"))
    content = bytearray(first.read_bytes())
    content[-5] ^= 1
    first.write_bytes(content)
    world.load([])
    world.load([])
    # The last record of the first file is the damaged one.
    assert loaded(world) == [0, 1, 3, 4, 5]
    assert first.with_suffix(".damaged").read_bytes() == content
    assert list((world.folder / "journal").glob("*.journal")) == []
