"""What became of an event, by its id."""

from urllib.parse import quote

import pytest

from pixel.extensions import warehouse
from tests.cast import READ, WRITE, error, load


def test_a_receipt_says_accepted_and_then_stored(app, ada, caller, monkeypatch):
    with app.app_context():
        loading = warehouse.start()._loading
    with loading:
        sent = caller.sends(ada.site, event_id="r-1")
        waiting = caller.get("/pixel/events/r-1").json["data"]
    load(app)
    done = caller.get("/pixel/events/r-1").json["data"]
    assert (waiting["status"], done["status"]) == ("accepted", "stored")
    assert done.keys() == {"status", "event_id", "website_id", "name", "received_at", "request_id"}
    assert waiting | {"status": "stored"} == done
    assert (done["event_id"], done["website_id"], done["name"]) == ("r-1", ada.site, "pageview")
    assert done["request_id"] == sent.json["meta"]["request_id"]
    assert done["received_at"].endswith("Z")


@pytest.mark.parametrize(
    "event_id",
    ["a b", "a/b", "/", "ü😀", "a'b\\c\"d", "a%2Fb", "a?b#c", "..", "a\\", "{id:String}", "batch", "é" * 128],
)
def test_every_event_id_that_is_taken_can_be_asked_for(app, desk, event_id):
    assert desk.sends(desk.site, event_id=event_id).status_code == 202
    for _ in range(2):
        response = desk.get(f"/pixel/events/{quote(event_id, safe='')}")
        assert response.status_code == 200, response.text
        assert response.json["data"]["event_id"] == event_id
        load(app)


@pytest.mark.parametrize("loaded", [False, True])
def test_another_workspaces_event_is_not_there(app, ada, bob, caller, loaded):
    bob.key(WRITE).sends(bob.site, event_id="of-bob")
    hidden = ada.website("hidden.example")
    caller.sends(hidden, event_id="hidden")
    if loaded:
        load(app)
    restricted = ada.key(READ, website_ids=[ada.site])
    for who, id in ((caller, "of-bob"), (restricted, "of-bob"), (restricted, "hidden"), (caller, "nope")):
        assert error(who.get(f"/pixel/events/{id}")) == (404, "event_not_found")
    assert caller.get("/pixel/events/hidden").status_code == 200


def test_of_two_websites_events_with_one_id_a_receipt_can_be_chosen(app, ada, bob, caller):
    other = ada.website("other.example")
    for site in (ada.site, other):
        caller.sends(site, event_id="same")
        load(app)
        assert caller.get(f"/pixel/events/same?website_id={site}").json["data"]["website_id"] == site
    assert error(caller.get(f"/pixel/events/same?website_id={bob.site}")) == (404, "website_not_found")
