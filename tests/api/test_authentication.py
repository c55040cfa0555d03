"""Who may call: the key on the wire, its states, its scopes."""

import hashlib
import threading
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from flask import Flask
from werkzeug.test import TestResponse

from pixel import clock, ids, keys
from pixel.access import Scope
from pixel.database import db
from tests.cast import READ, WRITE, Caller, Workspace, error, statements

BODY = "a" * 12 + "b" * 32


def spelled(environment="dev", body=BODY):
    """A key as the specification spells it, its checksum right, that no server has ever made."""
    start = f"pxl_{environment}_{body}"
    return start + ids.base62(zlib.crc32(start.encode()), 6)


@pytest.fixture
def says(nobody):
    """What the server says to an Authorization header."""
    return lambda header, **more: nobody.get("/me", headers={"Authorization": header, **more})


def test_as_many_first_calls_of_a_key_as_there_are_connections_do_not_wait_for_each_other(app, ada, monkeypatch):
    with app.app_context():
        pool = db.engine.pool
    calls = pool.size() + pool._max_overflow
    fresh, all_have_read, begin = ada.key(READ), threading.Barrier(calls), keys._begin_overlap

    def together(*which):
        all_have_read.wait(20)
        begin(*which)

    monkeypatch.setattr(keys, "_begin_overlap", together)
    with ThreadPoolExecutor(calls) as threads:
        answers = list(threads.map(lambda _: fresh.get("/me"), range(calls)))
    assert [answer.status_code for answer in answers] == [200] * calls


@pytest.mark.case(1)
def test_no_key_is_no_way_in(nobody):
    response = nobody.get("/me")
    assert error(response) == (401, "missing_authorization")
    assert response.json["error"]["details"] == {}
    assert response.headers["WWW-Authenticate"] == 'Bearer realm="pixel"'
    assert "X-RateLimit-Limit" not in response.headers


@pytest.mark.parametrize(
    "header",
    [
        "",
        "Bearer",
        "Bearer ",
        "Bearer a b",
        "Bearer a,Bearer b",
        "Bearer a,b",
        "Bearerkey",
        " ",
        "key",
        "Token abc",
        "Basic YTpi",
        'Digest username="a", realm="b"',
        "Bearer " + "a " * 4000,
        ", ".join(["Bearer " + spelled()] * 2),
    ],
)
@pytest.mark.case(3, 4, 5)
def test_anything_but_bearer_and_one_key_is_refused_by_its_form(says, header):
    response = says(header)
    assert error(response) == (401, "invalid_authorization_format")
    assert response.json["error"]["details"] == {}
    assert response.headers["WWW-Authenticate"] == 'Bearer realm="pixel", error="invalid_request"'


@pytest.mark.case(3)
@pytest.mark.parametrize("header", ["Token abc", "Basic YTpi", "Digest username=a", "Negotiate YII"])
def test_the_scheme_that_was_sent_is_named(says: Callable[..., TestResponse], header: str) -> None:
    assert header.split()[0] in says(header).json["error"]["message"]


def raw(text):
    """A header value as WSGI passes it: the bytes of UTF-8 as Latin-1."""
    return text.encode().decode("latin-1")


BLANKS = ["\u00a0", "\u200b", "\ufeff", "\u2003", "\u00ad", "\u2060", "\u202a"]
FORMAT, KEY = "invalid_authorization_format", "invalid_api_key"


@pytest.mark.parametrize(
    ("header", "code", "hint"),
    [
        # Whitespace and invisible characters around the key come before everything else.
        ("Bearer  {key}", FORMAT, "surrounding_whitespace"),
        ("Bearer\t{key}", FORMAT, "surrounding_whitespace"),
        ("Bearer {key} ", FORMAT, "surrounding_whitespace"),
        ("Bearer {key}\t", FORMAT, "surrounding_whitespace"),
        ("bearer \t {key}\u00e9 ", FORMAT, "surrounding_whitespace"),
        *((f"Bearer {blank}{{key}}", KEY, "surrounding_whitespace") for blank in BLANKS),
        *((f"Bearer {{key}}{blank}", KEY, "surrounding_whitespace") for blank in BLANKS),
        *((f"Bearer{blank}{{key}}", FORMAT, "surrounding_whitespace") for blank in BLANKS),
        ("Bearer \u200b{key}\u00e9", KEY, "surrounding_whitespace"),
        ("Bearer \ufeff'{key}'", KEY, "surrounding_whitespace"),
        ("Bearer \u200b", KEY, "surrounding_whitespace"),
        # Then other characters outside ASCII.
        ("Bearer {key}\u00e9", KEY, "non_ascii_characters"),
        ("Bearer k\u00e9y", KEY, "non_ascii_characters"),
        ("Bearer \u201c{key}\u201d", KEY, "non_ascii_characters"),
        ("Bearer \uff50xl_dev_1", KEY, "non_ascii_characters"),
        ("Bearer '{key}\u00e9'", KEY, "non_ascii_characters"),
        ("Bearer pxl_\u200bdev", KEY, "non_ascii_characters"),
        ("B\u0435arer {key}", FORMAT, "non_ascii_characters"),
        ("Bearer a \u00e9", FORMAT, "non_ascii_characters"),
        # Then the rest.
        ("Bearer '{key}'", KEY, "surrounding_quotes"),
        ("Bearer {key}x", KEY, "truncated_or_mistyped"),
        ("Bearer {key} {key}", FORMAT, None),
        ("Bearer {key}, Bearer {key}", FORMAT, None),
        ("Bearer \t", FORMAT, None),
    ],
)
def test_the_first_hint_that_applies_is_returned_and_the_key_is_not(says, header, code, hint):
    key = spelled()
    response = says(raw(header.format(key=key)))
    assert error(response) == (401, code)
    assert response.json["error"]["details"] == ({"hint": hint} if hint else {})
    assert key not in response.text
    assert key not in str(response.headers)


def test_a_no_break_space_of_latin_1_is_whitespace_too(says):
    assert says(f"Bearer \u00a0{spelled()}").json["error"]["details"] == {"hint": "surrounding_whitespace"}


def test_a_query_token_outside_ascii_is_no_token(app, nobody):
    for token in ("\u00e9", "\u200b", "eyJ\u00e9.\u00e9.\u00e9"):
        headers = {"Authorization": raw(f"Bearer {token}")}
        response = app.test_client().get("/v0/pipes/p_top_pages.json", headers=headers)
        assert error(response) == (401, "jwt_invalid")


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER", "bEaReR"])
@pytest.mark.case(2)
def test_the_scheme_may_be_in_any_case(caller, says, scheme):
    assert says(f"{scheme} {caller.secret}").status_code == 200


@pytest.mark.parametrize(
    ("secret", "details"),
    [
        (spelled(), {}),
        ("something", {}),
        ("a=b", {}),
        ("{}", {}),
        (hashlib.sha256(b"a key").hexdigest(), {"hint": "looks_like_hash"}),
        (hashlib.sha256(b"a key").hexdigest().upper(), {"hint": "looks_like_hash"}),
        (f'"{spelled()}"', {"hint": "surrounding_quotes"}),
        (f"'{spelled()}'", {"hint": "surrounding_quotes"}),
        (
            spelled("live"),
            {"hint": "wrong_environment", "key_environment": "live", "server_environment": "dev"},
        ),
        (spelled()[:-1], {"hint": "truncated_or_mistyped"}),
        (spelled() + "x", {"hint": "truncated_or_mistyped"}),
        (spelled().replace("ab", "ba"), {"hint": "truncated_or_mistyped"}),
        (spelled("live")[:-1], {"hint": "truncated_or_mistyped"}),
        ("pxl_", {"hint": "truncated_or_mistyped"}),
        ("pxl_dev_", {"hint": "truncated_or_mistyped"}),
        ("pxl_dev_" + "/" * 50, {"hint": "truncated_or_mistyped"}),
    ],
)
@pytest.mark.case(6, 19)
def test_a_key_that_is_not_ours_is_refused_with_a_hint_where_one_can_be_told(says, secret, details):
    response = says(f"Bearer {secret}")
    assert error(response) == (401, "invalid_api_key")
    assert response.json["error"]["details"] == details
    assert response.headers["WWW-Authenticate"] == 'Bearer realm="pixel", error="invalid_token"'


@pytest.mark.case(14)
def test_any_one_character_changed_is_known_for_a_typing_error_without_asking_the_database(app, caller, says):
    with statements(app) as asked:
        for place in range(len(caller.secret)):
            wrong = "x" if caller.secret[place] != "x" else "y"
            mistyped = caller.secret[:place] + wrong + caller.secret[place + 1 :]
            assert error(says(f"Bearer {mistyped}")) in ((401, "invalid_api_key"), (429, "rate_limit_exceeded"))
        assert asked == []


@pytest.mark.case(15)
def test_a_wrong_secret_takes_the_same_steps_as_an_unknown_id(
    app: Flask, caller: Caller, says: Callable[..., TestResponse]
) -> None:
    known_id = caller.secret.removeprefix("pxl_dev_")[:12]
    answers, executed = [], []
    for body in (known_id + "d" * 32, "d" * 44):
        with statements(app) as sql:
            answers.append(says(f"Bearer {spelled(body=body)}"))
        executed.append(sql)
    assert [error(answer) for answer in answers] == [(401, "invalid_api_key")] * 2
    assert answers[0].json["error"] == answers[1].json["error"]
    # A key is found by the hash of the whole, so no statement depends on its id.
    assert executed[0] == executed[1] != []


def test_only_a_key_with_the_right_checksum_is_looked_up(app, says):
    with statements(app) as asked:
        says(f"Bearer {spelled(body='c' * 44)}")
        assert any("api_keys" in statement for statement in asked)


@pytest.mark.case(11)
def test_a_key_of_8_kb_is_refused_without_being_hashed_or_looked_up(app, says, monkeypatch):
    monkeypatch.setattr(keys.hashlib, "sha256", None)
    with statements(app) as asked:
        for secret in ("x" * 8192, "pxl_dev_" + "x" * 8192):
            assert error(says(f"Bearer {secret}")) == (401, "invalid_api_key")
        assert asked == []


@pytest.mark.parametrize(
    "place",
    [
        lambda key: {"query_string": {"key": key, "api_key": key, "access_token": key, "token": key}},
        lambda key: {"headers": {"X-Api-Key": key, "Cookie": f"key={key}; token={key}; session={key}"}},
        lambda key: {"data": {"key": key, "access_token": key}},
        lambda key: {"json": {"key": key, "access_token": key}},
        lambda key: {"headers": {"Proxy-Authorization": f"Bearer {key}"}},
    ],
)
@pytest.mark.case(9)
def test_a_good_key_elsewhere_than_in_its_header_opens_nothing(caller, nobody, place):
    assert error(nobody.get("/me", **place(caller.secret))) == (401, "missing_authorization")


@pytest.mark.case(10)
def test_a_key_in_another_header_changes_nothing_beside_a_good_one(caller: Caller, bob: Workspace) -> None:
    """Only Authorization is a credential. A second key in X-Api-Key is a header like any other."""
    answer = caller.get("/me", headers={"X-Api-Key": bob.key(READ).secret})
    assert answer.json["data"]["key"]["id"] == caller.key_id


@pytest.mark.case(28)
def test_a_key_without_the_scope_to_manage_keys_makes_none(app: Flask, ada: Workspace) -> None:
    caller = ada.key(READ, WRITE, Scope.BRAND_READ.value, Scope.BRAND_WRITE.value)
    wanted = {"name": "wider", "scopes": ["keys:manage", READ, WRITE]}
    for path in ("/keys", f"/keys/{caller.key_id}/rotate", "/pixel/keys"):
        assert error(caller.post(path, json=wanted)) in ((404, "not_found"), (403, "insufficient_scope")), path
    with app.app_context():
        assert keys.count(ada.id) == 1


def test_me_says_who_calls(app, ada, caller):
    told = caller.get("/me").json["data"]
    assert told["workspace"].keys() == {"id", "name", "timezone", "rate_limit"}
    assert told["workspace"] | {"name": ""} == {"id": ada.id, "name": "", "timezone": "UTC", "rate_limit": 1_000_000}
    assert told["key"].keys() == {
        "id", "name", "hint", "scopes", "environment", "websites", "created_at", "expires_at",
    }  # fmt: skip
    assert told["key"]["id"] == caller.key_id
    assert told["key"]["scopes"] == [READ, WRITE]
    assert told["key"]["websites"] is told["key"]["expires_at"] is None
    assert told["key"]["hint"].endswith(caller.secret[-4:])
    assert caller.secret not in caller.get("/me").text


@pytest.mark.case(17)
def test_a_revoked_key_is_refused_on_its_very_next_call(ada, caller):
    assert caller.get("/me").status_code == 200
    ada.revoke(caller)
    response = caller.get("/me")
    assert error(response) == (401, "api_key_revoked")
    assert list(response.json["error"]["details"]) == ["revoked_at"]
    assert response.json["error"]["details"]["revoked_at"].endswith("Z")
    assert 'error="invalid_token"' in response.headers["WWW-Authenticate"]


@pytest.mark.case(16)
def test_a_key_ends_when_it_expires(ada, moved_clock):
    end = clock.now() + timedelta(hours=1)
    caller = ada.key(READ, expires_at=end)
    moved_clock.forward(minutes=59, seconds=58)
    assert caller.get("/me").json["data"]["key"]["expires_at"] == clock.rfc3339(end)
    moved_clock.forward(seconds=2)
    response = caller.get("/me")
    assert error(response) == (401, "api_key_expired")
    assert response.json["error"]["details"] == {"expired_at": clock.rfc3339(end)}


def code(caller):
    """ "" for a key that works, else why it does not."""
    return caller.get("/me").json.get("error", {}).get("code", "")


@pytest.mark.case(18)
def test_a_rotated_key_works_until_an_hour_after_the_first_use_of_the_new_one(ada, caller, moved_clock):
    new = ada.rotate(caller, overlap="1h")
    moved_clock.forward(days=5)
    assert code(caller) == ""
    assert code(new) == ""
    moved_clock.forward(minutes=59)
    assert code(caller) == ""
    moved_clock.forward(minutes=1)
    assert code(caller) == "api_key_revoked"
    assert code(new) == ""


@pytest.mark.parametrize("used_on_day", [None, 0, 6])
def test_an_overlap_never_lasts_past_seven_days(ada, caller, moved_clock, used_on_day):
    new = ada.rotate(caller, overlap="7d")
    if used_on_day is not None:
        moved_clock.forward(days=used_on_day)
        assert code(new) == ""
    moved_clock.forward(days=7 - (used_on_day or 0), minutes=-1)
    assert code(caller) == ""
    moved_clock.forward(minutes=1)
    assert code(caller) == "api_key_revoked"
    assert code(new) == ""


def test_rotating_without_an_overlap_ends_the_old_key_at_once(ada, caller):
    new = ada.rotate(caller, overlap="none")
    assert (code(caller), code(new)) == ("api_key_revoked", "")


@pytest.mark.case(18)
def test_a_second_rotation_ends_the_first(ada, caller):
    first = ada.rotate(caller, overlap="24h")
    second = ada.rotate(caller, overlap="24h")
    assert (code(caller), code(first), code(second)) == ("", "api_key_revoked", "")
    third = ada.rotate(second, overlap="24h")
    assert (code(caller), code(second), code(third)) == ("api_key_revoked", "", "")


def test_what_has_ended_cannot_be_rotated(ada, caller):
    ada.revoke(caller)
    with pytest.raises(ValueError, match="revoked"):
        ada.rotate(caller)


def test_a_successor_has_the_name_and_restriction_and_chosen_scopes_of_the_old_key(ada):
    old = ada.key(READ, website_ids=[ada.site])
    before = old.get("/me").json["data"]["key"]
    same = ada.rotate(old).get("/me").json["data"]["key"]
    changing = ("id", "hint", "created_at")
    assert {k: v for k, v in same.items() if k not in changing} == {
        k: v for k, v in before.items() if k not in changing
    }
    assert ada.rotate(old, add=[WRITE], drop=[READ]).get("/me").json["data"]["key"]["scopes"] == [WRITE]


@pytest.mark.case(25)
def test_other_websites_do_not_exist_for_a_restricted_key(ada):
    other = ada.website("other.example")
    caller = ada.key(READ, WRITE, website_ids=[ada.site])
    assert caller.get("/me").json["data"]["key"]["websites"] == [ada.site]
    assert [site["id"] for site in caller.get("/pixel/websites").json["data"]] == [ada.site]
    assert caller.sends(ada.site).status_code == 202
    assert caller.sends(other).json["error"]["details"] == {"website_id": ["No such website in this workspace."]}
    assert error(caller.get(f"/pixel/metrics/p_top_pages?website_id={other}")) == (404, "website_not_found")


ROUTES = [
    ("GET", "/pixel/websites", READ),
    ("GET", "/pixel/metrics", READ),
    ("GET", "/pixel/metrics/p_top_pages", READ),
    ("HEAD", "/pixel/metrics/p_top_pages", READ),
    ("GET", "/pixel/events/e", READ),
    ("POST", "/pixel/events", WRITE),
    ("POST", "/pixel/events/batch", WRITE),
    ("POST", "/pixel/identify", WRITE),
]


@pytest.mark.parametrize(("method", "path", "scope"), ROUTES)
@pytest.mark.parametrize("scopes", [(), "all but the one", ("brand:read", "brand:write")])
@pytest.mark.case(27)
def test_a_route_is_closed_to_a_key_without_its_scope(ada, method, path, scope, scopes):
    has = [s for s in (READ, WRITE) if s != scope] if scopes == "all but the one" else list(scopes)
    caller = ada.key(*has)
    assert caller.get("/me").status_code == 200
    response = caller.call(method, path)
    assert response.status_code == 403
    assert response.headers["WWW-Authenticate"] == (
        f'Bearer realm="pixel", error="insufficient_scope", scope="{scope}"'
    )
    if method != "HEAD":
        assert error(response) == (403, "insufficient_scope")
        assert response.json["error"]["message"] == f"This endpoint requires the '{scope}' scope"
        assert response.json["error"]["details"] == {"required": scope, "available": has}


@pytest.mark.parametrize(
    ("method", "path", "options", "status"),
    [
        ("GET", "/me", {}, 200),
        ("HEAD", "/me", {}, 200),
        ("GET", "/me?no=such", {}, 400),
        ("GET", "/pixel/metrics/nope", {}, 400),
        ("GET", "/pixel/metrics/p_top_pages?website_id=nope", {}, 404),
        ("GET", "/pixel/events/nope", {}, 404),
        ("POST", "/pixel/events", {"data": "x"}, 415),
        ("POST", "/pixel/events", {"data": "x", "content_type": "application/json"}, 400),
        ("POST", "/pixel/events/batch", {"json": {"events": [1]}}, 202),
    ],
)
def test_every_authenticated_answer_says_where_the_budget_stands(caller, method, path, options, status):
    response = caller.call(method, path, **options)
    assert response.status_code == status
    assert response.headers["X-RateLimit-Limit"] == "1000000"
    assert response.headers["X-RateLimit-Remaining"] == "999999"
    assert 0 < int(response.headers["X-RateLimit-Reset"]) - clock.seconds() <= 61


def test_a_refused_scope_says_where_the_budget_stands_too(ada):
    assert ada.key().post("/pixel/events").headers["X-RateLimit-Remaining"] == "999999"


@pytest.mark.case(19)
def test_two_servers_of_other_environments_do_not_take_each_others_keys(app, caller, monkeypatch):
    monkeypatch.setitem(app.config, "PIXEL_ENV", "live")
    assert Caller(app, caller.secret).get("/me").json["error"]["details"] == {
        "hint": "wrong_environment", "key_environment": "dev", "server_environment": "live",
    }  # fmt: skip
