"""Sending: one event, and any number of them."""

import math
import uuid
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from pixel.intake import schemas
from pixel_client import Event, IngestUnavailable, InvalidApiKey, NoAnswer, events, new_event_id
from tests.client.scripted import HANG_UP, batch, failure, success


def pageview(path="/", **more):
    return {"website_id": "w", "name": "pageview", "path": path, **more}


def accept(asked):
    facts = {name: asked.json[name] for name in ("event_id", "website_id", "name")}
    return success({"status": "accepted", **facts}, 202)


def test_an_event_has_the_fields_of_the_api():
    assert set(Event.__annotations__) == set(schemas.Event().fields)


def test_an_id_is_a_uuid_of_the_seventh_kind_and_in_order_of_time(monkeypatch):
    ids = [uuid.UUID(new_event_id()) for _ in range(1000)]
    assert len(set(ids)) == 1000
    assert {(one.version, one.variant) for one in ids} == {(7, uuid.RFC_4122)}
    monkeypatch.setattr("time.time_ns", lambda: 2_000_000_000_000_000_000)
    assert str(max(ids)) < new_event_id()


def test_an_event_goes_out_as_it_is_given_with_an_id(script, client):
    script.tell(accept)
    sent = client.send(**pageview("/pricing", visitor_id="v", referrer=None, props={"plan": "pro"}))
    asked = script.asked[0]
    assert (asked.method, asked.path) == ("POST", "/api/v1/pixel/events")
    assert asked.headers["Content-Type"] == "application/json"
    assert asked.json == pageview("/pricing", visitor_id="v", props={"plan": "pro"}, event_id=sent.event_id)
    assert (sent.website_id, sent.name, sent.request_id, sent.event) == ("w", "pageview", "req_1", None)


def test_an_id_that_is_given_is_kept(script, client):
    script.tell(accept)
    assert client.send(**pageview(event_id="order-7")).event_id == "order-7"


def test_times_and_money_may_be_pythons_own(script, client):
    script.tell(accept)
    client.send(
        website_id="w", name="payment", amount=Decimal("19.90"), currency="EUR", transaction_id="t",
        timestamp=datetime(2026, 1, 31, 12, tzinfo=UTC), event_id="e",
    )  # fmt: skip
    asked = script.asked[0].json
    assert (asked["amount"], asked["timestamp"]) == ("19.90", "2026-01-31T12:00:00+00:00")


def test_a_dry_run_shows_what_would_be_stored(script, client):
    script.tell(success({"event": {"event_id": "e", "website_id": "w", "name": "pageview", "country": "DE"}}))
    assert client.send(**pageview(), dry_run=True).event["country"] == "DE"
    assert script.asked[0].path == "/api/v1/pixel/events?dry_run=true"
    script.tell(success({"results": [{"status": "accepted", "event": {"country": "DE"}}]}))
    assert client.send_batch([pageview()], dry_run=True)[0].stored == {"country": "DE"}
    script.tell(success({"identity": {"website_id": "w", "visitor_id": "v", "email": "a@b.example"}}))
    assert client.identify("w", "v", email="a@b.example", dry_run=True).identity["email"] == "a@b.example"


def test_an_identity_goes_out_with_what_is_known(script, client):
    script.tell(success({"status": "accepted", "website_id": "w", "visitor_id": "v"}, 202))
    known = client.identify("w", "v", user_id="u", traits={"plan": "pro"})
    assert script.asked[0].json == {"website_id": "w", "visitor_id": "v", "user_id": "u", "traits": {"plan": "pro"}}
    assert (known.visitor_id, known.identity) == ("v", None)


# -- batches


def test_a_batch_is_split_at_a_thousand_events(script, client):
    script.tell(batch)
    results = client.send_batch(pageview(f"/{number}") for number in range(2500))
    assert [len(asked.lines) for asked in script.asked] == [1000, 1000, 500]
    assert [result.event["path"] for result in results] == [f"/{number}" for number in range(2500)]
    assert len({result.event_id for result in results}) == 2500
    assert script.asked[0].headers["Content-Type"] == "application/x-ndjson"


def test_a_batch_is_split_at_ten_mebibytes(script, client):
    script.tell(batch)
    title = "x" * (3 << 20)
    results = client.send_batch(pageview(title=title) for _ in range(7))
    assert [len(asked.lines) for asked in script.asked] == [3, 3, 1]
    assert all(len(asked.body) <= 10 << 20 for asked in script.asked)
    assert all(result.accepted for result in results)


def test_ten_mebibytes_to_the_byte_are_one_batch(script, client):
    script.tell(batch)
    room = events.MOST_BYTES - 2 * len(events.encoded(pageview(title="", event_id="1"))) - 1
    first, second = "x" * (room // 2), "x" * (room - room // 2)
    client.send_batch([pageview(title=first, event_id="1"), pageview(title=second, event_id="2")])
    client.send_batch([pageview(title=first, event_id="1"), pageview(title=second + "x", event_id="2")])
    assert [len(asked.lines) for asked in script.asked] == [2, 1, 1]
    assert len(script.asked[0].body) == events.MOST_BYTES


def test_a_rejected_event_costs_the_others_nothing(script, client):
    script.tell(batch)
    results = client.send_batch([pageview("/a"), pageview("b"), pageview("/c")])
    assert [result.accepted for result in results] == [True, False, True]
    assert results[1].errors == {"path": ["Must begin with a slash."]}


def test_what_cannot_be_sent_at_all_is_rejected_in_its_place(script, client):
    script.tell(batch)
    given = [pageview("/a"), "text", pageview(props={1, 2}), pageview(title="x" * (11 << 20)), pageview("/b")]
    results = client.send_batch(given)
    assert [result.accepted for result in results] == [True, False, False, False, True]
    assert results[1].errors == {"_body": ["Must be a JSON object."]}
    assert "set" in results[2].errors["_body"][0]
    assert "10485760" in results[3].errors["_body"][0]
    assert [event["path"] for event in script.asked[0].lines] == ["/a", "/b"]
    assert [result.accepted for result in client.send_batch(["text"])] == [False]
    assert len(script.asked) == 1


def test_no_event_is_no_call(script, client):
    assert client.send_batch([]) == []
    assert script.asked == []


def test_numbers_that_are_none_reach_the_server_which_tells_of_them(script, client):
    script.tell(batch)
    client.send_batch([pageview(value=math.nan)])
    assert b'"value":NaN' in script.asked[0].body


def test_after_an_error_it_is_known_what_was_taken_and_what_to_send_again(script, client):
    script.tell(batch, failure(401, "invalid_api_key"))
    with pytest.raises(InvalidApiKey) as caught:
        client.send_batch(pageview(f"/{number}") for number in range(2500))
    error = caught.value
    assert [result.event["path"] for result in error.results] == [f"/{number}" for number in range(1000)]
    assert [event["path"] for event in error.unsent] == [f"/{number}" for number in range(1000, 2500)]
    tried = script.asked[1].lines
    script.tell(batch)
    client.send_batch(error.unsent)
    assert script.asked[2].lines == tried


def test_a_batch_that_got_no_answer_can_be_sent_again_with_its_ids(script, client):
    script.tell(HANG_UP)
    sending = client.send_batches(pageview(f"/{number}") for number in range(1500))
    with pytest.raises(NoAnswer):
        next(sending)
    script.tell(batch)
    assert [len(results) for results in sending] == [1000, 500]
    assert script.asked[0].lines == script.asked[-2].lines


def test_an_event_that_did_not_fit_any_more_is_not_lost(script, client):
    script.tell(failure(503, "ingest_unavailable"))
    sending = client.send_batches([pageview(title="x" * (6 << 20), event_id=str(number)) for number in range(3)])
    with pytest.raises(IngestUnavailable):
        next(sending)
    assert [event["event_id"] for event in sending.unsent()] == ["0", "1", "2"]


def test_batches_are_sent_as_they_are_asked_for(script, client):
    script.tell(batch)
    taken = []
    sending = client.send_batches(taken.append(number) or pageview(f"/{number}") for number in range(5000))
    assert script.asked == []
    assert len(next(sending)) == 1000
    assert (len(script.asked), len(taken)) == (1, 1000)
