"""Reports of Content-Security-Policy violations: logged and counted, without secrets and within bounds."""

import json

import pytest
from flask import Flask
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from werkzeug.test import TestResponse

from pixel import access, csp_reports
from tests.canary import within
from tests.cast import Caller, addresses, error
from tests.test_health import asked, total
from tests.test_request_log import found, warnings_of

PATH = "/csp-reports"
REPORT, REPORTS = "application/csp-report", "application/reports+json"
#: As Chromium sends it.
OLD = {
    "document-uri": "https://pixel.example.com/account?secret=hunter2#part",
    "referrer": "https://pixel.example.com/?secret=hunter2",
    "violated-directive": "script-src-elem",
    "effective-directive": "script-src-elem",
    "original-policy": "default-src 'none'; report-uri /csp-reports",
    "disposition": "enforce",
    "blocked-uri": "https://user:hunter2@evil.example:8443/x.js?secret=hunter2",
    "line-number": 1,
    "status-code": 200,
    "script-sample": "hunter2",
}
NEW = {
    "documentURL": OLD["document-uri"],
    "effectiveDirective": "script-src-elem",
    "blockedURL": "inline",
    "originalPolicy": OLD["original-policy"],
    "disposition": "enforce",
    "statusCode": 200,
    "sample": "hunter2",
}


def send(app: Flask, body: object, media_type: str, address: str = "", **headers: str) -> TestResponse:
    """Send a report as JSON, or bytes as they are."""
    return app.test_client().post(
        PATH, data=body if isinstance(body, bytes) else json.dumps(body), content_type=media_type, headers=headers,
        environ_base={"REMOTE_ADDR": address or next(addresses)},
    )  # fmt: skip


def old(app: Flask, **changes: object) -> TestResponse:
    report = {name: value for name, value in (OLD | changes).items() if value is not ...}
    return send(app, {"csp-report": report}, REPORT)


def new(app: Flask, *reports: dict) -> TestResponse:
    each = [{"type": "csp-violation", "age": 1, "url": NEW["documentURL"], "body": NEW | report} for report in reports]
    return send(app, each, REPORTS)


def counted(app: Flask, **labels: str) -> float:
    return total(asked(app, "/metrics").text, "pixel_csp_reports_total", **labels)


@pytest.mark.case(91)
def test_a_violation_is_logged_in_one_line_and_counted(app: Flask, capfd: pytest.CaptureFixture) -> None:
    warnings_of(capfd)
    before = counted(app, directive="script-src-elem")
    for report, blocked in ((lambda: old(app), "https://evil.example:8443"), (lambda: new(app, {}), "inline")):
        answer = report()
        assert (answer.status_code, answer.data) == (204, b"")
        [warning] = warnings_of(capfd)
        assert warning["request_id"] == answer.headers["X-Request-Id"]
        assert warning["event"] == (f"Content-Security-Policy violation: script-src-elem blocked {blocked} on /account")
    assert counted(app, directive="script-src-elem") == before + 2


@pytest.mark.case(91)
def test_a_request_with_several_violations_is_one_line(app: Flask, capfd: pytest.CaptureFixture) -> None:
    warnings_of(capfd)
    before = counted(app)
    sources = [f"https://{number}.example/" for number in range(8)]
    assert new(app, {}, {}, *[{"blockedURL": source} for source in sources]).status_code == 204
    [warning] = warnings_of(capfd)
    assert warning["event"].count(" blocked ") == csp_reports.MOST_LOGGED
    assert warning["event"].endswith("; and 4 more")
    assert counted(app) == before + 10


@pytest.mark.case(91)
def test_a_report_of_another_kind_is_accepted_and_ignored(app: Flask, capfd: pytest.CaptureFixture) -> None:
    warnings_of(capfd)
    before = counted(app)
    for body in ([], [{"type": "deprecation", "age": 0, "url": "https://x/", "body": {"id": "x"}}]):
        assert send(app, body, REPORTS).status_code == 204
    assert warnings_of(capfd) == []
    assert counted(app) == before


@pytest.mark.case(91)
@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"blocked-uri": "data:image/png;base64,hunter2"}, "blocked data on /account"),
        ({"blocked-uri": "blob:https://x/hunter2"}, "blocked blob on /account"),
        ({"blocked-uri": "wasm-eval"}, "blocked wasm-eval on /account"),
        ({"blocked-uri": ""}, "blocked (other) on /account"),
        ({"blocked-uri": ...}, "blocked (other) on /account"),
        ({"blocked-uri": "https://[hunter2"}, "blocked https on /account"),
        ({"blocked-uri": "hunter2 \n"}, "blocked (other) on /account"),
        ({"blocked-uri": "chrome-extension://abcdef/x"}, "blocked chrome-extension://abcdef on /account"),
        ({"document-uri": "https://pixel.example.com"}, " on /"),
        ({"document-uri": "https://[hunter2"}, " on (other)"),
        ({"document-uri": "https://x/a\u202eb\n{'level':1}\x1b[31m"}, r" on /a\u202eb\n{'level':1}\x1b[31m"),
        ({"effective-directive": ..., "violated-directive": "img-src 'self' hunter2"}, "violation: img-src blocked"),
        ({"effective-directive": "hunter2-src"}, "violation: (other) blocked"),
        ({"disposition": 5, "more": {"unknown": ["hunter2"]}}, "violation: script-src-elem blocked"),
    ],
    ids=str,
)  # fmt: skip
def test_only_a_path_a_directive_and_an_origin_are_logged(
    app: Flask, capfd: pytest.CaptureFixture, changes: dict, words: str
) -> None:
    warnings_of(capfd)
    assert old(app, **changes).status_code == 204
    [warning] = warnings_of(capfd)
    assert words in warning["event"]
    assert "hunter2" not in warning["event"]
    assert warning["event"].isascii()
    assert warning["event"].isprintable()


@pytest.mark.case(91, 102)
def test_no_secret_of_a_report_is_kept(app: Flask, caller: Caller, capfd: pytest.CaptureFixture) -> None:
    warnings_of(capfd)
    secret, encoded = caller.secret, "".join(f"%{ord(letter):02x}" for letter in caller.secret)
    token = "eyJhbGciOiJIUzI1NiJ9.eyJhIjoxfQ.c2lnbmF0dXJl"
    pages = [f"https://x/links/{secret}", f"https://x/{encoded}", f"https://x/{'a' * 150}/{secret}", f"https://x/{token}",
             "https://x/members/somebody@example.com", f"https://{secret}@x/?key={secret}#{secret}"]  # fmt: skip
    sources = [f"https://{secret}.example/", f"https://a:{secret}@x/", f"data:{secret}", f"https://x/{secret}"]
    for page in pages:
        for source in sources:
            answer = send(app, {"csp-report": {**OLD, "document-uri": page, "blocked-uri": source}}, REPORT)
            assert answer.status_code == 204
    said = json.dumps(warnings_of(capfd))
    assert said.count("violation") == len(pages) * len(sources)
    assert not within(said)
    assert "signature"[:6] not in said
    assert token not in said
    assert "somebody@" not in said
    assert encoded not in said
    row = found(app, answer)
    assert row["request_body"] == ""
    assert not within(json.dumps(row))


@pytest.mark.case(91)
@pytest.mark.parametrize(
    "letter", ["a", "/", "%", "%41", "\u202e", "\ufdfa", "@", "pxl_dev_", "é", "https://", "9", "<"]
)
def test_a_line_is_bounded_whatever_is_reported(app: Flask, capfd: pytest.CaptureFixture, letter: str) -> None:
    warnings_of(capfd)
    long = letter * (7_000 // len(json.dumps(letter)))
    for prefix in ("https://x/", "https://", ""):
        assert old(app, **{"document-uri": prefix + long, "blocked-uri": prefix + long}).status_code == 204
    assert old(app, **{"effective-directive": long}).status_code == 204
    assert {len(warning["event"]) < 600 for warning in warnings_of(capfd)} == {True}


@pytest.mark.case(91)
@pytest.mark.parametrize(
    ("media_type", "body"),
    [
        (REPORT, b""), (REPORT, b"x"), (REPORT, b"NaN"), (REPORT, b"null"), (REPORT, b"[]"), (REPORT, b"{}"),
        (REPORT, b'{"csp-report": []}'), (REPORT, b'{"csp-report": {}}'), (REPORT, b'{"csp-report": null}'),
        (REPORT, b'{"csp-report": {}, "csp-report": {}}'), (REPORT, b"\xff"), (REPORT, b"[" * 10_000),
        (REPORT, json.dumps({"csp-report": OLD | {"document-uri": 5}}).encode()),
        (REPORT, json.dumps({"csp-report": OLD | {"document-uri": "\0"}}).encode()),
        (REPORT, json.dumps({"csp-report": OLD | {"blocked-uri": None}}).encode()),
        (REPORT, json.dumps({"csp-report": OLD | {"effective-directive": ["img-src"]}}).encode()),
        (REPORT, json.dumps([{"type": "csp-violation", "body": NEW}]).encode()),
        (REPORTS, b"{}"), (REPORTS, b"[null]"), (REPORTS, b'[{"type": "csp-violation"}]'), (REPORTS, b"[[]]"),
        (REPORTS, b'[{"type": "csp-violation", "body": {}}]'), (REPORTS, b'[{"type": 5, "body": {}}]'),
        (REPORTS, json.dumps([{"type": "csp-violation", "body": NEW | {"documentURL": {}}}]).encode()),
        (REPORTS, json.dumps({"csp-report": OLD}).encode()),
    ],
    ids=lambda value: str(value)[:40],
)  # fmt: skip
def test_a_malformed_report_is_refused(app: Flask, capfd: pytest.CaptureFixture, media_type: str, body: bytes) -> None:
    warnings_of(capfd)
    refused = send(app, body, media_type)
    assert error(refused) == (400, "invalid_body")
    assert list(refused.json["error"]["details"]) == ["_body"]
    assert warnings_of(capfd) == []
    assert found(app, refused)["request_body"] == ""


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
)


@pytest.mark.case(91)
@settings(max_examples=200, deadline=None, database=None, derandomize=True,
          suppress_health_check=list(HealthCheck))  # fmt: skip
@given(old=st.fixed_dictionaries({name: ANYTHING | st.text() for name in OLD}), others=ANYTHING)
def test_no_report_is_an_error_of_the_server(app: Flask, old: dict, others: object) -> None:
    body = {"documentURL": old["document-uri"], "effectiveDirective": old["violated-directive"], "blockedURL": others}
    for media_type, report in (
        (REPORT, {"csp-report": old}), (REPORT, others), (REPORTS, others),
        (REPORTS, [{"type": "csp-violation", "body": body}]),
    ):  # fmt: skip
        assert send(app, report, media_type).status_code in (204, 400)


@pytest.mark.case(42, 91)
@pytest.mark.parametrize(
    "media_type", ["", "application/json", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"]
)  # fmt: skip
def test_only_the_media_types_of_reports_are_accepted(app: Flask, media_type: str) -> None:
    """Another site cannot send these without a preflight request, which is refused."""
    refused = send(app, {"csp-report": OLD}, media_type)
    assert error(refused) == (415, "unsupported_media_type")
    assert refused.json["error"]["details"] == {"expected": [REPORT, REPORTS]}
    preflight = app.test_client().options(PATH, headers={"Origin": "https://evil.example"})
    assert error(preflight) == (405, "method_not_allowed")
    assert not [name for name, _ in preflight.headers if name.startswith("Access-Control")]


@pytest.mark.case(45, 91)
def test_a_report_over_16_kib_is_refused(app: Flask) -> None:
    refused = old(app, **{"script-sample": "x" * (16 << 10)})
    assert error(refused) == (413, "payload_too_large")
    assert refused.json["error"]["details"] == {"limit_bytes": 16 << 10}
    assert old(app, **{"script-sample": "x" * (15 << 10)}).status_code == 204


@pytest.mark.case(91)
@pytest.mark.parametrize(
    "headers",
    [{}, {"Sec-Fetch-Site": "same-origin"}, {"Sec-Fetch-Site": "cross-site"}, {"Origin": "null"},
     {"Origin": "https://pixel.example.com"}],
    ids=str,
)  # fmt: skip
def test_a_report_is_accepted_wherever_a_browser_says_it_comes_from(app: Flask, headers: dict) -> None:
    """Browsers differ in what they send with a report, and a report changes nothing."""
    assert send(app, {"csp-report": OLD}, f"{REPORT}; charset=utf-8", **headers).status_code == 204


@pytest.mark.case(91)
def test_one_address_cannot_fill_the_log(app: Flask, capfd: pytest.CaptureFixture) -> None:
    warnings_of(capfd)
    address, limit = next(addresses), access.CSP_REPORTS.amount
    answers = [send(app, {"csp-report": OLD}, REPORT, address) for _ in range(3 * limit)]
    accepted = [answer for answer in answers if answer.status_code == 204]
    # The minute may end in between.
    assert limit <= len(accepted) <= 2 * limit
    assert error(answers[-1]) == (429, "rate_limit_exceeded")
    assert int(answers[-1].headers["Retry-After"]) >= 1
    assert len(warnings_of(capfd)) == len(accepted)
    # A malformed report counts too, and another address is not affected.
    assert send(app, b"x", REPORT, address).status_code == 429
    assert old(app).status_code == 204


@pytest.mark.case(91)
def test_reports_are_sent_and_not_read(app: Flask) -> None:
    client = app.test_client()
    for method in ("GET", "HEAD", "PUT", "DELETE"):
        assert client.open(PATH, method=method).status_code == 405
    answer = old(app)
    assert answer.headers["Cache-Control"] == "no-store"
    assert "Set-Cookie" not in answer.headers
