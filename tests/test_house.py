"""The rules of the house, as `pixel/__init__.py` tells them."""

import ast
from dataclasses import fields
from pathlib import Path

import pytest

import config
from pixel import errors, metrics, pipes
from pixel.access import ENTRANCES, Scope

HOME = Path(__file__).parent.parent
#: From the ground up. A module may import what stands on its own floor or below.
FLOORS = [
    {"buckets", "clock", "geo", "ids", "currencies", "redaction", "sources", "agents", "envelope", "errors", "breaker"}
    | {"foreign_text", "forwarding", "idn", "letters", "nearest", "paths", "percent", "private_files", "telemetry"}
    | {"csp_reports", "passwords", "text_cache", "turns"},
    {"database", "postgresql", "journal", "warehouse", "counters", "answers", "lines", "extensions"},
    {"workspaces", "members", "sessions", "links", "mail", "websites", "keys", "audit", "identities"}
    | {"pipes", "request_log", "calls", "charts", "tokens", "salts", "leases"}
    | {"devices"},
    {"access", "pages", "stories", "events", "metrics", "visitors", "intake", "notices", "erasure", "export"},
    {"access_log", "backup", "demo", "doctor", "health", "jobs", "move"},
    {"api", "collect", "settings", "requests", "support", "analytics", "front", "docs", "cli"},
    {"app", "serving"},
]
DOORS = FLOORS[5]
KNOW_REQUESTS = {"access", "intake", "pages", "request_log", "errors", "app"} | DOORS
OF_REQUESTS = {
    "request",
    "g",
    "session",
    "has_request_context",
    "Request",
    "Response",
    "make_response",
    "redirect",
    "abort",
}

#: An envelope is a response, and what a store remembers for one call is kept in that call's context.
ALLOWED = {"envelope": {"Response"}, "database": {"g"}}


def modules():
    """(name of its place in the house, file) of all that is ours."""
    found = [("app", HOME / "app.py")]
    for file in sorted((HOME / "pixel").rglob("*.py")):
        parts = file.relative_to(HOME / "pixel").with_suffix("").parts
        if parts != ("__init__",) and parts[0] != "migrations":
            found.append((parts[0], file))
    return found


def floor(name):
    return next(number for number, names in enumerate(FLOORS) if name in names)


def imports(file):
    """The places of the house that a file imports from, wherever in it."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module == "pixel":
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("pixel."):
            yield node.module.split(".")[1]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{file}: import from pixel, not from a dot"
        elif isinstance(node, ast.Import):
            yield from (alias.name.split(".")[1] for alias in node.names if alias.name.startswith("pixel."))


MODULES = modules()


@pytest.mark.parametrize(("name", "file"), MODULES, ids=lambda part: part if isinstance(part, str) else part.name)
def test_imports_point_down(name, file):
    assert any(name in names for names in FLOORS), f"Say in FLOORS where {name} stands."
    for other in set(imports(file)) - {name}:
        assert floor(other) <= floor(name), f"{name} imports {other}, which stands above it"
        assert not {name, other} <= DOORS, f"the door {name} imports the door {other}"


def test_no_two_modules_import_each_other():
    needs = {}
    for name, file in MODULES:
        needs.setdefault(name, set()).update(set(imports(file)) - {name})

    def reached(name, seen):
        for other in needs.get(name, ()):
            if other not in seen:
                seen.add(other)
                reached(other, seen)
        return seen

    assert [name for name in needs if name in reached(name, set())] == []


@pytest.mark.parametrize(("name", "file"), MODULES, ids=lambda part: part if isinstance(part, str) else part.name)
def test_only_doors_and_the_two_about_requests_know_of_them(name, file):
    from_flask = {
        alias.name
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in ("flask", "werkzeug")
        for alias in node.names
    }
    assert name in KNOW_REQUESTS or not from_flask & OF_REQUESTS - ALLOWED.get(name, set())


def test_every_view_of_the_api_names_its_scope(app):
    views = [app.view_functions[rule.endpoint] for rule in app.url_map.iter_rules() if rule.endpoint.startswith("api.")]
    assert len(views) >= 8
    for view in views:
        assert hasattr(view, "scope"), view
        assert view.scope is None or view.scope in Scope
        assert view.__doc__


def test_every_page_of_the_dashboard_names_its_entrance(app):
    doors = {name for name, door in app.blueprints.items() if door.entry == "session"}
    views = [app.view_functions[r.endpoint] for r in app.url_map.iter_rules() if r.endpoint.split(".")[0] in doors]
    assert len(views) >= 20
    for view in views:
        assert view.entrance in ENTRANCES, view
        assert view.__doc__


def test_every_door_says_how_callers_enter(app):
    assert {door.entry for door in app.blueprints.values()} <= {"key", "token", "open", "session", "site"}


def test_every_error_says_what_is_true_and_what_to_do():
    codes = [error.code for error in errors.catalogue()]
    assert len(codes) == len(set(codes))
    for error in errors.catalogue():
        # The errors page gives this one sentence as it is.
        assert error.summary().endswith(".") or error.code == "jwt_expired"
        assert error.advice(), error
        assert 400 <= error.status < 600


def test_the_pages_name_every_code_scope_and_report(app):
    client = app.test_client()
    pages = {path: client.get(path).text for path in ("/docs", "/docs/errors", "/docs/metrics")}
    assert not [error.code for error in errors.catalogue() if f'id="{error.code}"' not in pages["/docs/errors"]]
    assert not [
        scope.value for scope in Scope if scope.value not in pages["/docs"] or scope.about not in pages["/docs"]
    ]
    for pipe in pipes.all().values():
        assert f'id="{pipe.name}"' in pages["/docs/metrics"]
        assert not [c for c in pipe.columns if f"<code>{c}</code>" not in pages["/docs/metrics"]]
    assert not [name for name in metrics.COMMON | dict.fromkeys(metrics.FILTERS) if name not in pages["/docs/metrics"]]


@pytest.mark.parametrize("setting", fields(config.Settings), ids=lambda setting: setting.name)
def test_every_setting_is_written_down(setting):
    texts = [HOME / name for name in ("README.md", "OPERATIONS.md")]
    lines = [line for text in texts if text.exists() for line in text.read_text().splitlines()]
    rows = [line for line in lines if line.replace("`", "").startswith(f"| {setting.name} |")]
    assert len(rows) == 1
    assert setting.metadata["about"] in rows[0]
    assert str(setting.default) in rows[0]


def test_no_setting_is_written_down_that_there_is_not():
    texts = [HOME / name for name in ("README.md", "OPERATIONS.md")]
    lines = [line for text in texts if text.exists() for line in text.read_text().splitlines()]
    named = {
        line.split("|")[1].strip(" `")
        for line in lines
        if line.startswith("| ") and line.split("|")[1].strip(" `").isupper()
    }
    assert named <= {setting.name for setting in fields(config.Settings)}
