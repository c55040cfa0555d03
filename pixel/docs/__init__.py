"""The manual, made from the catalogues. Anyone may enter."""

import json
from pathlib import Path

from flask import Blueprint, current_app, render_template, request

from pixel import errors, keys, metrics, pipes
from pixel.access import FAILURES, Scope

docs = Blueprint("docs", __name__, url_prefix="/docs")
docs.entry = "open"

#: The manual's pages in order, by the end of their address.
PAGES = {
    "": "Start",
    "/install": "Install",
    "/quickstart": "Quickstart",
    "/authentication": "Authentication",
    "/rate-limits": "Rate limits",
    "/retries": "Retries",
    "/api": "Endpoints",
    "/errors": "Errors",
    "/metrics": "Reports",
    "/troubleshooting": "Troubleshooting",
    "/operations": "Operations",
}
#: What `details` holds, by code; a code that is not here has none.
_DETAILS = {
    "invalid_api_key": {"hint": "truncated_or_mistyped"},
    "api_key_revoked": {"revoked_at": "2026-11-02T09:14:07.250Z"},
    "api_key_expired": {"expired_at": "2026-11-01T00:00:00.000Z"},
    "jwt_expired": {"expired_at": "2026-11-25T12:02:00.000Z"},
    "insufficient_scope": {"required": "pixel:write", "available": ["pixel:read"]},
    "invalid_pipe": {"pipe": "p_top_page", "did_you_mean": "p_top_pages"},
    "invalid_body": {"website_id": ["Missing data for required field."], "country": ["Must have 2 characters."]},
    "invalid_query": {"limit": ["Must be a whole number from 1 to 1000."]},
    "method_not_allowed": {"allowed": ["POST"]},
    "payload_too_large": {"limit_bytes": 1048576},
    "unsupported_media_type": {"expected": ["application/json"]},
    "rate_limit_exceeded": {"limit": 60, "window": "1 minute", "retry_after": 23},
}
_MESSAGES = {
    "insufficient_scope": "This endpoint requires the 'pixel:write' scope",
    "rate_limit_exceeded": "Rate limit exceeded. Try again in 23 seconds.",
}
#: All reports are asked alike, so the endpoints tell of this one.
_ONE_REPORT = "p_top_pages"
#: An answer of each report, made by `flask demo --examples` from the demo's traffic.
_EXAMPLES = Path(__file__).parent / "examples.json"
_RETRIES = (Path(__file__).parents[2] / "templates/docs/send.py.txt").read_text()


@docs.get("")
def index():
    """What this is, and where to go from here."""
    return _page("index", scopes=list(Scope), calls=current_app.config["RATELIMIT_API"])


@docs.get("/install")
def install():
    """The pixel: how it gets into a page, and what it does there."""
    return _page("install", here=current_app.config["public_url"])


@docs.get("/quickstart")
def quickstart():
    """From nothing to a report."""
    return _page("quickstart", here=request.host_url)


@docs.get("/authentication")
def authentication() -> str:
    """Keys: how to send them, what they open, how they end."""
    most_keys = current_app.config["MAX_ACTIVE_KEYS"]
    return _page("authentication", scopes=list(Scope), overlaps=list(keys.OVERLAPS), most_keys=most_keys)


@docs.get("/operations")
def operations():
    """For whoever runs the server: sizes, growth, alarms, drills."""
    return _page("operations")


@docs.get("/rate-limits")
def rate_limits():
    """How many calls, and what says so."""
    return _page("rate_limits", calls=current_app.config["RATELIMIT_API"], failures=FAILURES.amount)


@docs.get("/retries")
def retries():
    """What to try again, when, and how that is safe."""
    return _page("retries", example=_RETRIES)


@docs.get("/api")
def endpoints():
    """Every endpoint, as the contract tells it."""
    contract = current_app.extensions["contract"]()
    shown = {path: operations for path, operations in contract["paths"].items() if not _is_one_report(path)}
    shown |= {
        path.replace(_ONE_REPORT, "{pipe}"): operations
        for path, operations in contract["paths"].items()
        if _ONE_REPORT in path
    }
    return _page("api", contract=contract, operations=_by_tag(contract, shown))


@docs.get("/errors")
def error_codes():
    """Every error code: what it means, what to do, how it looks."""
    told = errors.catalogue()
    return _page(
        "errors", catalogue=[e for e in told if not e.page_only], of_pages=[e for e in told if e.page_only],
        example=example,
    )  # fmt: skip


@docs.get("/metrics")
def reports():
    """Every report: what it means, takes and gives."""
    return _page(
        "metrics", catalogue=metrics.catalogue(), common=metrics.COMMON, filters=metrics.FILTERS,
        examples=json.loads(_EXAMPLES.read_text()),
    )  # fmt: skip


@docs.get("/troubleshooting")
def troubleshooting():
    """What goes wrong most, and why."""
    return _page("troubleshooting", days=current_app.config["REQUEST_LOG_DAYS"])


def _is_one_report(path):
    return any(
        path.endswith((f"/metrics/{name}", f"/metrics/{name}/token", f"/pipes/{name}.json")) for name in pipes.all()
    )


def _by_tag(contract, paths):
    """The operations of some paths by their tag: {tag: [(METHOD, path, operation)]}."""
    found = [
        (method.upper(), path, told) for path, methods in sorted(paths.items()) for method, told in methods.items()
    ]
    return {tag["name"]: [one for one in found if one[2]["tags"] == [tag["name"]]] for tag in contract["tags"]}


def example(error):
    """The body with which an error is answered, as JSON text."""
    told = {
        "code": error.code,
        "message": _MESSAGES.get(error.code, error.summary()),
        "details": _DETAILS.get(error.code, {}),
    }
    return json.dumps({"error": told, "meta": {"request_id": "req_01m88j27qzf7797xtca6dmd8xd"}}, indent=2)


def _page(name, **facts):
    return render_template(f"docs/{name}.html", manual=PAGES, **facts)
