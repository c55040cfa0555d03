"""Paste a request_id, see the request: for the people of its workspace, and for support in all of them."""

import json
import re

import pytest
from flask import Flask
from limits import RateLimitItemPerMinute

from pixel import access, audit, ids, keys, stories
from pixel.database import db
from pixel.extensions import journal
from tests.cast import READ, WRITE, Workspace, load
from tests.dashboard.world import snapshot
from tests.pages import Visitor, field, person


@pytest.fixture
def owner(app, ada):
    return person(app, ada.id)


@pytest.fixture
def agent(app):
    return person(app, support=True)


def looks_up(agent, wanted, reason="ticket 4711"):
    answer = agent.post("/support", wanted=wanted, reason=reason)
    return agent.get(answer.location) if answer.status_code == 303 else answer


def entries(app, workspace_id):
    with app.app_context():
        return [(e.actor, e.subject, e.details["reason"]) for e in audit.of(workspace_id, action="support.looked_up")]


def request_of(caller, path="/me", **options):
    answer = caller.post(path, **options) if options else caller.get(path)
    journal.flush()
    return answer.headers["X-Request-Id"], answer


AROUND = [
    "{}",
    '"{}"',
    "  '{}'\n",
    "request_id={}, please help",
    '{{"meta": {{"request_id": "{}"}}}}',
    "<b>{}</b>",
    "req_ {}",
    "x" * 5000 + "{}",
]


@pytest.mark.parametrize("text", AROUND)
def test_a_request_id_is_found_whatever_is_around_it(app, ada, owner, agent, text):
    request_id, _ = request_of(ada.key(READ), "/pixel/metrics/nope")
    assert request_id in looks_up(agent, text.format(request_id)).text
    answer = owner.post("/requests", found=text.format(request_id))
    assert answer.location == f"/requests/{request_id}"
    assert request_id in owner.get(answer.location).text


def test_the_whole_story_is_told(app, ada, owner, agent):
    caller = ada.key(WRITE)
    good, taken = request_of(
        caller,
        "/pixel/events",
        json={
            "website_id": ada.site,
            "name": "pageview",
            "path": "/here",
            "event_id": "story-1",
            "title": "card 4111 1111 1111 1111, jane.doe@mail.example.com",
        },
    )
    bad, _ = request_of(caller, "/pixel/events", json={"website_id": ada.site, "name": "bogus"})
    read, _ = request_of(caller, "/pixel/websites?token=abcdef")
    assert taken.status_code == 202
    at_once = owner.get(f"/requests/{good}").text
    assert "Accepted: synced to disk" in at_once or "Stored" in at_once
    load(app)
    told = owner.get(f"/requests/{good}").text
    for words in ("story-1", "Stored: it is in the reports", "/here", "Journal", "Authentication", "calls were left in its minute",
                  "[card number]", "…]@mail", "10.", ".0<", caller.key_id):  # fmt: skip
        assert words in told, words
    assert "4111" not in told
    assert "jane.doe" not in told
    told = owner.get(f"/requests/{bad}").text
    for words in ("invalid_body", "What was answered", "What was sent", "bogus", f"/requests/{good}"):
        assert words in told, words
    told = owner.get(f"/requests/{read}").text
    assert "insufficient_scope" in told
    assert "pixel:read" in told
    assert "abcdef" not in told
    found = looks_up(agent, bad).text
    assert "Its owners" in found
    assert owner.email in found


def test_the_steps_of_a_request_add_up_to_the_time_it_took(app, ada, caller):
    response = caller.sends(ada.site)
    journal.flush()
    with app.app_context():
        story = stories.tell(response.headers["X-Request-Id"])
    assert [name for name, _ in story["steps"]] == [
        "authentication", "rate limit", "validation", "journal", "answer", "waiting",
    ]  # fmt: skip
    assert sum(taken for _, taken in story["steps"]) == pytest.approx(story["row"]["milliseconds"], abs=0.001)


def test_a_failure_shows_its_exception_to_support_only(app, ada, owner, agent, monkeypatch):
    def fail(*_):
        raise ZeroDivisionError("something private")

    caller = ada.key(READ)
    monkeypatch.setattr("pixel.websites.visible", fail)
    request_id, answer = request_of(caller, "/pixel/websites")
    assert answer.status_code == 500
    assert "ZeroDivisionError" not in answer.text
    assert "ZeroDivisionError" in looks_up(agent, answer.text).text
    told = owner.get(f"/requests/{request_id}").text
    assert "internal_error" in told
    assert "ZeroDivisionError" not in told
    assert "something private" not in told


def test_a_call_without_a_key_is_found_by_support(app, nobody, agent, owner):
    request_id, _ = request_of(nobody)
    assert "missing_authorization" in looks_up(agent, request_id).text
    assert owner.get(f"/requests/{request_id}").status_code == 404


@pytest.mark.case(32)
def test_each_look_up_is_told_to_the_workspace(app, ada, bob, owner, agent):
    request_id, _ = request_of(ada.key(READ))
    looks_up(agent, request_id, "ticket 1")
    looks_up(agent, request_id, "ticket 2")
    assert entries(app, ada.id) == [(agent.email, request_id, "ticket 2"), (agent.email, request_id, "ticket 1")]
    assert entries(app, bob.id) == []
    shown = owner.get("/settings/audit?action=support.looked_up").text
    assert agent.email in shown
    assert "ticket 2" in shown


@pytest.mark.parametrize("reason", ["", "  ", "ab", "x" * 201, "a\0b", "a\nb"])
@pytest.mark.case(32)
def test_without_a_reason_nothing_is_seen(app, ada, agent, reason):
    request_id, _ = request_of(ada.key(READ))
    answer = agent.post("/support", wanted=request_id, reason=reason)
    assert answer.status_code == 400
    assert request_id in answer.text
    assert entries(app, ada.id) == []
    assert agent.get(f"/support/requests/{request_id}").location == "/support"


def test_nothing_is_seen_without_a_look_up_and_not_a_day_later(app, ada, agent, moved_clock):
    caller = ada.key(READ)
    request_id, _ = request_of(caller)
    for path in (
        f"/support/requests/{request_id}",
        f"/support/keys/{caller.key_id}",
        "/support/users/usr_00000000000000",
    ):
        assert agent.get(path).location == "/support"
    assert looks_up(agent, request_id).status_code == 200
    colleague = person(app, support=True)
    assert colleague.get(f"/support/requests/{request_id}").location == "/support"
    moved_clock.forward(hours=25)
    assert agent.get(f"/support/requests/{request_id}").location == "/support"


def test_the_reason_is_remembered_for_the_next_look_up(app, ada, agent):
    request_id, _ = request_of(ada.key(READ))
    looks_up(agent, request_id, "ticket 9")
    assert field(agent.get("/support").text, "reason") == "ticket 9"
    assert request_id in agent.get("/support").text


@pytest.mark.case(32)
def test_who_is_not_support_finds_no_such_page(app, ada, owner):
    request_id, _ = request_of(ada.key(READ))
    for path in ("/support", f"/support/requests/{request_id}", "/support/keys/x", "/support/users/x"):
        assert owner.get(path).status_code == 404
    assert "Support" not in re.sub(r"support e-mail|to support", "", owner.get("/account").text)


def test_the_flag_is_given_and_taken_by_the_command_line(app, owner):
    runner = app.test_cli_runner()
    assert runner.invoke(args=["user", "support", owner.email]).exit_code == 0
    assert owner.get("/support").status_code == 200
    assert runner.invoke(args=["user", "support", owner.email, "--remove"]).exit_code == 0
    assert owner.get("/support").status_code == 404


# -- by other things


def test_an_event_id_leads_to_its_calls(app, ada, agent):
    caller = ada.key(WRITE)
    event = {"website_id": ada.site, "name": "pageview", "path": "/", "event_id": "wanted-event"}
    first, _ = request_of(caller, "/pixel/events", json=event)
    load(app)
    assert first in looks_up(agent, ' "wanted-event" ').text
    second, _ = request_of(caller, "/pixel/events", json=event)
    load(app)
    both = looks_up(agent, "wanted-event").text
    assert first in both
    assert second in both
    assert agent.get(f"/support/requests/{second}").status_code == 200
    assert {subject for _, subject, _ in entries(app, ada.id)} == {first, second}


def test_a_hint_an_id_or_the_key_itself_leads_to_the_key(app, ada, agent):
    caller = ada.key(READ)
    request_id, _ = request_of(caller)
    load(app)
    with app.app_context():
        hint = db.session.get(keys.ApiKey, caller.key_id).hint
    for wanted in (hint, hint.replace("…", "..."), caller.key_id, f"key: {caller.secret}"):
        text = looks_up(agent, wanted).text
        assert hint in text
        assert "a key" in text
        assert request_id in text
        assert caller.secret not in text
    assert len(entries(app, ada.id)) == 4


def test_an_e_mail_leads_to_the_user_and_what_they_asked_for(app, ada, owner, agent):
    asked = owner.get("/websites").headers["X-Request-Id"]
    load(app)
    text = looks_up(agent, f"from {owner.email}").text
    assert owner.user_id in text
    assert asked in text
    assert ada.id in text
    assert entries(app, ada.id)[0][1] == owner.user_id


@pytest.mark.parametrize(
    ("wanted", "why"),
    [
        ("req_123", "26 letters and digits"),
        ("pxl_dev_" + "0" * 50, "No key is like that"),
        ("pxl_dev_abc…wxyz", "No key is like that"),
        ("nobody@example.com", "no user of this e-mail"),
        ("no-such-event", "No call brought an event"),
        ("\0", "No call brought"),
        ("%' OR 1=1 --", "No call brought"),
        ("é" * 20_000, "No call brought"),
        ("x" * 20_001, "too long"),
        ("", "Paste what to look for"),
    ],
)
def test_what_is_not_found_says_why(app, agent, wanted, why):
    before = snapshot(app)["audit"]
    answer = agent.post("/support", wanted=wanted, reason="ticket 4711")
    assert answer.status_code in (400, 404)
    assert why in answer.text
    assert snapshot(app)["audit"] == before
    if wanted.startswith("pxl_dev_0"):
        assert wanted not in answer.text


@pytest.mark.case(34)
def test_searching_for_what_is_not_there_is_slowed_down(
    app: Flask, ada: Workspace, agent: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(access, "SUPPORT_MISSES", RateLimitItemPerMinute(3, 5))
    request_id, _ = request_of(ada.key(READ))
    assert [looks_up(agent, request_id).status_code for _ in range(5)] == [200] * 5
    statuses = [looks_up(agent, ids.in_time("req_")).status_code for _ in range(4)]
    assert statuses == [404, 404, 404, 429]
    before = entries(app, ada.id)
    refused = looks_up(agent, request_id, "ticket 4712")
    assert refused.status_code == 429
    assert 0 < int(refused.headers["Retry-After"]) <= 300
    assert "Rate limit exceeded. Try again in" in refused.text
    assert request_id in refused.text
    assert field(refused.text, "reason") == "ticket 4712"
    assert entries(app, ada.id) == before
    assert looks_up(person(app, support=True), request_id).status_code == 200


def made(milliseconds, last="d"):
    """A request id of a moment."""
    digits, number = "", milliseconds << 80
    for _ in range(26):
        digits = "0123456789abcdefghjkmnpqrstvwxyz"[number % 32] + digits
        number //= 32
    return "req_" + digits[:-1] + last


@pytest.mark.case(32)
def test_a_missing_request_says_which_it_is(app, owner, agent, monkeypatch):
    from pixel import clock

    now = clock.milliseconds()
    day = 86_400_000
    for request_id, why in (
        (made(now - 40 * day), "requests are kept for 30 days"),
        (made(now - day, "v"), "made by a live server"),
        (made(now + day), "By its own time it will be made"),
        (made(now - day), "no such request reached this server"),
        (made(now - day, "x"), "no such request reached this server"),
    ):
        assert ids.find_request_id(request_id) == request_id
        for answer in (
            owner.get(f"/requests/{request_id}"),
            agent.post("/support", wanted=request_id, reason="ticket"),
        ):
            assert answer.status_code == 404
            assert why in answer.text
    assert owner.get("/requests/req_nonsense").status_code == 404
    assert "26 letters and digits" in owner.post("/requests", found="req_nonsense").text


def test_an_answer_is_found_at_once(app, ada, agent):
    """Also while nothing is loaded: the look-up reads the journal too."""
    for _ in range(5):
        request_id, _ = request_of(ada.key(READ))
        assert request_id in looks_up(agent, request_id).text


# -- lists


def test_calls_are_filtered(app, ada, owner):
    reader, writer = ada.key(READ), ada.key(WRITE)
    fine, _ = request_of(reader, "/pixel/websites")
    refused, _ = request_of(writer, "/pixel/websites")
    wrong, _ = request_of(reader, "/pixel/metrics/nope")
    load(app)

    def listed(query):
        return set(re.findall(r"/requests/(req_\w+)", owner.get(f"/requests?{query}").text))

    assert listed("") >= {fine, refused, wrong}
    assert listed("status=2") == {fine}
    assert listed("status=4") == {refused, wrong}
    assert listed("code=insufficient_scope") == {refused}
    assert listed(f"key={writer.key_id}") == {refused}
    assert listed("route=metrics") == {wrong}
    assert listed("status=5") == set()
    assert re.search(r'">\d\d:\d\d:\d\d</a> <span class="quiet"><time', owner.get("/requests").text)
    assert "No call is like that." in owner.get("/requests?status=5").text


def test_a_page_says_the_same_code_and_id_as_json_would(app, owner):
    answer = owner.get("/nowhere")
    assert "not_found" in answer.text
    assert answer.headers["X-Request-Id"] in answer.text
    assert "Look for a slip in the address" in answer.text
    assert "list of endpoints" not in answer.text
    assert re.search(r'<main.*<a class="button" href="/">', answer.text, re.DOTALL)
    api = Visitor(app).get("/api/v1/nowhere")
    assert api.json["error"]["code"] == "not_found"
    assert json.loads(api.text)["meta"]["request_id"] == api.headers["X-Request-Id"]
