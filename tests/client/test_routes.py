"""The client has a method for every route of the API."""

import contextlib

import pytest
from werkzeug.exceptions import HTTPException

from pixel_client import NotFound
from tests.client.scripted import failure

EVENT = {"website_id": "w", "name": "pageview", "path": "/"}
CALLS = [
    lambda client: client.me(),
    lambda client: client.websites(),
    lambda client: client.pipes(),
    lambda client: client.query("p_top_pages"),
    lambda client: client.token("p_top_pages"),
    lambda client: client.query_by_token("p_top_pages", "token"),
    lambda client: client.visitor("v"),
    lambda client: client.visitor_token("v"),
    lambda client: client.send(**EVENT),
    lambda client: client.send_batch([EVENT]),
    lambda client: client.receipt("e"),
    lambda client: client.identify("w", "v", user_id="u"),
    lambda client: client.openapi(),
    lambda client: client.openapi_yaml(),
]


def test_every_route_of_the_api_has_a_method(app, script, client):
    script.tell(failure(404, "not_found"))
    for call in CALLS:
        with pytest.raises(NotFound):
            call(client)
    assert len({(asked.method, asked.path) for asked in script.asked}) == len(CALLS)
    address, reached = app.url_map.bind("localhost"), set()
    for asked in script.asked:
        with contextlib.suppress(HTTPException):
            reached.add(address.match(asked.path.partition("?")[0], asked.method)[0])
    rules = [rule for rule in app.url_map.iter_rules() if rule.rule.startswith(("/api/", "/v0/"))]
    # What browsers send is the pixel's own business.
    there = {rule.endpoint for rule in rules if rule.methods & {"GET", "POST"} and rule.endpoint != "collect.take_hit"}
    assert len(there) >= 8
    assert there <= reached
