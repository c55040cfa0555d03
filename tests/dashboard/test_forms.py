"""What holds for every form: who may send it, that it was our page that sent it, and that it was meant once."""

import json
import re
from io import BytesIO
from types import SimpleNamespace

import pytest
from flask import Flask

from tests.dashboard.world import CHANGE_NOTHING, FOR_ALL, FORMS, OPEN, Form, snapshot, world
from tests.pages import Visitor, person

SIGNED_IN = [endpoint for endpoint in FORMS if endpoint not in OPEN]


@pytest.fixture(scope="module")
def here(app):
    found = world(app)
    found.agent = person(app, found.workspace.id, "owner", support=True)
    return found


def sender(here, endpoint):
    """Somebody who may send this form."""
    if endpoint in ("front.take_in", "front.send_reset_link", "front.follow_link"):
        return Visitor(here.app)
    return here.agent if endpoint.startswith("support.") else here.owner


def test_every_form_is_here(app):
    sent = {rule.endpoint for rule in app.url_map.iter_rules() if "POST" in rule.methods}
    # Browsers send reports without a form.
    programs = ("api.", "collect.", "front.take_csp_reports")
    assert {endpoint for endpoint in sent if not endpoint.startswith(programs)} == set(FORMS)


@pytest.mark.parametrize("endpoint", FORMS)
@pytest.mark.parametrize("token", ["missing", "empty", "wrong", "foreign", "stale"])
@pytest.mark.case(82, 83)
def test_only_our_page_can_send_it(app, here, endpoint, token, monkeypatch):
    visitor, form = sender(here, endpoint), Form(here, endpoint)
    tokens = {"empty": "", "wrong": "x" * 80, "foreign": form.token(here.mate) if endpoint in FOR_ALL else "y"}
    if token == "stale":
        tokens["stale"] = form.token(visitor)
        monkeypatch.setitem(app.config, "WTF_CSRF_TIME_LIMIT", -1)
    before = snapshot(app)
    sent = {"csrf_token": tokens[token]} if token != "missing" else {}
    answer = visitor.send(form.path, form.fields | sent)
    assert answer.status_code == 400
    assert "There is a problem" in answer.text
    assert snapshot(app) == before
    # What was typed is there to be sent again, but for secrets.
    for name, value in form.fields.items():
        if name in ("name", "email", "reason") and f'name="{name}"' in answer.text:
            assert f'value="{value}"' in answer.text


@pytest.mark.parametrize("endpoint", FORMS)
@pytest.mark.parametrize(
    "headers", [{"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"}, {"Origin": "https://evil.example"}]
)
@pytest.mark.case(82, 83)
def test_no_other_site_can_send_it(app, here, endpoint, headers):
    visitor, form = sender(here, endpoint), Form(here, endpoint)
    values = {"csrf_token": form.token(visitor), **form.fields}
    before = snapshot(app)
    answer = visitor.send(form.path, values, headers=headers)
    assert answer.status_code == 403
    assert "cross_site_request" in answer.text
    assert snapshot(app) == before


@pytest.mark.parametrize("endpoint", FORMS)
@pytest.mark.parametrize("field", ["workspace_id", "user_id", "expires_at", "is_admin", "support", "hash", "scopes[]"])
@pytest.mark.case(29, 48)
def test_what_it_does_not_ask_for_is_refused(app, here, endpoint, field):
    visitor, form = sender(here, endpoint), Form(here, endpoint)
    values = {"csrf_token": form.token(visitor), **form.fields, field: "1"}
    before = snapshot(app)
    answer = visitor.send(form.path, values)
    assert answer.status_code == 400
    assert "This form has no field" in answer.text
    assert snapshot(app) == before


@pytest.mark.parametrize("endpoint", FORMS)
def test_it_takes_fields_of_a_form_and_neither_json_nor_files(app: Flask, here: SimpleNamespace, endpoint: str) -> None:
    visitor, form = sender(here, endpoint), Form(here, endpoint)
    values = {"csrf_token": form.token(visitor), **form.fields}
    before = snapshot(app)
    wrong_types = [dict.fromkeys(values, value) for value in (5, None, [1], {"a": 1})]
    for body in (values, *wrong_types, list(values.items()), [1], 5, "text", None):
        assert visitor.send(form.path, json.dumps(body), content_type="application/json").status_code == 400, body
    files = {name: (BytesIO(value.encode()), "file.txt") for name, value in values.items()}
    assert visitor.send(form.path, files, content_type="multipart/form-data").status_code == 400
    one_file = values | {"more": (BytesIO(b"text"), "file.txt")}
    assert "This form has no field" in visitor.send(form.path, one_file, content_type="multipart/form-data").text
    assert snapshot(app) == before


@pytest.mark.parametrize("endpoint", FORMS)
@pytest.mark.case(30)
def test_a_field_sent_many_times_is_not_repeated_by_the_page(app: Flask, endpoint: str) -> None:
    here = world(app)
    here.agent = person(app, here.workspace.id, "owner", support=True)
    form = Form(here, endpoint)
    before = sender(here, endpoint).get(form.page).text
    names = form.fields.keys() | re.findall(r'<(?:input|select|textarea)[^>]* name="(\w+)"', before)
    for name in names - {"csrf_token"}:
        junk = [f"junk-{number}" for number in range(1_900)]
        answer = Form(here, endpoint).sent(sender(here, endpoint), **{name: junk})
        assert answer.status_code < 500, name
        assert "junk-9" not in answer.text, name
        assert len(answer.text) < len(before) + 10_000, name


@pytest.mark.parametrize("endpoint", SIGNED_IN)
def test_nobody_sends_it_without_signing_in(app, here, endpoint):
    visitor, form = Visitor(app), Form(here, endpoint)
    before = snapshot(app)
    values = {
        "csrf_token": re.search(r'csrf_token"[^>]*value="([^"]+)', visitor.get("/sign-in").text)[1],
        **form.fields,
    }
    answer = visitor.send(form.path, values)
    assert answer.status_code == 303
    assert answer.location.startswith("/sign-in?next=")
    assert snapshot(app) == before


@pytest.mark.parametrize("endpoint", [e for e in SIGNED_IN if e not in FOR_ALL])
@pytest.mark.case(24)
def test_a_viewer_changes_nothing(app, here, endpoint):
    form = Form(here, endpoint)
    before = snapshot(app)
    values = {"csrf_token": Form(here, "settings.end_session").token(here.mate), **form.fields}
    answer = here.mate.send(form.path, values)
    assert answer.status_code == (404 if endpoint.startswith("support.") else 403)
    assert snapshot(app) == before
    page = here.mate.get(form.page)
    assert f'action="{form.path}"' not in page.text


@pytest.mark.parametrize("endpoint", FORMS)
@pytest.mark.case(85)
def test_it_does_what_it_says_and_sent_twice_no_more(app, endpoint):
    here = world(app)
    here.agent = person(app, here.workspace.id, "owner", support=True)
    visitor, form = sender(here, endpoint), Form(here, endpoint)
    values = {"csrf_token": form.token(visitor), **form.fields}
    before = snapshot(app)
    first = visitor.send(form.path, values)
    assert first.status_code in ((303, 200, 404) if endpoint in CHANGE_NOTHING else (303, 200)), first.text
    after = snapshot(app)
    if endpoint not in (*CHANGE_NOTHING, "front.switch", "settings.send_test_event"):
        assert after != before
        assert len(after["audit"]) > len(before["audit"])
        request_id = first.headers["X-Request-Id"]
        assert any(request_id in row for row in after["audit"]), "The audit log does not tell of it."
    second = visitor.send(form.path, values)
    assert second.status_code < 500
    again = snapshot(app)
    # An invitation sent again is a new link in place of the old one; signing in twice makes two sessions.
    if endpoint not in ("settings.invite", "front.take_in", "support.look_up", "front.send_reset_link"):
        for table in ("api_keys", "websites", "memberships", "users", "links"):
            assert again[table] == after[table], table


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.case(84)
def test_looking_changes_nothing(app, here, method):
    """No address changes anything when it is only looked at, be it by a link checker or a prefetch."""
    ids = {**vars(here), "mate": here.mate.user_id}
    names = {"key_id": "key", "website_id": "site", "user_id": "mate", "link_id": "link", "session_id": "session"}
    before = snapshot(app)
    for rule in app.url_map.iter_rules():
        if rule.endpoint.startswith("api.") or "GET" not in rule.methods:
            continue
        path = re.sub(r"<(?:\w+:)?(\w+)>", lambda found: str(ids.get(names.get(found[1]), "nothing")), rule.rule)
        answer = here.owner.browser.open(path, method=method)
        assert answer.status_code < 500
    assert snapshot(app) == before
