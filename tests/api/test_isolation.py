"""What another owns is answered like what is not there: over every address that the API has."""

import json

import pytest

from pixel import pipes
from tests.cast import NEEDED, READ, WRITE, error, load

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
                for converter in ("", "anything:"):
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
        text = text.replace(value, "ID")
    return response.status_code, headers, text


@pytest.mark.parametrize("loaded", [False, True])
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
