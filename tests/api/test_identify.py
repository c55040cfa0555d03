"""Who a visitor is."""

import pytest

from tests.cast import stored, told


def test_a_visitor_is_identified(app, ada, caller):
    sent = {
        "website_id": ada.site,
        "visitor_id": "v",
        "user_id": "u",
        "email": "Jane@Example.com",
        "traits": {"plan": "pro", "n": 1},
    }
    response = caller.post("/pixel/identify", json=sent)
    assert response.status_code == 202
    assert response.json["data"] == {"status": "accepted", "website_id": ada.site, "visitor_id": "v"}
    (row,) = stored(app, ada.site, "identities")
    assert (row["visitor_id"], row["user_id"], row["email"]) == ("v", "u", "jane@example.com")
    assert row["traits"] == {"plan": "pro", "n": "1"}
    assert (row["workspace_id"], row["request_id"]) == (ada.id, response.json["meta"]["request_id"])


@pytest.mark.parametrize("given", [{"user_id": "u"}, {"email": "a@b.c"}, {"email": "ü@münchen.example"}])
def test_an_id_or_an_address_is_enough(desk, given):
    assert desk.post("/pixel/identify", json={"website_id": desk.site, "visitor_id": "v", **given}).status_code == 202


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"user_id": ...}, "_body"),
        ({"website_id": ...}, "website_id"),
        ({"website_id": "nope"}, "website_id"),
        ({"visitor_id": ...}, "visitor_id"),
        ({"visitor_id": ""}, "visitor_id"),
        ({"visitor_id": 1}, "visitor_id"),
        ({"user_id": ""}, "user_id"),
        ({"user_id": None}, "user_id"),
        *(({"email": value}, "email") for value in (1, "", "a", "a@", "@b", "a b@c.d", "a@b@c", "x" * 65 + "@b.c", "a@" + "b" * 255, "a@b\n")),
        ({"traits": []}, "traits"),
        ({"traits": {"a": None}}, "traits.a"),
        ({"traits": {"a": {}}}, "traits.a"),
        ({"trait": {}}, "trait"),
        ({"workspace_id": "x"}, "workspace_id"),
    ],
)  # fmt: skip
def test_a_wrong_identify_is_refused_by_field(desk, change, field):
    whole = {"website_id": desk.site, "visitor_id": "v", "user_id": "u"} | change
    response = desk.post("/pixel/identify", json={k: v for k, v in whole.items() if v is not ...})
    assert list(told(response)) == [field]


def test_another_workspaces_visitor_cannot_be_identified(app, bob, caller):
    body = {"website_id": bob.site, "visitor_id": "v", "user_id": "u"}
    assert told(caller.post("/pixel/identify", json=body)) == {"website_id": ["No such website in this workspace."]}
    assert stored(app, bob.site, "identities") == []
