"""Whether the server is well: what a load balancer asks, and what Prometheus reads."""

import signal
import sqlite3
import time

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

import config
from pixel import health, telemetry
from pixel.extensions import counters, journal
from tests.cast import error, load
from tests.server import kill, until
from tests.test_request_log import found

PUBLIC, PRIVATE = "8.8.8.8", "192.168.1.5"
TOKEN = "a-token-of-metrics"


def asked(app, path, address="127.0.0.1", **headers):
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    return app.test_client().get(path, headers=headers, environ_base={"REMOTE_ADDR": address})


def numbers(text):
    """Every sample as {(name, (label, value), ...): number}."""
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def total(text, name, **labels):
    """The sum of all samples of a name whose labels are these."""
    return sum(
        number for (found, *its), number in numbers(text).items() if found == name and set(labels.items()) <= set(its)
    )


# -- alive, ready


def test_a_process_that_answers_is_alive(app):
    response = asked(app, "/healthz", PUBLIC)
    assert (response.status_code, response.json["data"]) == (200, {"alive": True})
    assert response.headers["X-Request-Id"] == response.json["meta"]["request_id"]


def test_a_server_that_is_well_is_ready_and_says_how_far_it_is_behind(app, ada, caller):
    caller.sends(ada.site)
    response = asked(app, "/readyz")
    assert response.status_code == 200, response.text
    checks = response.json["data"]["checks"]
    assert set(checks) == {"database", "journal", "engine", "warehouse", "lag"}
    assert all(check["ok"] for check in checks.values())
    load(app)
    lag = asked(app, "/readyz").json["data"]["checks"]["lag"]
    assert lag == {"ok": True, "bytes": 0, "seconds": 0.0}


def test_a_stranger_is_told_only_whether_it_is_ready(app):
    response = asked(app, "/readyz", PUBLIC)
    assert (response.status_code, response.json["data"]) == (200, {"ready": True})


def test_without_a_database_it_is_not_ready(app, monkeypatch):
    def away():
        raise sqlite3.OperationalError("unable to open /a/path")

    monkeypatch.setitem(health._CHECKS, "database", away)
    response = asked(app, "/readyz")
    assert error(response) == (503, "service_unavailable")
    assert int(response.headers["Retry-After"]) >= 1
    checks = response.json["error"]["details"]["checks"]
    assert checks["database"] == {"ok": False, "says": "OperationalError"}
    assert checks["journal"]["ok"]
    assert "/a/path" not in response.text
    assert error(asked(app, "/readyz", PUBLIC))[0] == 503
    assert asked(app, "/readyz", PUBLIC).json["error"]["details"] == {}


def test_an_engine_that_stands_still_is_told_in_time(server):
    _, website, key = server.set_up()
    server.start()
    server.wait_for_engine(key)
    until(lambda: httpx.get(server.url + "/readyz").status_code == 200, 10, server.said)
    (engine,) = server.children()["engine"]
    kill(engine, signal.SIGSTOP)
    try:
        event = {"website_id": website, "name": "pageview", "path": "/"}
        sent = httpx.post(server.url + "/api/v1/pixel/events", json=event, headers={"Authorization": f"Bearer {key}"})
        assert sent.status_code == 202
        for _ in range(3):
            started = time.monotonic()
            response = httpx.get(server.url + "/readyz", timeout=10)
            # One second for the checks, and as much for a machine with other things to do.
            assert time.monotonic() - started < 2.5
            assert response.status_code == 503
        checks = response.json()["error"]["details"]["checks"]
        assert not checks["engine"]["ok"]
        assert checks["database"]["ok"]
        assert checks["lag"]["bytes"] > 0
        assert checks["lag"]["seconds"] > 0
        assert httpx.get(server.url + "/healthz").status_code == 200
        shown = numbers(httpx.get(server.url + "/metrics", timeout=10).text)
        assert shown[("pixel_engine_up",)] == 0
        assert shown[("pixel_journal_behind_bytes",)] > 0
        assert shown[("pixel_journal_oldest_seconds",)] > 0
    finally:
        kill(engine, signal.SIGCONT)
    until(lambda: httpx.get(server.url + "/readyz").status_code == 200, 20, server.said)


def test_a_journal_that_cannot_be_written_is_not_ready(app, monkeypatch, tmp_path):
    monkeypatch.setattr(journal, "folder", tmp_path / "gone")
    response = asked(app, "/readyz")
    assert error(response) == (503, "service_unavailable")
    assert not response.json["error"]["details"]["checks"]["journal"]["ok"]


# -- who may see numbers


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", PRIVATE, "10.1.2.3", "::ffff:192.168.1.5", "fd00::1"])
def test_numbers_are_shown_to_this_machine_and_private_networks(app, address):
    response = asked(app, "/metrics", address)
    assert response.status_code == 200
    assert response.content_type.startswith("text/plain")
    assert "X-Request-Id" in response.headers


@pytest.mark.parametrize("address", [PUBLIC, "2001:4860:4860::8888", "::ffff:8.8.8.8", "", "unix"])
@pytest.mark.case(103)
def test_numbers_are_not_there_for_others(app, address):
    assert error(asked(app, "/metrics", address)) == (404, "not_found")


def test_what_an_unknown_proxy_passes_on_comes_from_nowhere_in_particular(app):
    assert error(asked(app, "/metrics", X_Forwarded_For=PRIVATE)) == (404, "not_found")
    assert error(asked(app, "/metrics", Forwarded="for=127.0.0.1")) == (404, "not_found")


def test_with_a_token_numbers_are_shown_for_it_alone(app, monkeypatch):
    monkeypatch.setitem(app.config, "METRICS_TOKEN", TOKEN)
    assert asked(app, "/metrics", PUBLIC, Authorization=f"Bearer {TOKEN}").status_code == 200
    assert error(asked(app, "/metrics")) == (401, "missing_authorization")
    assert error(asked(app, "/metrics", Authorization="Basic x")) == (401, "invalid_authorization_format")
    assert error(asked(app, "/metrics", Authorization=f"Bearer {TOKEN}x")) == (401, "invalid_api_key")
    assert "checks" in asked(app, "/readyz", PUBLIC, Authorization=f"Bearer {TOKEN}").json["data"]
    assert "checks" not in asked(app, "/readyz").json["data"]


def test_guessing_the_token_is_slowed_down(app, monkeypatch):
    monkeypatch.setitem(app.config, "METRICS_TOKEN", TOKEN)
    statuses = [asked(app, "/metrics", "10.99.0.1", Authorization=f"Bearer wrong{i}").status_code for i in range(80)]
    assert statuses[0] == 401
    assert statuses[-1] == 429
    # Whoever has it is not held up by those who have not.
    assert asked(app, "/metrics", "10.99.0.1", Authorization=f"Bearer {TOKEN}").status_code == 200


@pytest.mark.parametrize("token", ["short", "with a space in the middle", "é" * 20, "x" * 201])
def test_a_token_that_could_be_guessed_or_not_sent_stops_the_start(token):
    with pytest.raises(config.WrongSetting, match="METRICS_TOKEN"):
        config.load(METRICS_TOKEN=token)


# -- what the numbers say


def test_requests_are_counted_by_route_and_code_and_timed(app, caller, ada):
    route = "/api/v1/pixel/events"
    before = asked(app, "/metrics").text
    caller.sends(ada.site)
    caller.post("/pixel/events", json={})
    after = asked(app, "/metrics").text
    for labels, more in (
        ({"status": "2xx", "code": ""}, 1),
        ({"status": "4xx", "code": "invalid_body"}, 1),
        ({"method": "POST"}, 2),
        ({"method": "GET"}, 0),
    ):
        counted = [total(text, "pixel_http_requests_total", route=route, **labels) for text in (before, after)]
        assert counted[1] - counted[0] == more, labels
    timed = [total(text, "pixel_http_request_seconds_count", route=route) for text in (before, after)]
    assert timed[1] - timed[0] == 2
    everything = ("pixel_http_request_seconds_bucket", ("le", "+Inf"), ("route", route))
    assert numbers(after)[everything] == timed[1]


def test_made_up_paths_and_methods_are_counted_together(app):
    before = asked(app, "/metrics").text
    for number in range(5):
        app.test_client().open(f"/made/up/{number}", method=f"M{number}")
    after = asked(app, "/metrics").text
    made_up = {"route": "(none)", "method": "(other)"}
    assert (
        total(after, "pixel_http_requests_total", **made_up) - total(before, "pixel_http_requests_total", **made_up)
        == 5
    )
    assert "made" not in after
    assert "M1" not in after


def test_events_loads_and_drops_are_counted(app, caller, ada):
    load(app)
    before = asked(app, "/metrics").text
    for _ in range(2):
        caller.sends(ada.site, event_id="once")
    caller.post("/pixel/events", json={"website_id": ada.site, "name": "nonsense"})
    load(app)
    after = asked(app, "/metrics").text
    for name, labels, more in (
        ("pixel_events_accepted_total", {}, 2),
        ("pixel_events_dropped_total", {"reason": "duplicate"}, 1),
        ("pixel_events_dropped_total", {"reason": "invalid_body"}, 1),
        ("pixel_loaded_rows_total", {"table": "events"}, 1),
    ):
        assert total(after, name, **labels) - total(before, name, **labels) == more, (name, labels)
    assert total(after, "pixel_load_lag_seconds_count") > total(before, "pixel_load_lag_seconds_count")
    assert total(after, "pixel_build_info", version=config.VERSION) == 1


def test_files_that_were_set_aside_are_counted(app):
    before = numbers(asked(app, "/metrics").text)[("pixel_set_aside_files",)]
    files = [journal.folder / name for name in ("refused.ndjson", "1-1.damaged", "1-2.torn")]
    try:
        for path in files:
            path.write_bytes(b"x")
        assert numbers(asked(app, "/metrics").text)[("pixel_set_aside_files",)] == before + 3
    finally:
        for path in files:
            path.unlink()


@pytest.mark.case(102)
def test_no_number_tells_whose_it_is(app, caller, ada):
    caller.sends(ada.site, visitor_id="somebody", path="/somewhere")
    text = asked(app, "/metrics").text
    for secret in (ada.id, ada.site, caller.key_id, caller.secret, "somebody", "/somewhere", "ada.example"):
        assert secret not in text


def test_calls_that_went_uncounted_are_counted_here(app, caller, monkeypatch):
    def away(*_):
        raise sqlite3.OperationalError

    before = asked(app, "/metrics").text
    monkeypatch.setattr(counters.storage, "incr", away)
    assert caller.get("/me").status_code == 200
    monkeypatch.undo()
    after = asked(app, "/metrics").text
    assert total(after, "pixel_ratelimit_uncounted_total") - total(before, "pixel_ratelimit_uncounted_total") == 1


def test_counts_of_all_workers_are_one_and_outlive_them(server):
    _, _, key = server.set_up()
    server.start()
    server.wait_for_engine(key)

    def asked_for_me():
        return total(
            httpx.get(server.url + "/metrics", timeout=10).text, "pixel_http_requests_total", route="/api/v1/me"
        )

    for _ in range(40):
        # Each over a connection of its own, so that every worker has some.
        assert httpx.get(server.url + "/api/v1/me", headers={"Authorization": f"Bearer {key}"}).status_code == 200
    until(lambda: asked_for_me() == 40, 10, server.said)
    for worker in server.children()["web"]:
        kill(worker)
    until(lambda: asked_for_me() == 40, 20, server.said)
    httpx.get(server.url + "/api/v1/me", headers={"Authorization": f"Bearer {key}"})
    until(lambda: asked_for_me() == 41, 10, server.said)


def test_questions_about_the_server_leave_no_row_unless_they_fail(app):
    for path in ("/healthz", "/readyz", "/metrics"):
        assert found(app, asked(app, path)) is None
    assert found(app, asked(app, "/metrics", PUBLIC))["code"] == "not_found"


def test_not_to_be_ready_is_an_answer_and_no_exception(app, monkeypatch):
    def broken():
        raise LookupError("of ours")

    monkeypatch.setitem(health._CHECKS, "engine", broken)
    row = found(app, asked(app, "/readyz"))
    assert (row["status"], row["code"], row["exception"]) == (503, "service_unavailable", "")
    monkeypatch.setattr(health, "ready", broken)
    row = found(app, asked(app, "/readyz"))
    assert (row["status"], row["code"]) == (500, "internal_error")
    assert "LookupError" in row["exception"]


# -- the file of counts


@pytest.fixture
def counted_in(tmp_path, monkeypatch):
    """A file of counts of its own."""
    telemetry.flush()
    before = (telemetry._file.path, telemetry._file.connection)
    telemetry._file.connection = None
    telemetry.bind(tmp_path / "counts.sqlite")
    yield tmp_path / "counts.sqlite"
    telemetry._file.path, telemetry._file.connection = before


def dropped(reason):
    return total(telemetry.exposition().decode(), "pixel_events_dropped_total", reason=reason)


def test_while_the_file_is_locked_counts_wait(counted_in):
    telemetry.count("pixel_events_dropped", "origin")
    telemetry.flush()
    other = sqlite3.connect(counted_in, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    telemetry.count("pixel_events_dropped", "origin", amount=2)
    telemetry.flush()
    other.execute("ROLLBACK")
    assert dropped("origin") == 3


def test_a_file_that_cannot_be_read_is_begun_anew(counted_in):
    counted_in.write_bytes(b"no database at all, but long enough to be taken for one" * 100)
    telemetry.count("pixel_events_dropped", "origin")
    telemetry.flush()
    assert dropped("origin") == 1


def test_times_fall_into_buckets_that_add_up(counted_in):
    for seconds in (0.0, 0.001, 0.0011, 9.99, 10.0, 11.0):
        telemetry.observe("pixel_http_request_seconds", seconds, "/")
    shown = numbers(telemetry.exposition().decode())
    buckets = {
        le: shown[("pixel_http_request_seconds_bucket", ("le", le), ("route", "/"))]
        for le in ("0.001", "0.0025", "5.0", "10.0", "+Inf")
    }
    assert buckets == {"0.001": 2, "0.0025": 3, "5.0": 3, "10.0": 5, "+Inf": 6}
    assert shown[("pixel_http_request_seconds_count", ("route", "/"))] == 6
