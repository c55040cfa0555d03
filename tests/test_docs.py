"""The manual says what the server does."""

import html
import io
import json
import re
import threading
import time
import urllib.error
import urllib.request
from email.message import Message

import pytest

from pixel import errors
from pixel.docs import _RETRIES, PAGES
from pixel.docs import docs as door
from tests.cast import READ, WRITE

ADDRESSES = [f"/docs{path}" for path in PAGES]


@pytest.fixture(scope="module")
def pages(app):
    return {address: app.test_client().get(address) for address in ADDRESSES}


@pytest.mark.parametrize("address", ADDRESSES)
def test_every_page_leads_to_every_other(pages, address):
    assert pages[address].status_code == 200
    assert not [other for other in ADDRESSES if f'href="{other}"' not in pages[address].text]
    assert pages[address].text.count('aria-current="page"') == 1


def test_every_page_of_the_manual_is_listed(app):
    served = {rule.rule for rule in app.url_map.iter_rules() if rule.endpoint.startswith(f"{door.name}.")}
    assert served == set(ADDRESSES)


def test_every_link_leads_somewhere(app, pages):
    client = app.test_client()
    for page in pages.values():
        for link in re.findall(r'href="([^"]+)"', page.text):
            path, _, anchor = html.unescape(link).partition("#")
            answer = client.get(path) if path else page
            assert answer.status_code in (200, 303), link
            assert not anchor or anchor == "content" or f'id="{anchor}"' in answer.text, link


@pytest.fixture(scope="module")
def examples(pages):
    """The example body of each code."""
    sections = re.findall(r'<section class="entry" id="(\w+)">(.*?)</section>', pages["/docs/errors"].text, re.DOTALL)
    found = {code: re.search(r"<pre[^>]*><code>(.*?)</code>", text, re.DOTALL) for code, text in sections}
    return {code: body and json.loads(html.unescape(body[1])) for code, body in found.items()}


def test_every_code_has_an_example_that_is_a_whole_envelope(examples):
    assert list(examples) == [e.code for e in sorted(errors.catalogue(), key=lambda e: e.page_only)]
    for error in errors.catalogue():
        body = examples[error.code]
        if error.page_only:
            assert body is None
            continue
        assert set(body) == {"error", "meta"}
        assert body["error"]["code"] == error.code
        assert set(body["error"]) == {"code", "message", "details"}
        assert re.fullmatch(r"req_[0-9a-z]{26}", body["meta"]["request_id"])


def provoked(ada, nobody):
    """Real answers, one a code."""
    reader, writer = ada.key(READ), ada.key(READ, WRITE)
    gone, over = ada.key(READ), ada.key(READ)
    ada.revoke(gone)
    with ada.app.app_context():
        from pixel import keys
        from pixel.database import transaction

        with transaction() as session:
            session.get(keys.ApiKey, over.key_id).expires_at = keys.clock.now()
    secret = reader.secret
    for caller, call in (
        (nobody, ("GET", "/me")),
        (nobody, ("GET", "/me", {"Authorization": "Token x"})),
        (nobody, ("GET", "/me", {"Authorization": f"Bearer {secret[:-1]}"})),
        (gone, ("GET", "/me")),
        (over, ("GET", "/me")),
        (reader, ("POST", "/pixel/events", {"Content-Type": "application/json"})),
        (reader, ("GET", "/pixel/metrics/p_top_page")),
        (reader, ("GET", "/pixel/metrics/p_top_pages?limit=0")),
        (reader, ("GET", "/pixel/events/none")),
        (reader, ("GET", "/nowhere")),
        (reader, ("GET", "/pixel/events")),
    ):
        yield caller.call(*call)
    yield writer.post("/pixel/events", data="x")
    yield writer.post("/pixel/events", json={"name": "pageview"})
    yield writer.post("/pixel/events", json={"website_id": "admx_00000000000000", "name": "pageview", "path": "/"})
    yield writer.post("/pixel/events", data=b"x" * (1 << 20) + b"x", content_type="application/json")
    limited = ada.key(READ)
    with ada.app.app_context():
        from pixel import workspaces

        workspaces.limit(ada.id, 1)
    limited.get("/me")
    yield limited.get("/me")


def test_the_examples_are_like_real_answers(ada, nobody, examples):
    seen, said = set(), {}
    for answer in provoked(ada, nobody):
        real, example = answer.json["error"], examples[answer.json["error"]["code"]]["error"]
        seen.add(real["code"])
        if real["code"] in ("invalid_body", "invalid_query"):
            for name, messages in real["details"].items():
                said.setdefault(name, []).append(messages)
        else:
            assert real["details"].keys() == example["details"].keys(), real
    assert len(seen) == 15
    # Word for word what the server says about a field.
    assert examples["invalid_body"]["error"]["details"]["website_id"] in said["website_id"]
    assert examples["invalid_query"]["error"]["details"]["limit"] in said["limit"]


def test_the_events_of_the_quickstart_are_taken(app, ada, pages):
    writer = ada.key(WRITE)
    text = html.unescape(pages["/docs/quickstart"].text)
    events = re.findall(r'\{"website_id": "WEBSITE", "name".*?\}', text)
    assert len(events) == 3
    for event in events:
        answer = writer.post(
            "/pixel/events?dry_run=true", data=event.replace("WEBSITE", ada.site), content_type="application/json"
        )
        assert answer.status_code == 200, answer.text
    identity = re.search(r'\{"website_id": "WEBSITE", "visitor_id".*?\}', text)[0].replace("WEBSITE", ada.site)
    assert (
        writer.post("/pixel/identify?dry_run=true", data=identity, content_type="application/json").status_code == 200
    )
    for path in re.findall(r"localhost/api/v1(/[a-z_/0-9-]+)", text):
        assert ada.key(READ, WRITE).get(path).status_code in (200, 404, 405)


# -- the function of the page on retries


def attempts(monkeypatch, *answers):
    """What the function does when these come: (waits, result or the error)."""
    waits, coming, asked = [], list(answers), []

    def open_(request, timeout):
        asked.append(request.data)
        answer = coming.pop(0)
        if isinstance(answer, Exception):
            raise answer
        status, headers = answer if isinstance(answer, tuple) else (answer, {})
        if status < 400:
            return io.BytesIO(b'{"data": {"status": "accepted"}}')
        message = Message()
        for name, value in headers.items():
            message[name] = value
        raise urllib.error.HTTPError(request.full_url, status, "", message, io.BytesIO())

    monkeypatch.setattr(urllib.request, "urlopen", open_)
    own_thread, sleep = threading.get_ident(), time.sleep
    # Threads of the app sleep too.
    monkeypatch.setattr(
        "time.sleep", lambda seconds: (waits.append if threading.get_ident() == own_thread else sleep)(seconds)
    )
    monkeypatch.setattr("random.random", lambda: 0)
    scope = {}
    exec(_RETRIES, scope)
    try:
        result = scope["send"]("https://x.example/api/v1/pixel/events", "key", {"event_id": "e"})
    except urllib.error.URLError as error:
        result = error
    assert len(set(asked)) == 1
    return waits, result


@pytest.mark.parametrize("status", [500, 503])
def test_the_example_waits_longer_each_time_and_gives_up(monkeypatch, status):
    assert attempts(monkeypatch, status, 202) == ([1], {"status": "accepted"})
    waits, result = attempts(monkeypatch, *[status] * 6)
    assert waits == [1, 2, 4, 8, 16]
    assert result.code == status


def test_the_example_waits_as_long_as_it_is_told(monkeypatch):
    assert attempts(monkeypatch, (429, {"Retry-After": "23"}), 202) == ([23], {"status": "accepted"})


@pytest.mark.parametrize("status", sorted({e.status for e in errors.catalogue() if not e.retry}))
def test_the_example_retries_nothing_else(monkeypatch, status):
    waits, result = attempts(monkeypatch, status)
    assert waits == []
    assert result.code == status


def test_the_example_sends_again_what_got_no_answer(monkeypatch):
    assert attempts(monkeypatch, urllib.error.URLError("reset"), 202) == ([1], {"status": "accepted"})


def test_the_catalogue_and_the_example_agree_on_what_is_retried():
    assert {e.status for e in errors.catalogue() if e.retry} == {429, 500, 503}
