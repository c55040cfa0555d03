"""Who comes in, how, and for how long."""

import re
import threading
import time
from collections.abc import Callable
from statistics import median

import pytest
from flask import Flask
from hypothesis import given, settings
from hypothesis import strategies as st
from itsdangerous import TimestampSigner, URLSafeTimedSerializer
from sqlalchemy.exc import OperationalError

from pixel import access, links, members, pages, sessions, workspaces
from pixel.database import db, transaction
from tests.cast import Workspace
from tests.dashboard.world import Form, snapshot, world
from tests.pages import PASSWORD, Visitor, ages, field, person

NEW = "five other plain words"
SESSION = "pixel_session"


@pytest.fixture
def owner(app, ada):
    return person(app, ada.id)


def cookie(visitor):
    found = visitor.browser.get_cookie(SESSION)
    return found and found.value


def carry(visitor, token):
    visitor.browser.set_cookie(SESSION, token)


def is_in(visitor):
    answer = visitor.get("/account")
    assert answer.status_code in (200, 303)
    return answer.status_code == 200


# -- sign in, sign out


@pytest.mark.case(74)
def test_wrong_password_and_unknown_user_are_answered_alike(app, owner):
    answers = []
    for email, password in (
        (owner.email, "not the password here"),
        ("nobody@example.com", PASSWORD),
        (owner.email, ""),
    ):
        answer = Visitor(app).post("/sign-in", email=email, password=password)
        assert answer.status_code == 400
        assert SESSION not in str(answer.headers.getlist("Set-Cookie"))
        assert field(answer.text, "email") == email
        assert password not in answer.text or not password
        answers.append(re.sub(r'value="[^"]*"|req_\w+', "", answer.text))
    assert answers[0] == answers[1]


@pytest.mark.case(74)
def test_a_wrong_password_takes_as_long_for_nobody(app, owner):
    """Hashing is 20 ms; without the hash for nobody the two medians would be apart by that."""

    def takes(email):
        with app.app_context():
            started = time.perf_counter()
            assert members.authenticate(email, "wrong password here") is None
            return time.perf_counter() - started

    known = median(takes(owner.email) for _ in range(15))
    unknown = median(takes("nobody@example.com") for _ in range(15))
    assert unknown > known / 3


@pytest.mark.case(74)
def test_every_failed_sign_in_costs_one_hash_and_gets_the_same_headers(
    app: Flask, ada: Workspace, owner: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    hasher, verified = members._HASHER, []

    class Counted:
        def verify(self, password_hash: str, password: str) -> bool:
            verified.append(password)
            return hasher.verify(password_hash, password)

    monkeypatch.setattr(members, "_HASHER", Counted())
    with app.app_context(), transaction() as session:
        members.join(session, ada.id, "no-password@example.com", "viewer")
    answers = []
    for email in (owner.email, "nobody@example.com", "no-password@example.com", "not an address"):
        verified.clear()
        answers.append(Visitor(app).signs_in(email, "not the password here"))
        assert verified == ["not the password here"], email
    # The page holds the address as it was typed, and its length.
    own = {"X-Request-Id", "Content-Length"}
    headers = [[pair for pair in answer.headers if pair[0] not in own] for answer in answers]
    assert headers == [headers[0]] * len(answers)


@pytest.mark.case(71)
def test_the_session_changes_at_the_door(app, owner):
    before = cookie(owner)
    owner.signs_in(owner.email)
    after = cookie(owner)
    assert before != after
    stale = Visitor(app)
    carry(stale, before)
    assert not is_in(stale)
    token = after
    assert owner.post("/sign-out", page="/account").status_code == 303
    assert not is_in(owner)
    copied = Visitor(app)
    carry(copied, token)
    assert not is_in(copied)


@pytest.mark.case(71)
@pytest.mark.parametrize("endpoint", ["settings.create_key", "settings.rotate_key", "settings.revoke_key"])
def test_the_session_changes_when_the_password_is_typed_again(app: Flask, endpoint: str) -> None:
    here = world(app)
    ages(app, here.owner, minutes=11)
    before = cookie(here.owner)
    # A form that was open in another tab before.
    other_form = Form(here, "settings.add_website")
    open_page = {"csrf_token": other_form.token(here.owner), **other_form.fields}
    made = Form(here, endpoint).sent(here.owner, password=PASSWORD)
    assert ('class="secret"' in here.owner.get(made.location).text) == (endpoint != "settings.revoke_key")
    assert cookie(here.owner) != before
    stale = Visitor(app)
    carry(stale, before)
    assert stale.get("/settings/audit?page=2").location == "/sign-in?next=/settings/audit%3Fpage%3D2"
    assert here.owner.send(other_form.path, open_page).status_code == 303
    with app.app_context():
        assert len(sessions.of(here.owner.user_id)) == 2, "The session that the world has elsewhere goes on."


@pytest.mark.case(71)
def test_a_password_that_is_wrong_or_not_asked_for_leaves_the_session_as_it_is(app: Flask) -> None:
    here = world(app)
    before = cookie(here.owner)
    assert Form(here, "settings.create_key").sent(here.owner).status_code == 303
    ages(app, here.owner, minutes=11)
    form = Form(here, "settings.create_key")
    assert form.sent(here.owner, password="not the password here").status_code == 400
    assert form.sent(here.owner, password=PASSWORD, name="").status_code == 400
    assert cookie(here.owner) == before
    assert is_in(here.owner)


@pytest.mark.case(71, 87)
def test_a_password_typed_in_two_tabs_at_once_makes_one_new_session(
    app: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = world(app)
    ages(app, here.owner, minutes=11)
    form = Form(here, "settings.create_key")
    values = {"csrf_token": form.token(here.owner), **form.fields, "password": PASSWORD}
    twin, made = Visitor(app), []
    for name in (SESSION, "pixel_form"):
        twin.browser.set_cookie(name, here.owner.browser.get_cookie(name).value)

    def send_from_the_other_tab() -> None:
        made.append(twin.send(form.path, values | {"name": "of the other tab", "form": "another-form"}))

    while_hashing(monkeypatch, send_from_the_other_tab)
    late = here.owner.send(form.path, values)
    assert made[0].status_code == 303
    assert 'class="secret"' in twin.get(made[0].location).text
    assert late.status_code == 400
    assert "in another tab at the same time" in late.text
    assert field(late.text, "name") == form.fields["name"]
    assert not is_in(here.owner)
    assert is_in(twin)


def while_hashing(monkeypatch: pytest.MonkeyPatch, happens: Callable[[], None]) -> None:
    """Let something happen once, in another thread, while a password is verified."""
    verify, waiting = members.verify_password, [happens]

    def verify_meanwhile(*arguments: str) -> bool:
        if waiting:
            thread = threading.Thread(target=waiting.pop())
            thread.start()
            thread.join()
        return verify(*arguments)

    monkeypatch.setattr(members, "verify_password", verify_meanwhile)


@pytest.mark.case(71)
def test_a_session_that_is_ended_while_its_password_is_changed_stays_ended(
    app: Flask, owner: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def end_it() -> None:
        with app.app_context():
            sessions.end(members.by_id(owner.user_id), sessions.of(owner.user_id)[0].id)

    while_hashing(monkeypatch, end_it)
    assert owner.post("/account/password", page="/account", current=PASSWORD, new=NEW).status_code == 400
    assert not is_in(owner)
    assert Visitor(app).signs_in(owner.email, PASSWORD).status_code == 303


@pytest.mark.case(71)
def test_the_session_changes_with_the_password(app: Flask, owner: Visitor) -> None:
    before = cookie(owner)
    assert owner.post("/account/password", page="/account", current=PASSWORD, new=NEW).status_code == 303
    assert is_in(owner)
    assert cookie(owner) != before
    stale = Visitor(app)
    carry(stale, before)
    assert not is_in(stale)


def test_a_session_that_somebody_else_made_up_is_none(app, owner):
    for token in (
        "",
        "x",
        "pxl_session_",
        "pxl_session_" + "0" * 32,
        "é" * 40,
        "pxl_session_" + "x" * 4000,
        cookie(owner)[:-1],
    ):
        visitor = Visitor(app)
        visitor.browser.set_cookie(SESSION, token)
        assert not is_in(visitor)


@pytest.mark.case(73)
def test_sessions_end_by_themselves(app, owner, moved_clock):
    moved_clock.forward(days=6, hours=23)
    assert is_in(owner)
    moved_clock.forward(days=6, hours=23)
    assert is_in(owner)
    moved_clock.forward(days=7, minutes=1)
    assert not is_in(owner)


@pytest.mark.case(73)
def test_no_session_lasts_longer_than_30_days(app, owner, moved_clock):
    for _ in range(6):
        moved_clock.forward(days=5)
        assert is_in(owner) == (moved_clock.ahead < 30 * 86400)
    moved_clock.forward(minutes=1)
    assert not is_in(owner)


@pytest.mark.case(72)
def test_cookies_are_out_of_reach(app, owner):
    answer = Visitor(app).signs_in(owner.email)
    for line in answer.headers.getlist("Set-Cookie"):
        assert "HttpOnly" in line
        assert "SameSite=Lax" in line
        assert "Path=/" in line
        assert "Domain" not in line
        assert len(line) < 4096


@pytest.mark.case(72, 93)
def test_in_live_cookies_go_over_tls_only(app, owner, monkeypatch):
    monkeypatch.setitem(app.config, "PIXEL_ENV", "live")
    monkeypatch.setitem(app.config, "SESSION_COOKIE_SECURE", True)
    visitor = Visitor(app)
    visitor.get("/sign-in", base_url="https://localhost")
    page = visitor.get("/sign-in", base_url="https://localhost")
    values = {"csrf_token": field(page.text, "csrf_token"), "email": owner.email, "password": PASSWORD}
    answer = visitor.send("/sign-in", values, base_url="https://localhost")
    assert answer.status_code == 303
    lines = answer.headers.getlist("Set-Cookie")
    assert any(line.startswith("__Host-pixel_session=pxl_session_") for line in lines)
    assert all("Secure" in line for line in lines)
    assert answer.headers["Strict-Transport-Security"] == "max-age=31536000; includeSubDomains"


@pytest.mark.parametrize("next_", ["//evil.example", "https://evil.example", "/\\evil.example", "javascript:alert(1)", "\\\\evil",
                                   "/\n/evil.example", "/\t/evil.example", "http:evil.example", "///evil.example", " //evil.example", ""])  # fmt: skip
def test_next_stays_on_this_site(app, owner, next_):
    answer = Visitor(app).post("/sign-in", page="/sign-in", email=owner.email, password=PASSWORD, next=next_)
    assert answer.status_code == 303
    assert answer.location == "/"


def test_who_must_sign_in_comes_back(app, owner):
    visitor = Visitor(app)
    sent = visitor.get("/settings/audit?action=key.created")
    assert sent.location == "/sign-in?next=/settings/audit%3Faction%3Dkey.created"
    asked = visitor.get(sent.location)
    fields = {"csrf_token": field(asked.text, "csrf_token"), "next": field(asked.text, "next")}
    answer = visitor.send("/sign-in", fields | {"email": owner.email, "password": PASSWORD})
    assert answer.location == "/settings/audit?action=key.created"


@given(st.text(max_size=60))
@settings(max_examples=200, deadline=None)
def test_no_text_leads_away(text):
    from urllib.parse import urljoin, urlsplit

    from pixel import pages

    led = pages.local("/" + text)
    assert urlsplit(urljoin("https://here.example/sign-in", led)).netloc == "here.example"
    assert pages.local(text).startswith("/")


# -- guessing


def test_the_eleventh_failure_from_a_network_waits(app, owner):
    thief = Visitor(app)
    for _ in range(10):
        assert thief.signs_in(owner.email, "wrong password here").status_code == 400
    refused = thief.signs_in(owner.email, "wrong password here")
    assert refused.status_code == 429
    assert int(refused.headers["Retry-After"]) > 0
    assert "Too many attempts" in refused.text
    # Even the right one, from there; and from elsewhere its owner comes in.
    assert thief.signs_in(owner.email).status_code == 429
    assert Visitor(app).signs_in(owner.email).status_code == 303


def test_an_ipv6_network_is_one(app, owner):
    answers = set()
    for number in range(12):
        visitor = Visitor(app)
        visitor.address = f"2001:db8:77:1::{number + 1:x}"
        answers.add(visitor.signs_in(owner.email, "wrong password here").status_code)
    assert answers == {400, 429}


def test_signing_in_rightly_uses_up_nothing(app, owner):
    visitor = Visitor(app)
    for _ in range(15):
        assert visitor.signs_in(owner.email).status_code == 303


@pytest.mark.case(79)
def test_many_at_once_are_within_memory(app, owner):
    """No more than four hashes of 19 MiB are made at the same moment."""
    most, now, lock = 0, 0, threading.Lock()
    real = members._HASHER.verify

    class Watched:
        def verify(self, *args):
            nonlocal most, now
            with lock:
                now += 1
                most = max(most, now)
            try:
                return real(*args)
            finally:
                with lock:
                    now -= 1

    members._HASHER, hasher = Watched(), members._HASHER
    try:
        threads = [
            threading.Thread(target=members.verify_password, args=(members._NOBODYS_HASH, "x" * 20)) for _ in range(24)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        members._HASHER = hasher
    assert 1 <= most <= 4


# -- passwords


@pytest.mark.parametrize(
    ("password", "refusal"),
    [
        ("short", "at least 15"),
        ("x" * 14, "at least 15"),
        ("y" * 129, "at most 128"),
        ("z" * 20, "easy to guess"),
        ("passwordpassword\0", "NUL"),
        ("", "Enter"),
    ],
)
@pytest.mark.case(78)
def test_a_password_that_will_not_do_is_refused(app, owner, password, refusal):
    answer = owner.post("/account/password", page="/account", current=PASSWORD, new=password)
    assert answer.status_code == 400
    assert refusal in answer.text
    assert Visitor(app).signs_in(owner.email).status_code == 303


@pytest.mark.parametrize(
    "password",
    [
        "correct horse battery",
        "ünïcödé wörds äre fine",
        "日本語のパスワードは十五文字以上です",
        "w" * 64 + "ords and more",
        " spaces at both ends ",
    ],
)
@pytest.mark.case(78)
def test_any_long_password_does(app, owner, password):
    assert owner.post("/account/password", page="/account", current=PASSWORD, new=password).status_code == 303
    assert Visitor(app).signs_in(owner.email, password).status_code == 303
    assert Visitor(app).signs_in(owner.email, PASSWORD).status_code == 400


@pytest.mark.case(78)
def test_an_accent_may_be_typed_in_two_ways(app, owner):
    owner.post("/account/password", page="/account", current=PASSWORD, new="caf\u00e9 du coin ouvert")
    assert Visitor(app).signs_in(owner.email, "cafe\u0301 du coin ouvert").status_code == 303


@pytest.mark.case(78)
@pytest.mark.parametrize("password", ["passwordpassword", "123456789012345", "qwertyuiopasdfgh", "iloveyouiloveyou"])
def test_a_password_that_thousands_have_used_is_refused(app: Flask, owner: Visitor, password: str) -> None:
    with app.app_context():
        link = path_of(members.reset_link(owner.email))
    change = owner.post("/account/password", page="/account", current=PASSWORD, new=password)
    choice = Visitor(app).post(link, password=password)
    for answer in (change, choice):
        assert answer.status_code == 400
        assert "on lists of stolen passwords or easy to guess. Use four or more unrelated words." in answer.text
        assert password not in answer.text


@pytest.mark.case(78)
def test_words_of_the_user_and_of_the_workspace_are_easy_to_guess_for_them_alone(app: Flask) -> None:
    with app.app_context():
        workspace_id = workspaces.create("Zorblax Quundrum", "zorb@example.com").id
    member = person(app, workspace_id, email="vandekerckhovex@snellfurt.example")
    stranger = person(app, email="somebody-unrelated@example.com")
    for new in ("zorblaxquundrum", "Zorblax Quundrum 1", "vandekerckhovex", "snellfurtsnellfurt", "pixelapipixelapi"):
        answer = member.post("/account/password", page="/account", current=PASSWORD, new=new)
        assert answer.status_code == 400, new
    assert stranger.post("/account/password", page="/account", current=PASSWORD, new="zorblaxquundrum").location
    # An invited user is no member yet.
    with app.app_context(), transaction() as session:
        token, _ = links.make(session, "invite", "new@example.com", "x", workspace_id, "viewer", proves_address=True)
    assert Visitor(app).post(f"/links/{token}", password="zorblaxquundrum").status_code == 400


@pytest.mark.case(79)
def test_a_huge_password_is_not_hashed(app: Flask, owner: Visitor, monkeypatch: pytest.MonkeyPatch) -> None:
    hashed = []
    real = members._HASHER

    class Watched:
        def verify(self, kept, password):
            hashed.append(len(password))
            return real.verify(kept, password)

    monkeypatch.setattr(members, "_HASHER", Watched())
    for length, status in ((129, 400), (300, 400), (20_000, 400), (1_000_000, 413)):
        assert Visitor(app).signs_in(owner.email, "p" * length).status_code == status
    assert max(hashed, default=0) <= 128
    new = "p" * 1_000_000
    assert owner.post("/account/password", page="/account", current=PASSWORD, new=new).status_code == 413
    assert max(hashed, default=0) <= 128


@pytest.mark.case(73, 80)
def test_a_new_password_ends_the_other_sessions(app, owner):
    other = Visitor(app)
    other.signs_in(owner.email)
    assert is_in(other)
    with app.app_context():
        link = members.reset_link(owner.email)
    assert owner.post("/account/password", page="/account", current=PASSWORD, new=NEW).status_code == 303
    assert is_in(owner)
    assert not is_in(other)
    # ... and the links to set another one.
    assert Visitor(app).get(link.partition("localhost:8000")[2]).status_code == 404


def test_the_old_password_is_asked_for(app, owner):
    answer = owner.post("/account/password", page="/account", current="not the password here", new=NEW)
    assert answer.status_code == 400
    assert "This is not your password." in answer.text
    assert NEW not in answer.text


def test_sessions_are_ended_one_by_one(app, owner):
    other, third = Visitor(app), Visitor(app)
    other.signs_in(owner.email)
    third.signs_in(owner.email)
    with app.app_context():
        found = sessions.of(owner.user_id)
        assert len(found) == 3
        newest = sessions.find(cookie(third)).id
    owner.post(f"/account/sessions/{newest}/end", page="/account")
    assert not is_in(third)
    assert is_in(other)
    owner.post("/account/sessions/end-others", page="/account")
    assert not is_in(other)
    assert is_in(owner)


# -- asked again before a secret is made


@pytest.mark.parametrize("endpoint", ["settings.create_key", "settings.rotate_key", "settings.revoke_key"])
@pytest.mark.case(87)
def test_the_password_is_asked_again_after_ten_minutes(app, endpoint):
    here = world(app)
    ages(app, here.owner, minutes=11)
    form = Form(here, endpoint)
    asked = form.sent(here.owner)
    assert asked.status_code == 400
    assert 'name="password"' in asked.text
    assert form.sent(here.owner, password="not the password here").status_code == 400
    answer = form.sent(here.owner, password=PASSWORD)
    assert answer.status_code == 303
    assert PASSWORD not in asked.text
    # Once is enough for a while.
    assert 'name="password"' not in here.owner.get("/settings/api-keys/new").text


@pytest.mark.case(87)
@pytest.mark.parametrize("store", ["find", "confirm"])
def test_without_the_store_of_sessions_no_key_is_made(app: Flask, monkeypatch: pytest.MonkeyPatch, store: str) -> None:
    here = world(app)
    ages(app, here.owner, minutes=11)
    form = Form(here, "settings.create_key")
    values = {"csrf_token": form.token(here.owner), **form.fields, "password": PASSWORD}
    before = snapshot(app)["api_keys"]

    def fail(*_: object) -> None:
        raise OperationalError("SELECT", {}, Exception("database is locked"))

    monkeypatch.setattr(sessions, store, fail)
    refused = here.owner.send(form.path, values)
    assert refused.status_code == 503
    assert "service_unavailable" in refused.text
    assert snapshot(app)["api_keys"] == before


# -- links


def path_of(link):
    return "/links/" + link.rpartition("/")[2]


@pytest.mark.case(80, 93)
def test_a_link_works_once(app, owner):
    with app.app_context():
        link = path_of(members.reset_link(owner.email))
    first, second = Visitor(app), Visitor(app)
    assert "Set a new password" in first.get(link).text
    assert first.get(link).headers["Referrer-Policy"] == "no-referrer"
    second.get(link)
    assert first.post(link, password=NEW).status_code == 303
    assert is_in(first)
    assert not is_in(owner)
    assert second.get(link).status_code == 404
    assert (
        second.send(
            link, {"csrf_token": field(second.get("/sign-in").text, "csrf_token"), "password": PASSWORD}
        ).status_code
        == 404
    )
    assert Visitor(app).signs_in(owner.email, NEW).status_code == 303


@pytest.mark.case(80)
def test_only_the_newest_link_works_and_not_for_ever(app, owner, moved_clock):
    with app.app_context():
        older, newer = (path_of(members.reset_link(owner.email)) for _ in range(2))
    assert Visitor(app).get(older).status_code == 404
    assert Visitor(app).get(newer).status_code == 200
    moved_clock.forward(minutes=61)
    assert Visitor(app).get(newer).status_code == 404


def test_a_link_followed_twice_at_once_sets_one_password(app, owner):
    with app.app_context():
        token = members.reset_link(owner.email).rpartition("/")[2]
    done = []

    def follow(password):
        with app.app_context():
            done.append(members.choose_password(token, password) is not None)

    threads = [
        threading.Thread(target=follow, args=(f"{word} words are enough",)) for word in ("these", "those", "other")
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(done) == [False, False, True]


def test_a_bad_password_leaves_the_link_in_force(app, owner):
    with app.app_context():
        link = path_of(members.reset_link(owner.email))
    visitor = Visitor(app)
    answer = visitor.post(link, password="short")
    assert answer.status_code == 400
    assert "at least 15" in answer.text
    assert visitor.post(link, password=NEW).status_code == 303


@pytest.mark.parametrize(
    "token", ["", "x", "pxl_reset_", "pxl_reset_" + "0" * 32, "%00", "é", "pxl_reset_" + "9" * 3000]
)
def test_no_made_up_link_works(app, token):
    assert Visitor(app).get(f"/links/{token}").status_code == 404


@pytest.mark.case(80)
def test_a_link_is_kept_as_its_hash(app, owner):
    with app.app_context():
        token = members.reset_link(owner.email).rpartition("/")[2]
        kept = [repr(row) for row in db.session.execute(db.select(*links.Link.__table__.columns)).all()]
    assert token not in "".join(kept)


@pytest.mark.case(80)
def test_a_link_has_at_least_128_random_bits(app: Flask, owner: Visitor) -> None:
    with app.app_context():
        links = [members.reset_link(owner.email) for _ in range(20)]
    texts = [link.rpartition("pxl_reset_")[2] for link in links]
    assert len(set(texts)) == 20
    # Each of the 62 letters and digits is worth 5.95 bits; a test of its own proves that all are used.
    assert all(re.fullmatch(r"[0-9A-Za-z]{22,}", text) for text in texts)


def test_the_command_line_gives_the_first_link(app):
    runner = app.test_cli_runner()
    made = runner.invoke(args=["workspace", "create", "From a command", "--owner", "first@example.com"])
    link = re.search(r"/links/pxl_welcome_\w+", made.stderr)[0]
    assert made.stdout.strip().startswith("ws_")
    visitor = Visitor(app)
    assert "first@example.com" in visitor.get(link).text
    assert visitor.post(link, password=NEW).status_code == 303
    assert "From a command" in visitor.get("/settings/members").text
    again = runner.invoke(args=["workspace", "create", "Another", "--owner", "first@example.com"])
    assert "/links/" not in again.stderr
    assert runner.invoke(args=["user", "reset", "first@example.com"]).stdout.count("/links/pxl_reset_") == 1
    assert runner.invoke(args=["user", "reset", "nobody@example.com"]).exit_code == 1


@pytest.mark.case(75)
def test_forgot_says_the_same_to_everyone(app, owner):
    answers = [
        Visitor(app).post("/forgot", page="/sign-in", email=email)
        for email in (owner.email, "nobody@example.com", "no address")
    ]
    assert {answer.status_code for answer in answers} == {200}
    assert len({re.sub(r"req_\w+", "", answer.text) for answer in answers}) == 1


# -- workspaces


def test_the_switcher_leads_from_one_workspace_to_another(app, ada, bob, owner):
    with app.app_context(), transaction() as session:
        members.join(session, bob.id, owner.email, "viewer")
    text = owner.get("/settings/api-keys").text
    assert f'value="{bob.id}"' in text
    owner.post("/switch", page="/account", workspace=bob.id)
    assert owner.get("/settings/api-keys/new").status_code == 403
    with app.app_context():
        assert workspaces.get(bob.id).name in owner.get("/settings/members").text
        members.remove(bob.id, owner.user_id, "somebody")
    assert owner.get("/settings/api-keys/new").status_code == 200


@pytest.mark.case(31)
def test_a_role_holds_from_the_next_request(app, ada):
    admin = person(app, ada.id, "admin")
    assert admin.get("/settings/api-keys/new").status_code == 200
    with app.app_context():
        members.change_role(ada.id, admin.user_id, "viewer", "somebody")
    assert admin.get("/settings/api-keys/new").status_code == 403
    with app.app_context():
        members.remove(ada.id, admin.user_id, "somebody")
    assert admin.get("/settings/api-keys").location == "/account"
    assert "None. Ask an owner" in admin.get("/account").text


def test_pages_are_not_kept_by_anyone(app, owner):
    for path in ("/account", "/settings/api-keys", "/sign-in", "/nowhere"):
        headers = owner.get(path).headers
        assert headers["Cache-Control"] == "no-store"
        assert "Cookie" in headers["Vary"]
        policy = headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert headers["Referrer-Policy"] in ("same-origin", "no-referrer")
        assert headers["X-Frame-Options"] == "DENY"
        assert headers["Cross-Origin-Opener-Policy"] == "same-origin"


@pytest.mark.case(100)
@pytest.mark.parametrize("wrong", ["salt", "secret", "age", "cookie", "rotated secret"])
def test_a_form_token_signed_in_another_way_is_refused(app: Flask, monkeypatch: pytest.MonkeyPatch, wrong: str) -> None:
    here = world(app)
    form = Form(here, "settings.create_key")
    token, secret = form.token(here.owner), app.config["SECRET_KEY"]
    purpose = "wtf-csrf-token"
    content = URLSafeTimedSerializer(secret, salt=purpose).loads(token)
    if wrong == "salt":
        token = URLSafeTimedSerializer(secret, salt="cookie-session").dumps(content)
    elif wrong == "secret":
        token = URLSafeTimedSerializer("x" * 64, salt=purpose).dumps(content)
    elif wrong == "cookie":
        token = here.owner.browser.get_cookie("pixel_form").value
    elif wrong == "age":
        long_ago = time.time() - pages.FORM_SECONDS - 60
        with monkeypatch.context() as patch:
            patch.setattr(TimestampSigner, "get_timestamp", lambda self: int(long_ago))
            token = URLSafeTimedSerializer(secret, salt=purpose).dumps(content)
    else:
        monkeypatch.setitem(app.config, "SECRET_KEY", "y" * 64)
    before = snapshot(app)
    refused = here.owner.send(form.path, {**form.fields, "csrf_token": token})
    assert refused.status_code == 400
    assert "There is a problem" in refused.text
    assert snapshot(app) == before


@pytest.mark.case(100)
def test_a_form_token_signed_again_in_the_same_way_is_taken(app: Flask) -> None:
    """Without this, the refusals above could have another cause."""
    here = world(app)
    form = Form(here, "settings.create_key")
    serializer = URLSafeTimedSerializer(app.config["SECRET_KEY"], salt="wtf-csrf-token")
    token = serializer.dumps(serializer.loads(form.token(here.owner)))
    assert here.owner.send(form.path, {**form.fields, "csrf_token": token}).status_code == 303


def test_a_broken_form_cookie_is_as_none(app, owner):
    for value in ("x", "eyJ.x.y", "é", "." * 4000):
        visitor = Visitor(app)
        visitor.browser.set_cookie("pixel_form", value)
        assert visitor.signs_in(owner.email).status_code == 303


def test_the_counters_of_sign_ins_name_no_address_in_full(app):
    with app.test_request_context(environ_base={"REMOTE_ADDR": "2001:db8:77:1::9"}):
        assert access.network_of_request() == "2001:db8:77:1::/64"
