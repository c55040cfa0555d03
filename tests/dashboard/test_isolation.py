"""What another workspace owns is answered like what is not there, and what people and programs call things stays text."""

import re
import threading
import time
from html.parser import HTMLParser
from types import SimpleNamespace

import pytest
from flask import Flask
from limits import RateLimitItemPerMinute
from sqlalchemy import event

from pixel import access, keys, members, stories, websites
from pixel.database import db, transaction
from pixel.extensions import journal
from pixel.ids import in_time
from tests.cast import READ, WRITE, Workspace, load
from tests.dashboard.world import FORMS, Form, snapshot, world
from tests.pages import person

CANARY = "canary-of-another"
EVIL = "\"'><svg onload=alert(1)>{{7*7}}</script>"
IDS = {"key_id": "key", "website_id": "site", "user_id": "mate", "link_id": "link", "session_id": "session",
       "request_id": "request", "token": None, "filename": None}  # fmt: skip
#: No id that there is.
MISSING = {"key_id": "key_000000000000", "website_id": "admx_00000000000000", "user_id": "usr_00000000000000",
           "request_id": "req_01m88j27qzf7797xtca6dmd8xd"}  # fmt: skip


@pytest.fixture(scope="module")
def theirs(app):
    """A full workspace of somebody else's, with calls."""
    found = world(app, CANARY)
    found.mate_id, caller = found.mate.user_id, found.workspace.key(READ, WRITE)
    caller.sends(found.site, path=f"/{CANARY}")
    found.request = caller.get("/pixel/websites").headers["X-Request-Id"]
    load(app)
    return found


@pytest.fixture(scope="module")
def stranger(app):
    return world(app)


def pages_of(app, ids):
    """Every page, as (rule, address), with these ids in place of its arguments."""
    for rule in app.url_map.iter_rules():
        if rule.endpoint.startswith(("api.", "queries.", "collect.", "static", "docs.")) or "GET" not in rule.methods:
            continue
        assert rule.arguments <= IDS.keys(), f"Say in IDS what {rule} is about."
        yield rule, re.sub(r"<(?:\w+:)?(\w+)>", lambda found: ids.get(found[1]) or "nothing", rule.rule)


def ids_of(theirs):
    values = {**vars(theirs), "mate": theirs.mate_id}
    return {name: values[kind] for name, kind in IDS.items() if kind}


def without_ids(text, *things):
    """A page without what differs by request or by what was asked for."""
    for thing in things:
        text = text.replace(thing, "THING")
    text = re.sub(r"req_[0-9a-z]{26}|made on [-0-9]+ [:0-9]+", "REQUEST", text)
    return re.sub(r'(name="csrf_token" value)="[^"]*"', r"\1", text)


@pytest.mark.case(24, 34)
def test_no_page_shows_what_another_workspace_owns(app, theirs, stranger):
    ids, seen = ids_of(theirs), 0
    own = {path for rule, path in pages_of(app, ids) if "<" not in rule.rule}
    for rule, path in pages_of(app, ids):
        answer = stranger.owner.get(path)
        assert CANARY not in answer.text, path
        if rule.arguments & MISSING.keys() and not rule.rule.startswith("/support"):
            seen += 1
            missing = re.sub(r"<(?:\w+:)?(\w+)>", lambda found: MISSING.get(found[1], "nothing"), rule.rule)
            nothing = stranger.owner.get(missing)
            assert (answer.status_code, nothing.status_code) == (404, 404), path
            assert without_ids(answer.text, *ids.values()) == without_ids(nothing.text, *MISSING.values()), path
            # ... and its owner does see it, or is led to the key of which there is nothing to ask.
            assert theirs.owner.get(path).status_code in (200, 303), path
    assert seen >= 11
    for path in own:
        assert CANARY not in stranger.owner.get(path + "?key=" + ids["key_id"]).text


@pytest.mark.case(34)
def test_trying_request_ids_one_after_another_is_slowed_down(app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    ada, bob = Workspace(app, "ada.example"), Workspace(app, "bob.example")
    thief, colleague = person(app, bob.id), person(app, bob.id)
    theirs, own = (at.key(READ).get("/me").headers["X-Request-Id"] for at in (ada, bob))
    journal.flush()
    real, looked_up = stories.tell, []
    monkeypatch.setattr(stories, "tell", lambda *arguments: looked_up.append(arguments[0]) or real(*arguments))
    # A request of the thief's own is charged for nothing, however often it is opened.
    assert [thief.get(f"/requests/{own}").status_code for _ in range(35)] == [200] * 35
    tried = [theirs, *(in_time("req_") for _ in range(29))]
    assert [thief.get(f"/requests/{request_id}").status_code for request_id in tried] == [404] * 30
    looked_up.clear()
    refused = [thief.get(f"/requests/{request_id}") for request_id in (in_time("req_"), theirs, own)]
    assert [answer.status_code for answer in refused] == [429] * 3
    assert looked_up == []
    assert 0 < int(refused[0].headers["Retry-After"]) <= 300
    assert "Rate limit exceeded. Try again in" in refused[0].text
    assert "You opened many ids that do not exist in this workspace." in refused[0].text
    # The form leads to the same page. Other pages and other people are not slowed down.
    pasted = thief.post("/requests", found=in_time("req_"))
    assert thief.get(pasted.location).status_code == 429
    assert thief.get("/requests").status_code == 200
    assert thief.get(f"/websites/{bob.site}").status_code == 200
    assert colleague.get(f"/requests/{own}").status_code == 200


@pytest.mark.case(34)
@pytest.mark.parametrize(
    "path", ["/settings/api-keys/{}", "/settings/api-keys/{}/secret", "/websites/{}", "/settings/members/{}"]
)
def test_trying_other_ids_is_slowed_down_too(app: Flask, path: str) -> None:
    thief = person(app, Workspace(app).id)
    statuses = [thief.get(path.format(in_time("key_"))).status_code for _ in range(32)]
    assert statuses == [404] * 30 + [429] * 2


@pytest.mark.case(34)
def test_a_user_who_tried_too_many_ids_goes_on_five_minutes_later(app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access, "MISSES", RateLimitItemPerMinute(2, 5))
    workspace, ahead = Workspace(app), [0.0]
    clock = SimpleNamespace(time=lambda: time.time() + ahead[0], monotonic=time.monotonic, sleep=time.sleep)
    monkeypatch.setattr("pixel.counters.time", clock)
    user, own = person(app, workspace.id), workspace.key(READ).get("/me").headers["X-Request-Id"]
    journal.flush()
    assert [user.get(f"/requests/{in_time('req_')}").status_code for _ in range(3)] == [404, 404, 429]
    ahead[0] += int(user.get(f"/requests/{own}").headers["Retry-After"])
    assert user.get(f"/requests/{own}").status_code == 200


ABOUT_ONE_THING = [name for name, (path, _, _) in FORMS.items() if "{" in path]


@pytest.mark.parametrize("endpoint", sorted(set(ABOUT_ONE_THING) - {"settings.end_session", "front.follow_link"}))
@pytest.mark.case(24)
def test_no_form_changes_what_another_workspace_owns(app, theirs, stranger, endpoint):
    form = Form(theirs, endpoint)
    token = Form(stranger, "settings.end_other_sessions").token(stranger.owner)
    before = snapshot(app)
    answer = stranger.owner.send(form.path, {"csrf_token": token, **form.fields})
    assert answer.status_code == 404
    assert snapshot(app) == before


def test_nobody_ends_anothers_session(app, theirs, stranger):
    token = Form(stranger, "settings.end_other_sessions").token(stranger.owner)
    before = snapshot(app)["sessions"]
    stranger.owner.send(f"/account/sessions/{theirs.session}/end", {"csrf_token": token})
    assert snapshot(app)["sessions"] == before


def test_a_website_of_another_workspace_is_no_choice_for_a_key(app, theirs, stranger):
    form = Form(stranger, "settings.create_key")
    answer = form.sent(stranger.owner, every_website="some", websites=theirs.site)
    assert answer.status_code == 400
    assert "There is a problem" in answer.text


def test_nobody_switches_to_anothers_workspace(app, theirs, stranger):
    assert Form(stranger, "front.switch").sent(stranger.owner, workspace=theirs.workspace.id).status_code == 400
    assert CANARY not in stranger.owner.get("/settings/api-keys").text


# -- hostile text


def attributes(text):
    """The names of all attributes in a page."""
    found = set()

    class Reader(HTMLParser):
        def handle_starttag(self, tag, attrs):
            found.update(name for name, _ in attrs)

    Reader().feed(text)
    return found


def test_what_anyone_calls_anything_stays_text(app):
    here = world(app, EVIL)
    caller = here.workspace.key(READ, WRITE)
    agent = {"User-Agent": EVIL, "Referer": EVIL}
    caller.call("POST", "/pixel/events", agent, json={
        "website_id": here.site, "name": "pageview", "path": f"/{EVIL}", "referrer": f"https://x.example/{EVIL}",
        "utm_source": EVIL, "utm_campaign": EVIL, "user_agent": EVIL, "event_id": EVIL[:64], "title": EVIL,
        "props": {"a": EVIL}})  # fmt: skip
    caller.call("POST", "/pixel/events", agent, json={"website_id": here.site, "name": EVIL})
    caller.call("GET", f"/pixel/events/{EVIL}", agent)
    request_id = caller.call("GET", f"/pixel/metrics/{EVIL}?{EVIL}={EVIL}", agent).headers["X-Request-Id"]
    Form(here, "settings.create_key").sent(here.owner, name=EVIL)
    Form(here, "settings.change_website").sent(here.owner, name=EVIL)
    with app.app_context(), transaction() as session:
        session.get(keys.ApiKey, here.key).last_used_user_agent = EVIL
        session.get(keys.ApiKey, here.key).last_used_at = keys.clock.now()
    load(app)
    here.mate_id, here.request = here.mate.user_id, request_id
    ids = ids_of(here)
    agent = person(app, here.workspace.id, "owner", support=True)
    agent.post("/support", wanted=f"{request_id} {EVIL}", reason=EVIL)
    agent.post("/support", wanted=here.key, reason=EVIL)
    shown = 0
    paths = [path for _, path in pages_of(app, ids)]
    paths += [f"/requests?route={EVIL}&code={EVIL}&key={EVIL}", f"/settings/audit?action={EVIL}", f"/sign-in?next={EVIL}",
              f"/support/keys/{here.key}", f"/requests/{EVIL}", f"/{EVIL}"]  # fmt: skip
    for path in paths:
        text = agent.get(path).text
        assert "<svg onload" not in text, path
        assert "{{7*7}}</script>" not in text.replace("&gt;", ">") or "&lt;svg" in text
        shown += "&lt;svg onload=alert(1)&gt;" in text
        assert not re.search(r"(?:href|src|action)=\"?(?:javascript|data|vbscript):", text, re.IGNORECASE), path
        assert not {name for name in attributes(text) if name.startswith("on") or name == "style"}, path
        assert "<script>" not in text, path
    assert shown >= 8


@pytest.mark.parametrize("referrer", ["javascript:alert(1)", "data:text/html,x", "vbscript:x"])
def test_an_address_of_a_visitor_is_never_a_link(app, referrer):
    here = world(app)
    caller = here.workspace.key(READ, WRITE)
    caller.sends(here.site, path="/", referrer=referrer)
    load(app)
    assert f'href="{referrer}' not in here.owner.get(f"/websites/{here.site}").text


# -- a handful of queries


@pytest.mark.parametrize("path", ["/settings/api-keys", "/settings/api-keys/{key}", "/requests", "/websites",
                                  "/settings/members", "/settings/audit", "/account", "/settings/api-keys/new"])  # fmt: skip
def test_no_page_asks_more_when_there_is_more(app, path):
    here = world(app)
    counted = {"statements": 0}

    mine = threading.get_ident()

    def count(*_):
        # What the engine's jobs ask meanwhile is not the page's.
        counted["statements"] += threading.get_ident() == mine

    def asked():
        here.owner.get(path.format(key=here.key))
        counted["statements"] = 0
        assert here.owner.get(path.format(key=here.key)).status_code == 200
        return counted["statements"]

    with app.app_context():
        event.listen(db.engine, "before_cursor_execute", count)
        few = asked()
        for number in range(60):
            keys.create(here.workspace.id, f"another {number}", [READ], "dev", [here.site])
            websites.add(here.workspace.id, f"another{number}.example")
            with transaction() as session:
                members.join(session, here.workspace.id, f"another{number}-{here.key}@example.com".lower(), "viewer")
        caller = here.workspace.key(READ)
        for _ in range(60):
            caller.get("/me")
        load(app)
        many = asked()
        event.remove(db.engine, "before_cursor_execute", count)
    assert many <= few + 1
    assert many <= 24


def test_lists_are_paged(app, monkeypatch):
    monkeypatch.setitem(app.config, "MAX_ACTIVE_KEYS", 1000)
    here = world(app)
    with app.app_context():
        for number in range(120):
            keys.create(here.workspace.id, f"numbered {number:03d}", [READ], "dev")
            websites.add(here.workspace.id, f"numbered{number}.example")
    caller = here.workspace.key(READ)
    for _ in range(60):
        caller.get("/me")
    load(app)

    def walk(path, words):
        seen, pages = [], 0
        while path:
            text = here.owner.get(path).text
            table = text[text.index("<tbody") : text.index("</tbody")]
            found = set(re.findall(words, table))
            assert 0 < len(found) <= 50
            seen += sorted(found)
            pages += 1
            older = re.search(r'href="([^"]+)">Older', text)
            path = older and (
                older[1].replace("&amp;", "&")
                if older[1].startswith("/")
                else path.partition("?")[0] + older[1].replace("&amp;", "&")
            )
        return seen, pages

    for path, words, least in (
        ("/settings/api-keys", r"numbered (\d{3})", 120),
        ("/websites", r"admx_\w{14}", 121),
        ("/settings/audit", r">(\w+_\w{12,14})<", 240),
        ("/requests", r"/requests/(req_\w{26})", 60),
    ):
        seen, pages = walk(path, words)
        assert len(set(seen)) >= least, path
        assert pages >= 2


@pytest.mark.parametrize("query", ["page=0", "page=-1", "page=999999999999999999999", "page=x", "state=nothing", "before=x",
                                   "before=%00", "hours=1e9", "status=4%27", "code=%00", "key=%F0%9F%98%80", "route=%ED%A0%80",
                                   "action=x", "add=x", "page=9&page=8", "before=" + "9" * 5000])  # fmt: skip
@pytest.mark.case(52, 54)
def test_what_makes_no_sense_in_an_address_is_no_error(app, stranger, query):
    for path in (
        "/settings/api-keys",
        "/requests",
        "/websites",
        "/settings/audit",
        f"/settings/api-keys/{stranger.key}/rotate",
    ):
        assert stranger.owner.get(f"{path}?{query}").status_code == 200, path
