"""Strangers can neither guess a password nor keep its owner out."""

import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest
from flask import Flask
from itsdangerous import URLSafeSerializer
from limits import RateLimitItemPerHour, RateLimitItemPerMinute

from pixel import access, devices, jobs, members, telemetry
from pixel.counters import Counters
from pixel.database import db
from tests import stores
from tests.cast import addresses, statements
from tests.pages import PASSWORD, Visitor, ages, field, person
from tests.server import until

WRONG = "wrong password here"
NEW = "five other plain words"
DEVICE = "pixel_device"


@pytest.fixture
def owner(app, ada):
    return person(app, ada.id)


@pytest.fixture
def few(monkeypatch):
    """An account is slow for strangers after five wrong passwords."""
    monkeypatch.setattr(access, "STRANGER_FAILURES", RateLimitItemPerHour(5))


@pytest.fixture
def later(monkeypatch):
    """Move the counters' clock forward."""
    ahead = [0.0]
    moved = SimpleNamespace(time=lambda: time.time() + ahead[0], monotonic=time.monotonic, sleep=time.sleep)
    monkeypatch.setattr("pixel.counters.time", moved)
    return lambda seconds: ahead.__setitem__(0, ahead[0] + seconds)


def fails(app, email, times=1, address=None):
    """The statuses of wrong passwords, each from an address of its own unless one is given."""
    statuses = []
    for _ in range(times):
        visitor = Visitor(app)
        visitor.address = address or visitor.address
        statuses.append(visitor.signs_in(email, WRONG).status_code)
    return statuses


def signs_out(visitor):
    assert visitor.post("/sign-out", page="/account").status_code == 303
    return visitor


def moves(visitor):
    """Let a visitor's browser be somewhere else."""
    visitor.address = next(addresses)
    return visitor


def at(app, address):
    """A new browser at an address."""
    visitor = Visitor(app)
    visitor.address = address
    return visitor


# -- strangers


@pytest.mark.case(76)
def test_a_hundred_wrong_passwords_slow_strangers_down_and_keep_nobody_out(app, owner):
    home = signs_out(owner).address
    assert fails(app, owner.email, 101) == [400] * 101
    stranger = next(addresses)
    assert fails(app, owner.email, 4, stranger) == [400] * 3 + [429]
    assert at(app, stranger).signs_in(owner.email).status_code == 429
    # The right password still works: at home, on the known device elsewhere, and in a place that is new.
    assert at(app, home).signs_in(owner.email).status_code == 303
    assert moves(owner).signs_in(owner.email).status_code == 303
    assert Visitor(app).signs_in(owner.email).status_code == 303


@pytest.mark.case(76)
def test_a_stranger_gains_nothing_by_another_address_of_the_same_ipv6_network(app, owner, few):
    fails(app, owner.email, 6)
    statuses = [
        fails(app, owner.email, 1, f"2001:db8:{owner.user_id[-4:].encode().hex()[:4]}:1::{n:x}")[0] for n in range(1, 6)
    ]
    assert statuses == [400] * 3 + [429] * 2


@pytest.mark.case(76)
def test_a_stranger_gains_little_by_another_network_of_the_same_ipv6_site(app: Flask, owner: Visitor) -> None:
    site = f"2001:db8:{int(owner.user_id[-3:].encode().hex()[:4], 16):x}"
    statuses = [fails(app, f"nobody{n}@example.com", 1, f"{site}:{n:x}::1")[0] for n in range(51)]
    assert statuses == [400] * 50 + [429]
    owner.address = f"{site}:ff::1"
    assert signs_out(owner).signs_in(owner.email).status_code == 303
    assert Visitor(app).signs_in(owner.email).status_code == 303


def test_a_known_network_keeps_its_whole_budget_while_strangers_have_few_tries(app, owner, few):
    home = signs_out(owner).address
    fails(app, owner.email, 6)
    assert fails(app, owner.email, 11, home) == [400] * 10 + [429]


def test_a_network_is_known_by_its_64_bits_for_90_days(app, owner, few, moved_clock):
    owner.address = "2001:db8:64:1::1"
    owner.signs_in(owner.email)
    fails(app, owner.email, 6)
    other = "2001:db8:64:1:ffff::2"
    assert fails(app, owner.email, 4, other) == [400] * 4
    moved_clock.forward(days=91)
    assert fails(app, owner.email, 4, other) == [400] * 3 + [429]
    with app.app_context():
        jobs.forget_old_networks()
        assert not db.session.scalar(db.select(devices.KnownNetwork).filter_by(user_id=owner.user_id))


def test_an_unknown_address_is_answered_like_a_known_one_in_every_budget(app, owner, few):
    signs_out(owner)
    seen = []
    for email in (owner.email, "x" + owner.email[1:]):
        places = [next(addresses) for _ in range(6)] + [next(addresses)] * 4 + [next(addresses)] * 2
        answers = [at(app, place).signs_in(email, WRONG) for place in places]
        varying = {"X-Request-Id", "Set-Cookie", "Content-Length", "Retry-After"}
        seen.append([
            (
                answer.status_code,
                re.sub(r'value="[^"]*"|req_\w+|in \d+ seconds', "", answer.text),
                [(name, value) for name, value in answer.headers if name not in varying],
            )
            for answer in answers
        ])  # fmt: skip
    assert seen[0] == seen[1]
    assert 429 in {status for status, _, _ in seen[0]}


@pytest.mark.case(74)
def test_an_unknown_address_costs_the_same_queries(app, owner):
    signs_out(owner)
    queries = []
    for email in (owner.email, f"no-{owner.email}"):
        visitor = Visitor(app)
        values = {"email": email, "password": WRONG, "csrf_token": field(visitor.get("/sign-in").text, "csrf_token")}
        with statements(app) as executed:
            assert visitor.send("/sign-in", values).status_code == 400
        queries.append(list(executed))
    assert queries[0] == queries[1]


def test_an_unknown_address_costs_the_same_queries_to_somebody_who_is_signed_in(app: Flask, owner: Visitor) -> None:
    other = person(app)
    values = {"password": WRONG, "csrf_token": field(other.get("/account").text, "csrf_token")}
    queries = []
    for email in (owner.email, f"no-{owner.email}"):
        with statements(app) as executed:
            assert moves(other).send("/sign-in", {**values, "email": email}).status_code == 400
        queries.append(list(executed))
    assert queries[0] == queries[1]


# -- known devices


def test_a_known_device_signs_in_whatever_others_behind_its_address_did(app, owner):
    signs_out(owner)
    assert fails(app, owner.email, 11, owner.address) == [400] * 10 + [429]
    assert fails(app, "somebody-else@example.com", 3, owner.address) == [429] * 3
    assert at(app, owner.address).signs_in(owner.email).status_code == 429
    assert owner.signs_in(owner.email).status_code == 303


def test_a_known_device_has_ten_tries_and_is_a_stranger_for_the_rest_of_the_window(app, owner, later):
    signs_out(owner)
    statuses = [owner.signs_in(owner.email, WRONG).status_code for _ in range(21)]
    # Ten of its own, then the ten of its network.
    assert statuses == [400] * 20 + [429]
    assert owner.signs_in(owner.email).status_code == 429
    # What it did was its own, and its network was left alone until it became a stranger.
    assert Visitor(app).signs_in(owner.email).status_code == 303
    later(301)
    assert owner.signs_in(owner.email).status_code == 303


def test_wrong_passwords_of_a_known_device_use_up_nothing_of_others(app, owner, few):
    signs_out(owner)
    assert [owner.signs_in(owner.email, WRONG).status_code for _ in range(10)] == [400] * 10
    assert fails(app, owner.email, 5, owner.address) == [400] * 5
    assert fails(app, owner.email, 4, next(addresses)) == [400] * 4


def test_a_right_password_on_a_known_device_uses_up_nothing(app, owner):
    for _ in range(15):
        assert signs_out(owner).signs_in(owner.email).status_code == 303


def test_strangers_do_not_keep_the_signed_in_from_confirming_their_password(app, owner):
    fails(app, owner.email, 101)
    fails(app, owner.email, 11, owner.address)
    ages(app, owner, minutes=20)
    key = {"name": "made", "scopes": "pixel:read", "every_website": "all", "expires": "90"}
    page = owner.get("/settings/api-keys/new").text
    key |= {"form": field(page, "form"), "password": PASSWORD}
    owner.browser.delete_cookie(DEVICE)
    assert owner.post("/settings/api-keys/new", key).status_code == 303
    assert owner.post("/account/password", page="/account", current=PASSWORD, new=NEW).status_code == 303


def test_the_password_of_a_session_is_guessed_no_more_often_than_that_of_a_device(app, owner):
    statuses = []
    for _ in range(21):
        answer = owner.post("/account/password", page="/account", current=WRONG, new=NEW)
        statuses.append("Rate limit exceeded" in answer.text)
    assert statuses == [False] * 20 + [True]


# -- the cookie


def device_of(visitor):
    return visitor.browser.get_cookie(DEVICE).value


def known(app, email, cookie):
    """Whether a browser with this cookie is known to the user: it signs in from a network whose budget is spent."""
    other = Visitor(app)
    fails(app, "nobody-at-all@example.com", 11, other.address)
    if cookie is not None:
        other.browser.set_cookie(DEVICE, cookie)
    return other.signs_in(email).status_code == 303


def test_the_cookie_is_set_by_signing_in_and_names_nobody(app, owner, monkeypatch):
    visitor = Visitor(app)
    assert not [line for line in visitor.signs_in(owner.email, WRONG).headers.getlist("Set-Cookie") if DEVICE in line]
    [line] = [line for line in visitor.signs_in(owner.email).headers.getlist("Set-Cookie") if DEVICE in line]
    assert {"HttpOnly", "SameSite=Lax", "Path=/", "Max-Age=31536000"} <= set(line.split("; "))
    with app.app_context():
        held = str(devices._serializer().loads(device_of(visitor)))
    assert owner.email not in held
    assert owner.user_id not in held
    before = device_of(visitor)
    signs_out(visitor)
    assert device_of(visitor) == before
    monkeypatch.setitem(app.config, "PIXEL_ENV", "live")
    live = Visitor(app)
    values = {"email": owner.email, "password": PASSWORD}
    values["csrf_token"] = field(live.get("/sign-in", base_url="https://localhost").text, "csrf_token")
    lines = live.send("/sign-in", values, base_url="https://localhost").headers.getlist("Set-Cookie")
    assert [line for line in lines if line.startswith(f"__Host-{DEVICE}=") and "Secure" in line.split("; ")]


@pytest.mark.case(100)
def test_a_cookie_that_is_not_ours_or_too_old_makes_no_device_known(app, owner, moved_clock):
    cookie = device_of(owner)
    assert known(app, owner.email, cookie)
    # The last character of a signature has unused bits, so change one in the middle.
    forged = [
        cookie[:-9] + ("A" if cookie[-9] != "A" else "B") + cookie[-8:],
        cookie.partition(".")[2],
        "",
        "x" * 4000,
        "é",
        "a.b.c",
    ]
    with app.app_context():
        payload = devices._serializer().loads(cookie)
        for secret, salt in (
            ("another secret of 32 characters..", "pixel.device"),
            (app.config["SECRET_KEY"], "other"),
        ):
            forged.append(URLSafeSerializer(secret, salt=salt).dumps(payload))
    (form := Visitor(app)).get("/sign-in")
    forged += [form.browser.get_cookie("pixel_form").value, None]
    assert [known(app, owner.email, each) for each in forged] == [False] * len(forged)
    moved_clock.forward(days=366)
    assert not known(app, owner.email, cookie)


def test_a_cookie_is_worth_nothing_for_another_user(app, ada, owner):
    assert not known(app, person(app, ada.id).email, device_of(owner))


def test_one_browser_is_known_to_the_last_five_who_signed_in(app, ada):
    emails = [person(app, ada.id).email for _ in range(6)]
    shared = Visitor(app)
    for email in (emails[1], *emails):
        assert shared.signs_in(email).status_code == 303
        signs_out(shared)
    cookie = device_of(shared)
    assert [known(app, email, cookie) for email in emails] == [False] + [True] * 5


def test_a_new_password_makes_other_devices_and_networks_strangers(app, owner, few):
    other = Visitor(app)
    other.signs_in(owner.email)
    stale = [device_of(other), device_of(owner)]
    assert owner.post("/account/password", page="/account", current=PASSWORD, new=NEW).status_code == 303
    fails(app, "nobody-at-all@example.com", 11, (spent := Visitor(app)).address)
    for cookie, status in ((stale[0], 429), (stale[1], 429), (device_of(owner), 303)):
        spent.browser.set_cookie(DEVICE, cookie)
        assert spent.signs_in(owner.email, NEW).status_code == status
        if status == 303:
            signs_out(spent)
    with app.app_context():
        assert devices.is_known_network(owner.user_id, owner.address)
        assert not devices.is_known_network(owner.user_id, other.address)
        reset = members.reset_link(owner.email)
    cookie = device_of(owner)
    Visitor(app).post("/links/" + reset.rpartition("/")[2], password=PASSWORD)
    assert not known(app, owner.email, cookie)
    with app.app_context():
        assert not devices.is_known_network(owner.user_id, owner.address)


def test_no_network_is_stored_as_it_is(app, owner):
    with app.app_context(), db.engine.connect() as connection:
        rows = connection.execute(db.select(devices.KnownNetwork.__table__)).all()
        kept = repr([connection.execute(db.select(table)).all() for table in db.metadata.sorted_tables])
    assert len(rows) >= 1
    assert not re.search(rf"\b{re.escape(owner.address)}\b", kept)


# -- many at once


def test_many_tries_at_once_are_no_more_than_the_budget(app, owner):
    place = next(addresses)
    visitors = [at(app, place) for _ in range(24)]
    values = {"email": owner.email, "password": WRONG}
    tokens = [field(visitor.get("/sign-in").text, "csrf_token") for visitor in visitors]

    def send(pair):
        return pair[0].send("/sign-in", {**values, "csrf_token": pair[1]}).status_code

    with ThreadPoolExecutor(access.SIGN_INS_AT_ONCE) as threads:
        statuses = list(threads.map(send, zip(visitors, tokens, strict=True)))
    assert sorted(statuses) == [400] * 10 + [429] * 14


def test_a_flood_from_many_networks_leaves_threads_and_a_way_in_for_known_devices(
    app: Flask, owner: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    signs_out(owner)
    strangers = [Visitor(app) for _ in range(3 * access.SIGN_INS_AT_ONCE)]
    tokens = [field(stranger.get("/sign-in").text, "csrf_token") for stranger in strangers]
    refused, verify = threading.Event(), members.verify_password

    def verify_later(password_hash: str, password: str) -> bool:
        if password == WRONG:
            refused.wait(10)
        return verify(password_hash, password)

    monkeypatch.setattr(members, "verify_password", verify_later)

    def send(stranger: Visitor, token: str) -> int:
        return stranger.send("/sign-in", {"email": owner.email, "password": WRONG, "csrf_token": token}).status_code

    with ThreadPoolExecutor(len(strangers)) as threads:
        tries = [threads.submit(send, *pair) for pair in zip(strangers, tokens, strict=True)]
        try:
            until(lambda: sum(each.done() for each in tries) == 2 * access.SIGN_INS_AT_ONCE)
            assert moves(owner).signs_in(owner.email).status_code == 303
        finally:
            refused.set()
    statuses = [each.result() for each in tries]
    assert sorted(statuses) == [400] * access.SIGN_INS_AT_ONCE + [429] * 2 * access.SIGN_INS_AT_ONCE
    # A try that was not worked on is not charged.
    turned_away = strangers[statuses.index(429)]
    assert fails(app, owner.email, 11, turned_away.address) == [400] * 10 + [429]


@pytest.mark.parametrize("kind", ["sqlite", "redis"])
def test_a_refund_is_for_its_own_window_only(tmp_path, kind):
    tried, item = Counters(), RateLimitItemPerMinute(10, 5)
    tried.bind(stores.Redis().url if kind == "redis" else f"pixel-sqlite:///{tmp_path}/counts")
    _, reset = tried.hit(item, "somebody")
    assert tried.hit(item, "somebody")[0] == 2
    tried.refund(item, "somebody", reset=reset)
    assert tried.hit(item, "somebody")[0] == 2
    # Of a window that is over, nothing is taken from the one that runs now.
    tried.refund(item, "somebody", reset=reset - 300)
    assert tried.hit(item, "somebody")[0] == 3
    for _ in range(5):
        tried.refund(item, "somebody", reset=reset)
    assert tried.hit(item, "somebody")[0] == 1
    tried.refund(item, "nobody yet", reset=reset)
    assert tried.hit(item, "nobody yet")[0] == 1


@pytest.mark.parametrize("kind", ["sqlite", "redis"])
def test_a_budget_is_looked_at_without_a_charge(tmp_path: Path, kind: str) -> None:
    counters, item = Counters(), RateLimitItemPerMinute(10, 5)
    counters.bind(stores.Redis().url if kind == "redis" else f"pixel-sqlite:///{tmp_path}/counts")
    assert counters.count(item, "somebody") == 0
    counters.hit(item, "somebody")
    counters.hit(item, "somebody")
    assert [counters.count(item, "somebody") for _ in range(3)] == [2, 2, 2]
    assert counters.count(item, "somebody else") == 0


# -- the alarm


@pytest.mark.case(77)
def test_one_try_for_each_of_many_accounts_is_stopped_and_sets_off_an_alarm_once(app, monkeypatch):
    monkeypatch.setattr(access, "STUFFING", RateLimitItemPerMinute(23, 5))
    warnings, counted = [], []
    monkeypatch.setattr(access._LOG, "warning", lambda text, *values: warnings.append(text % values))
    monkeypatch.setattr(telemetry, "count", lambda name, *_, **__: counted.append(name))
    place = next(addresses)
    statuses = [fails(app, f"user{n}@example.com", 1, place)[0] for n in range(30)]
    assert statuses == [400] * 10 + [429] * 20
    assert warnings == ["more than 23 sign-ins failed within 5 minutes"]
    assert counted.count("pixel_sign_in_alarms") == 1
    assert counted.count("pixel_sign_in_failures") == 30
