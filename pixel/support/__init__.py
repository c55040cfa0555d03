"""Support: any workspace's request, found by its id. Only for users with the support flag; each look-up is audited."""

import re
from datetime import timedelta

from flask import Blueprint, g, redirect, session
from werkzeug.wrappers import Response
from wtforms import StringField, TextAreaField
from wtforms.validators import InputRequired

from pixel import access, audit, calls, clock, errors, ids, keys, members, pages, request_log, stories, workspaces
from pixel.access import enter

support = Blueprint("support", __name__)
support.entry = "session"
support.most_bytes = pages.MOST_BYTES

#: How long what was looked up can be seen again.
LASTS = timedelta(hours=24)
_EMAIL = re.compile(r"[^\s@<>\"',;]{1,64}@[^\s@<>\"',;]{1,253}")


class LookUp(pages.Form):
    wanted = TextAreaField(
        "What to find", [InputRequired("Paste what to look for."), pages.at_most(20_000)],
        description="A request_id, with anything around it: quotes, or the whole error. Or an event_id, a key's hint "
        "or id, or a user's e-mail address.",
    )  # fmt: skip
    reason = StringField(
        "Reason",
        [InputRequired("Enter the reason, such as a ticket."), pages.at_most(), pages.checked(audit.checked_reason)],
        description="The owners of the workspace can read it.",
    )  # fmt: skip


@support.get("/support")
@enter("support")
def ask():
    """A box for anything that leads to a request."""
    return _ask(LookUp(formdata=None, reason=session.get("reason", "")))


@support.post("/support")
@enter("support")
def look_up() -> pages.Page | Response:
    """Find what was pasted, record the look-up for the owners of its workspace, and redirect to it."""
    form = LookUp()
    if not form.sent():
        return _ask(form, 400)
    session["reason"] = form.reason.data.strip()
    try:
        found = access.search_for_support(lambda: _find(form.wanted.data))
    except errors.RateLimitExceeded as refusal:
        g.entry.failed(refusal, refusal)
        form.refuse(None, refusal)
        return _ask(_without_key(form), 429, refusal.headers)
    for kind, thing, workspace_ids in found:
        audit.looked_up(workspace_ids, subject=thing, reason=session["reason"], kind=kind, **pages.actor())
    if len(found) == 1:
        kind, thing, _ = found[0]
        return redirect(f"/support/{kind}/{thing}", 303)
    if found:
        return pages.page("support/several.html", found=found, reason=session["reason"], requests=_rows(found))
    form.refuse("wanted", _why_not(form.wanted.data))
    return _ask(_without_key(form), 404)


@support.get("/support/requests/<request_id>")
@enter("support")
def one_request(request_id):
    """The whole story, with the exception."""
    if not _is_looked_up(request_id):
        return redirect("/support", 303)
    story = stories.tell(request_id)
    if story is None:
        return redirect("/support", 303)
    owners = members.owners(story["workspace"].id) if story["workspace"] else []
    return pages.page("support/request.html", story=story, owners=owners, reason=session.get("reason", ""))


@support.get("/support/keys/<key_id>")
@enter("support")
def one_key(key_id):
    """A key, its workspace and its last calls."""
    if not _is_looked_up(key_id):
        return redirect("/support", 303)
    key = keys.get_anywhere(key_id)
    since = clock.now() - timedelta(days=30)
    last = calls.listed(key.workspace_id, key_id=key.id, since=since)[: calls.MOST]
    return pages.page(
        "support/key.html", key=key, workspace=workspaces.get(key.workspace_id), now=clock.now(), state=keys.state,
        owners=members.owners(key.workspace_id), failures=calls.errors_of(key.workspace_id, key.id),
        last=_with_moments(last), reason=session.get("reason", ""),
    )  # fmt: skip


@support.get("/support/users/<user_id>")
@enter("support")
def one_user(user_id):
    """A user, their workspaces and what they asked of the pages."""
    if not _is_looked_up(user_id):
        return redirect("/support", 303)
    return pages.page(
        "support/user.html", user=members.by_id(user_id), workspaces=workspaces.of(user_id),
        last=_with_moments(calls.of_user(user_id)), reason=session.get("reason", ""),
    )  # fmt: skip


def _find(text):
    """What the text means: [(kind, id, the workspaces it belongs to)]."""
    request_id = ids.find_request_id(text)
    if request_id:
        row = request_log.find(request_id)
        return [("requests", request_id, [row["workspace_id"] or None])] if row else []
    if found := keys.anywhere(text) or keys.hinted(text):
        return [("keys", key.id, [key.workspace_id]) for key in found]
    if email := _EMAIL.search(text):
        user = members.by_email(email[0])
        own = user and [workspace.id for workspace, _ in workspaces.of(user.id)]
        return [("users", user.id, own or [None])] if user else []
    return [
        ("requests", call["request_id"], [call["workspace_id"] or None])
        for call in calls.of_event(text.strip().strip("\"'"))
    ]


def _why_not(text):
    request_id = ids.find_request_id(text)
    if request_id:
        return f"No request {request_id} is known. {stories.why_not(request_id)}"
    if "req_" in text:
        return stories.MALFORMED
    if keys.looks_like(text):
        return "No key is like that."
    if _EMAIL.search(text):
        return "There is no user of this e-mail address."
    return "No call brought an event of this id in the time that requests are kept, and it is no request id."


def _is_looked_up(subject):
    return audit.is_looked_up(g.person.email, subject, clock.now() - LASTS)


def _rows(found):
    """What is known of the requests among what was found, by their ids."""
    wanted = [thing for kind, thing, _ in found if kind == "requests"]
    return {row["request_id"]: row for row in _with_moments(calls.these(wanted))} if wanted else {}


def _with_moments(rows):
    return [row | {"moment": calls.at(row)} for row in rows]


def _without_key(form: LookUp) -> LookUp:
    """Return the form as it is shown again: a key is shown on one page only."""
    if "pxl_" in form.wanted.data:
        form.wanted.data = ""
    return form


def _ask(form: LookUp, status: int = 200, headers: dict[str, str] | tuple[()] = ()) -> pages.Page:
    return pages.page("support/ask.html", status, headers, form=form, recent=audit.look_ups_of(g.person.email))
