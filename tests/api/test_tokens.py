"""Query tokens: what a browser may ask with one, and for how long."""

import base64
import hmac
import json
from datetime import timedelta

import jwt
import pytest
from flask import Flask

from pixel import clock, tokens
from tests.cast import READ, WRITE, Caller, addresses, error, load


@pytest.fixture
def reader(ada):
    return ada.key(READ)


def mint(caller, pipe="p_top_pages", status=201, **fixed):
    response = caller.post(f"/pixel/metrics/{pipe}/token", json=fixed)
    assert response.status_code == status, response.text
    return response.json["data"] if status == 201 else response


def ask(app, token, pipe="p_top_pages", address="10.9.9.9", headers=(), **query):
    path = f"/v0/pipes/{pipe}.json"
    given = {"token": token, **query} if token else query
    return app.test_client().get(path, query_string=given, headers=dict(headers), environ_base={"REMOTE_ADDR": address})


@pytest.mark.case(65)
def test_a_token_answers_as_the_report_does_without_the_envelope(app, ada, caller, reader):
    caller.sends(ada.site, path="/a")
    load(app)
    made = mint(reader, website_id=ada.site)
    assert made["pipe"] == "p_top_pages"
    assert made["url"].endswith(f"/v0/pipes/p_top_pages.json?token={made['token']}")
    answer = ask(app, made["token"])
    assert answer.status_code == 200
    assert answer.json.keys() == {"data", "meta", "rows", "statistics", "data_status"}
    assert answer.json["data"] == caller.rows("p_top_pages")
    as_bearer = ask(app, None, headers={"Authorization": f"Bearer {made['token']}"})
    assert as_bearer.json["data"] == answer.json["data"]
    assert answer.headers["Access-Control-Allow-Origin"] == "*"
    assert "Access-Control-Allow-Credentials" not in answer.headers
    shown = set(answer.headers["Access-Control-Expose-Headers"].split(", "))
    assert {name for name, _ in answer.headers if name.startswith("X-R")} <= shown
    assert answer.headers["X-Request-Id"]


@pytest.mark.case(9)
@pytest.mark.parametrize("header", ["Bearer {0}", "Bearer {1}", "Bearer x", "Basic eDp5", "Bearer", ""])
def test_a_token_sent_in_both_ways_is_refused(app: Flask, reader: Caller, header: str) -> None:
    """RFC 6750, section 2: a client must not use more than one method in a request."""
    tokens = [mint(reader)["token"] for _ in range(2)]
    refused = ask(app, tokens[0], headers={"Authorization": header.format(*tokens)})
    assert error(refused) == (400, "bad_request")
    assert refused.json["error"]["details"] == {"header": "Authorization"}
    assert refused.headers["Access-Control-Allow-Origin"] == "*"


def test_any_site_may_ask_before_it_asks(app):
    answer = app.test_client().options("/v0/pipes/p_top_pages.json", headers={"Origin": "https://elsewhere.example"})
    assert answer.status_code == 204
    assert answer.headers["Access-Control-Allow-Origin"] == "*"
    assert answer.headers["Access-Control-Allow-Headers"] == "Authorization"


def test_it_lives_for_two_minutes(app, reader, moved_clock):
    begun = clock.now()
    made = mint(reader)
    assert made["expires_at"] >= clock.rfc3339(begun + timedelta(seconds=120))
    moved_clock.forward(seconds=110)
    assert ask(app, made["token"]).status_code == 200
    moved_clock.forward(seconds=11)
    late = ask(app, made["token"])
    assert error(late) == (401, "jwt_expired")
    assert late.json["error"]["message"] == "JWT expired"
    assert late.json["error"]["details"] == {"expired_at": made["expires_at"]}
    assert late.headers["Access-Control-Allow-Origin"] == "*"


def test_it_dies_with_its_key_at_once(app, ada, reader):
    made = mint(reader)
    assert ask(app, made["token"]).status_code == 200
    ada.revoke(reader)
    assert error(ask(app, made["token"])) == (401, "jwt_invalid")


def test_what_it_fixes_stays_as_it_is(app, ada, caller, reader):
    for path in ("/a", "/b", "/c"):
        caller.sends(ada.site, path=path)
    load(app)
    made = mint(reader, path=["/a", "/b"], limit=1)
    rows = ask(app, made["token"]).json["data"]
    assert [row["path"] for row in rows] == ["/a"]
    assert [row["path"] for row in ask(app, made["token"], offset=1).json["data"]] == ["/b"]
    for name, value in (("path", "/c"), ("limit", "5")):
        refused = ask(app, made["token"], **{name: value})
        assert error(refused) == (400, "invalid_query")
        assert refused.json["error"]["details"] == {name: ["Fixed by the token."]}


def test_it_opens_its_own_report_only(app, reader):
    made = mint(reader)
    assert error(ask(app, made["token"], pipe="p_geo")) == (401, "jwt_invalid")
    assert error(ask(app, made["token"], pipe="p_nothing")) == (400, "invalid_pipe")
    # It is no key.
    assert Caller(app, made["token"]).get("/me").status_code == 401


def test_it_sees_what_its_key_sees_and_nothing_else(app, ada, bob, caller):
    other = ada.website("other.example")
    caller.sends(other, path="/other")
    caller.sends(ada.site, path="/mine")
    load(app)
    narrow = ada.key(READ, website_ids=[ada.site])
    made = mint(narrow)
    assert [row["path"] for row in ask(app, made["token"]).json["data"]] == ["/mine"]
    for site in (other, bob.site, "admx_00000000000000"):
        assert error(ask(app, made["token"], website_id=site)) == (404, "website_not_found")
        assert error(mint(narrow, status=404, website_id=site)) == (404, "website_not_found")


@pytest.mark.parametrize(
    ("fixed", "field"),
    [({"limit": 0}, "limit"), ({"limit": "x"}, "limit"), ({"oops": 1}, "oops"), ({"path": []}, "path"),
     ({"path": [1.5]}, "path"), ({"path": {"a": 1}}, "path"), ({"path": None}, "path"), ({"limit": True}, "limit"),
     ({"from": "2026-13-01"}, "from"), ({"workspace": "x"}, "workspace"), ({"limit": [1, 2]}, "limit")],
)  # fmt: skip
def test_what_a_report_would_refuse_is_refused_when_it_is_minted(reader, fixed, field):
    refused = reader.post("/pixel/metrics/p_top_pages/token", json=fixed)
    assert error(refused) == (400, "invalid_body")
    assert refused.json["error"]["details"].keys() == {field}


@pytest.mark.parametrize("body", [b"", b"[]", b"5", b"null", b"{"])
def test_the_body_is_an_object(reader, body):
    refused = reader.post("/pixel/metrics/p_top_pages/token", data=body, content_type="application/json")
    assert error(refused) == (400, "invalid_body")


def test_no_token_is_minted_whose_address_is_too_long_to_be_asked(reader):
    made = mint(reader, path=["/" + "a" * 1999] * 2)
    assert len(made["url"]) <= 8000
    for path in ("/pixel/metrics/p_top_pages/token", "/pixel/visitors/v/token"):
        refused = reader.post(path, json={"path": ["/" + "a" * 1999] * 3})
        assert error(refused) == (400, "invalid_body")
        assert refused.json["error"]["details"].keys() == {"_body"}
        assert "at most 8000 can be asked" in refused.json["error"]["details"]["_body"][0]


def test_only_a_key_that_reads_mints(ada):
    refused = ada.key(WRITE).post("/pixel/metrics/p_top_pages/token", json={})
    assert error(refused) == (403, "insufficient_scope")


def test_what_a_report_requires_may_come_with_the_question(app, reader):
    made = mint(reader, pipe="p_funnel")
    assert error(ask(app, made["token"], pipe="p_funnel")) == (400, "invalid_query")
    assert ask(app, made["token"], pipe="p_funnel", steps="path:/,payment").status_code == 200


def test_a_visitors_token_opens_profile_and_timeline_of_that_visitor(app, ada, caller, reader):
    caller.sends(ada.site, visitor_id="v", path="/a")
    caller.sends(ada.site, visitor_id="w", path="/b")
    load(app)
    made = reader.post("/pixel/visitors/v/token", json={}).json["data"]
    assert made["urls"].keys() == {"p_visitor_profile", "p_visitor_timeline"}
    profile = ask(app, made["token"], pipe="p_visitor_profile").json["data"]
    assert [row["visitor_id"] for row in profile] == ["v"]
    timeline = ask(app, made["token"], pipe="p_visitor_timeline").json["data"]
    assert [row["path"] for row in timeline] == ["/a"]
    assert error(ask(app, made["token"], pipe="p_visitor_timeline", visitor_id="w")) == (400, "invalid_query")
    assert error(reader.post("/pixel/visitors/v/token", json={"visitor_id": "w"})) == (400, "invalid_body")
    assert error(reader.post("/pixel/visitors/%20/token", json={})) == (400, "invalid_visitor")


def forged(token, header=None, secret=None, drop=(), **claims):
    """A token with other claims, or signed in another way."""
    told = jwt.decode(token, options={"verify_signature": False})
    told = {name: value for name, value in {**told, **claims}.items() if name not in drop}
    return jwt.encode(told, secret or "x" * 40, algorithm="HS256", headers=header or {})


@pytest.mark.parametrize(
    "make",
    [
        lambda token, secret: "",
        lambda token, secret: "x",
        lambda token, secret: "a.b.c",
        lambda token, secret: token[:-2],
        lambda token, secret: token + "x" * 100_000,
        lambda token, secret: forged(token),
        lambda token, secret: unsigned(token),
        lambda token, secret: forged(token, secret=secret, aud="other"),
        lambda token, secret: forged(token, secret=secret, iss="other"),
        lambda token, secret: forged(token, secret=secret, key="key_000000000000"),
        lambda token, secret: forged(token, secret=secret, workspace="ws_00000000000000"),
        lambda token, secret: forged(token, secret=secret, exp=10**30),
        lambda token, secret: forged(token, secret=secret, exp="soon"),
        lambda token, secret: forged(token, secret=secret, drop=["exp"]),
        lambda token, secret: forged(token, secret=secret, drop=["jti"]),
        lambda token, secret: forged(token, secret=secret, fixed="x"),
        lambda token, secret: forged(token, secret=secret, pipes=5),
        lambda token, secret: forged(token, secret=secret, header={"crit": ["x"], "x": 1}),
        lambda token, secret: forged(token, {"jku": "http://127.0.0.1/", "kid": "../../x"}),
    ],
    ids=range(19),
)
@pytest.mark.case(99)
def test_no_made_up_token_works(app, reader, make, request):
    token = mint(reader)["token"]
    with app.app_context():
        secret = tokens._secret()
    address = f"10.9.8.{request.node.callspec.indices['make'] + 1}"
    refused = ask(app, make(token, secret) or "-", address=address)
    assert error(refused) == (401, "jwt_invalid")


@pytest.mark.case(99)
@pytest.mark.parametrize("algorithm", ["none", "None", "nOnE", "HS384", "HS512", "RS256", "ES256", "", None, 5])
def test_a_token_names_no_algorithm_of_its_own(app: Flask, reader: Caller, algorithm: object) -> None:
    """An attacker who chooses the algorithm could sign with nothing, or with a public key as a secret."""
    token = mint(reader)["token"]
    with app.app_context():
        secret = tokens._secret()
    content = f"{encoded({'alg': algorithm, 'typ': 'JWT'})}.{token.split('.')[1]}"
    for digest in ("sha256", "sha384", "sha512"):
        signature = base64.urlsafe_b64encode(hmac.digest(secret, content.encode(), digest)).rstrip(b"=").decode()
        refused = ask(app, f"{content}.{signature}", address=next(addresses))
        assert error(refused) == (401, "jwt_invalid")


@pytest.mark.case(99)
@pytest.mark.parametrize(
    "header",
    [
        {"kid": "../../../../dev/null"},
        {"kid": "x' UNION SELECT 'secret'--"},
        {"kid": "http://127.0.0.1/key"},
        {"jku": "http://127.0.0.1/keys.json"},
        {"x5u": "http://127.0.0.1/key.pem"},
        {"jwk": {"kty": "oct", "k": base64.urlsafe_b64encode(b"x" * 40).decode()}},
        {"x5c": ["MIIB"]},
    ],
    ids=lambda header: next(iter(header)),
)
def test_a_token_brings_no_key_of_its_own(app: Flask, reader: Caller, header: dict[str, object]) -> None:
    token = forged(mint(reader)["token"], header, secret="x" * 40)
    assert error(ask(app, token, address=next(addresses))) == (401, "jwt_invalid")


@pytest.mark.case(99)
def test_a_token_holds_only_between_its_own_times(app: Flask, reader: Caller) -> None:
    token, now = mint(reader)["token"], int(clock.seconds())
    with app.app_context():
        secret = tokens._secret()
    for claims, code in (
        ({"exp": now - 1}, "jwt_expired"),
        ({"exp": -1}, "jwt_expired"),
        ({"nbf": now + 61}, "jwt_invalid"),
        ({"aud": ["other"]}, "jwt_invalid"),
        ({"aud": None}, "jwt_invalid"),
        ({"iss": ""}, "jwt_invalid"),
    ):
        refused = ask(app, forged(token, secret=secret, **claims), address=next(addresses))
        assert error(refused) == (401, code), claims


def encoded(part: dict[str, object]) -> str:
    """Return a part of a token."""
    return base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode()


def unsigned(token):
    header = base64.urlsafe_b64encode(json.dumps({"alg": "none", "typ": "JWT"}).encode()).rstrip(b"=").decode()
    return f"{header}.{token.split('.')[1]}."


def test_without_a_token_it_says_what_is_missing(app):
    assert error(ask(app, None)) == (401, "missing_authorization")
    assert error(ask(app, None, headers={"Authorization": "Basic x"})) == (401, "invalid_authorization_format")


def test_of_two_tokens_none_is_taken(app, reader):
    refused = ask(app, [mint(reader)["token"]] * 2)
    assert error(refused) == (400, "invalid_query")
    assert refused.json["error"]["details"] == {"token": ["Given more than once."]}


def test_tokens_have_a_budget_of_their_own(app, ada, monkeypatch):
    reader = ada.key(READ)
    made = mint(reader)
    monkeypatch.setitem(app.config, "RATELIMIT_TOKENS", 2)
    answers = [ask(app, made["token"]) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert int(answers[2].headers["Retry-After"]) >= 1
    assert answers[0].headers["X-RateLimit-Limit"] == "2"
    assert reader.get("/me").status_code == 200


def test_guessing_tokens_is_slowed_down_by_address(app):
    answers = {ask(app, "x.y.z", address="10.9.7.7").status_code for _ in range(61)}
    assert answers == {401, 429}
