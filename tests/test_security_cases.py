"""Cases of the security test plan that hold for the server as a whole: its headers, its pages, its HTTP layer."""

import re
import socket
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest
from flask import Flask
from werkzeug.test import TestResponse

from tests.dashboard.test_isolation import ids_of
from tests.dashboard.world import Form, world
from tests.pages import Visitor
from tests.server import HOME, Server

SELF = "'self'"
NONE = "'none'"
#: Addresses for programs that watch the server.
PROBES = ("/healthz", "/readyz", "/metrics")
#: The parts of pages that a script fetches by itself.
FRAGMENTS = ("/settings/api-keys/{key}/first-request", "/websites/{site}/latest")


@pytest.fixture(scope="module")
def here(app: Flask) -> SimpleNamespace:
    """Return a workspace with one of everything, and its signed-in owner."""
    workspace = world(app)
    workspace.mate_id, workspace.request = workspace.mate.user_id, "req_00000000000000000000000000"
    return workspace


@pytest.fixture(scope="module")
def pages(app: Flask, here: SimpleNamespace) -> dict[str, TestResponse]:
    """Return every page by its address, as the owner gets it."""
    answers = {}
    for rule in app.url_map.iter_rules():
        program = rule.endpoint.split(".")[0] in ("api", "queries", "collect", "static") or rule.rule in PROBES
        if "GET" in rule.methods and not program:
            ids = ids_of(here)
            path = re.sub(r"<(?:\w+:)?(\w+)>", lambda argument, ids=ids: ids.get(argument[1]) or "nothing", rule.rule)
            answers[path] = here.owner.get(path)
    assert len(answers) >= 40
    return answers


@pytest.fixture
def failures(app: Flask, here: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> dict[int, TestResponse]:
    """Return an error page of each kind by its status."""

    def fail() -> None:
        raise ZeroDivisionError

    monkeypatch.setitem(app.view_functions, "docs.index", fail)
    form = Form(here, "settings.end_other_sessions")
    mate_form = Form(here, "settings.create_key")
    return {
        400: here.owner.send(form.path, {}),
        403: here.mate.get(mate_form.page),
        404: here.owner.get("/nowhere"),
        405: here.owner.send("/docs", {}),
        413: here.owner.send(form.path, {"csrf_token": "x" * (2 << 20)}),
        500: here.owner.get("/docs"),
    }


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Return a real server with one worker."""
    server = Server(tmp_path_factory.mktemp("cases") / "instance", workers=1)
    server.set_up()
    yield server.start()
    server.stop()


def policy_of(answer: TestResponse) -> dict[str, list[str]]:
    """Return the directives of an answer's Content-Security-Policy."""
    [header] = answer.headers.getlist("Content-Security-Policy")
    directives = [directive.split() for directive in header.split(";") if directive.strip()]
    return {name: sources for name, *sources in directives}


# -- every page


@pytest.mark.case(91, 92)
def test_every_page_and_every_error_page_has_the_strict_policy(
    pages: dict[str, TestResponse], failures: dict[int, TestResponse]
) -> None:
    assert {status: answer.status_code for status, answer in failures.items()} == {n: n for n in failures}
    for name, answer in {**pages, **failures}.items():
        policy = policy_of(answer)
        closed = {"default-src": [NONE], "base-uri": [NONE], "frame-ancestors": [NONE], "form-action": [SELF]}
        assert {directive: policy[directive] for directive in closed} == closed, name
        assert policy.get("object-src", [NONE]) == [NONE], name
        # Neither inline code nor evaluated text, and no other host: 'self' or nothing in every directive.
        loading = {rule: sources for rule, sources in policy.items() if not rule.startswith("report-")}
        assert {source for sources in loading.values() for source in sources} <= {SELF, NONE}, name
        assert answer.headers["X-Frame-Options"] == "DENY", name
        assert not re.search(r"<script(?![^>]*\bsrc=)|\son\w+=|\sstyle=|<style", answer.text), name


@pytest.mark.case(91)
def test_the_policy_of_every_page_names_an_endpoint_for_reports(
    app: Flask, pages: dict[str, TestResponse], failures: dict[int, TestResponse]
) -> None:
    for name, answer in {**pages, **failures}.items():
        policy = policy_of(answer)
        assert policy["report-uri"] == ["/csp-reports"], name
        # Over plain HTTP browsers would ignore report-uri beside it, and send nothing.
        assert "report-to" not in policy, name
    for path in ("/sign-in", "/docs", "/nowhere", "/links/none"):
        answer = app.test_client().get(path, base_url="https://localhost")
        assert policy_of(answer) == policy_of(pages["/sign-in"]) | {"report-to": ["csp"]}, path
        assert answer.headers.getlist("Reporting-Endpoints") == ['csp="/csp-reports"'], path


@pytest.mark.case(93)
def test_every_page_and_every_error_page_has_the_security_headers(
    pages: dict[str, TestResponse], failures: dict[int, TestResponse]
) -> None:
    for name, answer in {**pages, **failures}.items():
        assert answer.headers.getlist("X-Content-Type-Options") == ["nosniff"], name
        assert answer.headers["Referrer-Policy"] in ("same-origin", "no-referrer"), name
        assert answer.headers["Cross-Origin-Opener-Policy"] == "same-origin", name
        assert answer.headers["Cross-Origin-Resource-Policy"] == "same-origin", name
        assert {"camera=()", "geolocation=()", "microphone=()"} <= set(
            answer.headers["Permissions-Policy"].split(", ")
        ), name


@pytest.mark.case(93)
def test_in_live_every_answer_demands_https_for_a_year(app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(app.config, "PIXEL_ENV", "live")
    for path in ("/sign-in", "/docs", "/nowhere", "/api/v1/me", "/api/event", "/pixel.js", "/static/pixel.css"):
        header = app.test_client().get(path).headers["Strict-Transport-Security"]
        assert int(re.search(r"max-age=(\d+)", header)[1]) >= 365 * 24 * 60 * 60, path
        assert "includeSubDomains" in header, path


@pytest.mark.case(112)
def test_every_page_varies_by_cookie_and_is_stored_nowhere(
    pages: dict[str, TestResponse], failures: dict[int, TestResponse]
) -> None:
    for name, answer in {**pages, **failures}.items():
        assert "Cookie" in answer.vary, name
        assert answer.headers["Cache-Control"] == "no-store", name


@pytest.mark.case(64)
def test_a_page_answers_head_as_get_without_a_body(here: SimpleNamespace) -> None:
    visitor = Visitor(here.app)
    for path in ("/sign-in", "/docs", "/docs/errors", "/nowhere", "/account", "/static/pixel.css", "/pixel.js"):
        got, head = (visitor.browser.open(path, method=method) for method in ("GET", "HEAD"))
        assert (head.status_code, head.data) == (got.status_code, b""), path
        own = {"X-Request-Id", "Date", "Set-Cookie"}
        # A page holds a form token and its request id, so only its length may differ.
        own |= {"Content-Length"} if got.mimetype == "text/html" else set()
        headers = [{name: value for name, value in one.headers if name not in own} for one in (got, head)]
        assert headers[0] == headers[1], path


@pytest.mark.case(64)
def test_options_of_a_page_reveals_only_its_methods(here: SimpleNamespace, pages: dict[str, TestResponse]) -> None:
    for path in pages:
        answer = here.owner.browser.options(path, headers={"Origin": "https://evil.example"})
        assert answer.status_code == 405, path
        assert set(answer.headers["Allow"].split(", ")) <= {"GET", "HEAD", "POST"}, path
        assert not [name for name, _ in answer.headers if name.startswith("Access-Control")], path


@pytest.mark.case(68)
def test_no_page_is_compressed(here: SimpleNamespace) -> None:
    """A compressed page with a secret and reflected input leaks the secret by its length (BREACH)."""
    made = Form(here, "settings.create_key").sent(here.owner)
    everything = {"Accept-Encoding": "gzip, deflate, br, zstd"}
    secret = here.owner.get(made.location, headers=everything)
    assert 'class="secret"' in secret.text
    sign_in = Visitor(here.app).get("/sign-in?next=/account", headers=everything)
    for answer in (secret, here.owner.get("/account", headers=everything), sign_in):
        assert answer.status_code == 200
        assert "Content-Encoding" not in answer.headers


@pytest.mark.case(96)
@pytest.mark.parametrize("fragment", FRAGMENTS)
def test_a_fragment_has_the_protection_of_a_page(app: Flask, here: SimpleNamespace, fragment: str) -> None:
    path = fragment.format(**vars(here))
    answer = here.owner.get(path)
    assert answer.status_code == 200
    assert "<html" not in answer.text
    assert answer.headers["Cache-Control"] == "no-store"
    assert "Cookie" in answer.vary
    assert policy_of(answer)["default-src"] == [NONE]
    assert Visitor(app).get(path).location.startswith("/sign-in?next=")
    assert world(app).owner.get(path).status_code == 404
    assert here.owner.send(path, {}).status_code == 405


def test_every_fragment_is_listed() -> None:
    templates = "".join(file.read_text() for file in (HOME / "templates").rglob("*.html"))
    addresses = [re.sub(r"\{\{.*?\}\}", "ID", address) for address in re.findall(r'data-waits="(.*?)"', templates)]
    assert set(addresses) == {re.sub(r"\{\w+\}", "ID", fragment) for fragment in FRAGMENTS}


@pytest.mark.case(96)
def test_our_scripts_evaluate_no_text() -> None:
    scripts = list((HOME / "static").glob("*.js"))
    assert scripts
    for script in scripts:
        assert not re.search(r"\beval\(|\bFunction\(|document\.write|setTimeout\(\s*[\"'`]", script.read_text()), script


# -- HTTP, on a real server


def answer_to(server: Server, *header_lines: bytes) -> tuple[int, httpx.Response]:
    """Send a request with these raw header lines; return the answer."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as line:
        line.sendall(b"\r\n".join([b"GET /api/v1/me HTTP/1.1", b"Host: pixel", *header_lines, b"", b""]))
        raw = b""
        while part := line.recv(65536):
            raw += part
    head, _, body = raw.partition(b"\r\n\r\n")
    status, *fields = head.decode().split("\r\n")
    headers = [tuple(field.split(": ", 1)) for field in fields]
    return httpx.Response(int(status.split()[1]), headers=headers, content=body)


@pytest.mark.case(12)
@pytest.mark.parametrize(
    "header",
    [
        b"Authorization: Bearer a\0b",
        b"Authorization: Bearer a\rb",
        b"Authorization: Bearer a\nb",
        b"Authorization: Bearer a\nX-Evil: b",
        b"Authorization: Bearer\r\n a",
        b"Authorization: Bearer a\r\n\tb",
        b"Authorization\0: Bearer a",
    ],
    ids=repr,
)
def test_a_control_character_in_a_header_is_refused_by_the_server(place: Server, header: bytes) -> None:
    refused = answer_to(place, header)
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "bad_request")
    assert refused.headers["Content-Type"] == "application/json"
    assert refused.headers["Connection"] == "close"
    assert refused.json()["meta"]["request_id"] == refused.headers["X-Request-Id"]
    assert "Bearer" not in refused.text


@pytest.mark.case(11)
def test_a_header_beyond_8190_bytes_is_refused_by_the_server(place: Server) -> None:
    room = 8190 - len("Authorization: Bearer ")
    read = answer_to(place, b"Authorization: Bearer " + b"x" * (room - 2), b"Connection: close")
    assert (read.status_code, read.json()["error"]["code"]) == (401, "invalid_api_key")
    refused = answer_to(place, b"Authorization: Bearer " + b"x" * (room + 1), b"Connection: close")
    assert (refused.status_code, refused.json()["error"]["code"]) == (431, "bad_request")


@pytest.mark.case(103)
@pytest.mark.parametrize(
    "path",
    [
        "/.git/HEAD", "/.env", "/.env.example", "/config.py", "/app.py", "/instance/pixel.sqlite", "/secret_key",
        "/console", "/debug", "/server-status", "/admin", "/static/../config.py", "/static/%2e%2e/config.py",
        "/static/..%2fconfig.py", "/api/v1/openapi", "/openapi.json", "/swagger", "/api/v1/docs", "/actuator",
        "/nowhere?__debugger__=yes&cmd=resource&f=debugger.js", "/?__debugger__=yes&cmd=printpin&s=x",
    ],
)  # fmt: skip
def test_nothing_internal_is_served(place: Server, path: str) -> None:
    with socket.create_connection(("127.0.0.1", place.port), timeout=30) as line:
        line.sendall(f"GET {path} HTTP/1.1\r\nHost: pixel\r\nConnection: close\r\n\r\n".encode())
        raw = b""
        while part := line.recv(65536):
            raw += part
    status = int(raw.split()[1])
    assert status == (303 if path.startswith("/?") else 404)
    assert not re.search(rb"debugger|Traceback|Werkzeug|SECRET|SQLite format", raw, re.IGNORECASE)


@pytest.mark.case(103)
def test_debugging_is_off_whatever_the_environment_says(tmp_path: Path) -> None:
    server = Server(tmp_path / "instance", workers=1, FLASK_DEBUG="1")
    server.set_up()
    server.start()
    try:
        for path in ("/sign-in?__debugger__=yes&cmd=resource&f=debugger.js", "/nowhere", "/links/%00"):
            assert not re.search(r"debugger\.js|Traceback|Werkzeug", httpx.get(server.url + path).text), path
    finally:
        server.stop()


# -- dependencies


@pytest.mark.case(99, 100, 112)
@pytest.mark.parametrize(("package", "least"), [("pyjwt", (2, 13)), ("flask", (3, 1, 3))])
def test_a_dependency_is_newer_than_its_known_flaws(package: str, least: tuple[int, ...]) -> None:
    assert tuple(map(int, version(package).split(".")[:3])) >= least
