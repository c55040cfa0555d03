"""Websites, members and the audit log."""

import re

import pytest

from pixel import jobs, members, websites
from pixel.database import transaction
from tests.cast import READ, WRITE, load, stored
from tests.dashboard.world import Form, snapshot, world
from tests.pages import Visitor, field, person


@pytest.fixture
def owner(app, ada):
    return person(app, ada.id)


# -- websites


def test_a_website_is_added_and_waits_for_its_first_event(app, ada, owner):
    answer = owner.post("/websites/new", domain="HTTPS://Shop.Example/", name="", timezone="Asia/Kathmandu")
    page = owner.get(answer.location).text
    site = answer.location.rpartition("/")[2]
    assert "shop.example" in page
    assert "Asia/Kathmandu" in page
    assert "Waiting for the first event" in page
    assert site in page
    assert page.index("<h2>Install") < page.index("<h2>Is it working")
    ada.key(WRITE).sends(site, path="/first", referrer="https://www.google.com/")
    load(app)
    part = owner.get(f"/websites/{site}/latest").text
    assert "Events arrive" in part
    assert "/first" in part
    assert "Google" in part
    assert "<html" not in part
    page = owner.get(f"/websites/{site}").text
    assert page.count("<h2>Install") == 1
    assert page.index("<h2>Install") > page.index("<h2>Is it working")


@pytest.mark.parametrize(
    "domain", ["", "no domain", "http://", "a" * 254, "-x.example", "x..example", "x.example/path", "\0.example", "<b>"]
)
def test_what_is_no_domain_is_refused(app, owner, domain):
    before = snapshot(app)
    answer = owner.post("/websites/new", domain=domain, name="Kept", timezone="Mars/Phobos")
    assert answer.status_code == 400
    assert field(answer.text, "name") == "Kept"
    assert "is no time zone" in answer.text
    assert snapshot(app) == before


def test_a_domain_is_added_once(app, owner):
    for status in (303, 400):
        answer = owner.post("/websites/new", domain="twice.example", name="", timezone="UTC")
        assert answer.status_code == status
    assert "is already a website of it" in answer.text


def test_the_test_event_takes_the_way_of_all_events(app, ada, owner):
    answer = owner.post(f"/websites/{ada.site}/test-event", page=f"/websites/{ada.site}")
    rows = stored(app, ada.site)
    assert [(row["name"], row["goal"], row["visitor"]) for row in rows] == [("custom", "test_event", 0)]
    assert rows[0]["request_id"] == answer.headers["X-Request-Id"]
    assert rows[0]["event_id"] in owner.get(answer.location).text
    assert "test_event" in owner.get(answer.location).text


def test_what_was_refused_is_told_with_a_sample(app, ada, owner):
    other = ada.website("other.example")
    writer, reader = ada.key(WRITE), ada.key(READ)
    wrong = writer.sends(ada.site, path="no slash").headers["X-Request-Id"]
    writer.sends(ada.site, path="no slash either")
    scope = reader.sends(ada.site).headers["X-Request-Id"]
    batch = writer.post("/pixel/events/batch", json={"events": [
        {"website_id": other, "name": "pageview", "path": "/"}, {"website_id": other, "name": "bogus"}]})  # fmt: skip
    assert batch.status_code == 202
    load(app)
    text = owner.get(f"/websites/{ada.site}").text
    table = text[text.index("<h2>What was refused") :]
    assert "invalid_body" in table
    assert wrong not in table
    assert scope in table
    assert re.search(r"invalid_body.*?Calls\">2<", table, re.DOTALL)
    assert batch.headers["X-Request-Id"] not in table
    text = owner.get(f"/websites/{other}").text
    assert batch.headers["X-Request-Id"] in text
    assert "Some events of a batch" in text
    assert wrong not in text
    story = owner.get(f"/requests/{batch.headers['X-Request-Id']}").text
    assert "What was answered" in story
    assert "rejected" in story


def test_a_removed_website_takes_nothing_and_can_be_restored(app, ada, owner):
    writer = ada.key(READ, WRITE)
    writer.sends(ada.site, path="/before", visitor_id="v")
    load(app)
    refused = owner.post(f"/websites/{ada.site}/remove", domain="another.example")
    assert refused.status_code == 400
    assert "Type ada.example to remove it." in refused.text
    owner.post(f"/websites/{ada.site}/remove", domain=" Ada.example ")
    assert writer.sends(ada.site, path="/after").status_code == 400
    assert writer.rows("p_top_pages") == []
    assert owner.get(f"/websites/{ada.site}").status_code == 404
    assert "Their data is kept for 30 days" in owner.get("/websites").text
    owner.post(f"/websites/{ada.site}/restore", page="/websites")
    assert writer.sends(ada.site, path="/after", visitor_id="v").status_code == 202
    assert {row["path"] for row in writer.rows("p_top_pages")} == {"/before", "/after"}


def test_after_30_days_its_data_is_deleted_for_good(app, ada, owner, moved_clock):
    writer = ada.key(READ, WRITE)
    other = ada.website("stays.example")
    for site in (ada.site, other):
        writer.sends(site, path="/kept?", visitor_id="v")
        writer.post("/pixel/identify", json={"website_id": site, "visitor_id": "v", "user_id": "u"})
    load(app)
    owner.post(f"/websites/{ada.site}/remove", domain="ada.example")
    with app.app_context():
        jobs.forget_removed_websites()
        assert len(stored(app, ada.site)) == 1
        moved_clock.forward(days=30, minutes=1)
        jobs.forget_removed_websites()
    assert stored(app, ada.site) == []
    assert stored(app, ada.site, "identities") == []
    assert len(stored(app, other)) == len(stored(app, other, "identities")) == 1
    with app.app_context():
        assert websites.removed(ada.id) == []


# -- members


def link_in(text):
    return re.search(r"/links/pxl_invite_\w+", text)[0]


def test_without_mail_an_invitation_is_passed_on_by_hand(app, ada, owner):
    guest = person(app, email="new.person@example.com")
    answer = owner.post("/settings/members", email="New.Person@Example.com", role="viewer")
    link = link_in(answer.text)
    assert answer.headers["Cache-Control"] == "no-store"
    assert link not in owner.get("/settings/members").text
    assert "new.person@example.com" in guest.get(link).text
    guest.post(link)
    assert guest.get("/settings/members").status_code == 200
    assert guest.get("/settings/api-keys/new").status_code == 403
    assert guest.get(link).status_code == 404
    log = owner.get("/settings/audit").text
    assert "invited a member" in log
    assert "joined" in log


def test_who_has_an_account_joins_with_it(app, ada, bob, owner):
    guest = person(app, bob.id)
    link = link_in(owner.post("/settings/members", email=guest.email, role="admin").text)
    other = person(app, bob.id)
    assert f"You are signed in as <bdi>{other.email}</bdi>" in other.get(link).text
    assert f"This invitation is for {guest.email}." in other.post(link).text
    with app.app_context():
        assert [m.email for m in members.of(ada.id)].count(guest.email) == 0
    browser = Visitor(app)
    page = browser.get(link).text
    assert link not in page.replace(f'action="{link}"', "")
    assert browser.post(link).location == "/sign-in"
    assert browser.signs_in(guest.email).location == link
    assert browser.post(link).status_code == 303
    with app.app_context():
        assert members.member(ada.id, guest.user_id).role == "admin"


def test_an_invitation_can_be_withdrawn(app, ada, owner):
    link = link_in(owner.post("/settings/members", email="gone@example.com", role="viewer").text)
    path = re.search(r'action="(/settings/members/invitations/[^"]+)"', owner.get("/settings/members").text)[1]
    owner.post(path, page="/settings/members")
    assert Visitor(app).get(link).status_code == 404


@pytest.mark.parametrize(
    "email",
    [
        "",
        "no address",
        "a@b@c",
        "a b@example.com",
        "a@example.com\nBcc: x@example.com",
        "x" * 250 + "@example.com",
        "\0@example.com",
    ],
)
def test_what_is_no_address_is_not_invited(app, owner, email):
    before = snapshot(app)
    assert owner.post("/settings/members", email=email, role="viewer").status_code == 400
    assert owner.post("/settings/members", email="a@example.com", role="god").status_code == 400
    assert snapshot(app) == before


def test_owners_are_made_and_unmade_by_owners_only(app, ada, owner):
    admin, mate = person(app, ada.id, "admin"), person(app, ada.id, "viewer")
    path = "/settings/members"
    assert admin.post(path, email="boss@example.com", role="owner").status_code == 403
    assert admin.post(f"{path}/{mate.user_id}/role", page=f"{path}/{mate.user_id}", role="owner").status_code == 403
    assert admin.post(f"{path}/{owner.user_id}/role", page=f"{path}/{mate.user_id}", role="viewer").status_code == 403
    assert admin.post(f"{path}/{owner.user_id}/remove", page=f"{path}/{mate.user_id}").status_code == 403
    assert admin.post(f"{path}/{admin.user_id}/role", page=f"{path}/{mate.user_id}", role="owner").status_code == 403
    assert admin.post(f"{path}/{mate.user_id}/role", page=f"{path}/{mate.user_id}", role="admin").status_code == 303
    assert owner.post(f"{path}/{mate.user_id}/role", page=f"{path}/{mate.user_id}", role="owner").status_code == 303
    assert mate.post(f"{path}/{owner.user_id}/remove", page=f"{path}/{owner.user_id}").status_code == 303
    assert owner.get("/settings/api-keys").location == "/account"


def test_the_last_owner_stays(app, ada):
    here = world(app)
    with app.app_context():
        for member in members.of(here.workspace.id):
            if member.role == "owner" and member.user_id != here.owner.user_id:
                members.remove(here.workspace.id, member.user_id, "somebody")
    answer = Form(here, "settings.leave").sent(here.owner)
    assert answer.status_code == 400
    assert "at least one owner" in answer.text
    own = f"/settings/members/{here.owner.user_id}"
    assert here.owner.post(f"{own}/role", page=own, role="viewer").status_code == 400
    assert here.owner.post(f"{own}/remove", page=own).status_code == 400


@pytest.mark.case(22)
def test_keys_of_a_removed_member_go_on_working(app, ada, owner):
    """Keys belong to the workspace: an integration must not stop because somebody has left."""
    mate = person(app, ada.id, "admin")
    caller = ada.key(READ, actor=mate.email)
    owner.post(f"/settings/members/{mate.user_id}/remove", page=f"/settings/members/{mate.user_id}")
    assert mate.get("/settings/api-keys").location == "/account"
    assert caller.get("/me").status_code == 200


def test_a_website_that_a_key_was_for_may_go(app, ada, owner):
    key = ada.key(READ, website_ids=[ada.site])
    owner.post(f"/websites/{ada.site}/remove", domain="ada.example")
    assert "a removed website" in owner.get(f"/settings/api-keys/{key.key_id}").text
    with app.app_context(), transaction() as session:
        assert session.get(websites.Website, ada.site).removed_at
