"""Several servers on one PostgreSQL and one Redis, and what they do when one of those fails."""

import contextlib
import re
import subprocess
import sys
import time

import httpx
import psycopg
import pytest

from pixel.keys import _new as new_key
from tests import stores
from tests.pages import PASSWORD, field
from tests.server import HOME, Server, until
from tests.test_faults import SEED, Client, check, keys, workspace
from tests.test_kill import load as under_load

#: No call may take longer, whatever PostgreSQL does. (A caller of ours would give up after 30 seconds.)
LONGEST_SECONDS = 10


@pytest.fixture(scope="module")
def postgresql():
    return stores.PostgreSQL()


@pytest.fixture(scope="module")
def redis():
    return stores.Redis()


@pytest.fixture(scope="module")
def world(postgresql, tmp_path_factory):
    """A database with a workspace, to be copied: (its URL, the website, a key)."""
    url = stores.new_database(postgresql.url)
    _, website, key = Server(tmp_path_factory.mktemp("world") / "instance", **stores.of(url)).set_up()
    return url, website, key


@pytest.fixture
def make(tmp_path, postgresql, redis, world):
    """Start a server beside those that are there, on the same stores: a client of it."""
    template, website, key = world
    shared = {
        **stores.of(stores.new_database(postgresql.url, like=template)),
        "RATELIMIT_STORAGE_URI": redis.url,
    }
    clients = []

    def start(workers=2):
        server = Server(tmp_path / f"server{len(clients)}", workers, **shared)
        clients.append(Client(server, key, website))
        server.start()
        server.wait_for_engine(key)
        return clients[-1]

    start.database = shared["DATABASE_URL"]
    yield start
    for client in clients:
        client.server.stop()


def execute(url, sql):
    """Change or read the control data with another program."""
    with psycopg.connect(url) as connection:
        answer = connection.execute(sql)
        return answer.fetchall() if answer.description else answer.rowcount


# -- two servers


def test_two_servers_are_one(make):
    one, other = make(), make()
    _a_key_that_is_revoked_is_refused_by_the_next_call(one, other, make.database)
    # A website that is added on one may be sent for on the other.
    website = one.server.flask("website", "add", "another.example", "--workspace", workspace(one))
    assert other.send("e", website_id=website).status_code == 202
    _people_are_signed_in_everywhere(one, other)
    said = other.server.flask("doctor", check=False)
    assert "PostgreSQL, reached, its tables are current" in said.stdout + said.stderr
    assert "Redis, reached" in said.stdout + said.stderr
    _calls_are_counted_together(one, other, make.database)


def _a_key_that_is_revoked_is_refused_by_the_next_call(one, other, database):
    header = {"Authorization": f"Bearer {one.server.flask('key', 'create', 'k', '--workspace', workspace(one))}"}
    (id,) = [key["id"] for key in keys(one) if key["name"] == "k"]
    # An operator may do it with another program.
    for revoked_at, status in (("now()", 401), ("NULL", 200)) * 5:
        execute(database, f"UPDATE api_keys SET revoked_at = {revoked_at} WHERE id = '{id}'")
        assert [client.http.get("/me", headers=header).status_code for client in (one, other)] == [status] * 2
    one.server.flask("key", "revoke", id)
    refused = other.http.get("/me", headers=header)
    assert (refused.status_code, refused.json()["error"]["code"]) == (401, "api_key_revoked")


def _calls_are_counted_together(one, other, database):
    execute(database, "UPDATE workspaces SET rate_limit = 60")
    answers = one.all_at_once([lambda client=client: client.http.get("/me") for client in (one, other) * 100])
    statuses = [response.status_code for response in answers]
    assert (statuses.count(200), statuses.count(429)) == (60, 140)
    remaining = sorted(int(r.headers["X-RateLimit-Remaining"]) for r in answers if r.status_code == 200)
    assert remaining == list(range(60))
    ends = {int(response.headers["X-RateLimit-Reset"]) for response in answers}
    # One window for all, told to the second.
    assert max(ends) - min(ends) <= 1
    assert time.time() < min(ends) <= time.time() + 61


def _people_are_signed_in_everywhere(one, other):
    link = one.server.flask("user", "reset", "owner@example.com")
    with httpx.Client(base_url=one.server.url) as browser:
        path = re.search(r"/links/\S+", link)[0]
        sent = {"csrf_token": field(browser.get(path).text, "csrf_token"), "password": PASSWORD}
        assert browser.post(path, data=sent).status_code == 303
        # The address is the same and only the port another, so the cookie goes there too.
        page = browser.get(other.server.url + "/account")
        assert page.status_code == 200
        token = field(page.text, "csrf_token")
        assert browser.post(other.server.url + "/sign-out", data={"csrf_token": token}).status_code == 303
        assert browser.get("/account").status_code == 303


def test_the_jobs_go_over_to_another_server_when_theirs_is_killed(make):
    one = make()
    until(lambda: execute(make.database, "SELECT holder FROM leases"))
    ((holder,),) = execute(make.database, "SELECT holder FROM leases")
    other = make()
    one.server.kill_all()
    # Its lease is good for half a minute still; have that pass.
    assert execute(make.database, "SELECT holder FROM leases") == [(holder,)]
    execute(make.database, "UPDATE leases SET until = clock_timestamp()")
    until(lambda: execute(make.database, "SELECT holder FROM leases") != [(holder,)], 20, other.server.said)
    # A server that ends in good order has nobody wait.
    other.server.stop()
    assert execute(make.database, "SELECT holder FROM leases") == []


@pytest.mark.soak
def test_the_jobs_go_over_within_their_time(make):
    one = make()
    until(lambda: execute(make.database, "SELECT holder FROM leases"))
    ((holder,),) = execute(make.database, "SELECT holder FROM leases")
    make()
    one.server.kill_all()
    until(lambda: execute(make.database, "SELECT holder FROM leases") != [(holder,)], 45)


# -- PostgreSQL fails


@contextlib.contextmanager
def restarted(postgresql, _):
    postgresql.stop()
    postgresql.start()
    yield


@contextlib.contextmanager
def away(postgresql, _):
    postgresql.stop()
    try:
        yield
    finally:
        postgresql.start()


@contextlib.contextmanager
def frozen(postgresql, _):
    postgresql.freeze()
    try:
        yield
    finally:
        postgresql.thaw()


@contextlib.contextmanager
def locked(_, url):
    with psycopg.connect(url) as connection:
        connection.execute("LOCK TABLE api_keys, workspaces, websites IN ACCESS EXCLUSIVE MODE")
        yield


@pytest.mark.parametrize("fails", [away, frozen, locked], ids=lambda fails: fails.__name__)
def test_postgresql_fails_and_calls_are_refused_soon_until_it_is_back(make, postgresql, fails):
    client = make()
    with under_load(client.server, client.key, client.website, SEED) as everyone:
        time.sleep(0.5)
        with fails(postgresql, make.database):
            begun = time.monotonic()
            stranger = {"Authorization": f"Bearer {new_key('dev')[0]}"}
            refused = client.all_at_once([lambda: client.http.get("/me", headers=stranger)] * 60)
            assert time.monotonic() - begun < 3 * LONGEST_SECONDS
            for response in refused:
                assert response.elapsed.total_seconds() < LONGEST_SECONDS
                assert (response.status_code, response.json()["error"]["code"]) == (503, "service_unavailable")
                assert int(response.headers["Retry-After"]) >= 1
            # What was read before, and nobody can have changed, is known while there is only a lock.
            known = client.all_at_once([lambda: client.http.get("/pixel/websites")] * 60)
            assert {response.status_code for response in known} <= ({200, 503} if fails is locked else {503})
            page = httpx.post(client.server.url + "/sign-in", timeout=30)
            assert page.status_code in (400, 503)
            # What needs no database is answered all the while.
            assert httpx.get(client.server.url + "/docs").status_code == 200
        # Each worker sees for itself, a second later at most, that it is back.
        asks = [lambda: client.http.get("/pixel/websites")] * 60
        until(lambda: {answer.status_code for answer in client.all_at_once(asks)} == {200}, 20, client.server.said)
    check(client, everyone, f"seed {SEED}, PostgreSQL {fails.__name__}")


def test_postgresql_is_restarted_under_load_and_nothing_is_lost(make, postgresql):
    client = make()
    with under_load(client.server, client.key, client.website, SEED) as everyone:
        for _ in range(3):
            time.sleep(0.5)
            postgresql.stop()
            postgresql.start()
            until(lambda: client.http.get("/me").status_code == 200, 20, client.server.said)
    check(client, everyone, f"seed {SEED}, PostgreSQL restarted")


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_postgresql_is_away_for_a_minute_under_load(make, postgresql):
    client = make()
    with under_load(client.server, client.key, client.website, SEED) as everyone:
        time.sleep(2)
        with away(postgresql, None):
            time.sleep(60)
        time.sleep(5)
    check(client, everyone, f"seed {SEED}, PostgreSQL away for a minute", seconds=120)


# -- Redis fails


@pytest.mark.parametrize("fails", [away, frozen], ids=lambda fails: fails.__name__)
def test_redis_fails_and_nobody_is_held_up(make, redis, fails):
    client = make()
    execute(make.database, "UPDATE workspaces SET rate_limit = 60")
    asks = [lambda: client.http.get("/me")] * 200
    with fails(redis, None):
        answers = client.all_at_once(asks)
        assert {response.status_code for response in answers} == {200}
        assert not [response for response in answers if "X-RateLimit-Limit" in response.headers]
        # A frozen Redis costs the first calls a moment, and not each of the 200 calls again.
        begun = time.monotonic()
        client.all_at_once(asks)
        assert time.monotonic() - begun < 10
        assert 1 <= client.server.log.read_text().count("rate-limit counters are away") <= 20
    _all_workers_count_again(client)
    # The window of this minute ends here.
    redis.client().flushdb()
    statuses = [response.status_code for response in client.all_at_once(asks)]
    assert (statuses.count(200), statuses.count(429)) == (60, 140)


def _all_workers_count_again(client):
    """Each worker sees for itself that the counters are back."""
    until(
        lambda: all(
            "X-RateLimit-Limit" in r.headers for r in client.all_at_once([lambda: client.http.get("/me")] * 64)
        ),
        20,
    )


def test_redis_is_restarted_and_calls_are_counted_at_once(make, redis):
    client = make()
    _all_workers_count_again(client)
    redis.stop()
    redis.start()
    # The connections that were open are found to be closed before they are used.
    answers = client.all_at_once([lambda: client.http.get("/me")] * 200)
    assert {"X-RateLimit-Limit" in response.headers for response in answers} == {True}


# -- processes


_FORKS = """
import os
import config
from app import create_app
from pixel.database import db, remembered

app = create_app(engine="apart")

@remembered
def process():
    return db.session.scalar(db.text("SELECT pg_backend_pid()"))

with app.app_context():
    before = process()
if os.fork() == 0:
    with app.app_context():
        assert process() != before
    os._exit(0)
assert os.waitstatus_to_exitcode(os.wait()[1]) == 0
with app.app_context():
    assert db.session.scalar(db.text("SELECT pg_backend_pid()")) == before
print("fine")
"""


def test_a_connection_is_not_used_by_the_processes_that_come_of_its_own(tmp_path, world):
    server = Server(tmp_path / "forks", **stores.of(world[0]))
    said = subprocess.run(
        [sys.executable, "-c", _FORKS], cwd=HOME, env=server.environment, capture_output=True, text=True, check=False
    )
    assert said.stdout.endswith("fine\n"), said.stderr
