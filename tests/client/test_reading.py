"""Reading: reports, pages of them, and what else there is to ask."""

from datetime import date, datetime
from urllib.parse import parse_qsl, urlsplit

import pytest

from pixel_client import Client, Column, JwtExpired, UnexpectedAnswer
from tests.client.conftest import KEY
from tests.client.scripted import failure, page, report, success


def asked_for(asked):
    """(path, parameters) of a request."""
    parts = urlsplit(asked.path)
    return parts.path, parse_qsl(parts.query, keep_blank_values=True)


def test_a_report_is_rows_and_what_is_said_about_them(script, client):
    script.tell(report([{"path": "/", "visitors": 2}], timezone="UTC"))
    found = client.query("p_top_pages", "w")
    assert list(found) == found.rows == [{"path": "/", "visitors": 2}]
    assert len(found) == found.row_count == 1
    assert found.columns == [Column("path", "String"), Column("visitors", "String")]
    assert (found.data_status, found.request_id, found.statistics) == ("ok", "req_1", {"elapsed": 0.1})
    assert found.query["timezone"] == "UTC"


def test_parameters_are_spelled_as_the_api_wants_them(script, client):
    script.tell(report([]))
    client.query(
        "p_funnel", website_id="w", from_=date(2026, 1, 1), to="2026-01-31", limit=5, bots=None,
        path=["/a b", "/ü&"], steps=("path:/pricing", "payment"), source="",
    )  # fmt: skip
    client.query("p_geo", from_=datetime(2026, 1, 2, 3, 4))
    assert asked_for(script.asked[0]) == (
        "/api/v1/pixel/metrics/p_funnel",
        [
            ("website_id", "w"), ("from", "2026-01-01"), ("to", "2026-01-31"), ("limit", "5"), ("path", "/a b"),
            ("path", "/ü&"), ("steps", "path:/pricing"), ("steps", "payment"), ("source", ""),
        ],
    )  # fmt: skip
    assert asked_for(script.asked[1]) == ("/api/v1/pixel/metrics/p_geo", [("from", "2026-01-02")])


def test_every_row_is_read_page_by_page_over_the_same_days(script, client):
    rows = [{"path": f"/{number}"} for number in range(5)]
    script.tell(report(rows[:2]), report(rows[2:4]), report(rows[4:]))
    assert list(client.query_all("p_top_pages", "w", limit=2, country="DE")) == rows
    first, second, third = (dict(asked_for(asked)[1]) for asked in script.asked)
    assert first == {"website_id": "w", "limit": "2", "offset": "0", "country": "DE"}
    assert second == first | {"offset": "2", "from": "2026-01-01", "to": "2026-01-30"}
    assert third == second | {"offset": "4"}


def test_a_last_page_that_is_full_is_followed_by_an_empty_one(script, client):
    script.tell(report([{"path": "/"}] * 2), report([]))
    assert len(list(client.query_all("p_top_pages", limit=2))) == 2


def test_ids_may_be_any_text(script, client):
    script.tell(success({}))
    client.receipt("a/b ?#ü%", website_id="w")
    client.visitor("../me")
    assert [asked.path for asked in script.asked] == [
        "/api/v1/pixel/events/a%2Fb%20%3F%23%C3%BC%25?website_id=w",
        "/api/v1/pixel/visitors/..%2Fme",
    ]


@pytest.mark.parametrize(
    ("call", "path"),
    [
        (Client.me, "/api/v1/me"),
        (Client.websites, "/api/v1/pixel/websites"),
        (Client.pipes, "/api/v1/pixel/metrics"),
        (lambda client: client.visitor("v"), "/api/v1/pixel/visitors/v"),
        (lambda client: client.visitor("v", "w"), "/api/v1/pixel/visitors/v?website_id=w"),
        (lambda client: client.receipt("e"), "/api/v1/pixel/events/e"),
    ],
)
def test_what_the_api_describes_is_given_as_it_is(script, client, call, path):
    script.tell(success([{"id": "x"}]))
    assert call(client) == [{"id": "x"}]
    assert (script.asked[0].method, script.asked[0].path) == ("GET", path)
    assert script.asked[0].headers["Authorization"] == f"Bearer {KEY}"


def test_a_token_is_made_with_parameters_that_stay(script, client):
    token = {"token": "t", "pipe": "p_top_pages", "expires_at": "2026-01-01T00:02:00Z", "url": "/v0/x"}
    script.tell(success(token, 201))
    assert client.token("p_top_pages", "w", from_=date(2026, 1, 1), path=["/a"], limit=5, to=None) == token
    client.token("p_top_pages")
    client.visitor_token("v/1", website_id="w")
    assert [(asked.method, asked.path, asked.json) for asked in script.asked] == [
        (
            "POST",
            "/api/v1/pixel/metrics/p_top_pages/token",
            {"website_id": "w", "from": "2026-01-01", "path": ["/a"], "limit": "5"},
        ),
        ("POST", "/api/v1/pixel/metrics/p_top_pages/token", {}),
        ("POST", "/api/v1/pixel/visitors/v%2F1/token", {"website_id": "w"}),
    ]


def test_a_report_is_read_with_a_token_in_place_of_the_key(script, client):
    bare = b'{"data": [{"path": "/"}], "meta": [{"name": "path", "type": "String"}], "rows": 1, "statistics": {}}'
    script.tell((200, {"X-Request-Id": "req_7"}, bare))
    found = client.query_by_token("p_top_pages", "the.token", limit=1)
    assert (found.rows, found.request_id, found.query) == ([{"path": "/"}], "req_7", {})
    assert script.asked[0].path == "/v0/pipes/p_top_pages.json?limit=1"
    assert script.asked[0].headers["Authorization"] == "Bearer the.token"
    script.tell(failure(401, "jwt_expired", message="JWT expired"))
    with pytest.raises(JwtExpired, match="JWT expired"):
        client.query_by_token("p_top_pages", "the.token")


def test_the_description_of_the_api_comes_as_it_is(script, client):
    script.tell((200, {"Content-Type": "application/json"}, b'{"openapi": "3.1.0"}'))
    assert client.openapi() == {"openapi": "3.1.0"}
    script.tell((200, {"Content-Type": "application/yaml"}, b"openapi: 3.1.0\n"))
    assert client.openapi_yaml() == "openapi: 3.1.0\n"
    assert [asked.path for asked in script.asked] == ["/api/v1/openapi.json", "/api/v1/openapi.yaml"]
    script.tell(page(200))
    with pytest.raises(UnexpectedAnswer):
        client.openapi()
