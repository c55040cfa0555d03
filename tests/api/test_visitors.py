"""One visitor: who they are, over all the ids they were seen with."""

import pytest

from tests.cast import READ, error, load


@pytest.fixture
def visitors(app, ada, caller):
    """Reads a visitor, once all is loaded."""

    def read(visitor_id, who=caller, **query):
        load(app)
        return who.get(f"/pixel/visitors/{visitor_id}", query_string=query)

    return read


def identify(caller, site, visitor_id, **who):
    response = caller.post("/pixel/identify", json={"website_id": site, "visitor_id": visitor_id, **who})
    assert response.status_code == 202, response.text


def test_a_visitor_is_told_whole(ada, caller, visitors):
    firefox = "Mozilla/5.0 (X11; Linux x86_64; rv:143.0) Gecko/20100101 Firefox/143.0"
    about = {"visitor_id": "v", "country": "DE", "user_agent": firefox, "language": "de"}
    caller.sends(ada.site, path="/a", referrer="https://chatgpt.com/", timestamp="2026-11-01T10:00:00Z", **about)
    caller.sends(ada.site, path="/b", timestamp="2026-11-01T12:00:00Z", **about)
    caller.sends(
        ada.site,
        name="payment",
        amount=20,
        currency="EUR",
        transaction_id="1",
        timestamp="2026-11-01T12:01:00Z",
        **about,
    )
    identify(caller, ada.site, "v", user_id="u1", email="V@example.com", traits={"plan": "pro", "age": 5})
    identify(caller, ada.site, "v", user_id="u1", traits={"plan": "free"})
    told = visitors("v").json["data"]
    facts = {
        "visitor_id": "v", "visitor_ids": ["v"], "first_seen": "2026-11-01T10:00:00.000Z",
        "last_seen": "2026-11-01T12:01:00.000Z", "sessions": 2, "pageviews": 2, "events": 3, "country": "DE",
        "device": "desktop", "browser": "Firefox", "os": "Linux", "language": "de", "llm_engine": "chatgpt",
        "source": "ChatGPT", "revenue": 20, "currency": "EUR", "user_ids": ["u1"], "emails": ["v@example.com"],
        "traits": {"plan": "free", "age": "5"},
    }  # fmt: skip
    assert {name: told[name] for name in facts} == facts
    assert [event["name"] for event in told["recent_events"]] == ["payment", "pageview", "pageview"]
    assert told["recent_events"][2]["path"] == "/a"


def test_two_devices_of_one_user_are_one_person(ada, caller, visitors):
    caller.sends(ada.site, visitor_id="laptop", path="/a")
    caller.sends(ada.site, visitor_id="phone", path="/b")
    caller.sends(ada.site, visitor_id="tablet", path="/c")
    caller.sends(ada.site, visitor_id="stranger", path="/d")
    identify(caller, ada.site, "laptop", user_id="u 1")
    identify(caller, ada.site, "phone", user_id="u 1", email="a@example.com")
    identify(caller, ada.site, "tablet", email="A@example.com")
    for visitor_id in ("laptop", "phone", "tablet"):
        told = visitors(visitor_id).json["data"]
        assert told["visitor_id"] == visitor_id
        assert set(told["visitor_ids"]) == {"laptop", "phone", "tablet"}
        assert (told["pageviews"], told["emails"], told["user_ids"]) == (3, ["a@example.com"], ["u 1"])
        assert {event["path"] for event in told["recent_events"]} == {"/a", "/b", "/c"}
    assert visitors("stranger").json["data"]["visitor_ids"] == ["stranger"]


def test_an_events_own_user_id_tells_who_it_is_too(ada, caller, visitors):
    caller.sends(ada.site, visitor_id="one", user_id="u'\\7")
    caller.sends(ada.site, visitor_id="two", user_id="u'\\7")
    assert set(visitors("one").json["data"]["visitor_ids"]) == {"one", "two"}


def test_the_same_user_id_on_another_website_is_somebody_else(ada, caller, visitors):
    other = ada.website("other.example")
    caller.sends(ada.site, visitor_id="here")
    caller.sends(other, visitor_id="there")
    identify(caller, ada.site, "here", user_id="1")
    identify(caller, other, "there", user_id="1")
    assert visitors("here").json["data"]["visitor_ids"] == ["here"]


def test_nothing_of_another_workspace_is_told(ada, bob, caller, visitors):
    theirs = bob.key(READ, "pixel:write")
    theirs.sends(bob.site, visitor_id="shared", path="/theirs", user_id="1")
    caller.sends(ada.site, visitor_id="shared", path="/ours", user_id="1")
    told = visitors("shared")
    assert (told.json["data"]["pageviews"], "theirs" in told.text) == (1, False)
    assert error(visitors("shared", ada.key(READ, website_ids=[]))) == (404, "visitor_not_found")


def test_one_website_may_be_asked_for(ada, bob, caller, visitors):
    other = ada.website("other.example")
    caller.sends(ada.site, visitor_id="v", path="/a")
    caller.sends(other, visitor_id="v", path="/b")
    assert visitors("v").json["data"]["pageviews"] == 2
    assert visitors("v", website_id=other).json["data"]["pageviews"] == 1
    assert error(visitors("v", website_id=bob.site)) == (404, "website_not_found")
    assert error(visitors("v", limit=5)) == (400, "invalid_query")


@pytest.mark.parametrize("visitor_id", ["%20", "%20%09%0A", "", "%C2%A0"])
def test_an_empty_id_is_invalid(visitors, visitor_id):
    assert error(visitors(visitor_id)) == (400, "invalid_visitor")


@pytest.mark.parametrize("visitor_id", ["nobody", "a/b", "%00", "%27%3B--", "x" * 129, "{x:String}", "%F0%9F%98%80"])
def test_an_unknown_one_is_not_found(visitors, visitor_id):
    assert error(visitors(visitor_id)) == (404, "visitor_not_found")


@pytest.mark.parametrize("visitor_id", ["a/b", "a b", " sp ", "it's", "ü😀", "a%2Fb", "token", "x/token"])
def test_any_id_there_is_is_found(ada, caller, visitors, visitor_id):
    from urllib.parse import quote

    caller.sends(ada.site, visitor_id=visitor_id)
    assert visitors(quote(visitor_id, safe="")).json["data"]["visitor_id"] == visitor_id


def test_no_visitor_of_spaces_alone_is_taken(ada, caller):
    refused = caller.post("/pixel/identify", json={"website_id": ada.site, "visitor_id": "  ", "user_id": "u"})
    assert error(refused) == (400, "invalid_body")
