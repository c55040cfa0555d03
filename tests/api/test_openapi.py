"""The contract: whole, true, and kept by the server whatever is sent."""

import re

import pytest
import schemathesis
import yaml
from flask import Flask
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from limits import RateLimitItemPerMinute
from openapi_spec_validator import OpenAPIV31SpecValidator
from schemathesis import GenerationMode
from schemathesis.checks import negative_data_rejection
from schemathesis.config import SchemathesisConfig

from pixel import access, errors, metrics, pipes
from tests.cast import READ, WRITE, Caller, Workspace


def test_the_document_is_valid_and_the_same_in_both_forms(app):
    client = app.test_client()
    as_json = client.get("/api/v1/openapi.json")
    as_yaml = client.get("/api/v1/openapi.yaml")
    assert as_json.json == yaml.safe_load(as_yaml.text)
    assert as_json.headers["X-Request-Id"]
    assert list(OpenAPIV31SpecValidator(as_json.json).iter_errors()) == []


def test_it_tells_every_route_report_parameter_and_error(app):
    document = Caller(app).get("/openapi.json").json
    told = {(path, method) for path, operations in document["paths"].items() for method in operations}
    for rule in app.url_map.iter_rules():
        if rule.endpoint.startswith(("api.", "queries.")):
            path = re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule)
            names = pipes.all() if "{name}" in path else [""]
            for name in names:
                for method in rule.methods & {"GET", "POST"}:
                    whole = path.replace("{name}", name)
                    assert (whole, method.lower()) in told
    ways = document["paths"]["/v0/pipes/p_top_pages.json"]["get"]["security"]
    schemes = [document["components"]["securitySchemes"][name] for way in ways for name in way]
    assert [(one["type"], one.get("scheme"), one.get("name")) for one in schemes] == [
        ("http", "bearer", None), ("apiKey", None, "token"),
    ]  # fmt: skip
    codes = document["components"]["schemas"]["Error"]["properties"]["error"]["properties"]["code"]["enum"]
    assert set(codes) == {error.code for error in errors.catalogue() if not error.page_only}
    for pipe in pipes.all().values():
        asked = document["paths"][f"/api/v1/pixel/metrics/{pipe.name}"]["get"]["parameters"]
        own = [parameter.name for parameter in pipe.parameters]
        assert {one["name"] for one in asked} == {*metrics.COMMON, *metrics.FILTERS, *own}


EXAMPLES = 8


@pytest.fixture(autouse=True)
def patient(monkeypatch):
    """A server that lets one address fail to get in as often as it likes."""
    monkeypatch.setattr(access, "FAILURES", RateLimitItemPerMinute(10**9))


@pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: mode.name)
@pytest.mark.case(111)
def test_the_server_keeps_to_it_whatever_is_sent(app, mode):
    keeps_to_it(app, mode, EXAMPLES)


@pytest.mark.soak
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: mode.name)
@pytest.mark.case(111)
def test_the_server_keeps_to_it_for_long(app: Flask, mode: GenerationMode) -> None:
    # Both modes together are the 50,000 requests of the plan.
    assert keeps_to_it(app, mode, 400, derandomize=False) >= 25_000


def keeps_to_it(app: Flask, mode: GenerationMode, examples: int, derandomize: bool = True) -> int:
    """Send `examples` requests to every operation, valid or invalid by `mode`, and run all checks of Schemathesis.

    Return how many requests were sent.
    """
    workspace = Workspace(app, "contract.example")
    caller = workspace.key(READ, WRITE)
    caller.sends(workspace.site, visitor_id="v", event_id="e")
    # NUL is refused in all JSON, which no schema of it can say.
    config = SchemathesisConfig.from_dict({"generation": {"allow-x00": False}})
    contract = schemathesis.openapi.from_wsgi("/api/v1/openapi.json", app, config=config)
    sent = []
    for result in contract.get_all_operations():
        operation = result.ok()
        secret = caller.secret
        if operation.path.startswith("/v0/"):
            pipe = operation.path.removeprefix("/v0/pipes/").removesuffix(".json")
            secret = caller.post(f"/pixel/metrics/{pipe}/token", json={}).json["data"]["token"]
        try:
            send(operation, mode, examples, derandomize, secret, workspace.site, sent)
        except Unsatisfiable:
            # There is nothing wrong that could be sent to a route that takes nothing.
            assert mode is GenerationMode.NEGATIVE
    print(f"{len(sent)} cases")
    assert len(sent) >= 200
    return len(sent)


def send(operation, mode, examples, derandomize, secret, site, sent):
    """Send so many cases of one operation; each is added to `sent`."""

    @settings(
        max_examples=examples, deadline=None, derandomize=derandomize, database=None,
        phases=[Phase.explicit, Phase.generate], suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(case=operation.as_strategy(generation_mode=mode))
    def call(case):
        if mode is GenerationMode.POSITIVE:
            name_what_there_is(case, site)
        sent.append(case)
        # In an address a number is text like any other, so a value of another type is none that could be refused.
        lenient = case.method == "GET" or any(map(is_not_sent, case.query.values()))
        excluded = [negative_data_rejection] if lenient else []
        case.call_and_validate(headers={"Authorization": f"Bearer {secret}"}, excluded_checks=excluded)

    call()


def is_not_sent(value):
    """Whether a value of a query leaves nothing in an address, so that there is none that could be refused."""
    return value is None or (isinstance(value, list) and all(one is None for one in value))


def name_what_there_is(case, site):
    """Put in place of what JSON Schema cannot tell (an id that there is, a day in order) something that is right."""
    case.body = with_numbers_that_fit(case.body)
    # The token is in the header already.
    case.query.pop("token", None)
    for part in (case.query, case.body if isinstance(case.body, dict) else {}):
        if "website_id" in part:
            part["website_id"] = site
        if "currency" in part:
            part["currency"] = "EUR"
        part.pop("from", None)
        part.pop("to", None)
    body = case.body if isinstance(case.body, dict) else {}
    right = {"timestamp": "2026-01-31T12:00:00Z", "url": "https://example.com/a", "amount": 1.5}
    body.update({name: value for name, value in right.items() if name in body})
    for name in ("event_id", "visitor_id", "session_id", "user_id", "transaction_id", "email"):
        if name in body:
            body[name] = "a@example.com" if name == "email" else "".join(filter(str.isalnum, body[name])) or "x"
    if "event_id" in body:
        # The header must not differ from it.
        case.headers.pop("Idempotency-Key", None)
    if case.operation.path.endswith("/token"):
        case.body = {"website_id": site}


def with_numbers_that_fit(thing):
    """JSON whose integers fit in 64 bits, wherever they stand."""
    if isinstance(thing, dict):
        return {name: with_numbers_that_fit(value) for name, value in thing.items()}
    if isinstance(thing, list):
        return [with_numbers_that_fit(value) for value in thing]
    return thing % 2**63 if type(thing) is int else thing
