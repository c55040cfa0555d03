"""What is tried again, when, and what never is."""

import random

import pytest

from pixel import errors
from pixel_client import AnalyticsError, Client, NoAnswer, PixelError, RateLimitExceeded
from pixel_client.retries import REPEATS
from tests.client.conftest import KEY
from tests.client.scripted import HANG_UP, TORN, failure, page, report, success

ACCEPTED = success({"status": "accepted", "event_id": "e", "website_id": "w", "name": "pageview"}, 202)
LIMITED = failure(429, "rate_limit_exceeded", headers={"Retry-After": "23"})
BACKOFF = [1.25, 2.25, 4.25, 8.25, 16.25]
TRIED_AGAIN = [error for error in errors.catalogue() if error.retry and error.status != 429]
#: 4xx and what no route answers with: the same request would fail again.
NEVER = [error for error in errors.catalogue() if not error.retry and not error.page_only]


def send(client, **event):
    return client.send(website_id="w", name="pageview", path="/", **event)


def test_a_429_waits_as_long_as_it_is_told_and_a_little_more(script, client, waits):
    script.tell(LIMITED, ACCEPTED)
    send(client)
    assert waits == [23.25]


def test_a_429_that_does_not_say_how_long_waits_longer_each_time(script, client, waits):
    script.tell(page(429, {"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT"}), page(429), ACCEPTED)
    send(client)
    assert waits == [1.25, 2.25]


def test_the_budget_that_stays_spent_is_told_after_six_attempts(script, client, waits):
    script.tell(LIMITED)
    with pytest.raises(RateLimitExceeded) as caught:
        send(client)
    assert caught.value.retry_after_seconds == 23
    assert waits == [23.25] * REPEATS
    assert len(script.asked) == 6


@pytest.mark.parametrize("error", TRIED_AGAIN, ids=lambda error: error.code)
def test_500_and_every_503_wait_1_2_4_8_and_16_seconds_whatever_they_say(script, client, waits, error):
    script.tell(failure(error.status, error.code, headers={"Retry-After": "5"}))
    with pytest.raises(PixelError) as caught:
        send(client)
    assert (caught.value.status, caught.value.code) == (error.status, error.code)
    assert waits == BACKOFF


def test_a_503_of_a_proxy_is_tried_again_too(script, client, waits):
    script.tell(page(503), ACCEPTED)
    send(client)
    assert waits == [1.25]


@pytest.mark.parametrize("error", NEVER, ids=lambda error: error.code)
def test_no_other_error_is_tried_again(script, client, waits, error):
    script.tell(failure(error.status, error.code))
    with pytest.raises(PixelError):
        send(client)
    assert waits == []
    assert len(script.asked) == 1


@pytest.mark.parametrize("status", [301, 408, 418, 502, 504])
def test_no_other_status_is_tried_again(script, client, waits, status):
    script.tell(page(status))
    with pytest.raises(PixelError):
        client.me()
    assert waits == []


def test_the_last_attempt_may_still_succeed(script, client, waits):
    script.tell(*[failure(503, "analytics_error")] * 5, report([]))
    assert client.query("p_top_pages").rows == []
    assert waits == BACKOFF


def test_an_event_keeps_its_id_over_all_attempts(script, client):
    script.tell(failure(500, "internal_error"), HANG_UP, success({}, headers=TORN), ACCEPTED)
    send(client)
    assert len(script.asked) == 4
    assert len({asked.json["event_id"] for asked in script.asked}) == 1


@pytest.mark.parametrize(
    "call",
    [
        send,
        lambda client: client.send_batch([{"website_id": "w", "name": "pageview", "path": "/"}]),
        lambda client: client.identify("w", "v", user_id="u"),
        lambda client: client.query("p_top_pages"),
        lambda client: client.receipt("e"),
        lambda client: client.me(),
    ],
)
def test_what_may_be_repeated_is_when_no_answer_comes(script, client, waits, call):
    script.tell(HANG_UP)
    with pytest.raises(NoAnswer):
        call(client)
    assert waits == BACKOFF
    assert len({asked.body for asked in script.asked}) == 1


@pytest.mark.parametrize("call", [lambda c: c.token("p_top_pages"), lambda c: c.visitor_token("v")])
def test_a_token_is_not_asked_for_again_when_no_answer_comes(script, client, waits, call):
    script.tell(HANG_UP)
    with pytest.raises(NoAnswer):
        call(client)
    assert waits == []
    script.tell(failure(503, "analytics_error"))
    with pytest.raises(AnalyticsError):
        call(client)
    assert waits == BACKOFF


def test_where_nobody_listens_is_tried_again(script, waits):
    client = Client(KEY, "http://127.0.0.1:1", sleep=waits.append, chance=lambda: 0.25)
    with pytest.raises(NoAnswer) as caught:
        client.me()
    assert caught.value.status == 0
    assert waits == BACKOFF


def test_many_clients_do_not_come_back_at_the_same_moment(script, waits):
    client = Client(KEY, script.url, sleep=waits.append, chance=random.Random(1).random)
    script.tell(*[LIMITED] * 5, success([]))
    client.websites()
    assert len(set(waits)) == 5
    assert all(23 <= wait < 24 for wait in waits)
