"""An installation moves to PostgreSQL and ClickHouse, killed on the way, and is the same afterwards."""

import os
import random
import subprocess
import time

import pytest

from tests import stores
from tests.clickhouse_front import Front
from tests.server import BIN, HOME, Server
from tests.test_faults import Client

TABLES = ("events", "requests", "identities", "drops")


@pytest.fixture
def front(tmp_path):
    front = Front(tmp_path / "clickhouse").start()
    yield front
    front.stop()


@pytest.fixture(scope="module")
def old(tmp_path_factory):
    """A server that stands alone, with something of everything."""
    server = Server(tmp_path_factory.mktemp("alone") / "old", DATABASE_URL="")
    _, website, key = server.set_up()
    server.start()
    server.wait_for_engine(key)
    client = Client(server, key, website)
    events = [
        {"website_id": website, "name": "pageview", "event_id": f"e{year}-{n}", "path": f"/{n}'\\", "visitor_id": f"v{n}",
         "timestamp": f"{year}-03-01T00:00:00Z", "props": {"a": "ü\n"}}
        for year in range(2020, 2027) for n in range(40)
    ]  # fmt: skip
    assert client.http.post("/pixel/events/batch", json={"events": events}).status_code == 202
    assert (
        client.send("paid", name="payment", amount=9.5, currency="EUR", transaction_id="t", provider="s").status_code
        == 202
    )
    told = {
        "website_id": website,
        "visitor_id": "v1",
        "user_id": "u",
        "email": "u@example.com",
        "traits": {"plan": "x"},
    }
    assert client.http.post("/pixel/identify", json=told).status_code == 202
    client.send("paid")
    client.paths()
    client.send("late", "/late")
    # What is in the journal still comes along.
    server.kill_all()
    yield client
    server.stop()


@pytest.fixture
def new(tmp_path, old, front):
    url = stores.new_database(os.environ.get("PIXEL_TESTS_POSTGRESQL") or stores.postgresql().url)
    secret = (old.server.instance / "secret_key").read_text()
    server = Server(tmp_path / "new", DATABASE_URL=url, SECRET_KEY=secret, **front.settings)
    server.flask("db", "upgrade")
    yield server
    server.stop()


def move(server, old):
    return server.flask("move", "--from", str(old.server.instance), check=False)


@pytest.mark.timeout(400)
def test_it_is_all_there_however_often_the_move_was_killed(old, new, front):
    seed = int(os.environ.get("PIXEL_TEST_SEED") or time.time_ns() % 10**9)
    chance, killed = random.Random(seed), 0
    for most in (4, 6, 9):
        command = [BIN / "flask", "--app", "app", "move", "--from", old.server.instance]
        moving = subprocess.Popen(command, cwd=HOME, env=new.environment, stderr=subprocess.DEVNULL)
        time.sleep(chance.uniform(1, most))
        killed += moving.poll() is None
        moving.kill()
        moving.wait()
    print(f"\nseed {seed}: killed {killed} times")
    done = move(new, old)
    assert done.returncode == 0, done.stderr
    assert "282 rows of events" in done.stderr
    again = move(new, old)
    assert again.stderr == done.stderr
    counts = {table: front.ask(f"SELECT count() AS n FROM {table}")[0]["n"] for table in TABLES}
    assert counts["events"] == 282
    assert counts["identities"] == 1
    assert counts["requests"] >= 5
    new.start()
    new.wait_for_engine(old.key)
    client = Client(new, old.key, old.website)
    # The key works, and what was counted there is not counted here again.
    assert client.send("late", "/again").status_code == 202
    assert (
        client.send("other", name="payment", amount=1, currency="EUR", transaction_id="t", provider="s").status_code
        == 202
    )
    assert client.send("fresh", "/fresh").status_code == 202
    paths = client.paths()
    assert paths["/fresh"] == 1
    assert "/again" not in paths
    assert front.ask("SELECT count() AS n FROM events") == [{"n": 283}]


def test_it_refuses_in_one_sentence_what_it_cannot_move(old, new, front):
    def refusal():
        done = move(new, old)
        assert done.returncode == 1
        assert "Traceback" not in done.stderr
        return done.stderr.splitlines()[-1]

    good = dict(new.environment)
    new.environment["SECRET_KEY"] = "another secret of thirty-two characters"
    assert "SECRET_KEY must be the one in" in refusal()
    new.environment = good | {"DATABASE_URL": ""}
    assert "DATABASE_URL must name a PostgreSQL" in refusal()
    new.environment = good | dict.fromkeys(front.settings, "chdb://")
    assert "ANALYTICS_URL must name a ClickHouse" in refusal()
    new.environment = good
    old.server.start()
    old.server.wait_for_engine(old.key)
    assert "Stop it first" in refusal()
    old.server.stop()
    new.flask("workspace", "create", "Own", "--owner", "own@example.com")
    assert "control data of its own" in refusal()


def test_it_waits_for_nothing_when_clickhouse_is_away_and_is_run_again(old, new, front):
    front.kill()
    away = move(new, old)
    assert away.returncode == 1
    assert "Run it again." in away.stderr
    front.start()
    assert move(new, old).returncode == 0
    assert front.ask("SELECT count() AS n FROM events") == [{"n": 282}]
