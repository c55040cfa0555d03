"""The contract as OpenAPI 3.1, made from the schemas, scopes, reports and errors that the API itself goes by."""

import inspect
import re
from functools import cache

import orjson
import yaml
from flask import Response, current_app

from pixel import errors, metrics, pipes
from pixel.access import Scope
from pixel.api import MOST_BYTES, api, shapes
from pixel.intake import idempotency, schemas
from pixel.intake.body import JSON, NDJSON
from pixel.intake.fields import Currency

_DIALECT = "https://spec.openapis.org/oas/3.1/dialect/base"
_ID = {"type": "string", "minLength": 1, "maxLength": 128}


@api.get("/openapi.json")
def as_json():
    """This document, as JSON."""
    return Response(orjson.dumps(document(), option=orjson.OPT_INDENT_2), mimetype="application/json")


@api.get("/openapi.yaml")
def as_yaml():
    """This document, as YAML."""
    return Response(_yaml(current_app.config["public_url"]), mimetype="application/yaml")


as_json.scope = as_yaml.scope = None
as_json.open = as_yaml.open = True


def document():
    """The whole document as a dict."""
    return _document(current_app.config["public_url"])


@cache
def _document(server):
    paths = {}
    for endpoint, path, method in _routes():
        view = current_app.view_functions[endpoint]
        for address, operation in _operations(endpoint, path, method, view):
            paths.setdefault(address, {})[method] = operation
    return {
        "openapi": "3.1.0",
        "jsonSchemaDialect": _DIALECT,
        "info": {
            "title": "Pixel API",
            "version": "1.0.0",
            "summary": "First-party web analytics: send events, read reports.",
            "description": "Every answer is an envelope with a request_id. A 202 means synced to disk.",
            "license": {"name": "See the repository", "identifier": "LicenseRef-Repository"},
        },
        "servers": [{"url": server}],
        "security": [{"key": []}],
        "tags": [{"name": name, "description": about} for name, about in _TAGS.items()],
        "paths": {path: paths[path] for path in sorted(paths)},
        "components": {
            "securitySchemes": {
                "key": {"type": "http", "scheme": "bearer", "description": "An API key: pxl_..."},
                "token": {"type": "http", "scheme": "bearer", "description": "A query token, for two minutes."},
                "token_in_address": {"type": "apiKey", "in": "query", "name": "token", "description": "The same."},
            },
            "headers": _HEADERS,
            "schemas": _bodies() | shapes.ALL | {"Error": _error_schema()},
            "responses": {_name(status): _refusal(status) for status in _statuses()},
        },
    }


@cache
def _yaml(server):
    # It takes a quarter of a second, and anyone may ask.
    return yaml.safe_dump(_document(server), sort_keys=False, allow_unicode=True, width=120)


_TAGS = {
    "Account": "Who calls.",
    "Events": "Sending, and what became of it.",
    "Reports": "Reading.",
    "Visitors": "One visitor.",
    "Query tokens": "Reading without a key, for two minutes.",
    "Contract": "This document.",
}
_TAG_OF = {
    "me": "Account", "list_websites": "Account", "accept_event": "Events", "accept_batch": "Events",
    "identify": "Events", "read_receipt": "Events", "read_visitor": "Visitors", "mint_visitor_token": "Query tokens",
    "mint_token": "Query tokens", "read_pipe": "Query tokens", "as_json": "Contract", "as_yaml": "Contract",
}  # fmt: skip
_HEADERS = {
    "X-Request-Id": {"description": "Identifies the request.", "schema": {"type": "string"}},
    "X-RateLimit-Limit": {"description": "Calls a minute.", "schema": {"type": "integer"}},
    "X-RateLimit-Remaining": {"description": "Calls left in this minute.", "schema": {"type": "integer"}},
    "X-RateLimit-Reset": {"description": "When the minute ends, in seconds since 1970.", "schema": {"type": "integer"}},
    "Retry-After": {"description": "Seconds to wait.", "schema": {"type": "integer", "minimum": 1}},
}
#: By view: the statuses of success with the shape of their data, and the body it takes.
_ANSWERS = {
    "me": {200: "Me"}, "list_websites": {200: "Websites"}, "list_metrics": {200: "Catalogue"},
    "read_metric": {200: "Report"}, "read_receipt": {200: "Receipt"}, "read_visitor": {200: "Visitor"},
    "accept_event": {202: "Accepted", 200: "DryRunEvent"}, "accept_batch": {202: "Batch", 200: "Batch"},
    "identify": {202: "Identified", 200: "DryRunIdentity"}, "mint_token": {201: "Token"},
    "mint_visitor_token": {201: "Token"}, "read_pipe": {200: "Report"},
}  # fmt: skip
_BODIES = {
    "accept_event": "Event", "accept_batch": "Events", "identify": "Identity", "mint_token": "FixedParameters",
    "mint_visitor_token": "FixedParameters",
}  # fmt: skip
#: What is refused before it is a request to anything.
_UNREAD = {
    414: "The address is longer than 8,190 bytes, percent-encoded, with the method before and the version behind it.",
    431: "The headers are too large or too many.",
}
#: What of the codes by status a view can answer besides those that any can.
_ABSENT = {
    "read_metric": ["website_not_found"], "read_receipt": ["event_not_found", "website_not_found"],
    "read_visitor": ["visitor_not_found", "website_not_found"], "mint_token": ["website_not_found"],
    "mint_visitor_token": ["visitor_not_found", "website_not_found"], "read_pipe": ["website_not_found"],
}  # fmt: skip


def _routes():
    """(endpoint, path, method) of everything that the API answers."""
    for rule in current_app.url_map.iter_rules():
        if rule.endpoint.split(".")[0] in ("api", "queries"):
            path = re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule)
            for method in sorted(rule.methods & {"GET", "POST"}):
                yield rule.endpoint, path, method.lower()


def _operations(endpoint, path, method, view):
    """An operation by its address; of a report, one for each pipe."""
    name = endpoint.split(".")[1]
    if "{name}" not in path:
        yield path, _operation(name, name, method, view, [])
        return
    for pipe in pipes.all().values():
        asked = _pipe_parameters(pipe) if method == "get" else []
        operation = _operation(name, f"{pipe.name}_{name}" if name != "read_metric" else pipe.name, method, view, asked)
        about = {"summary": pipe.title, "description": pipe.about} if method == "get" else {}
        yield path.replace("{name}", pipe.name), operation | about


def _operation(name, identifier, method, view, parameters):
    tag = _TAG_OF.get(name, "Reports")
    told = {
        "operationId": identifier,
        "tags": [tag],
        "summary": inspect.getdoc(view).split("\n")[0].rstrip("."),
        "description": inspect.getdoc(view),
        "parameters": [*_path_parameters(name), *_query_parameters(name), *_header_parameters(name), *parameters],
        "responses": _responses(name, view),
    }
    if view.scope:
        told["x-required-scope"] = view.scope.value
    if getattr(view, "open", False):
        told["security"] = []
    elif name == "read_pipe":
        told["security"] = [{"token": []}, {"token_in_address": []}]
    if method == "post":
        told["requestBody"] = _body(name)
    return told


def _path_parameters(name):
    about = {"read_receipt": "event_id", "read_visitor": "visitor_id", "mint_visitor_token": "visitor_id"}.get(name)
    # A visitor's id is more than spaces, of which Python knows some that JSON Schema does not, and the other way round.
    schema = _ID | {"pattern": r"[^\s\u001c-\u001f\u0085\ufeff]"} if about == "visitor_id" else _ID
    return [{"name": about, "in": "path", "required": True, "schema": schema}] if about else []


def _query_parameters(name):
    if name in ("accept_event", "accept_batch", "identify"):
        about = "Validate and show what would be stored, and store nothing."
        schema = schemas.DryRun().fields["dry_run"].json_schema
        return [{"name": "dry_run", "in": "query", "description": about, "schema": schema}]
    if name in ("read_receipt", "read_visitor"):
        return [{"name": "website_id", "in": "query", "description": "Only on this website.", "schema": _ID}]
    return []


def _header_parameters(name: str) -> list[dict]:
    about = {
        "accept_event": "The event_id, if the body has none. It must not differ from the body's.",
        "identify": "Validated and not used: a repeated call changes nothing.",
    }.get(name)
    schema = {"type": "string", "pattern": idempotency.PATTERN}
    return [{"name": idempotency.HEADER, "in": "header", "description": about, "schema": schema}] if about else []


def _pipe_parameters(pipe):
    whole = {"limit": (1, metrics.MOST_ROWS, metrics.DEFAULT_ROWS), "offset": (0, metrics.MOST_OFFSET, 0)}
    for name, about in metrics.COMMON.items():
        if name in whole:
            low, high, default = whole[name]
            schema = {"type": "integer", "minimum": low, "maximum": high, "default": default}
        elif name in ("from", "to"):
            schema = {"type": "string", "format": "date"}
        elif name == "bots":
            schema = {"type": "string", "enum": list(metrics.BOTS), "default": metrics.BOTS[0]}
        else:
            schema = {"type": "string", "minLength": 1, "maxLength": metrics.LONGEST_VALUE}
        yield {"name": name, "in": "query", "description": about, "schema": schema}
    for parameter in pipe.parameters:
        yield _own_parameter(parameter)
    for name in metrics.FILTERS:
        values = {"type": "string", "maxLength": metrics.LONGEST_VALUE}
        schema = {"type": "array", "items": values, "maxItems": metrics.MOST_VALUES}
        yield {"name": name, "in": "query", "description": f"Only this {name}, or these.", "schema": schema}


def _own_parameter(parameter):
    if parameter.several:
        step = {"type": "string", "maxLength": metrics.LONGEST_VALUE, "pattern": "^(path:/|goal:.|payment$)"}
        schema = {"type": "array", "items": step, "minItems": parameter.low, "maxItems": parameter.high}
    elif parameter.words:
        schema = {"type": "string", "enum": list(parameter.words), "default": parameter.default}
    elif parameter.low is not None:
        schema = {"type": "integer", "minimum": parameter.low, "maximum": parameter.high}
        schema |= {"default": int(parameter.default)}
    elif parameter.name == "currency":
        schema = Currency.json_schema
    else:
        schema = {"type": "string", "minLength": 1, "maxLength": metrics.LONGEST_VALUE}
    required = {"required": True} if parameter.default is None else {}
    return {"name": parameter.name, "in": "query", "description": parameter.about, **required, "schema": schema}


def _responses(name, view):
    found = {str(status): _success(name, shape) for status, shape in _ANSWERS.get(name, {}).items()}
    if getattr(view, "open", False):
        kind = "application/json" if name == "as_json" else "application/yaml"
        found["200"] = {"description": "The document.", "content": {kind: {"schema": {"type": ["object", "string"]}}}}
        return found | {str(status): _reference(status) for status in (405, 500)}
    statuses = [400, 401, 405, 414, 429, 431, 500, 503]
    statuses += [403] if view.scope else []
    statuses += [404] if name in _ABSENT else []
    statuses += [413, 415] if name in _BODIES else []
    return found | {str(status): _reference(status) for status in sorted(statuses)}


def _success(name, shape):
    data = {"$ref": f"#/components/schemas/{shape}"}
    meta = {"type": "object", "required": ["request_id"], "properties": {"request_id": {"type": "string"}}}
    if shape == "Report":
        meta["properties"]["query"] = {"type": "object"}
    schema = data if name == "read_pipe" else {
        "type": "object", "required": ["data", "meta"], "additionalProperties": False,
        "properties": {"data": data, "meta": meta},
    }  # fmt: skip
    names = [header for header in _HEADERS if header != "Retry-After"]
    return {
        "description": shapes.ALL[shape]["description"],
        "headers": {header: {"$ref": f"#/components/headers/{header}"} for header in names},
        "content": {JSON: {"schema": schema}},
    }


def _body(name):
    schema = {"$ref": f"#/components/schemas/{_BODIES[name]}"}
    content = {JSON: {"schema": schema}}
    if name == "accept_batch":
        content[NDJSON] = {"schema": {"type": "string", "description": "One event a line."}}
    most = getattr(current_app.view_functions[f"api.{name}"], "most_bytes", MOST_BYTES)
    return {"required": True, "description": f"At most {most:,} bytes.", "content": content}


def _bodies():
    """The schemas of request bodies."""
    event, identity = schemas.Event(), schemas.Identity()
    kinds = {kind: _event_schema(event, kind) for kind in event.fields["name"].words}
    return {
        "Event": {
            "oneOf": [{"$ref": f"#/components/schemas/{kind.capitalize()}Event"} for kind in kinds],
            "discriminator": {
                "propertyName": "name",
                "mapping": {kind: f"#/components/schemas/{kind.capitalize()}Event" for kind in kinds},
            },
        },
        **{f"{kind.capitalize()}Event": schema for kind, schema in kinds.items()},
        "Events": {
            "type": "object",
            "required": ["events"],
            "additionalProperties": False,
            "properties": {"events": {"type": "array", "minItems": 1, "maxItems": 1000, "items": {}}},
            "description": "Each event is judged alone: one of the shapes of Event, or it is rejected.",
        },
        "Identity": _object(identity, identity.fields)
        | {"anyOf": [{"required": ["user_id"]}, {"required": ["email"]}]},
        "FixedParameters": {
            "type": "object",
            "description": "Parameters of the report that the token fixes, each a value or a list of values.",
        },
    }


def _event_schema(event, kind):
    names = [name for name in event.fields if event._ONLY.get(name, kind) == kind]
    schema = _object(event, names)
    schema["required"] += event._NEEDED[kind]
    schema["properties"]["name"] = {"type": "string", "const": kind}
    if kind == "pageview":
        schema["anyOf"] = [{"required": ["path"]}, {"required": ["url"]}]
    return schema


def _object(schema, names):
    fields = {name: schema.fields[name] for name in names}
    return {
        "type": "object",
        "required": [name for name, field in fields.items() if field.required],
        "additionalProperties": False,
        "properties": {name: dict(field.json_schema) for name, field in fields.items()},
    }


def _statuses():
    return sorted({error.status for error in errors.catalogue() if not error.page_only} | {403, *_UNREAD})


def _name(status):
    return f"Refused{status}"


def _reference(status):
    return {"$ref": f"#/components/responses/{_name(status)}"}


def _refusal(status):
    told = [error for error in errors.catalogue() if error.status == status and not error.page_only]
    words = [f"`{error.code}`: {error.summary()}" for error in told] or [f"`bad_request`: {_UNREAD[status]}"]
    headers = ["X-Request-Id", *(["Retry-After"] if status in (429, 503) else [])]
    return {
        "description": " ".join(words),
        "headers": {name: {"$ref": f"#/components/headers/{name}"} for name in headers},
        "content": {JSON: {"schema": {"$ref": "#/components/schemas/Error"}}},
    }


def _error_schema():
    codes = [error.code for error in errors.catalogue() if not error.page_only]
    error = {
        "type": "object",
        "required": ["code", "message", "details"],
        "additionalProperties": False,
        "properties": {
            "code": {"type": "string", "enum": codes},
            "message": {"type": "string"},
            "details": {"type": "object"},
        },
    }
    meta = {"type": "object", "required": ["request_id"], "properties": {"request_id": {"type": "string"}}}
    return {
        "type": "object",
        "description": "Every error. Its code has a page: /docs/errors#code.",
        "required": ["error", "meta"],
        "additionalProperties": False,
        "properties": {"error": error, "meta": meta},
        "x-scopes": {scope.value: scope.about for scope in Scope},
    }
