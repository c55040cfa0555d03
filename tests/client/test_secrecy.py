"""The key is in the Authorization header and nowhere else."""

import logging
import traceback

import pytest

from pixel_client import Client, PixelError
from tests.client.conftest import KEY
from tests.client.scripted import HANG_UP, failure, page, success


@pytest.mark.parametrize(
    "answer", [HANG_UP, page(502), failure(401, "invalid_api_key"), failure(503, "analytics_error")]
)
def test_no_error_and_no_log_shows_the_key(script, client, caplog, answer):
    caplog.set_level(logging.DEBUG)
    script.tell(answer)
    with pytest.raises(PixelError) as caught:
        client.send(website_id="w", name="pageview", path="/")
    told = (
        "".join(traceback.format_exception(caught.value)) + caplog.text + repr(caught.value) + str(vars(caught.value))
    )
    assert KEY not in told
    assert KEY in script.asked[0].headers["Authorization"]


def test_each_retry_is_logged_with_its_reason(script, client, caplog):
    caplog.set_level(logging.INFO, "pixel_client")
    script.tell(failure(503, "analytics_error"), success([]))
    client.websites()
    assert caplog.messages == [
        "analytics_error: It failed. (request_id req_2); trying again in 1.2 s (1 of 5)",
    ]


def test_a_client_does_not_show_its_key():
    client = Client(KEY)
    assert repr(client) == str(client) == "Client(base_url='http://localhost:8000')"


@pytest.mark.parametrize("key", ["", " ", KEY + "\nX-Other: 1", KEY + "ü", f"Bearer {KEY}"])
def test_what_cannot_be_a_key_is_told_without_showing_it(key):
    with pytest.raises(ValueError, match="The key is empty, or has characters that no key has") as caught:
        Client(key)
    assert KEY not in "".join(traceback.format_exception(caught.value))


def test_space_around_a_key_is_taken_off(script):
    script.tell(success([]))
    Client(f" {KEY}\n", script.url).me()
    assert script.asked[0].headers["Authorization"] == f"Bearer {KEY}"


def test_the_key_and_the_address_come_from_the_environment(script, monkeypatch):
    script.tell(success([]))
    monkeypatch.setenv("PIXEL_API_KEY", KEY)
    monkeypatch.delenv("PIXEL_API_URL", raising=False)
    assert Client.from_environment().base_url == "http://localhost:8000"
    monkeypatch.setenv("PIXEL_API_URL", script.url)
    Client.from_environment().me()
    assert script.asked[0].headers["Authorization"] == f"Bearer {KEY}"
    monkeypatch.delenv("PIXEL_API_KEY")
    with pytest.raises(ValueError, match="PIXEL_API_KEY is not set"):
        Client.from_environment()
