"""Sixty calls a minute for a workspace, whatever key; failures count for the address they come from."""

import sqlite3
import threading

import pytest
from flask import Flask

from pixel import clock, workspaces
from pixel.access import FAILURES
from pixel.counters import Counters, SQLiteStorage
from pixel.extensions import counters
from tests import stores
from tests.cast import READ, WRITE, Caller, Workspace, error
from tests.server import until

LIMIT = 60


@pytest.fixture
def ada(app):
    """A workspace with the limit that every workspace has."""
    return Workspace(app, "limited.example", limit=None)


def spends(caller, calls=LIMIT):
    for _ in range(calls):
        assert caller.get("/me").status_code == 200


def minute_passes(app, whose):
    """Let the window of a workspace or an address end now."""
    with sqlite3.connect(f"{app.instance_path}/ratelimit.sqlite") as counts:
        moved = counts.execute("UPDATE counters SET expires = 0 WHERE key LIKE ?", (f"%{whose}%",)).rowcount
    assert moved == 1


@pytest.mark.case(107)
def test_the_sixty_first_call_of_a_minute_is_refused(caller):
    left = [int(caller.get("/me").headers["X-RateLimit-Remaining"]) for _ in range(LIMIT)]
    assert left == list(range(LIMIT - 1, -1, -1))
    response = caller.get("/me")
    assert error(response) == (429, "rate_limit_exceeded")
    wait = int(response.headers["Retry-After"])
    assert 1 <= wait <= 60
    assert response.json["error"]["message"] == f"Rate limit exceeded. Try again in {wait} seconds."
    assert response.json["error"]["details"] == {"limit": 60, "window": "1 minute", "retry_after": wait}
    assert response.headers["X-RateLimit-Limit"] == "60"
    assert response.headers["X-RateLimit-Remaining"] == "0"
    assert abs(int(response.headers["X-RateLimit-Reset"]) - clock.seconds() - wait) <= 2


def test_the_window_is_fixed_so_refused_calls_do_not_prolong_it(caller):
    first = caller.get("/me").headers["X-RateLimit-Reset"]
    spends(caller, LIMIT - 1)
    assert {caller.get("/me").headers["X-RateLimit-Reset"] for _ in range(5)} == {first}


@pytest.mark.case(107)
def test_waiting_exactly_as_long_as_retry_after_says_is_enough(app: Flask, ada: Workspace, caller: Caller) -> None:
    spends(caller)
    wait = int(caller.get("/me").headers["Retry-After"])
    with sqlite3.connect(f"{app.instance_path}/ratelimit.sqlite") as counts:
        # The window ends that much sooner, which is the same as waiting.
        counts.execute("UPDATE counters SET expires = expires - ? WHERE key LIKE ?", (wait, f"%{ada.id}%"))
    assert caller.get("/me").status_code == 200


def test_calls_are_taken_again_when_the_minute_is_over(app, ada, caller):
    spends(caller)
    assert caller.get("/me").status_code == 429
    minute_passes(app, ada.id)
    response = caller.get("/me")
    assert response.status_code == 200
    assert response.headers["X-RateLimit-Remaining"] == "59"


@pytest.mark.case(107)
def test_all_keys_and_routes_of_a_workspace_share_one_budget(ada, caller):
    others = [ada.key(), ada.key(READ), ada.key(WRITE)]
    spends(caller, LIMIT - 6)
    refused = [
        others[0].get("/pixel/websites"),
        others[1].get("/pixel/metrics/nope"),
        others[1].get("/pixel/events/nope"),
        others[2].post("/pixel/events", data="x"),
        others[2].post("/pixel/events", json={}),
        others[2].call("HEAD", "/me"),
    ]
    assert [r.status_code for r in refused] == [403, 400, 404, 415, 400, 200]
    for key in [caller, *others]:
        assert error(key.get("/me")) == (429, "rate_limit_exceeded")


def test_a_batch_is_one_call(ada, caller):
    event = {"website_id": ada.site, "name": "pageview", "path": "/"}
    response = caller.post("/pixel/events/batch", json={"events": [event] * 100})
    assert response.headers["X-RateLimit-Remaining"] == "59"


@pytest.mark.case(107)
def test_workspaces_do_not_spend_each_others_budget(caller, bob):
    spends(caller)
    assert caller.get("/me").status_code == 429
    assert bob.key().get("/me").status_code == 200


def test_a_workspaces_own_limit_is_in_force_at_once(app, ada, caller):
    with app.app_context():
        workspaces.limit(ada.id, 2)
    assert [caller.get("/me").status_code for _ in range(3)] == [200, 200, 429]
    with app.app_context():
        workspaces.limit(ada.id, 1000)
    response = caller.get("/me")
    assert response.status_code == 200
    assert response.headers["X-RateLimit-Limit"] == "1000"
    assert response.json["data"]["workspace"]["rate_limit"] == 1000


@pytest.mark.case(107)
def test_of_200_calls_at_once_exactly_60_pass(app, ada):
    secret = ada.key().secret
    statuses = []

    def call():
        statuses.extend(Caller(app, secret).get("/me").status_code for _ in range(25))

    threads = [threading.Thread(target=call) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (statuses.count(200), statuses.count(429)) == (60, 140)


def test_sixty_failures_from_an_address_and_then_only_a_good_key_is_heard(app, caller, nobody):
    nobody.address = caller.address
    refused = [nobody.get("/me", headers={"Authorization": f"Bearer {i}"}).status_code for i in range(LIMIT)]
    assert set(refused) == {401}
    response = nobody.get("/me")
    assert error(response) == (429, "rate_limit_exceeded")
    assert response.json["error"]["details"]["limit"] == 60
    assert int(response.headers["Retry-After"]) >= 1
    assert caller.get("/me").status_code == 200
    assert error(nobody.get("/me", headers={"Authorization": "x"})) == (429, "rate_limit_exceeded")
    minute_passes(app, nobody.address)
    assert error(nobody.get("/me")) == (401, "missing_authorization")


def test_an_ipv6_client_is_its_whole_64(nobody):
    for i in range(LIMIT):
        assert nobody.get("/me", environ_base={"REMOTE_ADDR": f"2001:db8:7:8:{i:x}::1"}).status_code == 401
    status = {
        address: nobody.get("/me", environ_base={"REMOTE_ADDR": address}).status_code
        for address in ("2001:db8:7:8:ffff::", "2001:db8:7:9::1")
    }
    assert status == {"2001:db8:7:8:ffff::": 429, "2001:db8:7:9::1": 401}


def test_an_ipv4_client_is_the_same_when_written_as_ipv6(nobody):
    for _ in range(LIMIT):
        assert nobody.get("/me", environ_base={"REMOTE_ADDR": "::ffff:198.51.100.7"}).status_code == 401
    assert nobody.get("/me", environ_base={"REMOTE_ADDR": "::ffff:198.51.100.8"}).status_code == 401


def test_a_forwarded_address_is_not_believed_from_a_stranger(nobody):
    for i in range(LIMIT):
        nobody.get("/me", headers={"X-Forwarded-For": f"203.0.113.{i}"})
    assert nobody.get("/me", headers={"X-Forwarded-For": "203.0.113.99"}).status_code == 429


@pytest.mark.parametrize("away", ["a folder in its place", "no folder", "not a database"])
def test_without_the_counters_calls_are_let_through_uncounted(app, caller, nobody, tmp_path, away, monkeypatch):
    file, told = tmp_path / "counts", []
    monkeypatch.setattr("pixel.counters.telemetry.count", lambda name, *_, **__: told.append(name))
    if away == "a folder in its place":
        file.mkdir()
    elif away == "not a database":
        file.write_bytes(b"no database at all" * 1000)
    else:
        file = file / "gone" / "counts"
    try:
        counters.bind(f"pixel-sqlite:///{file}")
        for _ in range(LIMIT + 5):
            response = caller.get("/me")
            assert response.status_code == 200
            assert nobody.get("/me").status_code == 401
        assert "X-RateLimit-Limit" not in response.headers
        assert told.count("pixel_ratelimit_uncounted") == 2 * (LIMIT + 5)
    finally:
        bind_anew(app)
    assert caller.get("/me").headers["X-RateLimit-Remaining"] == "59"


def test_the_counters_are_busy_but_nobody_is_held_up(app, caller):
    assert caller.get("/me").status_code == 200
    with sqlite3.connect(f"{app.instance_path}/ratelimit.sqlite", isolation_level=None) as busy:
        busy.execute("BEGIN IMMEDIATE")
        # The first waits in vain; the others do not even ask.
        assert [caller.get("/me").status_code for _ in range(100)] == [200] * 100
        busy.execute("ROLLBACK")
    until(lambda: "X-RateLimit-Remaining" in caller.get("/me").headers)


def test_a_redis_that_says_nothing_is_left_alone_for_a_while():
    silent, tried = stores.Silent(), Counters()
    tried.bind(f"redis://127.0.0.1:{silent.port}/0")
    assert [tried.hit(FAILURES, "address", "192.0.2.1") for _ in range(500)] == [None] * 500
    assert silent.connections() == 1
    # After that it is asked again, by one.
    until(lambda: tried.hit(FAILURES, "address", "192.0.2.1") or silent.connections())
    assert not tried.check()


def bind_anew(app):
    """What failed is forgotten."""
    counters.bind(f"pixel-sqlite:///{app.instance_path}/ratelimit.sqlite")


def test_a_call_that_read_the_clock_first_and_is_counted_second_begins_no_new_window(tmp_path, monkeypatch):
    storage = SQLiteStorage(f"pixel-sqlite:///{tmp_path}/counts")
    for n, seconds in enumerate((1000.0, 999.9, 1000.1, 999.0), start=1):
        monkeypatch.setattr("pixel.counters.time.time", lambda seconds=seconds: seconds)
        assert storage.incr("somebody", 60) == n
        assert storage.get_expiry("somebody") == 1060.0
