"""Hits of browsers: from whose pages they are taken, and what becomes of them."""

import json
import os
import sqlite3

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from pixel import clock, database, geo, salts, websites
from pixel.extensions import counters
from tests.cast import READ, addresses, error, load, stored, trust
from tests.collect.pages import Browser, drops, fate, image, show


def test_a_hit_is_counted_with_what_the_browser_tells(app, ada, caller, browser):
    hit = {
        "url": "https://ada.example/a?utm_source=news&utm_medium=email",
        "referrer": "https://www.google.com/",
        "title": "A",
    }
    answer = browser.sends(**hit, visitor_id="v", screen="1280x720", headers={"Accept-Language": "de-CH,de;q=0.9"})
    assert fate(answer) == {"status": "accepted"}
    assert answer.headers["Access-Control-Allow-Origin"] == "https://ada.example"
    assert "Access-Control-Allow-Credentials" not in answer.headers
    [row] = stored(app, ada.site)
    told = {"visitor_id": "v", "path": "/a", "browser": "Firefox", "os": "Linux", "device": "desktop", "language": "de-CH",
            "channel": "Email", "referrer": "google.com", "screen": "1280x720"}  # fmt: skip
    assert {name: row[name] for name in told} == told
    assert caller.rows("p_top_pages")[0]["visitors"] == 1
    receipt = caller.get(f"/pixel/events/{row['event_id']}").json["data"]
    assert receipt["request_id"] == answer.headers["X-Request-Id"]


@pytest.mark.parametrize(
    "kind", ["application/json", "text/plain", "text/plain;charset=UTF-8", "application/json; charset=utf-8"]
)
def test_json_comes_as_json_or_as_a_beacons_text(browser, kind):
    assert fate(browser.sends(content_type=kind)) == {"status": "accepted"}


@pytest.mark.parametrize(
    "kind", ["text/html", "application/x-www-form-urlencoded", "multipart/form-data", "", "x" * 300]
)
def test_no_other_type_is_taken(browser, kind):
    assert error(browser.sends(content_type=kind)) == (415, "unsupported_media_type")


@pytest.mark.parametrize(
    "origin", ["https://ada.example", "http://ada.example:8080", "https://www.ada.example", "https://a.b.ADA.example"]
)
def test_the_domain_and_all_below_it_may_send(browser, origin):
    assert fate(browser.sends(origin=origin)) == {"status": "accepted"}


@pytest.mark.parametrize(
    "origin",
    ["https://bob.example", "https://evilada.example", "https://ada.example.evil.example", "null", "x", "https://", None,
     "https://[", "javascript:ada.example", "file://", "https://ada.example@evil.example", "http://" + "a" * 5000],
)  # fmt: skip
@pytest.mark.case(65)
def test_pages_of_other_sites_are_dropped_by_reason(app, ada, browser, origin):
    answer = browser.sends(origin=origin)
    assert fate(answer) == {"status": "filtered", "reason": "origin"}
    assert "Access-Control-Allow-Origin" not in answer.headers
    assert stored(app, ada.site) == []
    assert drops(app, ada.site) == {"origin": 1}


def test_the_referrer_tells_where_there_is_no_origin(browser):
    assert fate(browser.sends(origin=None, headers={"Referer": "https://ada.example/x"}))["status"] == "accepted"
    assert fate(browser.sends(origin=None, headers={"Referer": "https://bob.example/x"}))["reason"] == "origin"
    # An origin outweighs it.
    forged = browser.sends(origin="https://bob.example", headers={"Referer": "https://ada.example/x"})
    assert fate(forged)["reason"] == "origin"
    assert fate(browser.sends(origin="https://bob.example", headers={"Host": "ada.example"}))["reason"] == "origin"


def test_an_allowed_host_may_send_too(app, ada, browser):
    with app.app_context():
        websites.change(ada.id, ada.site, "Ada", "UTC", ["checkout.example.net"])
    assert fate(browser.sends(origin="https://a.checkout.example.net"))["status"] == "accepted"
    assert fate(browser.sends(origin="https://example.net"))["reason"] == "origin"


@pytest.mark.parametrize(
    "website", ["admx_00000000000000", "", None, 5, ["x"], {"a": 1}, "x" * 10_000, "'; DROP TABLE x"]
)
def test_a_website_that_there_is_not_is_refused(browser, website):
    refused = browser.sends(website_id=website)
    assert error(refused) == (404, "website_not_found")
    assert "Access-Control-Allow-Origin" not in refused.headers


def test_a_removed_website_takes_nothing(app, ada, browser):
    assert fate(browser.sends())["status"] == "accepted"
    with app.app_context():
        websites.remove(ada.id, ada.site)
    assert error(browser.sends()) == (404, "website_not_found")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"5",
        b'"x"',
        b"\xff",
        b'{"a": NaN}',
        b'{"a": 1, "a": 2}',
        b"[" * 5000,
        b"website_id=x",
    ],
)
def test_what_is_no_json_object_is_refused(browser, data):
    assert error(browser.sends(data=data)) == (400, "invalid_body")


def test_a_large_hit_is_refused(browser):
    refused = browser.sends(title="x" * 70_000)
    assert error(refused) == (413, "payload_too_large")
    assert refused.json["error"]["details"] == {"limit_bytes": 65536}


@pytest.mark.parametrize(
    "wrong",
    [{"name": "oops"}, {"oops": 1}, {"ip": "203.0.113.9"}, {"user_agent": "x"}, {"country": "DE"}, {"url": "x"},
     {"name": "custom"}, {"goal": "x"}, {"props": {"a": {}}}, {"visitor_id": "\u200b"}],
)  # fmt: skip
def test_a_wrong_hit_is_told_to_its_page_and_counted(app, ada, browser, wrong):
    refused = browser.sends(**wrong)
    assert error(refused) == (400, "invalid_body")
    assert refused.headers["Access-Control-Allow-Origin"] == "https://ada.example"
    assert drops(app, ada.site) == {"invalid_body": 1}


def test_a_bot_is_kept_apart_and_told_so(app, ada, caller):
    bot = Browser(app, ada.site, agent="Mozilla/5.0 (compatible; GPTBot/1.2; +https://openai.com/gptbot)")
    assert fate(bot.sends()) == {"status": "filtered", "reason": "bot"}
    assert caller.rows("p_top_pages") == []
    assert caller.rows("p_top_pages", bots="include")[0]["pageviews"] == 1
    assert stored(app, ada.site)[0]["bot"] == "GPTBot"


@pytest.mark.parametrize(
    ("url", "path", "source"),
    [
        ("https://ada.example/#/inbox", "/#/inbox", ""),
        ("https://ada.example#!/inbox", "/#!/inbox", ""),
        ("https://ada.example/app?a=b#/in/1?utm_source=news", "/app#/in/1", "news"),
        ("https://ada.example/app?utm_source=news#/in?x=1", "/app#/in", "news"),
        ("https://ada.example/app#top", "/app", ""),
        ("https://ada.example/app#access_token=secret", "/app", ""),
        ("https://ada.example/app#", "/app", ""),
    ],
)
def test_a_route_behind_a_hash_is_part_of_the_path(app, ada, browser, url, path, source):
    assert fate(browser.sends(url=url)) == {"status": "accepted"}
    [row] = stored(app, ada.site)
    assert (row["path"], row["utm_source"]) == (path, source)


def test_a_route_makes_a_path_no_longer_than_any(browser):
    assert error(browser.sends(url="https://ada.example/#/" + "x" * 2000)) == (400, "invalid_body")


def test_goals_and_payments_carry_the_first_campaign(app, ada, browser):
    first = "utm_source=the+news&utm_campaign=%C3%BC&gclid=g%001&utm_x%0A=1&utm_%00=1&&utm_" + "x" * 200 + "=1"
    touch = {"first_utm_source": "the news", "first_utm_campaign": "ü", "first_gclid": "g1"}
    own = {"plan": "pro", "value": "29.5"}
    payment = {"name": "payment", "amount": "5", "currency": "EUR", "transaction_id": "t"}
    for hit in ({}, {"name": "custom", "goal": "g", "props": own}, payment):
        assert fate(browser.sends(first=first, **hit)) == {"status": "accepted"}
    view, goal, paid = stored(app, ada.site)
    assert (view["props"], goal["props"], paid["props"]) == ({}, own | touch, touch)
    assert goal["value"] == 29.5
    many = {f"key {number}": "x" for number in range(49)}
    browser.sends(name="custom", goal="many", props=many, first=first)
    assert stored(app, ada.site)[-1]["props"] == many | {"first_utm_source": "the news"}
    for wrong in (5, None, "x" * 1001, ["x"]):
        assert error(browser.sends(first=wrong)) == (400, "invalid_body")


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("1", 1),
        (2.5, 2.5),
        ("-3e2", -300),
        (0, 0),
        *((no, None) for no in ("x", "", "nan", "inf", "1e16", True, "1" * 999)),
    ],
)
def test_a_goals_value_is_the_number_among_its_props(app, ada, browser, value, told):
    assert fate(browser.sends(name="custom", goal="g", props={"value": value})) == {"status": "accepted"}
    assert stored(app, ada.site)[0]["value"] == told


@pytest.mark.parametrize(
    ("amount", "kept"), [(0.1 + 0.2, "0.3"), ("0.30000000000000004", "0.3"), ("-5", "-5"), (12, "12"), ("1e2", "100")]
)
def test_an_amount_is_rounded_as_a_page_adds_up(app, ada, browser, amount, kept):
    payment = {"name": "payment", "currency": "EUR", "transaction_id": "t"}
    assert fate(browser.sends(**payment, amount=amount)) == {"status": "accepted"}
    assert float(stored(app, ada.site)[0]["amount"]) == float(kept)


@pytest.mark.parametrize("amount", ["", "x", "nan", "inf", "1e20", 1e300, 10**18, True, None, [1], "1" * 5000, ...])
def test_what_is_no_amount_is_refused(browser, amount):
    paid = {
        "name": "payment",
        "currency": "EUR",
        "transaction_id": "t",
        **({} if amount is ... else {"amount": amount}),
    }
    assert error(browser.sends(**paid)) == (400, "invalid_body")


def test_an_identification_may_carry_what_hits_carry(app, ada, browser):
    whole = {"name": "identify", "visitor_id": "v", "user_id": "u"}
    carried = {"event_id": "e", "title": "T", "screen": "1x1", "first": "", "props": {}, "referrer": ""}
    assert fate(browser.sends(**whole, **carried)) == {"status": "accepted"}
    assert error(browser.sends(**whole, emial="a@b.example")) == (400, "invalid_body")
    assert error(browser.sends(**whole, ip="192.0.2.1")) == (400, "invalid_body")


@pytest.mark.parametrize("header", [{"DNT": "1"}, {"Sec-GPC": "1"}])
def test_who_asks_not_to_be_tracked_is_counted_without_an_id(app, ada, browser, header):
    assert fate(browser.sends(visitor_id="v", user_id="u", session_id="s", headers=header)) == {"status": "accepted"}
    refused = browser.sends(name="identify", visitor_id="v", user_id="u", headers=header)
    assert fate(refused) == {"status": "filtered", "reason": "opted_out"}
    [row] = stored(app, ada.site)
    assert (row["visitor_id"], row["user_id"], row["session_id"], row["path"]) == ("", "", "", "/a")
    assert stored(app, ada.site, "identities") == []


def test_a_visitor_is_identified_by_the_page(app, ada, caller, browser):
    browser.sends(visitor_id="v")
    body = {"website_id": ada.site, "name": "identify", "visitor_id": "v", "user_id": "u", "traits": {"plan": "pro"}}
    assert fate(browser.sends(data=json.dumps(body))) == {"status": "accepted"}
    load(app)
    assert caller.get("/pixel/visitors/v").json["data"]["traits"] == {"plan": "pro"}
    wrong = json.dumps({"website_id": ada.site, "name": "identify", "visitor_id": "v"})
    assert error(browser.sends(data=wrong)) == (400, "invalid_body")


def test_without_an_id_a_browser_is_the_same_for_a_day(app, ada, browser, moved_clock):
    other = Browser(app, ada.site)
    for who in (browser, browser, other):
        who.sends(url="https://ada.example/day1")
    moved_clock.forward(days=1)
    browser.sends(url="https://ada.example/day2")
    rows = stored(app, ada.site)
    first, again, elsewhere, next_day = (row["visitor_id"] for row in rows)
    assert first == again
    assert len({first, elsewhere, next_day}) == 3
    assert browser.address not in first
    moved_clock.forward(days=2)
    with app.app_context():
        salts.sweep()
        today = f"{clock.now():%Y-%m-%d}"
        assert salts._of(today) is None
        kept = [day for (day,) in salts.db.session.execute(salts.select(salts.Salt.day))]
    assert all(day > f"{clock.now() - salts.LIVES:%Y-%m-%d}" for day in kept)


def test_a_repeated_hit_counts_once(app, ada, caller, browser):
    for _ in range(3):
        assert fate(browser.sends(event_id="e1", visitor_id="v")) == {"status": "accepted"}
    assert caller.rows("p_top_pages")[0]["pageviews"] == 1
    assert caller.rows("p_pixel_healthcheck")[0]["duplicates_24h"] == 2


def test_one_address_and_one_website_have_budgets(app, ada, bob, browser, monkeypatch):
    monkeypatch.setitem(app.config, "RATELIMIT_COLLECT", 3)
    statuses = [browser.sends().status_code for _ in range(5)]
    assert statuses == [202, 202, 202, 429, 429]
    refused = browser.sends()
    assert error(refused) == (429, "rate_limit_exceeded")
    assert int(refused.headers["Retry-After"]) >= 1
    assert Browser(app, ada.site).sends().status_code == 202
    monkeypatch.setitem(app.config, "RATELIMIT_COLLECT_WEBSITE", 4)
    assert [Browser(app, ada.site).sends().status_code for _ in range(5)] == [202, 202, 202, 202, 429]
    assert Browser(app, bob.site, origin="https://bob.example").sends().status_code == 202
    assert drops(app, ada.site)["rate_limited"] == 4


def test_what_is_not_taken_counts_for_its_address_too(app, ada, monkeypatch):
    monkeypatch.setitem(app.config, "RATELIMIT_COLLECT", 3)
    stranger, lost = Browser(app, ada.site, origin="https://bob.example"), Browser(app, "admx_00000000000000")
    assert [stranger.sends().status_code for _ in range(5)] == [202, 202, 202, 429, 429]
    assert [lost.sends().status_code for _ in range(5)] == [404, 404, 404, 429, 429]
    assert drops(app, ada.site) == {"origin": 3, "rate_limited": 2}
    query = {"query_string": {"website_id": ada.site}, "environ_base": {"REMOTE_ADDR": stranger.address}}
    assert app.test_client().get("/pixel.gif", **query).mimetype == "image/gif"
    assert drops(app, ada.site) == {"origin": 3, "rate_limited": 3}


def test_a_flood_of_fake_websites_fills_nothing(app, ada, browser, statements, monkeypatch):
    """Each id is another, and comes from an address of its own: so it is for a million of them too."""
    monkeypatch.setattr(database._Memory, "SIZE", 50)
    flood = Browser(app, "")
    looked = 0
    for number in range(600):
        flood.address, flood.site = next(addresses), f"admx_{number:014}"
        assert error(flood.sends()) == (404, "website_not_found")
        if number % 10 == 0:
            asked = len(statements)
            assert fate(browser.sends()) == {"status": "accepted"}
            looked += len(statements) > asked
    # The real website is remembered throughout, but for the jobs that change the database now and then; PostgreSQL
    # tells of every change on its whole server, which other programs share.
    assert looked < (30 if os.environ.get("PIXEL_TESTS_DATABASE") else 8)
    assert all(len(memory.found) <= 50 for memory in database._memories.values())
    assert set(drops(app, ada.site)) == set()
    with sqlite3.connect(counters.storage.path) as kept:
        assert not kept.execute("SELECT key FROM counters WHERE key LIKE '%admx_0000%'").fetchall()


def test_before_it_sends_a_browser_may_ask(app):
    answer = app.test_client().options("/api/event", headers={"Origin": "https://any.example"})
    assert answer.status_code == 204
    assert answer.headers["Access-Control-Allow-Headers"] == "Content-Type"


def test_a_method_it_does_not_take_is_told(app):
    refused = app.test_client().get("/api/event")
    assert error(refused) == (405, "method_not_allowed")


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Encoding": "gzip"},
        {"Content-Encoding": "br"},
        {"Content-Type": "text/plain; charset=utf-16"},
        {"Content-Type": "application/json;charset=latin-1"},
        {"Content-Type": "application/json, text/plain"},
        {"Content-Type": "application/x-ndjson"},
    ],
)
def test_no_other_coding_is_taken(browser, headers):
    kind = headers.get("Content-Type", "text/plain")
    coding = {name: value for name, value in headers.items() if name != "Content-Type"}
    assert error(browser.sends(content_type=kind, headers=coding)) == (415, "unsupported_media_type")


@pytest.mark.parametrize("host", ["evil.example", "ada.example", "ada.example@evil.example", "", "[::1", "x:y"])
def test_the_host_that_a_request_names_opens_nothing(app, ada, browser, monkeypatch, host):
    stranger = Browser(app, ada.site, origin="https://evil.example")
    forged = {"Host": host, "X-Forwarded-Host": "ada.example", "Forwarded": "host=ada.example"}
    assert fate(stranger.sends(headers=forged)) == {"status": "filtered", "reason": "origin"}
    answer = stranger.sends(origin=None, headers=forged)
    assert fate(answer) == {"status": "filtered", "reason": "origin"}
    assert "Access-Control-Allow-Origin" not in answer.headers
    assert image(app, website_id=ada.site, headers=forged).mimetype == "image/gif"
    assert stored(app, ada.site)[0]["path"] == "/"
    monkeypatch.setitem(app.config, "TRUSTED_HOSTS", ["pixel.example"])
    assert error(browser.sends(headers={"Host": host})) == (400, "bad_request")


def test_a_country_comes_from_the_file_or_from_a_trusted_proxy(app, ada, browser, monkeypatch):
    monkeypatch.setattr(geo, "country", lambda address: "CH")
    monkeypatch.setitem(app.config, "COUNTRY_HEADER", "CF-IPCountry")
    browser.sends(path="/no-proxy", headers={"CF-IPCountry": "de"})
    trust(app, monkeypatch, 2, "10.0.0.0/8")
    through_both = {"X-Forwarded-For": "203.0.113.9, 10.9.9.9"}
    for path, headers in {
        "/both": {"CF-IPCountry": "de", **through_both},
        "/wrong": {"CF-IPCountry": "<x>", **through_both},
        "/letter": {"CF-IPCountry": "ß", **through_both},
        "/one": {"CF-IPCountry": "de", "X-Forwarded-For": "203.0.113.9"},
    }.items():
        browser.sends(path=path, headers=headers)
    trust(app, monkeypatch, 1, "192.168.0.0/16")
    browser.sends(path="/peer", headers={"CF-IPCountry": "de", "X-Forwarded-For": "203.0.113.9"})
    countries = {row["path"]: row["country"] for row in stored(app, ada.site)}
    assert countries == {"/no-proxy": "CH", "/both": "DE", "/wrong": "CH", "/letter": "CH", "/one": "CH", "/peer": "CH"}


WORDS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=20), st.lists(st.text(), max_size=2),
    st.dictionaries(st.text(max_size=5), st.text(max_size=5) | st.integers() | st.none(), max_size=3),
)  # fmt: skip
NAMES = st.sampled_from(["pageview", "custom", "payment", "identify", "x"])
FIELDS = [
    "name", "url", "path", "title", "referrer", "visitor_id", "session_id", "user_id", "props", "goal", "value", "amount",
    "currency", "transaction_id", "timestamp", "event_id", "screen", "language", "first", "traits", "email", "website_id",
]  # fmt: skip


def test_nothing_a_page_sends_breaks_anything(app, ada):
    browser = Browser(app, ada.site)

    @settings(max_examples=400, deadline=None, derandomize=True, database=None,
              phases=[Phase.explicit, Phase.generate], suppress_health_check=list(HealthCheck))  # fmt: skip
    @given(
        name=NAMES,
        hit=st.dictionaries(st.sampled_from(FIELDS) | st.text(max_size=5), WORDS, max_size=6),
        raw=st.none() | st.binary(max_size=50),
        origin=st.sampled_from(["https://ada.example", "https://x.example", "null", None]),
        header=st.text(st.characters(max_codepoint=255, exclude_characters="\r\n"), max_size=30),
    )
    def send(name, hit, raw, origin, header):
        told = {"Accept-Language": header, "Referer": header, "User-Agent": header}
        whole = {"website_id": ada.site, "name": name, "visitor_id": "v", "url": "https://ada.example/"} | hit
        answer = browser.sends(data=json.dumps(whole) if raw is None else raw, origin=origin, headers=told)
        assert answer.status_code in (202, 400, 404, 413, 415, 429)
        assert answer.json.keys() in ({"data", "meta"}, {"error", "meta"})
        shown = show(app, {name: str(value) for name, value in whole.items()}, {"Referer": header})
        assert (shown.status_code, shown.mimetype) == (200, "image/gif")

    send()
    assert ada.key(READ).get("/me").status_code == 200
