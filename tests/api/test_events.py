"""What becomes of an event: what is kept of it, and that it counts once."""

import json
import re

import pytest

from pixel.extensions import journal, warehouse
from tests.cast import WRITE, error, load, shown, stored, told

RFC3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


def test_a_dry_run_shows_the_event_and_stores_nothing(app, ada, caller):
    event = {"website_id": ada.site, "name": "pageview", "url": "https://ada.example/x?utm_source=s", "event_id": "dry"}
    event["timestamp"] = "2026-01-31T12:00:00.5+01:00"
    response = caller.post("/pixel/events?dry_run=true", json=event)
    assert response.status_code == 200
    row = response.json["data"]["event"]
    assert (row["path"], row["utm_source"], row["timestamp"]) == ("/x", "s", "2026-01-31T11:00:00.500Z")
    assert RFC3339.fullmatch(row["received_at"])
    assert "workspace_id" not in row
    response = caller.post("/pixel/events/batch?dry_run=true", json={"events": [event, {}]})
    assert response.status_code == 200
    assert [r["status"] for r in response.json["data"]["results"]] == ["accepted", "rejected"]
    identity = {"website_id": ada.site, "visitor_id": "v", "user_id": "u"}
    response = caller.post("/pixel/identify?dry_run=true", json=identity)
    assert response.status_code == 200
    assert RFC3339.fullmatch(response.json["data"]["identity"]["received_at"])
    assert "workspace_id" not in response.text
    assert stored(app, ada.site) == stored(app, ada.site, "identities") == []
    assert error(caller.get("/pixel/events/dry")) == (404, "event_not_found")
    assert caller.post("/pixel/events?dry_run=false", json=event).status_code == 202


@pytest.mark.parametrize("path", ["/pixel/events", "/pixel/events/batch", "/pixel/identify"])
@pytest.mark.parametrize("query", ["dry_run=1", "dry_run=", "dry_run=True", "dry_run=true&dry_run=true", "dry_run"])
def test_dry_run_is_true_or_false(desk, path, query):
    response = desk.post(f"{path}?{query}", json={})
    assert error(response) == (400, "invalid_query")
    assert list(response.json["error"]["details"]) == ["dry_run"]


def test_a_dry_run_validates_as_the_real_thing(ada, caller):
    assert told(caller.post("/pixel/events?dry_run=true", json={"website_id": "nope", "name": "pageview", "path": "/"}))


# -- what is kept of an event


def test_an_event_is_stored_as_it_was_sent(app, ada, caller):
    sent = {
        "event_id": "e-1", "timestamp": "2026-01-31T12:00:00.123+01:00", "visitor_id": "v-1", "session_id": "s-1", "user_id": "u-1",
        "path": "/a'b\\c\"d", "title": "Tab\tand ü\nline", "hostname": "WWW.ada.example", "language": "de", "screen": "1x1",
        "country": "ch", "device": "fridge", "browser": "b", "os": "o", "goal": "g", "value": -1.5,
        "props": {"a": "x\ny", "n": 1, "f": 1.5, "t": True, "q'": "\\"},
    }  # fmt: skip
    request_id = caller.sends(ada.site, name="custom", **sent).json["meta"]["request_id"]
    (row,) = stored(app, ada.site)
    same = sent.keys() - {"timestamp", "hostname", "country", "props"}
    assert {name: row[name] for name in same} == {name: sent[name] for name in same}
    assert row["timestamp"].startswith("2026-01-31T11:00:00.123")
    assert (row["hostname"], row["country"], row["name"]) == ("www.ada.example", "CH", "custom")
    assert row["props"] == {"a": "x\ny", "n": "1", "f": "1.5", "t": "true", "q'": "\\"}
    assert (row["request_id"], row["workspace_id"]) == (request_id, ada.id)


@pytest.mark.parametrize("amount", [19.99, "-0.0001", 99999999999999, "12345678901234.5678", 0.1])
def test_money_is_kept_to_the_cent(app, ada, caller, amount):
    caller.sends(ada.site, name="payment", amount=amount, currency="eur", transaction_id="t", provider="p")
    (row,) = stored(app, ada.site)
    with app.app_context():
        asked = "SELECT toString(amount) AS amount FROM events WHERE website_id = {site:String}"
        assert float(warehouse.query(asked, {"site": ada.site})["data"][0]["amount"]) == float(amount)
    assert row["currency"] == "EUR"


def test_the_names_decide_the_table(app, ada, caller):
    caller.sends(ada.site)
    caller.sends(ada.site, name="custom", goal="g")
    caller.sends(ada.site, name="payment", amount=1, currency="EUR", transaction_id="t")
    for table, name in (("pageviews", "pageview"), ("custom_goals", "custom"), ("visitor_payments", "payment")):
        assert [row["name"] for row in stored(app, ada.site, table)] == [name]


def test_an_address_is_split_into_host_path_and_tags(ada, caller):
    url = "https://Shop.Ada.example:8443/a/b%20c?utm_source=news&utm%5Fmedium=mail&utm_campaign=a+b&gclid=g1&x=1#frag"
    row = shown(caller, ada.site, url=url, path=...)
    assert (row["hostname"], row["path"]) == ("shop.ada.example", "/a/b%20c")
    assert (row["utm_source"], row["utm_medium"], row["utm_campaign"], row["gclid"]) == ("news", "mail", "a b", "g1")
    assert "x=1" not in json.dumps(row)


def test_what_is_given_beside_an_address_goes_before_it(ada, caller):
    row = shown(
        caller,
        ada.site,
        url="https://a.example/x?utm_source=url",
        path="/own",
        hostname="own.example",
        utm_source="own",
    )
    assert (row["hostname"], row["path"], row["utm_source"]) == ("own.example", "/own", "own")


@pytest.mark.parametrize("click_id", ["gclid", "fbclid", "msclkid", "ttclid"])
def test_click_ids_make_a_paid_channel_and_may_come_in_the_address(desk, click_id):
    by_address = shown(desk, desk.site, url=f"https://ada.example/?{click_id}=x", path=...)
    by_field = shown(desk, desk.site, **{click_id: "x"})
    assert by_address[click_id] == by_field[click_id] == "x"
    assert by_address["source"] == by_field["source"] != ""
    assert by_address["channel"] == by_field["channel"] not in ("", "Direct")


@pytest.mark.parametrize(
    ("event", "facts"),
    [
        ({}, {"channel": "Direct", "referrer": "", "llm_engine": ""}),
        (
            {"referrer": "https://www.google.com/search?q=x"},
            {"channel": "Organic Search", "source": "Google", "referrer": "google.com"},
        ),
        ({"referrer": "https://chatgpt.com/"}, {"llm_engine": "chatgpt"}),
        ({"utm_source": "perplexity"}, {"llm_engine": "perplexity"}),
        ({"referrer": "https://friend.example/post?id=1"}, {"channel": "Referral", "referrer": "friend.example"}),
        ({"referrer": "https://desk.example/before"}, {"channel": "Direct", "referrer": ""}),
        (
            {"referrer": "https://shop.desk.example/", "hostname": "shop.desk.example"},
            {"channel": "Direct", "referrer": ""},
        ),
        (
            {"referrer": "https://chatgpt.com/", "utm_source": "news", "utm_medium": "email"},
            {"source": "news", "medium": "email"},
        ),
    ],
)
def test_the_source_is_told_from_tags_and_referrer(desk, event, facts):
    row = shown(desk, desk.site, **event)
    assert {name: row[name] for name in facts} == facts


def test_the_browser_is_told_from_the_user_agent_unless_given(ada, caller):
    phone = "Mozilla/5.0 (iPhone; CPU iPhone OS 17_0 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.0 Mobile/15E148 Safari/604.1"
    row = shown(caller, ada.site, user_agent=phone)
    assert (row["device"], row["os"], row["bot"]) == ("mobile", "iOS", "")
    assert shown(caller, ada.site, user_agent=phone, device="fridge")["device"] == "fridge"
    assert shown(caller, ada.site, user_agent="Googlebot/2.1 (+http://www.google.com/bot.html)")["bot"]


def test_a_visitor_is_derived_from_address_and_browser_and_the_address_is_not_kept(app, ada, caller):
    ip, agent = "198.51.100.77", "Canary Browser 7.7"
    other_site = ada.website("second.example")
    sent = [
        (ada.site, {"ip": ip, "user_agent": agent}),
        (ada.site, {"ip": ip, "user_agent": agent}),
        (ada.site, {"ip": "198.51.100.78", "user_agent": agent}),
        (ada.site, {"ip": ip, "user_agent": agent + "x"}),
        (other_site, {"ip": ip, "user_agent": agent}),
        (ada.site, {"ip": ip}),
        (ada.site, {"user_agent": agent}),
        (ada.site, {"ip": ip, "user_agent": agent, "visitor_id": "own"}),
    ]
    visitors = [shown(caller, site, **event).get("visitor_id", "") for site, event in sent]
    assert visitors[0] == visitors[1]
    assert len({*visitors[:5]}) == 4
    assert visitors[5:] == ["", "", "own"]
    for site, event in sent:
        assert caller.sends(site, **event).status_code == 202
    assert told(caller.sends(ada.site, ip=ip, user_agent=agent, oops=1))
    assert nowhere(app, ip)


def nowhere(app, *words):
    """Whether none of `words` is in the journal or in any text of the warehouse; it is looked at before and after loading."""
    journal.flush()
    raw = b"".join(path.read_bytes() for path in journal.folder.glob("*"))
    load(app)
    with app.app_context():
        for table in ("events", "requests", "identities"):
            for word in words:
                text = f"SELECT count() AS n FROM {table} WHERE position(toString(tuple(*)), {{word:String}}) > 0"
                assert warehouse.query(text, {"word": word})["data"][0]["n"] == 0, (table, word)
    return not any(word.encode() in raw for word in words)


def test_an_event_without_a_visitor_counts_as_an_event_only(ada, caller):
    caller.sends(ada.site)
    assert [(row["visitors"], row["pageviews"]) for row in caller.rows("p_top_pages")] == [(0, 1)]


# -- once


def paths(app, site):
    return [row["path"] for row in stored(app, site)]


@pytest.mark.case(106)
def test_an_event_id_counts_once_within_24_hours_and_the_first_wins(app, ada, caller, moved_clock):
    caller.sends(ada.site, event_id="e", path="/first")
    caller.sends(ada.site, event_id="e", path="/again-at-once")
    load(app)
    caller.sends(ada.site, event_id="e", path="/again-loaded")
    moved_clock.forward(hours=23, minutes=59)
    caller.sends(ada.site, event_id="e", path="/again-late")
    assert paths(app, ada.site) == ["/first"]
    moved_clock.forward(minutes=2)
    caller.sends(ada.site, event_id="e", path="/another-day")
    assert paths(app, ada.site) == ["/first", "/another-day"]


def test_an_event_id_is_each_websites_own(app, ada, bob, caller):
    other = ada.website("other.example")
    for site in (ada.site, other):
        caller.sends(site, event_id="shared")
    bob.key(WRITE).sends(bob.site, event_id="shared")
    assert [len(paths(app, site)) for site in (ada.site, other, bob.site)] == [1, 1, 1]


def test_one_id_twice_in_a_batch_counts_once(app, ada, caller):
    event = {"website_id": ada.site, "name": "pageview", "event_id": "e"}
    response = caller.post("/pixel/events/batch", json={"events": [event | {"path": f"/{i}"} for i in range(5)]})
    assert response.json["data"]["accepted"] == 5
    assert paths(app, ada.site) == ["/0"]


def test_events_without_an_id_each_count_and_are_given_one(app, ada, caller):
    given = {caller.sends(ada.site).json["data"]["event_id"] for _ in range(3)}
    assert len(given) == len(paths(app, ada.site)) == 3
    assert all(caller.get(f"/pixel/events/{id}").status_code == 200 for id in given)


def test_a_payment_counts_once_for_ever_by_website_provider_and_transaction(app, ada, caller, moved_clock):
    def pays(site=ada.site, **more):
        whole = {"name": "payment", "amount": 1, "currency": "EUR", "transaction_id": "t", **more}
        assert caller.sends(site, **whole).status_code == 202

    other = ada.website("other.example")
    pays(event_id="a")
    pays(event_id="b", amount=2)
    load(app)
    moved_clock.forward(days=400)
    pays(event_id="c", amount=3)
    assert [row["event_id"] for row in stored(app, ada.site)] == ["a"]
    pays(event_id="d", provider="stripe")
    pays(event_id="e", transaction_id="t2")
    pays(event_id="f", site=other)
    assert {row["event_id"] for row in stored(app, ada.site)} == {"a", "d", "e"}
    assert len(stored(app, other)) == 1
