"""An installation moves to PostgreSQL and ClickHouse, killed on the way, and is the same afterwards."""

import os
import random
import subprocess
import time
from datetime import date, timedelta

import pytest

from pixel import pipes
from pixel.warehouse.embedded import Embedded
from tests import stores
from tests.bench import pour
from tests.bench.traffic import NEEDED
from tests.clickhouse_front import Front
from tests.server import BIN, HOME, Server
from tests.test_faults import Client, workspace

MANY = 1_000_000
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
    return server.flask("move", "--from", str(old.server.instance), check=False, seconds=1800)


def killed(server, old, longest):
    """Begin the move again and again and kill it, after no longer than each of some seconds: what was done, in words."""
    seed = int(os.environ.get("PIXEL_TEST_SEED") or time.time_ns() % 10**9)
    chance, times = random.Random(seed), 0
    for most in longest:
        command = [BIN / "flask", "--app", "app", "move", "--from", old.server.instance]
        moving = subprocess.Popen(command, cwd=HOME, env=server.environment, stderr=subprocess.DEVNULL)
        time.sleep(chance.uniform(1, most))
        times += moving.poll() is None
        moving.kill()
        moving.wait()
    return f"seed {seed}: killed {times} times"


@pytest.mark.timeout(400)
def test_it_is_all_there_however_often_the_move_was_killed(old, new, front):
    print(f"\n{killed(new, old, (4, 6, 9))}")
    done = move(new, old)
    assert done.returncode == 0, done.stderr
    assert "282 rows of events" in done.stderr
    again = move(new, old)
    # Nothing is copied again.
    assert again.stderr.splitlines() == [line for line in done.stderr.splitlines() if not line.startswith("Copying")]
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


def test_an_insert_that_is_not_answered_is_told_in_a_sentence(old, new, front):
    refused = old.server.instance / "journal" / "refused.ndjson"
    refused.write_bytes(b"{}")
    front.plan("take", "drop")
    broken = move(new, old)
    assert (broken.returncode, "Traceback" in broken.stderr) == (1, False)
    assert broken.stderr.splitlines()[-1].endswith("Run it again.")
    done = move(new, old)
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines()[-1].endswith(str(refused))
    assert front.ask("SELECT count() AS n FROM events") == [{"n": 282}]
    refused.unlink()


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_a_million_events_move_and_every_report_is_the_same(old, new, front):
    server = old.server
    server.start()
    server.wait_for_engine(old.key)
    owner = workspace(old)
    website = server.flask("website", "add", "big.example", "--workspace", owner)
    server.stop()
    warehouse = Embedded(server.instance / "warehouse" / "data")
    for statement in pour.statements(owner, website, MANY):
        warehouse.command(statement)
    warehouse.close()
    server.start()
    server.wait_for_engine(old.key)
    before = reports(Client(server, old.key, website))
    server.stop()
    told = killed(new, old, (10, 20, 40))
    began = time.monotonic()
    done = move(new, old)
    assert done.returncode == 0, done.stderr
    print(f"\n{told}, then in {time.monotonic() - began:.0f} s:\n{done.stderr}")
    new.start()
    new.wait_for_engine(old.key)
    assert before["p_top_pages"]
    assert reports(Client(new, old.key, website)) == before
    (stored,) = front.ask("SELECT count() AS n, uniqExact(website_id, event_id) AS once FROM events")
    assert stored["n"] == stored["once"] > 0.99 * MANY


def reports(client):
    """The rows of every report on a website, but for what they tell of this very moment."""
    today = date.today()
    days = {"from": str(today - timedelta(days=40)), "to": str(today)}
    rows = {}
    for pipe in pipes.all().keys() - {"p_pixel_healthcheck", "p_realtime_visitors"}:
        answer = client.report(pipe, website_id=client.website, **days, **NEEDED.get(pipe, {}))
        assert answer.status_code == 200, answer.text
        rows[pipe] = answer.json()["data"]["data"]
    return rows
