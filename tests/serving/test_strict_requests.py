"""Requests that a proxy could read differently are refused: repeated headers, Host, and paths in other spellings."""

import json
import re
import socket

import pytest

from tests.server import Server, until


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    server = Server(
        tmp_path_factory.mktemp("strict") / "instance", workers=1, TRUSTED_HOSTS="pixel,pixel.example,127.0.0.1"
    )
    _, server.website, server.key = server.set_up()
    server.start().wait_for_engine(server.key)
    yield server
    server.stop()


def ask(server, target, *fields, method="GET", version="1.1", host="Host: pixel"):
    """Send a request as it is written. Return (status, headers, body as JSON or text)."""
    lines = [f"{method} {target} HTTP/{version}", *([host] if host else []), "Connection: close", *fields, "", ""]
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as line:
        line.sendall("\r\n".join(lines).encode("latin-1"))
        answer = b"".join(iter(lambda: line.recv(1 << 16), b""))
    head, _, body = answer.decode().partition("\r\n\r\n")
    first, *rest = head.split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in rest)}
    is_json = headers.get("content-type") == "application/json"
    return int(first.split()[1]), headers, json.loads(body) if is_json and body else body


def refused(answer):
    status, headers, said = answer
    assert headers["x-request-id"] == said["meta"]["request_id"]
    assert f"/docs/errors#{said['error']['code']}" in headers["link"]
    return status, said["error"]["code"], said["error"]["details"].get("header")


@pytest.mark.case(60)
@pytest.mark.parametrize(
    "host",
    ["", "Host:", "Host: a b", "Host: pixel/path", "Host: pixel:99999", "Host: user@pixel", "Host: pixel\r\nHost: pixel",
     "Host: [::1", "Host: p\xefxel", "Host: pixel?x"],
)  # fmt: skip
def test_a_missing_or_malformed_host_is_refused(server, host):
    assert refused(ask(server, "/api/v1/me", host=host)) == (400, "bad_request", "Host")


@pytest.mark.case(60)
def test_another_host_is_refused_where_hosts_are_named(server):
    assert ask(server, "/healthz", host="Host: evil.example")[0] == 400


@pytest.mark.parametrize("host", ["Host: pixel", "Host: pixel:8000", "Host: pixel.example"])
def test_a_host_with_or_without_port_is_taken(server, host):
    assert ask(server, "/healthz", host=host)[0] == 200


def test_http_1_0_needs_no_host(tmp_path):
    server = Server(tmp_path / "instance", workers=1)
    server.set_up()
    server.start()
    try:
        assert ask(server, "/healthz", host="", version="1.0")[0] == 200
        assert refused(ask(server, "/healthz", host="Host: a b", version="1.0")) == (400, "bad_request", "Host")
    finally:
        server.stop()


@pytest.mark.parametrize(
    "name",
    ["User-Agent", "Referer", "Origin", "Cookie", "Idempotency-Key", "X-Request-Id", "Content-Type", "Sec-Fetch-Site",
     "DNT"],
)  # fmt: skip
def test_a_header_that_has_one_value_is_refused_when_it_is_sent_twice(server, name):
    fields = (f"{name}: application/json", f"{name.lower()}: application/json")
    assert refused(ask(server, "/healthz", *fields)) == (400, "bad_request", name)


def test_a_header_that_is_a_list_may_be_sent_in_parts(server):
    assert (
        ask(server, "/healthz", "Accept: text/html", "Accept: */*", "X-Forwarded-For: a", "X-Forwarded-For: b")[0]
        == 200
    )


@pytest.mark.case(8)
def test_two_authorization_headers_are_no_key(server):
    authorization = f"Authorization: Bearer {server.key}"
    status, headers, said = ask(server, "/api/v1/me", authorization, authorization)
    assert (status, said["error"]["code"]) == (401, "invalid_authorization_format")
    assert "WWW-Authenticate".lower() in headers


@pytest.mark.case(58)
@pytest.mark.parametrize("coding", ["gzip, chunked", "identity", "xchunked", "chunked, chunked"])
def test_a_transfer_coding_other_than_chunked_is_not_supported(server, coding):
    answer = ask(server, "/api/event", f"Transfer-Encoding: {coding}", method="POST")
    assert refused(answer) == (501, "bad_request", "Transfer-Encoding")


#: Routes of the API, a page, a file, the pixel and the probes.
ROUTES = ["/api/v1/me", "/api/v1/pixel/websites", "/healthz", "/readyz", "/metrics", "/sign-in", "/pixel.js", "/docs"]


@pytest.mark.parametrize("path", ROUTES)
def test_another_spelling_of_a_path_is_not_found(server, path):
    key = f"Authorization: Bearer {server.key}"
    last = f"%{ord(path[-1]):02x}"
    spellings = [path + "/", "/" + path, path.replace("/", "//"), path[:-1] + last, path[:-1] + last.upper(), path + ";x",
                 "/." + path, path + "%2f", path + "#x", path + "%00", "/%2e" + path, path + "%20", "http://pixel" + path + "/",
                 path.upper()]  # fmt: skip
    assert ask(server, path, key)[0] in (200, 303)
    for spelling in spellings:
        assert ask(server, spelling, key)[0] == 404, spelling
        assert ask(server, spelling, key, method="DELETE")[0] == 404, spelling


@pytest.mark.parametrize(
    "file", ["pixel.css/", "./pixel.css", "x/../pixel.css", "pixel.css/.", "%2e/pixel.css", "x//../pixel.css"]
)
def test_another_spelling_of_a_file_is_not_found(server, file):
    assert ask(server, "/static/pixel.css")[0] == 200
    assert ask(server, "/static/" + file)[0] == 404


@pytest.mark.parametrize("target", ["http://pixel#/healthz", "http://#/healthz"])
def test_a_host_in_the_target_does_not_end_at_a_fragment(server, target):
    assert ask(server, "http://pixel/healthz")[0] == 200
    assert ask(server, target)[0] == 404


def test_a_password_in_a_refused_target_is_not_kept(server):
    _, headers, _ = ask(server, "http://user:tell-nobody@pixel/page", host="")
    until(lambda: server.flask("request", "show", headers["x-request-id"], check=False).returncode == 0, 20)
    assert json.loads(server.flask("request", "show", headers["x-request-id"]))["path"] == "http://pixel/page"


def test_an_id_may_be_percent_encoded(server):
    key = f"Authorization: Bearer {server.key}"
    spelt = "".join(f"%{ord(letter):02X}" for letter in "no/such visitor")
    assert ask(server, f"/api/v1/pixel/visitors/{spelt}", key)[2]["error"]["code"] == "visitor_not_found"
    pipe = "".join(f"%{ord(letter):02x}" for letter in "p_geo")
    assert ask(server, f"/api/v1/pixel/metrics/{pipe}", key)[0] == 200
    assert ask(server, "/api/v1/pixel/visitors/", key)[2]["error"]["code"] == "invalid_visitor"
    assert ask(server, "/api/v1/pixel/visitors/%20%09", key)[2]["error"]["code"] == "invalid_visitor"
    assert ask(server, "/api/v1/pixel/visitors", key)[2]["error"]["code"] == "not_found"


@pytest.mark.parametrize("form", ["", "http://pixel", "HTTP://pixel:80"])
@pytest.mark.parametrize(
    ("path", "method", "allowed"),
    [
        ("/api/v1/me", "PUT", "GET, HEAD"),
        ("/api/v1/pixel/events", "GET", "POST"),
        ("/healthz", "POST", "GET, HEAD"),
        ("/sign-in", "DELETE", "GET, HEAD, POST"),
        ("/api/v1/me", "PROPFIND", "GET, HEAD"),
        ("/api/v1/me", "TRACE", "GET, HEAD"),
        ("/api/v1/me", "OPTIONS", "GET, HEAD"),
    ],
)
def test_a_method_that_a_route_lacks_is_refused_in_any_form_of_target(server, form, path, method, allowed):
    status, headers, _ = ask(server, form + path, method=method)
    assert (status, headers["allow"]) == (405, allowed)


@pytest.mark.parametrize(
    ("method", "target"), [("OPTIONS", "*"), ("CONNECT", "pixel:443"), ("GET", "http://"), ("GET", "//")]
)
def test_a_target_without_a_route_is_not_found(server, method, target):
    assert ask(server, target, method=method)[0] == 404


@pytest.mark.case(59)
def test_a_header_name_with_underscores_is_dropped(server):
    """`X_Request_Id` would become the same WSGI variable as `X-Request-Id`."""
    status, headers, _ = ask(server, "/docs", "X_Request_Id: twin", "User_Agent: twin", "Content_Length: 5")
    assert status == 200
    until(lambda: server.flask("request", "show", headers["x-request-id"], check=False).returncode == 0, 20)
    row = json.loads(server.flask("request", "show", headers["x-request-id"]))
    assert (row["client_request_id"], row["user_agent"]) == ("", "")


@pytest.mark.case(70)
@pytest.mark.parametrize(
    ("target", "field", "status"),
    [
        ("/no-such-page", "Accept: text/html", 404),
        ("/api/v1/no-such-route", "Accept: */*", 404),
        ("/api/v1/me", "Host: again", 400),
        ("/api/v1/me", "A header without a colon", 400),
        ("/api/v1/me", "X-Filler: " + "x" * 9000, 431),
        ("/" + "x" * 9000, "Accept: */*", 414),
        ("/sign-in", "Expect: nothing", 417),
        ("/api/event", "Transfer-Encoding: gzip", 501),
    ],
)
def test_no_error_names_a_version_of_the_software(server, target, field, status):
    answer = ask(server, target, field)
    assert answer[0] == status
    text = f"{answer[1]} {answer[2]}"
    assert not re.search(r"(gunicorn|werkzeug|flask|python|chdb|clickhouse)[/ ]?v?\d", text, re.IGNORECASE)
