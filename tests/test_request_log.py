"""Whatever was asked can be found by its id, and nothing secret is kept of it."""

import json
import re

import pytest
from flask import Flask
from flask.testing import FlaskClient

from pixel import access, clock, ids, request_log
from pixel.extensions import journal, lines, warehouse
from tests.cast import READ, SECRETS, WRITE, Caller, addresses, load

JSON = "application/json"


def found(app, response):
    """The row of an answered request."""
    journal.flush()
    with app.app_context():
        return request_log.find(response.headers["X-Request-Id"])


@pytest.fixture
def show(app):
    """What `flask request show` says."""
    runner = app.test_cli_runner()

    def run(text):
        journal.flush()
        return runner.invoke(args=["request", "show", text])

    yield run
    # A command lets go of the engine when it ends; the next call takes it up again.
    warehouse.start()


# -- found


@pytest.mark.parametrize(
    ("method", "path", "options", "status", "code"),
    [
        ("GET", "/me", {}, 200, ""),
        ("GET", "/nope", {}, 404, "not_found"),
        ("DELETE", "/me", {}, 405, "method_not_allowed"),
        ("GET", "/pixel/metrics/nope", {}, 400, "invalid_pipe"),
        ("GET", "/pixel/events/nope", {}, 404, "event_not_found"),
        ("POST", "/pixel/events", {"data": "x"}, 415, "unsupported_media_type"),
        ("POST", "/pixel/events", {"data": "[", "content_type": JSON}, 400, "invalid_body"),
        ("POST", "/pixel/events", {"data": b"x" * (1 << 21)}, 413, "payload_too_large"),
        ("GET", "/me", {"headers": {"Authorization": "x"}}, 401, "invalid_authorization_format"),
        ("HEAD", "/me", {}, 200, ""),
    ],
)
def test_every_call_is_found_at_once_and_after_it_is_loaded(app, caller, method, path, options, status, code):
    response = caller.call(method, path, **options)
    at_once = found(app, response)
    journal.close()
    load(app)
    later = found(app, response)
    for row in (at_once, later):
        assert row["request_id"] == response.headers["X-Request-Id"]
        assert (row["method"], row["path"], row["status"], row["code"]) == (method, "/api/v1" + path, status, code)
    assert {name: at_once[name] for name in later.keys() - CHANGED} == {
        name: later[name] for name in later.keys() - CHANGED
    }


#: What the warehouse writes in another form, or leaves empty where the journal has null.
CHANGED = {"at", "milliseconds", "steps", "exception"}


def test_the_row_tells_what_support_needs(app, ada, caller):
    response = caller.sends(ada.site, event_id="for-support")
    row = found(app, response)
    assert (row["workspace_id"], row["key_id"]) == (ada.id, caller.key_id)
    assert (row["route"], row["status"]) == ("/api/v1/pixel/events", 202)
    assert (row["scope_required"], sorted(row["scopes"])) == (WRITE, [READ, WRITE])
    assert (row["rate_limit"], row["rate_remaining"]) == (1_000_000, 999_999)
    assert row["event_ids"] == ["for-support"]
    assert [step[0] for step in row["steps"]][:2] == ["authentication", "rate limit"]
    assert row["milliseconds"] >= 0
    refused = found(app, ada.key().post("/pixel/events", json={}))
    assert (refused["scope_required"], list(refused["scopes"]), refused["code"]) == (WRITE, [], "insufficient_scope")
    assert json.loads(refused["response_body"])["error"]["details"]["required"] == WRITE


def test_a_failure_of_ours_keeps_its_traceback_under_the_id(app, caller, monkeypatch):
    def fail():
        raise ValueError(f"the cause, with {caller.secret} in it")

    monkeypatch.setitem(app.view_functions, "api.me", fail)
    response = caller.get("/me")
    assert response.status_code == 500
    assert "cause" not in response.text
    for _ in range(2):
        row = found(app, response)
        assert "ValueError: the cause" in row["exception"]
        assert "Traceback" in row["exception"]
        assert caller.secret not in row["exception"]
        journal.close()
        load(app)


@pytest.mark.parametrize("length", range(8000, 8300, 30))
def test_a_long_traceback_is_cut_without_leaving_half_a_key(app, caller, monkeypatch, length):
    def fail():
        raise ValueError(caller.secret + " " + "x" * (length - 60))

    monkeypatch.setitem(app.view_functions, "api.me", fail)
    row = found(app, caller.get("/me"))
    assert row["exception"]
    assert caller.secret[-20:] not in row["exception"]


# -- redacted


def test_bodies_are_kept_without_secrets(app, ada, caller):
    sent = {
        "website_id": ada.site,
        "name": "pageview",
        "oops": f"{caller.secret} jane.doe@mail.example.com 4111 1111 1111 1111 eyJhbGciOi.eyJzdWIiOi.c2lnbg",
        "ip": "198.51.100.9",
        "password": "hunter2",
        "title": "kept",
    }
    body = found(app, caller.post("/pixel/events", json=sent))["request_body"]
    for secret in (caller.secret[12:], "jane.doe", "4111", "eyJ", "198.51.100.9", "hunter2"):
        assert secret not in body
    assert json.loads(body)["title"] == "kept"


def test_a_long_body_is_cut(app, caller):
    body = found(app, caller.post("/pixel/events", data=b'{"a": "' + b"x " * 50_000, content_type=JSON))["request_body"]
    assert len(body.encode()) <= 8 * 1024 + 100
    assert body.endswith("[100007 bytes in all]")


def test_an_address_is_kept_without_its_last_part(app, nobody):
    for address, kept in (("203.0.113.9", "203.0.113.0"), ("2001:db8:1:2:3:4:5:6", "2001:db8:1::")):
        assert found(app, nobody.get("/me", environ_base={"REMOTE_ADDR": address}))["address"] == kept


@pytest.mark.case(102)
def test_a_key_is_in_no_line_and_no_row_wherever_it_was_put(app, ada, capfd):
    canary = ada.key(READ, WRITE)
    key, nobody = canary.secret, Caller(app)
    wrong = [
        key[:-1],
        key + "x",
        f'"{key}"',
        key[:20] + ("0" if key[20] != "0" else "1") + key[21:],
        key.replace("dev", "d3v"),
        key.upper(),
    ]
    canary.get("/me")
    for value in [key, *wrong]:
        for header in (f"Bearer {value}", value, f"Token {value}", f"Bearer {value} {value}", f"Basic {value}"):
            nobody.address = Caller(app).address
            nobody.get("/me", headers={"Authorization": header})
        nobody.get("/me", query_string={"key": value, "token": value, "x": value, value: "x"})
        nobody.get("/me", headers={"Cookie": f"key={value}", "X-Api-Key": value, "User-Agent": value})
        nobody.get("/me", headers={"X-Request-Id": value})
        nobody.get(f"/{value}")
        canary.get(f"/pixel/metrics/{value}")
        canary.get(f"/pixel/events/{value}")
        canary.get("/me", query_string={"k": value})
        canary.post("/pixel/events", json={"website_id": ada.site, "name": value, value: value})
        canary.post("/pixel/events", data=value, content_type=JSON)
        canary.post("/pixel/events", data=value, content_type=value[:20])
    # The last six of a key are its checksum; any twelve of the secret would be a leak.
    part = key[24:40]
    journal.flush()
    lines.flush()
    said = capfd.readouterr()
    assert "client_request_id" in said.out
    assert part not in said.out + said.err
    assert not any(part.encode() in path.read_bytes() for path in journal.folder.glob("*"))
    assert rows_with(app, [part]) == {}


@pytest.mark.case(102)
def test_no_key_of_this_run_is_in_any_row(app):
    assert len(SECRETS) > 2
    journal.flush()
    raw = b"".join(path.read_bytes() for path in journal.folder.glob("*"))
    assert not [secret for secret in SECRETS if secret.encode() in raw]
    assert rows_with(app, SECRETS) == {}


def rows_with(app, words):
    """How many rows of each table hold one of `words` in any of their columns."""
    load(app)
    counts = {}
    with app.app_context():
        for table in ("events", "requests", "identities"):
            for some in [list(words)[i : i + 50] for i in range(0, len(words), 50)]:
                text = f"SELECT count() AS n FROM {table} WHERE multiSearchAny(toString(tuple(*)), {{words:Array(String)}})"
                if n := warehouse.query(text, {"words": some})["data"][0]["n"]:
                    counts[table] = counts.get(table, 0) + n
    return counts


def warnings_of(capfd: pytest.CaptureFixture) -> list[dict]:
    """Return the warnings that were logged since the last call."""
    lines.flush()
    log = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    return [line for line in log if line["level"] == "warning"]


def without_jar(app: Flask) -> FlaskClient:
    """Return a client that sends a Cookie header as it is, from an address of its own."""
    client = app.test_client(use_cookies=False)
    client.environ_base["REMOTE_ADDR"] = next(addresses)
    return client


@pytest.mark.case(9)
@pytest.mark.parametrize(
    ("place", "options"),
    [
        ("the query string", {"query_string": "key=KEY"}),
        ("the query string", {"query_string": "x=1&api_key=KEY&y=2"}),
        ("the body", {"data": {"key": "KEY"}}),
        ("the body", {"data": {"key": "KEY"}, "content_type": "multipart/form-data"}),
        ("the body", {"json": {"website_id": "x", "key": "KEY"}}),
        ("a cookie", {"headers": {"Cookie": "a=b; key=KEY; c=d"}}),
        ("the query string", {"query_string": "key=KEY", "headers": {"Authorization": "Basic eDp5"}}),
        ("the query string and a cookie", {"query_string": "key=KEY", "headers": {"Cookie": "key=KEY"}}),
    ],
    ids=str,
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_key_outside_its_header_is_refused_and_leaves_a_warning(
    app: Flask, caller: Caller, capfd: pytest.CaptureFixture, place: str, options: dict, method: str
) -> None:
    warnings_of(capfd)
    # A secret has no character that JSON escapes.
    options = json.loads(json.dumps(options).replace("KEY", caller.secret))
    refused = without_jar(app).open(
        "/api/v1/me" if method == "GET" else "/api/v1/pixel/events", method=method, **options
    )
    assert refused.status_code == 401
    [warning] = warnings_of(capfd)
    assert warning["request_id"] == refused.headers["X-Request-Id"]
    assert f"sent in {place} and not accepted" in warning["event"]
    assert caller.secret not in json.dumps(warning)
    # The caller is not told more than that the header is missing.
    if "Authorization" not in options.get("headers", {}):
        assert refused.json["error"]["code"] == "missing_authorization"
        assert refused.json["error"]["details"] == {}


@pytest.mark.case(9)
def test_a_key_in_place_of_a_query_token_leaves_a_warning(
    app: Flask, caller: Caller, capfd: pytest.CaptureFixture
) -> None:
    warnings_of(capfd)
    refused = app.test_client().get("/v0/pipes/p_geo.json", query_string={"token": caller.secret})
    assert refused.status_code == 401
    assert [line["request_id"] for line in warnings_of(capfd)] == [refused.headers["X-Request-Id"]]


@pytest.mark.case(9)
def test_only_a_whole_key_leaves_a_warning(
    app: Flask, caller: Caller, nobody: Caller, capfd: pytest.CaptureFixture
) -> None:
    warnings_of(capfd)
    mistyped = caller.secret[:-1] + ("a" if caller.secret[-1] != "a" else "b")
    for query in (f"key={mistyped}", "key=pxl_dev_", "key=pxl_" * 500, "token=eyJhbGciOiJIUzI1NiJ9.e30.x"):
        assert nobody.get("/me", query_string=query).status_code == 401
    assert nobody.post("/me", data=b"x" * 100_000).status_code == 405
    assert nobody.post("/pixel/events", data=b"x" * 100_000).status_code == 401
    assert warnings_of(capfd) == []
    # A request that is let in is not searched.
    headers = {"Cookie": f"key={caller.secret}", "Authorization": f"Bearer {caller.secret}"}
    assert without_jar(app).get("/api/v1/me", headers=headers).status_code == 200
    assert warnings_of(capfd) == []


@pytest.mark.case(9)
def test_the_warnings_of_one_address_are_bounded(caller: Caller, nobody: Caller, capfd: pytest.CaptureFixture) -> None:
    warnings_of(capfd)
    statuses = [nobody.get("/me", query_string={"key": caller.secret}).status_code for _ in range(100)]
    limit = access.FAILURES.amount
    assert statuses.count(401) <= 2 * limit
    assert len(warnings_of(capfd)) == statuses.count(401)


@pytest.mark.parametrize("pasted", ["hunter2hunter2", "AKIA0123456789"])
def test_a_secret_without_a_scheme_is_not_taken_for_one(app, nobody, pasted):
    response = nobody.get("/me", headers={"Authorization": pasted})
    assert pasted not in response.text
    assert pasted not in json.dumps(found(app, response))


# -- asked for at the command line


@pytest.mark.parametrize(
    "around", ["{}", " {} \n", '"{}"', '{{"meta": {{"request_id": "{}"}}}}', "My request\n{}, please help", "id:{}."]
)
def test_support_may_paste_the_id_with_anything_around_it(show, caller, around):
    id = caller.get("/pixel/metrics/nope").headers["X-Request-Id"]
    said = show(around.format(id))
    assert said.exit_code == 0, said.output
    row = json.loads(said.stdout)
    assert (row["request_id"], row["code"]) == (id, "invalid_pipe")


def test_malformed_unknown_and_too_old_are_told_apart(show):
    malformed = show("req_tooshort")
    unknown = show(ids.in_time("req_"))
    old = show("req_" + _in_time(clock.milliseconds() - 40 * 86_400_000))
    assert [said.exit_code for said in (malformed, unknown, old)] == [1, 1, 1]
    assert "no request id in that" in malformed.stderr
    assert "did not reach this server" in unknown.stderr
    assert "kept for 30 days" in old.stderr
    assert malformed.stdout == unknown.stdout == old.stdout == ""


def _in_time(milliseconds):
    digits, number = "", milliseconds << 80
    for _ in range(26):
        number, rest = divmod(number, 32)
        digits = "0123456789abcdefghjkmnpqrstvwxyz"[rest] + digits
    return digits


# -- lines


def test_each_request_is_one_line_of_json(caller, capfd):
    lines.flush()
    capfd.readouterr()
    answered = [caller.get(path) for path in ("/me", "/nope", "/pixel/metrics/nope")]
    lines.flush()
    said = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    said = [line for line in said if line["event"] == "request"]
    assert [line["request_id"] for line in said] == [response.headers["X-Request-Id"] for response in answered]
    assert [line["status"] for line in said] == [200, 404, 400]
    assert all(re.match(r"\d{4}-\d\d-\d\d", line["at"]) for line in said)
