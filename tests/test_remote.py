"""A ClickHouse server in the warehouse's place: the real client, over HTTP, to the engine in a process of its own."""

import csv
import json
import logging
import secrets
import traceback
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import orjson
import pytest

import config
from pixel import clock, export, journal
from pixel.errors import AnalyticsError
from pixel.warehouse import cluster, embedded, remote
from pixel.warehouse.embedded import parsed
from pixel.warehouse.loader import Loader, OutcomeUnknown
from pixel.warehouse.remote import Refused, Remote
from tests.clickhouse_front import PASSWORD, Front
from tests.pipes import worlds
from tests.pipes.conftest import Warehouse
from tests.pipes.test_definitions import REFERENCE, agree, fitting, in_worlds
from tests.server import until

WORLDS = 3


@pytest.fixture(scope="module")
def shared_front(tmp_path_factory):
    front = Front(tmp_path_factory.mktemp("front") / "clickhouse").start()
    yield front
    front.stop()


@pytest.fixture
def front(tmp_path):
    front = Front(tmp_path / "clickhouse").start()
    yield front
    front.stop()


@pytest.fixture
def server(front):
    """The product's end of it, with its tables made."""
    server = Remote(front.url)
    server.set_up()
    yield server
    server.close()


def row(number, **more):
    return orjson.dumps({"request_id": f"r{number}", "at": "2026-01-01 00:00:00.000", **more})


def rows_of(front, table="requests"):
    return front.ask(f"SELECT count() AS n FROM {table}")[0]["n"]


# -- reports


class Asked(Warehouse):
    """The warehouse of the reports' tests, asked through `Remote`. Each block is inserted so many `times`."""

    def __init__(self, front, cluster="", database="default", times=1):
        self.front, self.times, self.local = front, times, "_local" if cluster else ""
        url = front.url.replace("/default", f"/{database}") + (f"?cluster={cluster}" if cluster else "")
        self.remote = Remote(url)
        self.client = SimpleNamespace(command=self._command)
        self.remote.set_up()

    def _command(self, sql):
        self.remote.command(sql + self.local)

    def _insert(self, table, rows):
        from tests.pipes.conftest import _row

        block = "\n".join(json.dumps(_row(each), default=str) for each in rows).encode()
        for _ in range(self.times if block else 0):
            # Past the distributed table: to two shards that are one table it would send the same token twice.
            self.remote.insert(table + self.local, block, secrets.token_hex(8))

    def query(self, sql, parameters=None):
        return parsed(self.remote.query(sql, parameters))


def test_every_report_says_over_http_what_the_definitions_say(shared_front):
    asked = Asked(shared_front)
    in_worlds(WORLDS, lambda chance: agree(asked, chance))


def test_every_report_says_on_a_cluster_what_one_server_says(shared_front):
    """Both shards of this cluster hold every event, so one server that has each of them twice is asked the same."""
    Remote(shared_front.url)._run("CREATE DATABASE IF NOT EXISTS clustered")
    one, two = Asked(shared_front, times=2), Asked(shared_front, cluster="two", database="clustered")

    def compare(chance):
        world = worlds.world(chance)
        for warehouse in (one, two):
            warehouse.holds(world.events, 1, world.identities, world.drops)
        for pipe in REFERENCE:
            question = fitting(pipe, world.question)
            assert two.ask(pipe, question) == one.ask(pipe, question), pipe

    in_worlds(WORLDS, compare)


@pytest.mark.case(94)
@pytest.mark.parametrize("cluster", ["", "one"])
def test_an_exported_csv_holds_no_formula_over_http(front, cluster, tmp_path, monkeypatch):
    server = Remote(front.url + (f"?cluster={cluster}" if cluster else ""))
    server.set_up()
    event = {"workspace_id": "ws", "website_id": "w", "name": "payment", "event_id": "=1", "event_key": "k" * 32,
             "timestamp": "2026-01-01 00:00:00.000", "received_at": "2026-01-01 00:00:00.000", "title": "＝cmd|' /C calc'!A0",
             "path": "\\-'", "goal": "-5", "amount": "-19.9", "props": {"=1": "=2"}}  # fmt: skip
    server.insert("events" if not cluster else "events_local", orjson.dumps(event))
    monkeypatch.setattr(export, "warehouse", SimpleNamespace(query=lambda sql, asked: parsed(server.query(sql, asked))))
    asked = {"workspace": "ws", "website": "w", "since": "2026-01-01 00:00:00.000", "until": "2026-01-02 00:00:00.000"}
    seen = {}
    for raw in (False, True):
        path = tmp_path / f"{raw}.csv"
        server.export(export._select("csv", raw), asked, "CSVWithNames", str(path))
        with open(path, newline="") as file:
            (row,) = csv.DictReader(file)
        seen[raw] = [row[name] for name in ("event_id", "title", "path", "goal", "amount", "props")]
    server.close()
    assert seen[True] == ["=1", "＝cmd|' /C calc'!A0", "\\-'", "-5", "-19.9", '{"=1":"=2"}']
    assert seen[False] == ["'=1", "'＝cmd|' /C calc'!A0", "\\-'", "'-5", "-19.9", '{"=1":"=2"}']


def test_many_questions_at_once_get_their_own_answers(shared_front):
    server = Remote(shared_front.url)

    def ask(number):
        words = {"number": number, "text": f"text {number} '\\\n\t"}
        answer = server.query("SELECT {number:UInt64} AS number, {text:String} AS text", words)
        return parsed(answer)["data"] == [words]

    with ThreadPoolExecutor(16) as threads:
        assert all(threads.map(ask, range(1000)))
    # What does not fit into an address goes by another way.
    many = [f"{n}'" * 20 for n in range(1000)]
    assert parsed(server.query("SELECT {many:Array(String)} AS many", {"many": many}))["data"] == [{"many": many}]
    server.close()


# -- what goes wrong


_WORD = "word-of-a-visitor"


def failures(server):
    """What a query, an insert and a command raise, each with all that a log would say of it."""
    for call in (
        lambda: server.query("SELECT {word:String}", {"word": _WORD}),
        lambda: server.insert("requests", row(1), "token"),
        lambda: server.command("ALTER TABLE requests DROP PARTITION 20200101"),
    ):
        with pytest.raises((AnalyticsError, OutcomeUnknown)) as caught:
            call()
        yield type(caught.value), "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("what", ["dead", "refusing", "wrong password", "no such host"])
def test_a_server_that_is_not_there_is_an_analytics_error_that_keeps_secrets(front, what, caplog, capfd):
    caplog.set_level(logging.DEBUG)
    url = front.url
    if what == "dead":
        front.kill()
    elif what == "refusing":
        front.mood("refuse")
    elif what == "wrong password":
        url = url.replace("sesame", "sesam")
    else:
        url = url.replace("127.0.0.1", "nowhere.invalid")
    server = Remote(url)
    for kind, said in failures(server):
        assert kind is AnalyticsError
        for secret in (PASSWORD, PASSWORD.replace("sesame", "sesam"), url, _WORD, "sesam%"):
            assert secret not in said
            assert secret not in caplog.text
    assert "sesam" not in str(capfd.readouterr())
    server.close()


def test_what_answers_too_late_is_an_analytics_error(front, monkeypatch):
    monkeypatch.setattr(remote, "QUERY_SECONDS", -1)
    monkeypatch.setattr(remote, "INSERT_SECONDS", -4)
    server = Remote(front.url)
    assert parsed(server.query("SELECT 1 AS one", {}))["data"] == [{"one": 1}]
    front.mood("slow 3")
    with pytest.raises(AnalyticsError):
        server.query("SELECT 1", {})
    front.mood("well")
    assert parsed(server.query("SELECT 1 AS one", {}))["data"] == [{"one": 1}]
    server.close()


def test_a_server_that_was_restarted_is_asked_again(front, server):
    server.insert("requests", row(1), "one")
    front.kill()
    front.start()
    for _ in range(embedded.QUERIES + 1):
        assert parsed(server.query("SELECT count() AS n FROM requests", {}))["data"] == [{"n": 1}]
    # Its connection may be the old one still; then it is not known what came of it.
    until(lambda: inserts(server, row(1), "one"))
    assert rows_of(front) == 1


def inserts(server, block, token):
    try:
        server.insert("requests", block, token)
    except OutcomeUnknown:
        return False
    return True


def test_rows_that_cannot_be_read_are_refused_by_number(server):
    with pytest.raises(Refused) as refused:
        server.insert("requests", row(1, at="yesterday"), "token")
    assert refused.value.code == 41


# -- with the loader


@pytest.fixture
def loading(front, server, tmp_path, monkeypatch):
    """A journal and its loader, whose inserts wait for two seconds and are patient for two more."""
    monkeypatch.setattr(remote, "INSERT_SECONDS", -3)
    impatient = Remote(front.url)
    writer = journal.Journal()
    writer.bind(tmp_path / "journal")
    loader = Loader(impatient, tmp_path / "journal", tmp_path / "loader.sqlite")

    def send(number):
        at = clock.milliseconds()
        identity = {"request_id": f"r{number}", "at": clock.warehouse(at)}
        writer.append(journal.frame("requests", orjson.dumps(identity), at))

    yield SimpleNamespace(loader=loader, send=send, front=front, server=impatient)
    loader.close()
    impatient.close()


def test_an_insert_whose_answer_is_lost_is_sent_again_and_is_there_once(loading):
    loading.front.plan("drop", "drop", "take")
    loading.send(1)
    for _ in range(2):
        with pytest.raises(AnalyticsError):
            loading.loader.load()
    loading.send(2)
    loading.loader.load()
    assert rows_of(loading.front) == 2
    # The same block, under the same name, until it was answered.
    first, second, third, _ = loading.front.inserts()
    assert first == second == third


def test_an_insert_that_is_carried_out_after_the_next_is_there_once(loading):
    loading.server.query("SELECT 1", {})
    loading.front.plan("late 4", "take")
    loading.send(1)
    with pytest.raises(AnalyticsError):
        loading.loader.load()
    loading.loader.load()
    assert rows_of(loading.front) == 1
    until(lambda: len(loading.front.inserts()) == 2, 20)
    assert rows_of(loading.front) == 1


# -- the tables


@pytest.fixture(scope="module")
def ask(shared_front):
    return shared_front.ask


def test_every_statement_for_a_cluster_is_understood_by_the_engine(ask):
    made = [one for statement in embedded.definitions() for one in cluster.for_cluster(statement, "a-cluster")]
    assert len(made) >= 40
    for statement in made:
        quoted = statement.replace("\\", "\\\\").replace("'", "\\'")
        [read] = ask(f"SELECT formatQuery('{quoted}') AS text")
        assert "ON CLUSTER `a-cluster`" in read["text"], statement
    text = "\n".join(made)
    for table in ("events", "requests", "identities", "drops"):
        assert f"CREATE TABLE IF NOT EXISTS {table}_local ON CLUSTER 'a-cluster'" in text
        assert f"CREATE OR REPLACE TABLE {table} ON CLUSTER 'a-cluster' AS {table}_local" in text
    assert text.count("ReplicatedMergeTree('/clickhouse/tables/{shard}/{database}/{table}', '{replica}')") == 4
    assert "ENGINE = MergeTree" not in text


def test_a_statement_about_rows_is_for_the_tables_that_have_them():
    about = "ALTER TABLE events DELETE IN PARTITION ID '202601' WHERE website_id = 'a' SETTINGS mutations_sync = 2"
    local = "ALTER TABLE events_local ON CLUSTER 'all' DELETE IN PARTITION ID '202601'"
    assert cluster.on_local(about, "all").startswith(local)
    with pytest.raises(ValueError, match="not known"):
        cluster.for_cluster("DROP TABLE events", "all")


@pytest.mark.parametrize("within", ["", "one"])
def test_tables_are_made_filled_changed_and_emptied(tmp_path, monkeypatch, within):
    front = Front(tmp_path / "clickhouse", within).start()
    try:
        server = Remote(front.url)
        for _ in range(2):
            server.set_up()
        # What is the same on all servers of a cluster is not made again: the slowest of them would be waited for.
        with monkeypatch.context() as patch:
            asked = []
            patch.setattr(server, "_run", lambda statement, **_: asked.append(statement))
            server.set_up()
            assert bool(asked) is not bool(within)
        for _ in range(2):
            server.insert("requests", b"\n".join(row(n) for n in range(10)), "token")
        assert rows_of(front) == 10
        assert parsed(server.query("SELECT DISTINCT _partition_id AS id FROM requests", {}))["data"] == [
            {"id": "20260101"}
        ]
        server.command(
            "ALTER TABLE requests DELETE IN PARTITION ID '20260101' WHERE request_id = 'r3' SETTINGS mutations_sync = 2"
        )
        assert rows_of(front) == 9
        server.command("ALTER TABLE requests DROP PARTITION 20260101")
        assert rows_of(front) == 0
        server.close()
    finally:
        front.stop()


def test_a_visitor_stays_on_one_shard(ask):
    same = {"events": "sipHash64('ada') AS visitor, 'e1' AS event_id", "identities": "sipHash64('ada') AS visitor"}
    keys = [
        ask(f"SELECT {cluster.SHARDED_BY[table]} AS shard FROM (SELECT {row})")[0]["shard"]
        for table, row in same.items()
    ]
    assert keys[0] == keys[1]
    [alone] = ask(
        f"SELECT {cluster.SHARDED_BY['events']} = sipHash64('e1') AS it FROM (SELECT toUInt64(0) AS visitor, 'e1' AS event_id)"
    )
    assert alone == {"it": 1}


# -- settings


@pytest.mark.parametrize(
    ("url", "named"),
    [
        ("clickhouse://host", ("http", "host", 8123, "default", "", "default", None)),
        ("clickhouses://u:p%40%2F@host/db", ("https", "host", 8443, "u", "p@/", "db", None)),
        ("clickhouse://u:p@[::1]:9/db?cluster=a-b", ("http", "::1", 9, "u", "p", "db", "a-b")),
    ],
)
def test_a_url_names_a_server(url, named):
    target, cluster = remote.parse(url)
    assert (*(target[n] for n in ("interface", "host", "port", "username", "password", "database")), cluster) == named


@pytest.mark.parametrize(
    "url",
    [
        "clickhouse://", "clickhouse:///db", "clickhouse://u:sesame@/db", "clickhouse://u:sesame@host:port/db",
        "clickhouse://u:sesame@host/d`b", "clickhouse://u:sesame@host/a/b", "clickhouse://u:sesame@host/db?cluster=",
        "clickhouse://u:sesame@host/db?cluster=a'b", "clickhouse://u:sesame@host/db?secure=1", "clickhousex://u:sesame@host",
        "clickhouse://u:sesame@host:99999/db", "clickhouse://u:sesame@[host/db", "http://u:sesame@host/db",
    ],
)  # fmt: skip
def test_a_wrong_url_stops_the_start_and_is_not_repeated(url):
    with pytest.raises(config.WrongSetting) as refused:
        config.load(ANALYTICS_URL=url)
    assert "ANALYTICS_URL" in str(refused.value)
    assert "sesame" not in "".join(traceback.format_exception(refused.value))


def test_all_three_name_the_same_server(tmp_path):
    with pytest.raises(config.WrongSetting, match="same warehouse"):
        config.load(ANALYTICS_URL="clickhouse://a/db", ANALYTICS_INGEST_URL="clickhouse://b/db")
    # Empty values, because a developer's .env names other warehouses.
    unset = {"ANALYTICS_INGEST_URL": "", "IDENTIFY_INGEST_URL": ""}
    settings = config.load(ANALYTICS_URL="clickhouse://a/db", PIXEL_INSTANCE=str(tmp_path), **unset)
    assert settings.warehouse_server() == "clickhouse://a/db"
    assert settings.warehouse_path() == tmp_path / "warehouse"
