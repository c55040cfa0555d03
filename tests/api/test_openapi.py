"""The contract: whole, true, and kept by the server whatever is sent."""

import yaml
from openapi_spec_validator import OpenAPIV31SpecValidator

from pixel import errors, metrics, pipes
from tests.cast import Caller


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
            path = rule.rule.replace("<anything:", "{").replace(">", "}")
            names = pipes.all() if "<name" in path else [""]
            for name in names:
                for method in rule.methods & {"GET", "POST"}:
                    whole = path.replace("<name}", name)
                    assert whole.endswith("/visitors/") or (whole, method.lower()) in told
    codes = document["components"]["schemas"]["Error"]["properties"]["error"]["properties"]["code"]["enum"]
    assert set(codes) == {error.code for error in errors.catalogue() if not error.page_only}
    for pipe in pipes.all().values():
        asked = document["paths"][f"/api/v1/pixel/metrics/{pipe.name}"]["get"]["parameters"]
        own = [parameter.name for parameter in pipe.parameters]
        assert {one["name"] for one in asked} == {*metrics.COMMON, *metrics.FILTERS, *own}
