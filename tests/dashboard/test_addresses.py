"""Addresses, origins and request ids that cannot be parsed are answered like any others that lead nowhere."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pixel import pages
from tests.dashboard.world import world
from tests.pages import PASSWORD, Visitor, person

#: `urlsplit` raises for these.
UNPARSEABLE = ["http://[", "//[x]/", "http://a\u2100b/", "//[::1"]
#: Well formed, of the year 10889.
LATEST_REQUEST_ID = "req_7zzzzzzzzz" + "z" * 16


@pytest.mark.parametrize(
    "address", [*UNPARSEABLE, "//evil.example/", "/\\evil.example", "https://evil.example/", "x" * 5000]
)
def test_after_signing_in_nobody_is_led_to_an_address_that_is_no_page_here(app, ada, address):
    owner = person(app, ada.id, "owner")
    visitor = Visitor(app)
    assert visitor.get("/sign-in", query_string={"next": address}).status_code == 200
    answer = visitor.post("/sign-in", email=owner.email, password=PASSWORD, next=address)
    assert (answer.status_code, answer.headers["Location"]) == (303, "/")


@given(st.text(alphabet="/\\.:@%?#[]\t\n\r \u2100aA", max_size=12))
def test_an_address_to_return_to_is_a_path_of_this_site(text):
    address = pages.local(text)
    assert address.startswith("/")
    assert not address.startswith("//")
    assert "\\" not in address
    assert address.isprintable()


@pytest.mark.parametrize("origin", [*UNPARSEABLE, "http://", "]", "http://localhost:port"])
def test_a_form_from_an_origin_that_cannot_be_parsed_is_refused(app, origin):
    answer = app.test_client().post("/sign-in", headers={"Origin": origin.encode().decode("latin-1")})
    assert answer.status_code == 403


def test_a_request_id_beyond_the_calendar_is_not_found(app):
    here = world(app)
    answer = here.owner.get(f"/requests/{LATEST_REQUEST_ID}")
    assert answer.status_code == 404
    assert "9999" in answer.text
    assert here.owner.post("/requests", found=LATEST_REQUEST_ID).status_code == 303


def test_the_command_says_that_a_request_id_beyond_the_calendar_is_unknown(app):
    done = app.test_cli_runner().invoke(args=["request", "show", LATEST_REQUEST_ID])
    assert done.exit_code == 1
    assert "No request" in done.output
