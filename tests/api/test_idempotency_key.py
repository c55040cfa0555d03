"""The Idempotency-Key header is the event_id, is validated, or is refused. It is never ignored silently."""

import pytest

KEY = {"Idempotency-Key": "order-1001/payment"}


def refusal(answer):
    error = answer.json["error"]
    return answer.status_code, error["code"], error["details"]


def test_it_is_the_event_id_when_the_body_has_none(ada, caller):
    for _ in range(2):
        answer = caller.post("/pixel/events", json=pageview(ada), headers=KEY)
        assert answer.status_code == 202
        assert answer.json["data"]["event_id"] == "order-1001/payment"


def test_the_same_value_in_the_body_is_fine_and_another_is_refused(ada, caller):
    same = pageview(ada) | {"event_id": KEY["Idempotency-Key"]}
    assert caller.post("/pixel/events", json=same, headers=KEY).status_code == 202
    other = pageview(ada) | {"event_id": "another"}
    assert refusal(caller.post("/pixel/events", json=other, headers=KEY)) == (
        400, "bad_request", {"header": "Idempotency-Key"},
    )  # fmt: skip


@pytest.mark.parametrize("path", ["/pixel/events", "/pixel/events?dry_run=true", "/pixel/identify"])
@pytest.mark.parametrize("value", ["", "x" * 129, "caf\xe9", "tab\tinside"])
def test_an_invalid_one_is_refused(ada, caller, path, value):
    body = pageview(ada) if "events" in path else identity(ada)
    answer = caller.post(path, json=body, headers={"Idempotency-Key": value})
    assert refusal(answer) == (400, "bad_request", {"header": "Idempotency-Key"})


def test_identify_takes_one(ada, caller):
    assert caller.post("/pixel/identify", json=identity(ada), headers=KEY).status_code == 202


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/pixel/events/batch", {"events": []}),
        ("/pixel/metrics/p_geo/token", {}),
        ("/pixel/visitors/v/token", {}),
    ],
)
def test_every_other_route_refuses_one(caller, path, body):
    assert refusal(caller.post(path, json=body, headers=KEY)) == (400, "bad_request", {"header": "Idempotency-Key"})


def test_every_post_route_of_the_api_has_been_thought_of(app):
    routes = {
        rule.rule for rule in app.url_map.iter_rules() if rule.rule.startswith("/api/v1") and "POST" in rule.methods
    }
    assert routes == {
        "/api/v1/pixel/events",
        "/api/v1/pixel/events/batch",
        "/api/v1/pixel/identify",
        "/api/v1/pixel/metrics/<name>/token",
        "/api/v1/pixel/visitors/<anything_or_nothing:visitor_id>/token",
    }


def test_a_browsers_hit_refuses_one(app, ada):
    answer = app.test_client().post("/api/event", json=pageview(ada), headers=KEY)
    assert refusal(answer)[:2] == (400, "bad_request")


def pageview(workspace):
    return {"website_id": workspace.site, "name": "pageview", "path": "/"}


def identity(workspace):
    return {"website_id": workspace.site, "visitor_id": "v", "user_id": "u"}
