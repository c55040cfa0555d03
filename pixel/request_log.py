"""The request log: every request gets an id, and support finds it by that."""

import logging
import re
import time
import traceback

import orjson
from flask import current_app, g, has_request_context, request

from pixel import clock, errors, ids, journal, redaction, telemetry, turns
from pixel.extensions import journal as book
from pixel.extensions import lines, warehouse

_WELL_FORMED = re.compile(r"[\w.:/+=-]{1,128}", re.ASCII)
#: The user and the password in the absolute form of a request target.
_USER = re.compile(r"(?<=://)[^/]*@")
_METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}
_LOG = logging.getLogger("pixel")


class Entry:
    """What becomes known of one request on its way."""

    __slots__ = (
        "body",
        "caller",
        "code",
        "event_ids",
        "exception",
        "is_probe",
        "lap",
        "person",
        "rate",
        "received",
        "refused",
        "request_id",
        "required",
        "site",
        "started",
        "steps",
    )  # fmt: skip

    def __init__(self):
        self.request_id = ids.of_request(current_app.config["PIXEL_ENV"])
        self.received = clock.milliseconds()
        self.started = self.lap = time.perf_counter()
        self.steps = []
        self.code = self.exception = self.required = ""
        self.caller = self.person = self.rate = self.body = self.site = None
        self.event_ids = ()
        self.refused = 0
        #: A question about the server itself, of which there are many: one that went well is not kept.
        self.is_probe = False

    def step(self, name):
        """Note that `name` is done; it took the time since the step before."""
        self.steps.append((name, round((time.perf_counter() - self.lap) * 1000, 3)))
        turns.step()
        self.lap = time.perf_counter()

    def failed(self, spoken, error):
        """Note what went wrong: the code the caller is told, and for a failure of ours the exception itself."""
        self.code = spoken.code
        # That the server is not ready is a probe's answer, and no failure to answer.
        if spoken.status >= 500 and not (self.is_probe and spoken is error):
            self.exception = _place_and_trace(error)
            _LOG.error("%s", spoken.code, extra={"request_id": self.request_id, "exception": self.exception})


def begin():
    """Give the current request its id and start its clock."""
    g.entry = Entry()
    turns.step()


def finish(response):
    """Write the row and the line of the current request, whatever became of it, and stamp the response with its id."""
    entry, asked = g.entry, request._get_current_object()
    entry.step("answer")
    response.headers.add("X-Request-Id", entry.request_id)
    _count(entry, asked, response)
    if entry.is_probe and response.status_code < 400:
        return response
    _write(_row(entry, asked, response), entry.received)
    return response


def _write(row: dict, at_milliseconds: int) -> None:
    line = {name: row[name] for name in _IN_LINE}
    lines.put(orjson.dumps({"at": row["at"], "level": "info", "event": "request", **line}))
    try:
        book.append_later(journal.frame("requests", orjson.dumps(row), at_milliseconds))
    except OSError:
        _LOG.exception("request log", extra={"request_id": row["request_id"]})


def record_refusal(
    request_id: str, at_milliseconds: int, request_line: str, error: errors.PixelError, response_body: bytes
) -> None:
    """Write the row and the line of a request that the server refused before the application saw it.

    Its address is left out: without the application's settings it may be a proxy's, or that of a visitor.
    """
    method, _, rest = request_line.partition(" ")
    target, _, query = rest.partition(" HTTP")[0].partition("?")
    target = _USER.sub("", target)
    row = _UNSEEN | {
        "request_id": request_id,
        "at": clock.warehouse(at_milliseconds),
        "method": method if method in _METHODS else "",
        "path": redaction.line(target) if method in _METHODS else "",
        "query": redaction.query(query) if method in _METHODS else "",
        "status": error.status,
        "code": error.code,
        "response_body": redaction.body(response_body),
    }
    telemetry.count("pixel_http_requests", "(none)", row["method"] or "(other)", f"{error.status // 100}xx", error.code)
    _write(row, at_milliseconds)


def _count(entry, asked, response):
    route = asked.url_rule.rule if asked.url_rule else "(none)"
    # Anybody can make up a method, and each would be counted apart for ever.
    method = asked.method if asked.method in _METHODS else "(other)"
    telemetry.count("pixel_http_requests", route, method, f"{response.status_code // 100}xx", entry.code)
    telemetry.observe("pixel_http_request_seconds", time.perf_counter() - entry.started, route)


def find(request_id):
    """The row of one request as a dict, or None. Raises WarehouseFailed.

    A request is looked for in the journal too, so that it is found before it is loaded.
    """
    for record in journal.find(book.folder, request_id.encode()):
        if record.table == "requests" and (row := orjson.loads(record.row))["request_id"] == request_id:
            return row
    found = warehouse.query("SELECT * FROM requests WHERE request_id = {id:String} LIMIT 1", {"id": request_id})
    return found["data"][0] if found["data"] else None


def current_id():
    """The id of the request being served, or None outside of one."""
    return g.entry.request_id if has_request_context() and "entry" in g else None


_IN_LINE = (
    "request_id",
    "method",
    "path",
    "route",
    "status",
    "code",
    "milliseconds",
    "workspace_id",
    "key_id",
    "client_request_id",
)


#: What is not known of a request that the application did not see.
_UNSEEN = {
    "workspace_id": "", "key_id": "", "user_id": "", "route": "", "milliseconds": 0.0, "steps": [],
    "scope_required": "", "scopes": (), "rate_limit": 0, "rate_remaining": 0, "address": "", "user_agent": "",
    "client_request_id": "", "request_body": "", "event_ids": (), "exception": "",
}  # fmt: skip


def _row(entry, asked, response):
    caller, person, rate = entry.caller, entry.person, entry.rate
    environ, rule = asked.environ, asked.url_rule
    client_id = environ.get("HTTP_X_REQUEST_ID", "")
    whose = caller or person or entry.site
    # A visitor's address is kept nowhere, not even a part of it.
    visits = rule is not None and rule.endpoint.startswith("collect.")
    # What was refused is worth keeping, be it one event of a batch.
    error = (response.status_code >= 400 or entry.refused) and response.mimetype == "application/json"
    return {
        "request_id": entry.request_id,
        "at": clock.warehouse(entry.received),
        "workspace_id": (whose and whose.workspace_id) or "",
        "key_id": caller.key.id if caller else "",
        "user_id": person.id if person else "",
        "method": environ["REQUEST_METHOD"][:20],
        "path": redaction.line(asked.path),
        "query": redaction.query(environ.get("QUERY_STRING", "")),
        "route": rule.rule if rule else "",
        "status": response.status_code,
        "code": entry.code,
        "milliseconds": round((time.perf_counter() - entry.started) * 1000, 3),
        "steps": entry.steps,
        "scope_required": entry.required,
        "scopes": caller.key.scopes if caller else (),
        "rate_limit": rate.limit if rate else 0,
        "rate_remaining": rate.remaining if rate else 0,
        "address": "" if visits else redaction.address(environ.get("REMOTE_ADDR", "")),
        "user_agent": redaction.line(environ.get("HTTP_USER_AGENT", "")[:500]),
        "client_request_id": client_id if _may_be_kept(client_id) else "",
        "request_body": redaction.body(entry.body) if entry.body else "",
        "response_body": redaction.body(response.get_data()) if error else "",
        "event_ids": entry.event_ids,
        "exception": entry.exception,
    }


def _may_be_kept(client_id):
    return client_id and _WELL_FORMED.fullmatch(client_id) and redaction.line(client_id) == client_id


def _place_and_trace(error):
    return redaction.trace("".join(traceback.format_exception(error)))
