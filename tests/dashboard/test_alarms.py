"""A website that falls silent, or of which much more is refused than before: said on its page and by mail."""

import pytest

from pixel import notices
from tests.cast import READ, WRITE, Workspace, load
from tests.pages import person


@pytest.fixture
def ada(app):
    return Workspace(app, "alarms.example")


def notices_of(app, workspace):
    load(app)
    with app.app_context():
        return [(notice.kind, notice.site.id) for notice in notices.of_websites(workspace.id)]


def test_a_website_that_used_to_send_and_is_silent_for_a_day_is_told(app, ada, moved_clock):
    caller, owner = ada.key(READ, WRITE), person(app, ada.id)
    caller.sends(ada.site, visitor_id="v")
    moved_clock.forward(days=1)
    caller.sends(ada.site, visitor_id="v")
    assert notices_of(app, ada) == []
    moved_clock.forward(hours=23)
    assert notices_of(app, ada) == []
    moved_clock.forward(hours=2)
    assert notices_of(app, ada) == [("silent", ada.site)]
    for path in ("/websites", f"/websites/{ada.site}"):
        assert "has fallen silent" in owner.get(path).text
    # A bot's visit is no sign of life, a person's is.
    caller.sends(ada.site, user_agent="Googlebot/2.1")
    assert notices_of(app, ada) == [("silent", ada.site)]
    caller.sends(ada.site, visitor_id="v")
    assert notices_of(app, ada) == []


def test_one_that_sent_on_a_single_day_is_no_news(app, ada, moved_clock):
    ada.key(READ, WRITE).sends(ada.site)
    moved_clock.forward(days=2)
    assert notices_of(app, ada) == []


def test_a_reason_that_jumps_is_told_with_a_sample(app, ada, moved_clock):
    caller, owner = ada.key(READ, WRITE), person(app, ada.id)
    bad = {"website_id": ada.site, "name": "oops"}
    caller.post("/pixel/events/batch", json={"events": [bad] * 19})
    assert notices_of(app, ada) == []
    caller.post("/pixel/events", json=bad)
    assert notices_of(app, ada) == [("refused", ada.site)]
    page = owner.get(f"/websites/{ada.site}").text
    assert "20 events were not counted in the last hour" in page
    assert "invalid_body" in page
    # When it goes on like that it is no jump any more, and when it ends it is none either.
    for _ in range(9):
        moved_clock.forward(hours=1)
        caller.post("/pixel/events/batch", json={"events": [bad] * 20})
    assert notices_of(app, ada) == []
    moved_clock.forward(hours=2)
    assert notices_of(app, ada) == []


def test_nobody_is_told_of_anothers_website(app, ada, bob):
    caller = ada.key(WRITE)
    caller.post("/pixel/events/batch", json={"events": [{"website_id": ada.site, "name": "oops"}] * 50})
    load(app)
    stranger = person(app, bob.id)
    assert notices_of(app, bob) == []
    assert "were not counted in the last hour" not in stranger.get("/websites").text
