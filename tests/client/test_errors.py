"""Each error has a class, and says all that support needs."""

import pickle
import re

import pytest

import pixel_client
from pixel import errors
from pixel_client import InvalidBody, NoAnswer, PixelError, UnexpectedAnswer
from tests.client.scripted import HANG_UP, failure, page, success

OF_THE_API = [error for error in errors.catalogue() if not error.page_only]


def caught(call):
    with pytest.raises(PixelError) as error:
        call()
    return error.value


@pytest.mark.parametrize("error", OF_THE_API, ids=lambda error: error.code)
def test_every_code_of_the_server_has_a_class(script, client, error):
    script.tell(failure(error.status, error.code, {"limit": 60}))
    found = caught(client.me)
    assert type(found) is not PixelError
    assert type(found).__name__ in pixel_client.__all__
    assert (found.status, found.code, found.request_id) == (error.status, error.code, "req_2")
    assert found.message == "It failed."
    assert found.details == {"limit": 60}
    assert all(word in str(found) for word in (error.code, "It failed.", "req_2"))


@pytest.mark.parametrize("code", ["invalid_visitor", "visitor_not_found", "jwt_invalid", "jwt_expired"])
def test_codes_of_visitors_and_tokens_have_a_class(script, client, code):
    script.tell(failure(400, code))
    name = "".join(word.capitalize() for word in code.split("_"))
    assert type(caught(client.me)) is getattr(pixel_client, name)


def test_a_code_from_the_future_raises_pixel_error_itself(script, client):
    script.tell(failure(402, "payment_required", {"plan": "x"}))
    error = caught(client.me)
    assert type(error) is PixelError
    assert (error.status, error.code, error.details) == (402, "payment_required", {"plan": "x"})


def test_what_is_wrong_with_each_field_is_said(script, client):
    script.tell(failure(400, "invalid_body", {"path": ["Must begin with a slash."], "count": 3}))
    error = caught(lambda: client.send(website_id="w", name="pageview", path="x"))
    assert type(error) is InvalidBody
    assert str(error) == "invalid_body: It failed. path: Must begin with a slash. (request_id req_2)"


@pytest.mark.parametrize(
    "answer",
    [
        page(502),
        page(200),
        page(301, {"Location": "https://elsewhere.example/"}),
        (200, {"Content-Type": "application/json"}, b"[]"),
        (200, {"Content-Type": "application/json"}, b"{"),
        (200, {"Content-Type": "application/json"}, b'{"data": 1}'),
        (200, {"Content-Type": "application/json"}, b"\xff"),
        (400, {"Content-Type": "application/json"}, b'{"error": "no"}'),
        (400, {"Content-Type": "application/json"}, b'{"error": {"code": "x", "message": "y"}}'),
        (404, {"Content-Type": "application/json"}, b""),
    ],
)
def test_an_answer_of_something_else_is_told_as_such(script, client, answer):
    script.tell((answer[0], {**answer[1], "X-Request-Id": "req_9"}, answer[2]))
    error = caught(client.me)
    assert type(error) is UnexpectedAnswer
    assert (error.status, error.request_id) == (answer[0], "req_9")
    assert re.search(rf"^unexpected_answer: .*HTTP {answer[0]}.*req_9", str(error))


def test_a_redirect_is_not_followed(script, client):
    script.tell(page(302, {"Location": script.url + "/api/v1/me"}))
    assert caught(client.me).status == 302
    assert len(script.asked) == 1


def test_no_answer_says_why(script, client):
    script.tell(HANG_UP)
    error = caught(client.me)
    assert type(error) is NoAnswer
    assert isinstance(error.__cause__, ConnectionError)
    assert (error.status, error.request_id) == (0, "")


def test_an_error_can_be_passed_to_another_process(script, client):
    script.tell(failure(400, "invalid_query", {"limit": ["No."]}))
    error = caught(client.me)
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error)
    assert vars(again) == vars(error)


def test_a_batch_that_has_other_results_than_events_is_unexpected(script, client):
    script.tell(success({"results": []}, 202))
    event = {"website_id": "w", "name": "pageview", "path": "/"}
    assert type(caught(lambda: client.send_batch([event]))) is UnexpectedAnswer
