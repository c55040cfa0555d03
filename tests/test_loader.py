"""The loader against a warehouse that fails and a process that dies at any step: each record counted once, the first."""

import os
import random
import re
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import patch

import orjson
import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pixel import clock, journal
from pixel.errors import AnalyticsError
from pixel.warehouse import loader
from pixel.warehouse.claims import WINDOW, Away, Shared
from pixel.warehouse.loader import Loader, OutcomeUnknown
from tests import stores

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

    def catch_up(self):
        """Do what is yet to be done."""

    def patient_query(self, sql, parameters):
        id_column, table = re.match(r"SELECT (\w+) AS id, .* FROM (\w+) WHERE", sql).groups()
        found = [
            {"id": row[id_column], "at": row["at"]}
            for row in self.tables[table]
            if parameters["low"] <= row["at"] <= parameters["high"]
        ]
        return orjson.dumps({"data": found})


class Server(Rows):
    """A server in the warehouse's place. It may still be at work on what it has not answered, on one partition or both.

    `lost` is done and not answered, `late` is done later, `split` half now and half later. What it knows again it knows
    for as long as the loader must rely on it and no moment longer.
    """

    REMEMBERS_SECONDS, STRAGGLES_SECONDS = 60, 40

    def __init__(self, time):
        super().__init__()
        self.time, self.under_way, self.known = time, [], {}

    def insert(self, table, block, token):
        rows = [orjson.loads(line) for line in block.split(b"\n")]
        parts = [("even", [r for r in rows if r["n"] % 2 == 0]), ("odd", [r for r in rows if r["n"] % 2])]
        what = self.plan.pop(0) if self.plan else "take"
        if what in ("kill", "fail"):
            raise Killed if what == "kill" else AnalyticsError()
        for name, part in parts:
            wait = {"late": self.STRAGGLES_SECONDS - 1}.get(what, 7 if "split" in what and name == "odd" else 0)
            self.under_way.append((self.time.now + wait, table, part, (token, name)))
        self.catch_up()
        if what in ("late kill", "split kill"):
            raise Killed
        if what in ("lost", "late", "split"):
            raise OutcomeUnknown("the connection broke")

    def patient_query(self, sql, parameters):
        self.catch_up()
        return super().patient_query(sql, parameters)

    def catch_up(self):
        due = [each for each in self.under_way if each[0] <= self.time.now]
        self.under_way = [each for each in self.under_way if each[0] > self.time.now]
        for at, table, part, token in sorted(due, key=lambda each: each[0]):
            if at > self.known.get(token, -1):
                self.tables[table] += part
                self.known[token] = at + self.REMEMBERS_SECONDS + self.STRAGGLES_SECONDS


class Dying:
    """Claims, and a plan of what goes wrong with the next ones: before they are made, or after."""

    def __init__(self, claims):
        self.claims, self.plan = claims, []
        self.sweep, self.close = claims.sweep, claims.close

    def claim(self, holder, records):
        what = self.plan.pop(0) if self.plan else "take"
        if what == "kill":
            raise Killed
        if what == "fail":
            raise Away("the database is away")
        fresh = self.claims.claim(holder, records)
        if what in ("late kill", "late fail"):
            raise Killed if what == "late kill" else Away("the connection broke")
        return fresh


class World:
    """Writers, a loader that may die, and what was acknowledged in which order."""

    def __init__(self, folder, rows=None, shared=None):
        self.folder, self.rows, self.shared = Path(folder), rows or Rows(), shared
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
        self.loader = Loader(self.rows, self.folder / "journal", self.folder / "loader.sqlite", self.shared)

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

    def claim(self, plan):
        """Have the next claims fail so."""
        self.shared.plan = list(plan)

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
SEND = [
    st.tuples(st.just("send"), st.integers(0, WRITERS - 1), NUMBERS, NUMBERS, st.booleans()),
    st.tuples(st.just("send"), st.integers(0, WRITERS - 1), NUMBERS, st.none(), st.booleans()),
    st.tuples(st.just("end_file"), st.integers(0, WRITERS - 1)),
    st.tuples(st.just("begin")),
]


def going_wrong(what, *words):
    return st.tuples(st.just(what), st.lists(st.sampled_from(["take", *words]), max_size=5))


@settings(deadline=None, max_examples=150)
@given(st.lists(st.one_of(*SEND, going_wrong("load", "fail", "half", "part", "kill", "late kill")), max_size=40))
def test_whatever_fails_each_record_is_counted_once_and_the_first_wins(steps):
    with tempfile.TemporaryDirectory() as folder:
        counts_each_once(World(folder), steps)


@settings(deadline=None, max_examples=150)
@given(
    st.lists(
        st.one_of(
            *SEND,
            going_wrong("load", "fail", "lost", "late", "split", "kill", "late kill", "split kill"),
            st.tuples(st.just("wait"), st.sampled_from([1, 8, 30, 59, 61, 200])),
        ),
        max_size=40,
    )
)
def test_what_a_server_does_late_or_does_not_answer_is_counted_once_all_the_same(steps):
    with tempfile.TemporaryDirectory() as folder, moving_time() as time:
        world = World(folder, rows=Server(time))
        world.wait = time.wait
        counts_each_once(world, steps, patience=[1, 100, 100])


@pytest.mark.parametrize(
    "story",
    [
        # What was tried for too long is asked for, but not before the last try has surely ended ...
        [("load", ["fail"]), ("wait", 59), ("load", ["split"]), ("wait", 2), ("load", [])],
        # ... also when that was the try of a loader that died ...
        [("load", ["fail"]), ("wait", 59), ("load", ["split kill"]), ("wait", 2), ("load", [])],
        # ... and until then the blocks stay the same, however often they fail.
        [("load", ["late"]), ("load", ["fail"]), ("load", ["fail"]), ("load", [])],
        [("wait", 30), ("load", ["late"]), ("wait", 61), ("load", ["fail"]), ("load", ["fail"]), ("load", [])],
    ],
)
def test_an_insert_that_ends_late_meets_no_other_of_the_same_rows(story, tmp_path):
    with moving_time() as time:
        world = World(tmp_path, rows=Server(time))
        world.wait = time.wait
        counts_each_once(world, [("send", 0, None, None, False)] * 4 + story, patience=[100, 100])


def test_what_was_not_answered_is_tried_again_at_once(tmp_path):
    with moving_time() as time:
        world = World(tmp_path, rows=Server(time))
        for what in (["lost"], [], ["split"], []):
            world.send(0, None, None, False)
            world.load(what)
        assert world.loader.status()["failure"] == ""
        assert sorted(loaded(world)) == [0, 1, 2, 3]
        world.loader.close()


@settings(deadline=None, max_examples=60)
@given(
    st.lists(
        st.one_of(
            *SEND,
            going_wrong("load", "fail", "half", "kill", "late kill"),
            going_wrong("claim", "fail", "late fail", "kill", "late kill"),
        ),
        max_size=40,
    )
)
def test_a_loader_that_dies_between_its_claims_and_its_notes_counts_each_record_once(claims_url, steps):
    with tempfile.TemporaryDirectory() as folder, fresh_claims(claims_url) as shared:
        counts_each_once(World(folder, shared=Dying(shared)), steps)


def counts_each_once(world, steps, patience=()):
    """Do the steps, then let everything be well: each record is there once, the first of those with its keys."""
    for name, *arguments in steps:
        getattr(world, name)(*arguments)
    for writer in range(WRITERS):
        world.end_file(writer)
    if world.shared:
        world.claim([])
    for seconds in patience:
        world.load([])
        world.wait(seconds)
    world.load([])
    world.rows.catch_up()
    assert sorted(row["n"] for row in world.rows.tables["events"]) == world.expected()
    # What is loaded to the end is removed, and a new start finds nothing left to do.
    assert list((world.folder / "journal").glob("*.journal")) == []
    world.begin()
    world.load([])
    assert len(world.rows.tables["events"]) == len(world.expected())
    assert world.loader.status()["behind_bytes"] == 0
    world.loader.close()


@contextmanager
def moving_time():
    """The loader's time, which passes only when it is told to."""

    class Time:
        now = 1000.0

        def wait(self, seconds):
            self.now += seconds

    moving, began = Time(), time.time()
    clocks = SimpleNamespace(monotonic=lambda: moving.now, monotonic_ns=time.monotonic_ns)
    with patch.object(loader, "time", clocks), patch.object(clock, "seconds", lambda: began + moving.now):
        yield moving


@pytest.fixture(scope="module")
def claims_url():
    """A PostgreSQL database with the table of claims."""
    url = stores.new_database(os.environ.get("PIXEL_TESTS_POSTGRESQL") or stores.postgresql().url)
    with psycopg.connect(url) as connection:
        connection.execute("CREATE TABLE claims (key bytea PRIMARY KEY, at bigint NOT NULL, holder bytea NOT NULL)")
    return url


def with_driver(url):
    return url.replace("postgresql:", "postgresql+psycopg:")


@contextmanager
def fresh_claims(url):
    with psycopg.connect(url) as connection:
        connection.execute("TRUNCATE claims")
    shared = Shared(with_driver(url))
    yield shared
    shared.close()


def test_machines_that_load_the_same_events_at_once_count_each_once(claims_url, tmp_path):
    machines, events = 4, 300
    with fresh_claims(claims_url):
        worlds = [World(tmp_path / str(n), shared=Shared(with_driver(claims_url))) for n in range(machines)]
        for number, world in enumerate(worlds):
            for key in random.Random(number).sample(range(events), events):
                # Of a payment either id may be the known one, and they are not the same pairs on every machine.
                world.send(key % WRITERS, key, (key + number) // 2 if key % 2 else None, key % 5 == 0)
        with ThreadPoolExecutor(machines) as threads:
            list(threads.map(lambda world: world.load([]), worlds))
        counted = Counter()
        for world in worlds:
            for row in world.rows.tables["events"]:
                counted.update(world.sent[row["n"]])
        assert set(counted.values()) == {1}
        # What was not counted has a key of something that was.
        for world in worlds:
            assert all(keys & counted.keys() for keys in world.sent)
            world.loader.close()
        assert sum(len(world.rows.tables["events"]) for world in worlds) > events / 2


def test_a_claim_waits_for_the_database_and_nothing_is_lost(tmp_path):
    server = stores.PostgreSQL()
    url = server.new_database()
    with psycopg.connect(url) as connection:
        connection.execute("CREATE TABLE claims (key bytea PRIMARY KEY, at bigint NOT NULL, holder bytea NOT NULL)")
    world = World(tmp_path, shared=Shared(with_driver(url)))
    world.send(0, 1, None, False)
    world.load([])
    server.stop()
    for key in (1, 2):
        world.send(0, key, None, False)
    for _ in range(3):
        world.load([])
        assert "does not take claims" in world.loader.status()["failure"]
    assert loaded(world) == [0]
    server.start()
    world.load([])
    assert loaded(world) == [0, 2]
    assert world.loader.status()["failure"] == ""
    world.loader.close()


def test_claims_of_ids_are_forgotten_after_two_days_and_those_of_payments_never(claims_url, tmp_path, moved_clock):
    with fresh_claims(claims_url) as shared, psycopg.connect(claims_url, autocommit=True) as looking:
        world = World(tmp_path, shared=shared)
        world.send(0, 1, 1, False)
        world.load([])
        for days, left in ((1.9, 2), (0.2, 1)):
            moved_clock.forward(days=days)
            shared.sweep()
            assert looking.execute("SELECT count(*) FROM claims").fetchone() == (left,)
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


def test_rows_that_cannot_go_in_together_go_in_apart(world):
    take = world.rows.insert

    def insert(table, block, token):
        if block.count(b"\n") > 2:
            # What is said to have failed was half done.
            take(table, block[: block.index(b"\n")], token)
            raise OSError("too many at once")
        take(table, block, token)

    world.rows.insert = insert
    for _ in range(40):
        world.send(0, None, None, False)
    for _ in range(12):
        world.load([])
    assert sorted(loaded(world)) == list(range(40))


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
