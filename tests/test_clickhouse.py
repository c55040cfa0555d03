"""Real servers with a ClickHouse server for a warehouse, alone and several with one PostgreSQL: what a 202 promises."""

import json
import os
import random
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from pixel.warehouse import line
from tests import stores
from tests.clickhouse_front import PASSWORD, Front
from tests.server import Server, kill, until
from tests.test_faults import SEED, Client, check
from tests.test_kill import load

AWAY_SECONDS = 300
#: What has failed for long enough is tried again a minute after its last try.
LOADED_SECONDS = 300
SECRET = "a secret that two servers share, of some length"


@pytest.fixture
def front(tmp_path):
    front = Front(tmp_path / "clickhouse").start()
    yield front
    front.stop()


@pytest.fixture
def make(tmp_path, front):
    """Start so many servers on one warehouse, and on one PostgreSQL when they are several: a client of each."""
    servers = []

    def start(number=1, **settings):
        if number > 1:
            url = stores.new_database(os.environ.get("PIXEL_TESTS_POSTGRESQL") or stores.postgresql().url)
            settings = {"DATABASE_URL": url, "SECRET_KEY": SECRET, **settings}
        servers.extend(Server(tmp_path / f"machine{n}", **front.settings, **settings) for n in range(number))
        _, website, key = servers[0].set_up()
        for server in servers:
            server.instance.mkdir(exist_ok=True)
            server.start()
        for server in servers:
            server.wait_for_engine(key)
            # Reports are answered by the warehouse itself; the engine listens when its loader is open.
            until(Path(line.address(server.instance / "warehouse")).exists, 30, server.said)
        return [Client(server, key, website) for server in servers]

    yield start
    for server in servers:
        server.stop()
        assert PASSWORD not in server.log.read_text()
        assert "sesame" not in server.log.read_text()


def test_one_server_on_one_clickhouse(make, front):
    [client] = make()
    sent = client.send("one", "/one")
    assert sent.status_code == 202
    client.send("one", "/two")
    assert client.paths() == {"/one": 1}
    id = sent.json()["meta"]["request_id"]
    assert id in client.server.flask("request", "show", id)
    assert "1 events" in client.server.flask("doctor")
    # Nothing of it is here.
    assert not (client.server.instance / "warehouse" / "data").exists()
    assert front.ask("SELECT path FROM events") == [{"path": "/one"}]
    client.send("two", "/two")
    client.server.kill_all()
    # A command loads and asks where no server runs.
    assert id in client.server.flask("request", "show", id)
    assert "warehouse: answers" in client.server.flask("doctor")


def test_two_servers_that_get_the_same_events_at_the_same_moment_count_each_once(make, front):
    clients = make(2)
    events, payments = 150, 60
    seed = int(os.environ.get("PIXEL_TEST_SEED") or time.time_ns() % 10**9)
    chance = random.Random(seed)
    calls = []
    for n in range(events):
        for machine, client in enumerate(clients):
            calls.append(lambda n=n, m=machine, client=client: client.send(f"e{n}", f"/{n}/{m}"))
    for n in range(payments):
        for machine, client in enumerate(clients):
            paid = {
                "name": "payment",
                "amount": 10 + machine,
                "currency": "EUR",
                "transaction_id": f"t{n}",
                "provider": "s",
            }
            calls.append(lambda n=n, m=machine, client=client, paid=paid: client.send(f"p{n}-{m}", "/paid", **paid))
    # Both get the same at the same moment, and in the same order only by chance.
    pairs = [calls[i : i + 2] for i in range(0, len(calls), 2)]
    chance.shuffle(pairs)
    with ThreadPoolExecutor(24) as threads:
        answers = list(threads.map(lambda call: call(), [call for pair in pairs for call in pair]))
    assert {answer.status_code for answer in answers} == {202}
    for client in clients:
        until(lambda client=client: client.server.behind() == 0, 60, client.server.said)
    stored = Counter(row["event_id"] for row in front.ask("SELECT event_id FROM events WHERE name = 'pageview'"))
    paid = Counter(row["id"] for row in front.ask("SELECT transaction_id AS id FROM events WHERE name = 'payment'"))
    lost = events - len(stored) + payments - len(paid)
    doubled = stored.total() - len(stored) + paid.total() - len(paid)
    print(
        f"\nseed {seed}: {len(answers)} acknowledged, {stored.total() + paid.total()} stored, {lost} lost, {doubled} doubled"
    )
    assert (lost, doubled) == (0, 0)
    assert (len(stored), len(paid)) == (events, payments)
    # Both machines had some of the firsts, or this has shown nothing; and both give the same report.
    machines = Counter(
        row["path"].rsplit("/", 1)[1] for row in front.ask("SELECT path FROM events WHERE name = 'pageview'")
    )
    assert len(machines) == 2
    assert clients[0].counts() == clients[1].counts()
    # A retry on the other machine, later, is known too.
    for client in clients:
        assert client.send("e0", "/again").status_code == 202
    until(lambda: all(client.server.behind() == 0 for client in clients), 40)
    assert "/again" not in clients[0].counts()


def test_the_warehouse_dies_and_all_that_was_taken_meanwhile_arrives(make, front):
    [client] = make()
    client.send("before", "/before")
    assert client.paths() == {"/before": 1}
    front.kill()
    assert {client.send(f"e{n}", "/during").status_code for n in range(50)} == {202}
    stale = client.report()
    assert (stale.status_code, stale.json()["data"]["data_status"]) == (200, "stale")
    refused = client.report("p_referrers")
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "analytics_error")
    until(lambda: "load failed" in client.server.said(), 20)
    assert client.server.behind() > 0
    ready = httpx.get(f"{client.server.url}/readyz")
    assert (ready.status_code, ready.json()["error"]["details"]["checks"]["warehouse"]["ok"]) == (503, False)
    assert "pixel_warehouse_up 0.0" in httpx.get(f"{client.server.url}/metrics").text
    # The engine itself is well, and says what is not.
    assert "did not answer" in client.server.flask("doctor", check=False).stdout
    front.start()
    assert client.paths() == {"/before": 1, "/during": 50}
    assert httpx.get(f"{client.server.url}/readyz").status_code == 200


def test_a_server_starts_while_the_warehouse_is_away(tmp_path, front):
    server = Server(tmp_path / "machine", **front.settings)
    _, website, key = server.set_up()
    front.kill()
    server.start()
    client = Client(server, key, website)
    try:
        assert client.send("early", "/early").status_code == 202
        front.start()
        server.wait_for_engine(key)
        assert client.paths() == {"/early": 1}
    finally:
        server.stop()


def test_a_warehouse_that_hangs_holds_up_no_event(make, front):
    [client] = make()
    client.send("before", "/before")
    assert client.paths() == {"/before": 1}
    front.mood("slow 20")
    began = time.monotonic()
    assert {client.send(f"e{n}", "/during").status_code for n in range(20)} == {202}
    assert time.monotonic() - began < 10
    stale = client.report()
    assert (stale.status_code, stale.json()["data"]["data_status"]) == (200, "stale")
    front.mood("well")
    assert client.paths() == {"/before": 1, "/during": 20}


@pytest.mark.timeout(400)
def test_nothing_is_lost_or_doubled_while_the_warehouse_is_killed(make, front):
    rehearse(make, front, kills=6)


@pytest.mark.soak
@pytest.mark.timeout(7200)
def test_nothing_is_lost_or_doubled_while_the_warehouse_is_killed_often(make, front):
    rehearse(make, front, kills=100)


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_the_warehouse_is_away_for_five_minutes_under_load(make, front):
    [client] = make(workers=2)
    with load(client.server, client.key, client.website, SEED) as everyone:
        time.sleep(2)
        front.kill()
        time.sleep(AWAY_SECONDS)
        refused = client.report("p_events_catalog")
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "analytics_error")
        behind = client.server.behind()
        front.start()
        time.sleep(2)
    check(
        client,
        everyone,
        f"seed {SEED}, away for {AWAY_SECONDS} s, {behind} bytes behind",
        10 * AWAY_SECONDS,
        LOADED_SECONDS,
    )


def rehearse(make, front, kills):
    """Kill the warehouse, hang up on inserts and kill engines while events are sent, then look at every event."""
    seed = int(os.environ.get("PIXEL_TEST_SEED") or time.time_ns() % 10**9)
    chance, done = random.Random(seed), Counter()
    [client] = make(workers=2)
    server = client.server
    with load(server, client.key, client.website, seed) as everyone:
        while done.total() < kills:
            time.sleep(chance.uniform(0.1, 1.5))
            what = chance.choice(["warehouse", "warehouse", "answers", "engine"])
            done[what] += 1
            if what == "warehouse":
                front.kill()
                time.sleep(chance.uniform(0, 1.5))
                front.start()
            elif what == "answers":
                front.plan("drop", "drop")
            else:
                for pid in server.children()["engine"]:
                    kill(pid)
    front.plan()
    server.wait_for_engine(client.key, seconds=60)
    check(client, everyone, f"seed {seed}, {dict(done)}", 5 * kills, LOADED_SECONDS)


def test_what_needs_the_rows_or_the_files_works_or_says_why_not(make, front, tmp_path):
    [client] = make()
    for visitor in ("ada", "bob"):
        assert client.send(f"of-{visitor}", f"/{visitor}", visitor_id=visitor).status_code == 202
    client.paths()
    exported = tmp_path / "exported"
    client.server.flask("export", str(exported), "--website", client.website, "--format", "ndjson")
    written = "".join(path.read_text() for path in exported.rglob("*.ndjson"))
    assert sorted(json.loads(line)["visitor_id"] for line in written.splitlines()) == ["ada", "bob"]
    client.server.flask("erase", "visitor", "ada", "--website", client.website)
    assert front.ask("SELECT visitor_id FROM events") == [{"visitor_id": "bob"}]
    assert front.ask("SELECT count() AS n FROM requests WHERE position(request_body, 'ada') > 0") == [{"n": 0}]
    refused = client.server.flask("backup", str(tmp_path / "kept"), check=False)
    assert refused.returncode == 1
    assert "ClickHouse" in refused.stderr
    assert "Traceback" not in refused.stderr
