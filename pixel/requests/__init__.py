"""A workspace's calls of the API: the list, and the whole story of one."""

from datetime import timedelta
from urllib.parse import urlencode

from flask import Blueprint, g, redirect, request
from wtforms import StringField
from wtforms.validators import InputRequired

from pixel import calls, clock, errors, ids, keys, pages, stories
from pixel.access import enter

requests = Blueprint("requests", __name__)
requests.entry = "session"
requests.most_bytes = pages.MOST_BYTES

STATUSES = {"2": "2xx, answered", "4": "4xx, refused", "5": "5xx, failed"}
TIMES = {"1": "The last hour", "24": "24 hours", "168": "7 days", "720": "30 days"}
MOST_KEYS = 200


class Find(pages.Form):
    found = StringField(
        "Request id", [InputRequired("Paste a request id."), pages.at_most(20_000)],
        description="With anything around it: quotes, or the whole error.",
    )  # fmt: skip


@requests.get("/requests")
@enter("viewer")
def all_requests():
    """The calls of the API, newest first."""
    return _list(Find(formdata=None))


@requests.post("/requests")
@enter("viewer")
def find_request():
    """Go to the request whose id was pasted."""
    form = Find()
    if form.sent():
        request_id = ids.find_request_id(form.found.data)
        if request_id:
            return redirect(f"/requests/{request_id}", 303)
        form.refuse("found", stories.MALFORMED)
    # It may be anything, a key too, so it is not shown again.
    form.found.data = ""
    return _list(form, 400)


@requests.get("/requests/<request_id>")
@enter("viewer")
def one_request(request_id):
    """The whole story of one request."""
    story = stories.tell(request_id, g.person.workspace_id)
    if story is None:
        return pages.page("requests/not_found.html", 404, why=stories.why_not(request_id), request_id=request_id)
    return pages.page("requests/request.html", story=story)


def _list(form, status=200):
    asked = _asked()
    try:
        hours = timedelta(hours=int(asked["hours"]))
        found, away = calls.listed(
            g.person.workspace_id, asked["status"], asked["code"], asked["key"], asked["route"],
            clock.now() - hours, asked["before"],
        ), False  # fmt: skip
    except errors.AnalyticsError:
        found, away = [], True
    shown = [call | {"moment": calls.at(call)} for call in found[: calls.MOST]]
    filters = {name: value for name, value in asked.items() if value and name != "before"}
    return pages.page(
        "requests/list.html", status, form=form, calls=shown, away=away, asked=asked, statuses=STATUSES, times=TIMES,
        codes=sorted(error.code for error in errors.catalogue() if not error.page_only),
        keys={key.id: key for key in keys.of(g.person.workspace_id, most=MOST_KEYS)},
        newest=asked["before"] and f"/requests?{urlencode(filters)}",
        older=len(found) > calls.MOST and f"/requests?{urlencode(filters | {'before': shown[-1]['request_id']})}",
    )  # fmt: skip


def _asked():
    """What the address asks for; what makes no sense is as if it were not there."""
    given = {name: request.args.get(name, "").strip()[:200] for name in ("status", "code", "key", "route", "before")}
    hours = request.args.get("hours")
    if given["status"] not in STATUSES:
        given["status"] = ""
    return given | {"hours": hours if hours in TIMES else "24"}
