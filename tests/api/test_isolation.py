"""What another owns is answered like what is not there: over every address that the API has."""

import json

import pytest
from flask import Flask
from hypothesis import given, settings
from hypothesis import strategies as st

from pixel import database, metrics, pipes
from tests.cast import NEEDED, READ, WRITE, Caller, error, load, statements

CANARY = "canary-of-bob"
MISSING = {"site": "admx_00000000000000", "event": "00000000000000000", "visitor": "0000000000000"}
#: Bodies by endpoint; WEBSITE is replaced.
BODIES = {
    "api.accept_event": {"website_id": "WEBSITE", "name": "pageview", "path": "/"},
    "api.accept_batch": {"events": [{"website_id": "WEBSITE", "name": "pageview", "path": "/"}]},
    "api.mint_token": {"website_id": "WEBSITE"},
    "api.mint_visitor_token": {"website_id": "WEBSITE"},
    "api.identify": {"website_id": "WEBSITE", "visitor_id": "v", "user_id": "u"},
}
#: What stands in a path for each of its arguments; None for what is no id.
ARGUMENTS = {"event_id": "event", "visitor_id": "visitor", "name": None}


@pytest.fixture(params=["another workspace", "another website of this workspace"])
def other(request, app, ada, bob):
    """Ids that the caller must not know, and the caller: (caller, ids)."""
    if request.param == "another workspace":
        owner, site, caller = bob, bob.website(f"{CANARY}.example"), ada.key(READ, WRITE)
    else:
        owner, site, caller = ada, ada.website(f"{CANARY}.example"), ada.key(READ, WRITE, website_ids=[ada.site])
    sender = owner.key(READ, WRITE)
    event_id = "e-" + site[-15:]
    facts = {"visitor_id": CANARY, "referrer": f"https://{CANARY}.example.com/", "utm_campaign": CANARY}
    sender.sends(site, event_id=event_id, path=f"/{CANARY}", **facts)
    sender.sends(site, name="custom", goal=CANARY, visitor_id=CANARY)
    sender.sends(site, name="payment", amount=1, currency="EUR", transaction_id=CANARY, visitor_id=CANARY)
    ids = {"site": site, "event": event_id, "visitor": CANARY}
    assert {kind: len(text) for kind, text in ids.items()} == {kind: len(text) for kind, text in MISSING.items()}
    return caller, ids


def routes(app):
    """Every (rule, method) of the API."""
    rules = [rule for rule in app.url_map.iter_rules() if rule.endpoint.startswith("api.")]
    assert len(rules) >= 8
    return [(rule, method) for rule in rules for method in sorted(rule.methods - {"HEAD", "OPTIONS"})]


def calls(app, ids):
    """Every way to name one of `ids` to the API, as (method, path, options)."""
    for rule, method in routes(app):
        unknown = rule.arguments - ARGUMENTS.keys()
        assert not unknown, f"Say in ARGUMENTS what {unknown} of {rule} is."
        for pipe in pipes.all() if "name" in rule.arguments else [""]:
            values = {name: ids[kind] if kind else pipe for name, kind in ARGUMENTS.items() if name in rule.arguments}
            path = rule.rule.removeprefix("/api/v1")
            for name, value in values.items():
                for converter in ("", "anything:", "anything_or_nothing:"):
                    path = path.replace(f"<{converter}{name}>", value)
            assert "<" not in path
            body = BODIES.get(rule.endpoint)
            assert body or method == "GET", f"Say in BODIES what is sent to {rule}."
            sent = {"json": json.loads(json.dumps(body).replace("WEBSITE", ids["site"]))} if body else {}
            yield method, path, sent
            yield method, path, sent | {"query_string": {"website_id": ids["site"]}}


def bare(response, ids):
    """An answer without what is new in each."""
    headers = {
        k: v for k, v in response.headers if k not in ("X-Request-Id", "X-RateLimit-Remaining", "X-RateLimit-Reset")
    }
    text = response.text.replace(response.headers["X-Request-Id"], "")
    for value in ids.values():
        # A country is told in upper case, whatever was asked for.
        text = text.replace(value, "ID").replace(value.upper(), "ID")
    return response.status_code, headers, text


@pytest.mark.parametrize("loaded", [False, True])
@pytest.mark.case(20, 23)
def test_what_another_owns_is_answered_byte_for_byte_like_what_is_not_there(app, other, loaded):
    caller, ids = other
    if loaded:
        load(app)
    pairs = list(zip(calls(app, ids), calls(app, MISSING), strict=True))
    refused = 0
    for (method, path, options), (_, missing_path, missing_options) in pairs:
        theirs, missing = caller.call(method, path, **options), caller.call(method, missing_path, **missing_options)
        if theirs.status_code == 200:
            # Nothing was named in it: a list, or a report over everything that the caller may see.
            assert CANARY not in theirs.text
            assert ids["site"] not in theirs.text
            continue
        assert bare(theirs, ids) == bare(missing, MISSING), (method, path, options)
        refused += 1
    assert refused >= 10


@pytest.mark.case(20)
def test_what_another_owns_takes_the_same_statements_as_what_is_not_there(
    app: Flask, other: tuple[Caller, dict[str, str]]
) -> None:
    """The time of an answer must not tell whether the thing exists elsewhere."""
    caller, ids = other
    load(app)
    assert caller.get("/me").status_code == 200
    compared = 0
    for (method, path, options), (_, missing_path, missing_options) in zip(
        calls(app, ids), calls(app, MISSING), strict=True
    ):
        executed = []
        for one_path, one_options in ((path, options), (missing_path, missing_options)):
            for memory in database._memories.values():
                memory.found.clear()
            with statements(app) as sql:
                answer = caller.call(method, one_path, **one_options)
            executed.append(sql)
        if answer.status_code != 200:
            assert executed[0] == executed[1], (method, path)
            compared += 1
    assert compared >= 10


def test_nothing_of_another_appears_in_any_list_or_report(app, other):
    caller, ids = other
    for _ in range(2):
        for rule, method in routes(app):
            if method == "GET" and not rule.arguments - {"name"}:
                for pipe in pipes.all() if rule.arguments else [""]:
                    path = rule.rule.removeprefix("/api/v1").replace("<name>", pipe)
                    response = caller.get(path, query_string=NEEDED.get(pipe, {}))
                    assert response.status_code == 200 or path == "/pixel/visitors/"
                    assert CANARY not in response.text
                    assert ids["site"] not in response.text
        load(app)


#: What a question may name: things of the other's, and of nobody's.
NAMED = (
    "VISITOR",
    "/VISITOR",
    "/VISITOR*",
    "VISITOR.example.com",
    "VISITOR.example",
    "EVENT",
    "SITE",
    "",
    "/",
    "Direct",
)
PARAMETERS = st.fixed_dictionaries(
    {},
    optional={
        **{name: st.sampled_from(NAMED) for name in metrics.FILTERS},
        "website_id": st.sampled_from(["SITE", "SITE ", "VISITOR"]),
        "visitor_id": st.sampled_from(["VISITOR", "EVENT", "SITE"]),
        "steps": st.sampled_from(
            ["path:/VISITOR", "path:/V*,goal:VISITOR", "payment,goal:VISITOR", "goal:VISITOR,payment"]
        ),
        "bots": st.sampled_from(metrics.BOTS),
        "currency": st.sampled_from(["EUR", "VISITOR"]),
        "metric": st.sampled_from(["revenue", "visitors", "sessions"]),
        "limit": st.sampled_from(["1", "1000"]),
        "offset": st.sampled_from(["0", "1"]),
    },
)


def in_the_place_of(names, ids):
    """A question about one of `ids`, or about what is not there."""
    text = json.dumps(names)
    for kind, value in ids.items():
        text = text.replace(kind.upper(), value)
    return json.loads(text)


def put(caller, pipe, question, fixed):
    """The answer to a question: by key or, when some names are `fixed`, by a token that fixes what is asked of those."""
    if fixed is None:
        return caller.get(f"/pixel/metrics/{pipe}", query_string=question)
    inside = {name: value for name, value in question.items() if name in fixed}
    minted = caller.post(f"/pixel/metrics/{pipe}/token", json=inside)
    if minted.status_code != 201:
        return minted
    rest = {name: value for name, value in question.items() if name not in fixed}
    token = {"token": minted.json["data"]["token"]}
    return caller.app.test_client().get(f"/v0/pipes/{pipe}.json", query_string=token | rest)


def told(answer, ids):
    """All that an answer tells, but for what is new in each."""
    status, headers, text = bare(answer, ids)
    whole = json.loads(text)
    for part in (whole, whole.get("data")):
        if isinstance(part, dict) and "statistics" in part:
            # Time, and how much was read: that changes as the warehouse merges.
            del part["statistics"]
    headers.pop("Content-Length", None)
    return status, headers, whole


def test_no_question_by_key_or_token_tells_anything_of_another(app, other):
    caller, ids = other
    load(app)
    told_of = []

    @settings(max_examples=40, deadline=None)
    @given(st.sampled_from(sorted(pipes.all())), PARAMETERS, st.none() | st.sets(st.sampled_from(metrics.FILTERS)))
    def ask(pipe, names, fixed):
        own = {parameter.name for parameter in pipes.all()[pipe].parameters}
        names = NEEDED.get(pipe, {}) | {
            n: v for n, v in names.items() if n in {*own, *metrics.FILTERS, *metrics.COMMON}
        }
        answer = put(caller, pipe, in_the_place_of(names, ids), fixed)
        assert told(answer, ids) == told(put(caller, pipe, in_the_place_of(names, MISSING), fixed), MISSING)
        told_of.append(answer.status_code)

    ask()
    assert {200, 404} <= set(told_of)


def test_the_owner_sees_it(app, bob):
    # Without this the two above could pass for want of anything to see.
    owner = bob.key(READ, WRITE)
    owner.sends(bob.site, event_id="e", path=f"/{CANARY}")
    assert owner.rows("p_top_pages")[0]["path"] == f"/{CANARY}"
    assert owner.get("/pixel/events/e").status_code == 200


@pytest.mark.parametrize("scope", [READ, WRITE, "brand:read", "brand:write"])
def test_a_scope_opens_its_routes_and_no_other(app, ada, scope):
    caller = ada.key(scope)
    for method, path, options in calls(app, MISSING):
        if path not in ("/me", "/openapi.json", "/openapi.yaml"):
            response = caller.call(method, path, **options)
            needed = READ if method == "GET" or path.endswith("/token") else WRITE
            assert (response.status_code != 403) == (scope == needed), (method, path)
            assert response.status_code != 403 or error(response) == (403, "insufficient_scope")
