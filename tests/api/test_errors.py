"""How anything that fails is answered: in what order, in which envelope, and under which id."""

import io
import itertools
import re

import pytest
from werkzeug.exceptions import default_exceptions

from pixel import errors, request_log
from pixel.extensions import journal, warehouse
from tests.cast import READ, WRITE, Workspace, error

REQUEST_ID = re.compile(r"req_[0-7][0-9a-hjkmnp-tv-z]{25}")
JSON = "application/json"


@pytest.fixture(scope="module")
def someone(app):
    """A caller who only ever makes mistakes."""
    return Workspace(app, "someone.example").key(READ, WRITE)


def found(response):
    """The row that the request log has of an answered request."""
    journal.flush()
    return request_log.find(response.headers["X-Request-Id"])


# -- the order of checks


@pytest.fixture(scope="module")
def spent(app):
    """A workspace whose minute is spent, and one whose is not, each with a key of each kind."""
    workspaces = {"fine": Workspace(app, "fine.example"), "spent": Workspace(app, "spent.example", limit=1)}
    callers = {
        (budget, can): workspace.key(*({READ, WRITE} - {can}))
        for budget, workspace in workspaces.items()
        for can in (None, READ, WRITE)
    }
    callers["spent", None].get("/me")
    return callers


POST_ORDER = {
    "size": "payload_too_large",
    "route": "method_not_allowed",
    "key": "missing_authorization",
    "rate": "rate_limit_exceeded",
    "scope": "insufficient_scope",
    "query": "invalid_query",
    "body": "invalid_body",
    "availability": "ingest_unavailable",
}
GET_ORDER = {
    "size": "payload_too_large",
    "route": "method_not_allowed",
    "key": "missing_authorization",
    "rate": "rate_limit_exceeded",
    "scope": "insufficient_scope",
    "path": "invalid_pipe",
    "query": "invalid_query",
    "availability": "analytics_error",
}


def who(spent, faults, needed, nobody):
    return (
        nobody
        if "key" in faults
        else spent["spent" if "rate" in faults else "fine", needed if "scope" in faults else None]
    )


@pytest.mark.parametrize("faults", list(itertools.combinations(POST_ORDER, 2)), ids="-".join)
def test_of_two_faults_of_a_post_the_earlier_is_told(app, ada, spent, nobody, monkeypatch, faults):
    sender = who(spent, faults, WRITE, nobody)
    body = b'{"website_id": "%s", "name": "pageview", "path": "/"}' % ada.site.encode()
    if "body" in faults:
        body = b"["
    if "size" in faults:
        body += b" " * (1 << 20)
    if "availability" in faults:
        monkeypatch.setitem(app.config, "ANALYTICS_INGEST_URL", "")
    response = sender.call(
        "PUT" if "route" in faults else "POST",
        "/pixel/events" + ("?oops=1" if "query" in faults else ""),
        data=body,
        content_type=JSON,
    )
    assert error(response)[1] == POST_ORDER[faults[0]]


@pytest.mark.parametrize("faults", list(itertools.combinations(GET_ORDER, 2)), ids="-".join)
def test_of_two_faults_of_a_get_the_earlier_is_told(spent, nobody, monkeypatch, faults):
    if "availability" in faults:
        without_warehouse(monkeypatch)
    response = who(spent, faults, READ, nobody).call(
        "PATCH" if "route" in faults else "GET",
        f"/pixel/metrics/{'nope' if 'path' in faults else 'p_top_pages'}{'?limit=0' if 'query' in faults else ''}",
        data=b" " * ((1 << 20) + 1) if "size" in faults else b"",
    )
    assert error(response)[1] == GET_ORDER[faults[0]]


def without_warehouse(monkeypatch):
    """As on a server that names no warehouse."""
    for name in ("folder", "_engine", "_line"):
        monkeypatch.setattr(warehouse, name, None)


# -- routes and methods


@pytest.mark.parametrize(
    "path",
    ["/api", "/api/", "/api/v1", "/api/v1/", "/api/v2/me", "/api/v1/nope", "/api/v1/Me", "/api/v1//me", "/api//v1/me",
     "/api/v1/pixel", "/api/v1/pixel/metrics/a/b", "/api/v1/me/me", "/api/v1/me%00",
     "/api/v1/%2e%2e/me", "/api/v1/../me", "/api/v1/.git", "/api/v1/%ff", "/api/v1/me;x=1", "/v0", "/v0/pipes"],
)  # fmt: skip
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
def test_an_unknown_address_is_404_in_the_envelope_and_needs_no_key(app, method, path):
    response = app.test_client().open(path, method=method)
    assert error(response) == (404, "not_found")
    assert response.json["error"]["details"] == {}
    assert response.headers["Cache-Control"] == "no-store"
    assert "Location" not in response.headers


@pytest.mark.parametrize(
    "path", ["/nope", "/.git/config", "/.env", "/server-status", "/console", "/API/v1/me", "//api/v1/me"]
)
@pytest.mark.case(103)
def test_elsewhere_an_unknown_address_is_a_page_with_the_same_code_and_id(app, path):
    response = app.test_client().open(base_url="http://localhost", path=path)
    assert response.status_code == 404
    assert response.mimetype == "text/html"
    assert "not_found" in response.text
    assert response.headers["X-Request-Id"] in response.text
    assert response.headers["Link"] == '</docs/errors#not_found>; rel="help"'
    assert "Content-Security-Policy" in response.headers


@pytest.mark.parametrize("path", ["/me/", "/pixel/websites/", "/pixel/metrics/", "/pixel/events/", "//me", "/me//"])
def test_a_slash_too_many_never_redirects_and_never_changes_the_order_of_checks(nobody, path):
    for method in ("GET", "POST"):
        assert nobody.call(method, path).status_code in (401, 404, 405)


METHODS = {
    "/me": ["GET", "HEAD"],
    "/pixel/websites": ["GET", "HEAD"],
    "/pixel/metrics": ["GET", "HEAD"],
    "/pixel/metrics/p_top_pages": ["GET", "HEAD"],
    "/pixel/metrics/nope": ["GET", "HEAD"],
    "/pixel/events": ["POST"],
    "/pixel/events/some": ["GET", "HEAD"],
    "/pixel/identify": ["POST"],
}


@pytest.mark.parametrize("path", METHODS)
@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "FOO"])
@pytest.mark.case(64)
def test_another_method_is_405_with_the_ones_that_are_allowed(nobody, path, method):
    response = nobody.call(method, path)
    if method in METHODS[path]:
        assert response.status_code == 401
        return
    assert error(response) == (405, "method_not_allowed")
    assert response.json["error"]["details"] == {"allowed": METHODS[path]}
    assert response.headers["Allow"] == ", ".join(METHODS[path])
    assert "Access-Control-Allow-Origin" not in response.headers


def test_the_address_of_batches_is_also_that_of_an_event_of_this_name(caller):
    response = caller.call("DELETE", "/pixel/events/batch")
    assert error(response) == (405, "method_not_allowed")
    assert response.json["error"]["details"] == {"allowed": ["GET", "HEAD", "POST"]}
    assert error(caller.get("/pixel/events/batch")) == (404, "event_not_found")


@pytest.mark.parametrize("path", ["/me", "/pixel/websites", "/pixel/metrics", "/pixel/metrics/nope", "/nope"])
@pytest.mark.case(64)
def test_head_is_get_without_the_body(someone, path):
    got, head = someone.get(path), someone.call("HEAD", path)
    assert head.data == b""
    assert head.status_code == got.status_code
    own = {"X-Request-Id", "X-RateLimit-Remaining", "X-RateLimit-Reset"}
    assert {k: v for k, v in head.headers if k not in own} == {k: v for k, v in got.headers if k not in own}


@pytest.mark.parametrize("header", ["X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override"])
@pytest.mark.case(62)
def test_a_method_cannot_be_overridden(someone, header):
    assert someone.get("/me", headers={header: "DELETE"}).status_code == 200
    assert someone.get("/me?_method=DELETE").status_code == 400


@pytest.mark.case(65)
def test_another_origin_is_told_nothing(caller):
    for origin in ("null", "https://evil.example"):
        headers = caller.get("/me", headers={"Origin": origin}).headers
        assert not [name for name, _ in headers if name.startswith("Access-Control")]


def test_a_host_that_is_not_ours_is_refused(app, nobody, monkeypatch):
    monkeypatch.setitem(app.config, "TRUSTED_HOSTS", ["good.example"])
    assert nobody.get("/me", base_url="http://good.example").status_code == 401
    assert error(nobody.get("/me", base_url="http://evil.example")) == (400, "bad_request")


@pytest.mark.parametrize("host", ["", "a b", "evil.example/path", "example.com:99999", "[::1", "a" * 5000, "<svg>"])
def test_a_strange_host_is_no_500(app, host):
    for path in ("/api/v1/me", "/docs", "/nope"):
        response = app.test_client().open(path, environ_overrides={"HTTP_HOST": host})
        assert response.status_code < 500
        assert REQUEST_ID.fullmatch(response.headers["X-Request-Id"])


# -- size and type


@pytest.mark.parametrize(
    ("path", "limit"), [("/pixel/events", 1 << 20), ("/pixel/events/batch", 10 << 20), ("/nope", 1 << 20)]
)
@pytest.mark.case(45)
def test_a_body_over_the_limit_is_refused_before_it_is_read(nobody, path, limit):
    unread = io.BytesIO(b"{}")
    sent = {"wsgi.input": unread, "CONTENT_LENGTH": str(limit + 1), "CONTENT_TYPE": JSON}
    response = nobody.post(path, environ_overrides=sent)
    assert error(response) == (413, "payload_too_large")
    assert response.json["error"]["details"] == {"limit_bytes": limit}
    assert unread.tell() == 0


@pytest.mark.parametrize(
    ("path", "limit", "type_"),
    [("/pixel/events", 1 << 20, JSON), ("/pixel/events/batch", 10 << 20, JSON),
     ("/pixel/events/batch", 10 << 20, "application/x-ndjson")],
)  # fmt: skip
@pytest.mark.case(45)
def test_a_body_without_a_length_is_refused_past_the_limit(ada, caller, path, limit, type_):
    line = b'{"website_id": "%s", "name": "pageview", "path": "/lost"}\n' % ada.site.encode()
    body = (line + b" " * (limit - 2 * len(line))) + line * 2
    sent = {"wsgi.input_terminated": True, "HTTP_TRANSFER_ENCODING": "chunked"}
    response = caller.post(path, input_stream=io.BytesIO(body), content_type=type_, environ_overrides=sent)
    assert error(response) == (413, "payload_too_large")
    assert response.json["error"]["details"] == {"limit_bytes": limit}


@pytest.mark.case(45)
def test_a_body_that_ends_early_is_invalid(caller):
    response = caller.post("/pixel/events", input_stream=io.BytesIO(b"{}"), content_length=100, content_type=JSON)
    assert error(response) == (400, "invalid_body")


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Content-Type": ""},
        {"Content-Type": "text/plain"},
        {"Content-Type": "application/x-www-form-urlencoded"},
        {"Content-Type": "multipart/form-data; boundary=x"},
        {"Content-Type": "application/vnd.x+json"},
        {"Content-Type": "application/jsonx"},
        {"Content-Type": "application/json; charset=latin-1"},
        {"Content-Type": "application/json; charset=utf-16"},
        {"Content-Type": "application/x-ndjson"},
        {"Content-Type": JSON, "Content-Encoding": "gzip"},
        {"Content-Type": JSON, "Content-Encoding": "br"},
    ],
)
@pytest.mark.case(42)
def test_a_post_must_say_that_it_is_json(someone, headers):
    for path in ("/pixel/events", "/pixel/identify"):
        response = someone.post(path, data=b"{}", headers=headers)
        assert error(response) == (415, "unsupported_media_type")
        assert response.json["error"]["details"] == {"expected": [JSON]}


@pytest.mark.parametrize(
    "type_",
    ["application/json", "Application/JSON", "application/json; charset=UTF-8", 'application/json; charset="utf-8"'],
)
def test_json_may_be_spelled_in_any_case_and_with_its_charset(someone, type_):
    assert error(someone.post("/pixel/events", data=b"{}", headers={"Content-Type": type_})) == (400, "invalid_body")


def test_a_batch_says_that_it_takes_ndjson_too(caller):
    response = caller.post("/pixel/events/batch", data=b"{}", content_type="text/plain")
    assert response.json["error"]["details"] == {"expected": [JSON, "application/x-ndjson"]}


# -- queries


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/me"), ("GET", "/pixel/websites"), ("GET", "/pixel/metrics"), ("GET", "/pixel/metrics/p_top_pages"),
     ("GET", "/pixel/events/e"), ("POST", "/pixel/events"), ("POST", "/pixel/events/batch"), ("POST", "/pixel/identify")],
)  # fmt: skip
@pytest.mark.parametrize("name", ["oops", "self", "message", "details", "args", "__class__", "_body", "é", "a.b", "[]"])
def test_an_unknown_parameter_is_named_whatever_its_name(someone, method, path, name):
    for query in ({name: "1"}, {name: ["1", "2"]}):
        response = someone.call(method, path, query_string=query)
        assert error(response) == (400, "invalid_query")
        assert list(response.json["error"]["details"]) == [name]
        assert isinstance(response.json["error"]["message"], str)


def test_the_nearest_parameter_is_named(caller):
    response = caller.post("/pixel/events?dryrun=true", json={})
    assert response.json["error"]["details"] == {"dryrun": ["Unknown parameter. Did you mean dry_run?"]}


# -- every failure in its own status


@pytest.mark.parametrize("status", sorted(default_exceptions))
def test_whatever_werkzeug_raises_keeps_its_status(app, someone, monkeypatch, status):
    def fail(*_, **__):
        raise default_exceptions[status]()

    for view, ask in (("api.me", lambda: someone.get("/me")), ("docs.index", lambda: app.test_client().get("/docs"))):
        monkeypatch.setitem(app.view_functions, view, fail)
        response = ask()
        assert response.status_code == status
        code = re.fullmatch(r'</docs/errors#(\w+)>; rel="help"', response.headers["Link"])[1]
        assert code in {e.code for e in errors.catalogue()}
        assert code in response.text
        assert response.headers["X-Request-Id"] in response.text
        assert error(response) == (status, code) if view == "api.me" else response.mimetype == "text/html"
        assert status not in (429, 503) or int(response.headers["Retry-After"]) >= 1


def test_an_unforeseen_failure_shows_nothing_and_keeps_everything(app, caller, monkeypatch):
    def fail():
        raise ValueError("the secret of the machine")

    monkeypatch.setitem(app.view_functions, "api.me", fail)
    response = caller.get("/me")
    assert error(response) == (500, "internal_error")
    assert response.json["error"]["details"] == {}
    assert "machine" not in response.text + str(response.headers)
    row = found(response)
    assert "the secret of the machine" in row["exception"]
    assert "test_errors.py" in row["exception"]

    monkeypatch.setitem(app.view_functions, "docs.index", fail)
    page = app.test_client().get("/docs")
    assert page.status_code == 500
    assert "machine" not in page.text
    assert "internal_error" in page.text
    assert page.headers["X-Request-Id"] in page.text


# -- availability


@pytest.mark.parametrize(
    ("setting", "path", "code"),
    [("ANALYTICS_INGEST_URL", "/pixel/events", "ingest_unavailable"),
     ("ANALYTICS_INGEST_URL", "/pixel/events/batch", "ingest_unavailable"),
     ("IDENTIFY_INGEST_URL", "/pixel/identify", "identify_unavailable")],
)  # fmt: skip
def test_a_missing_setting_is_its_own_503(app, ada, caller, monkeypatch, setting, path, code):
    monkeypatch.setitem(app.config, setting, "")
    event = {"website_id": ada.site, "name": "pageview", "path": "/"}
    identity = {"website_id": ada.site, "visitor_id": "v", "user_id": "u"}
    body = identity if "identify" in path else {"events": [event]} if "batch" in path else event
    response = caller.post(path, json=body)
    assert error(response) == (503, code)
    assert int(response.headers["Retry-After"]) >= 1
    assert response.json["error"]["details"] == {}
    assert caller.post(path + "?dry_run=true", json=body).status_code == 200


def test_reading_without_its_setting_is_an_analytics_error(app, caller, monkeypatch):
    monkeypatch.setitem(app.config, "ANALYTICS_URL", "")
    response = caller.get("/pixel/metrics/p_top_pages")
    assert error(response) == (503, "analytics_error")
    assert int(response.headers["Retry-After"]) >= 1


def test_a_warehouse_that_is_away_is_an_analytics_error(caller, monkeypatch):
    without_warehouse(monkeypatch)
    response = caller.get("/pixel/metrics/p_top_pages")
    assert error(response) == (503, "analytics_error")
    assert int(response.headers["Retry-After"]) >= 1
    assert error(caller.get("/pixel/events/nope")) == (503, "analytics_error")


def test_events_are_taken_and_found_while_the_warehouse_is_away(ada, caller, monkeypatch):
    without_warehouse(monkeypatch)
    assert caller.sends(ada.site, event_id="meanwhile").status_code == 202
    assert caller.get("/pixel/events/meanwhile").json["data"]["status"] == "accepted"


def test_the_last_good_answer_is_given_as_stale_within_the_hour(ada, caller, monkeypatch):
    caller.sends(ada.site, path="/kept")
    fresh = caller.rows("p_top_pages")
    without_warehouse(monkeypatch)
    stale = caller.get("/pixel/metrics/p_top_pages").json["data"]
    assert stale["data_status"] == "stale"
    assert stale["data"] == fresh
    assert error(caller.get("/pixel/metrics/p_top_pages?limit=7")) == (503, "analytics_error")


def test_of_a_visitor_too_but_a_profile_would_not_say_that_it_is_old(ada, caller, monkeypatch):
    caller.sends(ada.site, visitor_id="v")
    address = "/pixel/metrics/p_visitor_profile?visitor_id=v"
    fresh = caller.rows("p_visitor_profile", visitor_id="v")
    assert fresh[0]["visitor_id"] == "v"
    assert caller.get("/pixel/visitors/v").status_code == 200
    without_warehouse(monkeypatch)
    stale = caller.get(address).json["data"]
    assert (stale["data_status"], stale["data"]) == ("stale", fresh)
    assert error(caller.get("/pixel/visitors/v")) == (503, "analytics_error")


# -- ids and links


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/"), ("GET", "/docs"), ("GET", "/docs/errors"), ("GET", "/docs/metrics"), ("GET", "/static/pixel.css"),
     ("GET", "/static/nope.css"), ("GET", "/static/../config.py"), ("GET", "/nope"), ("POST", "/docs"), ("HEAD", "/docs"),
     ("OPTIONS", "/docs"), ("GET", "/api"), ("GET", "/api/v1/me"), ("POST", "/api/v1/me"), ("GET", "/" + "a" * 5000)],
)  # fmt: skip
def test_every_answer_has_an_id_and_nosniff_and_is_found_by_it(app, method, path):
    response = app.test_client().open(path, method=method)
    assert response.status_code < 500
    assert REQUEST_ID.fullmatch(response.headers["X-Request-Id"])
    assert response.headers.getlist("X-Content-Type-Options") == ["nosniff"]
    assert found(response)["status"] == response.status_code


def test_an_unchanged_or_partial_file_has_an_id_too(app):
    client = app.test_client()
    tag = client.get("/static/pixel.css").headers["ETag"]
    for headers, status in (
        ({"If-None-Match": tag}, 304),
        ({"Range": "bytes=0-3"}, 206),
        ({"Range": "bytes=9999999-"}, 416),
    ):
        response = client.get("/static/pixel.css", headers=headers)
        assert response.status_code == status
        assert REQUEST_ID.fullmatch(response.headers["X-Request-Id"])


@pytest.mark.parametrize(
    ("sent", "kept"),
    [("my-id.1:2/3+4=", True), ("a" * 128, True), ("a" * 129, False), ("a" * 10_000, False), ("", False), ("a b", False),
     ("<svg onload=alert(1)>", False), ('{"a": 1}', False), ("\x1b[31mred", False), ("\u00e9", False), ("a\tb", False),
     ("req_00000000000000000000000000", True), ("a;b", False), ("%0d%0aX-Evil: 1", False)],
)  # fmt: skip
@pytest.mark.case(56)
def test_the_someones_own_id_is_kept_if_well_formed_and_never_answered(someone, sent, kept):
    for path in ("/me", "/nope"):
        response = someone.get(path, headers={"X-Request-Id": sent})
        assert REQUEST_ID.fullmatch(response.headers["X-Request-Id"])
        assert response.headers["X-Request-Id"] != sent
        assert not sent or (sent not in response.text and sent not in response.headers.values())
        assert found(response)["client_request_id"] == (sent if kept else "")


def test_each_error_links_to_its_explanation(app, caller, nobody):
    page = app.test_client().get("/docs/errors").text
    for response in (nobody.get("/me"), nobody.get("/nope"), nobody.post("/me"), caller.get("/pixel/metrics/nope")):
        assert response.headers["Link"] == f'</docs/errors#{error(response)[1]}>; rel="help"'
    for one in errors.catalogue():
        assert page.count(f'id="{one.code}"') == 1
        assert one.summary()


@pytest.mark.parametrize(
    ("code", "status"),
    [("missing_authorization", 401), ("invalid_authorization_format", 401), ("invalid_api_key", 401),
     ("api_key_revoked", 401), ("api_key_expired", 401), ("insufficient_scope", 403), ("invalid_pipe", 400),
     ("invalid_body", 400), ("invalid_query", 400), ("not_found", 404), ("website_not_found", 404),
     ("event_not_found", 404), ("method_not_allowed", 405), ("payload_too_large", 413), ("unsupported_media_type", 415),
     ("rate_limit_exceeded", 429), ("ingest_unavailable", 503), ("identify_unavailable", 503), ("analytics_error", 503),
     ("service_unavailable", 503), ("internal_error", 500)],
)  # fmt: skip
def test_the_catalogue_has_what_users_were_promised(code, status):
    assert {e.code: e.status for e in errors.catalogue()}[code] == status


def test_the_control_database_is_away(app, caller, monkeypatch):
    from sqlalchemy.exc import OperationalError

    def away(*_):
        raise OperationalError("SELECT", {}, Exception("database is locked"))

    monkeypatch.setitem(app.view_functions, "api.me", away)
    response = caller.get("/me")
    assert error(response) == (503, "service_unavailable")
    assert int(response.headers["Retry-After"]) >= 1
