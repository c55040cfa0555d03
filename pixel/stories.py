"""The whole story of one request, for the people of its workspace and for support."""

from datetime import timedelta

import orjson
from flask import current_app

from pixel import calls, clock, errors, events, ids, keys, request_log, workspaces
from pixel.database import db

MALFORMED = "There is no request id in that. It reads req_ and 26 letters and digits."
#: Of a batch's events, how many are listed.
MOST_EVENTS = 50


def tell(request_id, workspace_id=None):
    """A request with what belongs to it, or None; only of this workspace if one is given. Raises AnalyticsError.

    `row` is the request log's; `moment`, `key`, `workspace`, `steps` as [(name, milliseconds)], `events` as [(event_id,
    state)], `neighbours`.
    """
    if ids.find_request_id(request_id) != request_id:
        return None
    row = request_log.find(request_id)
    if row is None or (workspace_id and row["workspace_id"] != workspace_id):
        return None
    key = db.session.get(keys.ApiKey, row["key_id"]) if row["key_id"] else None
    return {
        "row": row,
        "moment": calls.at(row),
        "key": key,
        "workspace": workspaces.get(row["workspace_id"]) if row["workspace_id"] else None,
        "steps": _steps(row),
        "events": _events(row),
        "request_body": _readable(row["request_body"]),
        "response_body": _readable(row["response_body"]),
        "neighbours": [call | {"moment": calls.at(call)} for call in calls.neighbours(row)],
    }


def why_not(request_id):
    """Why there is no request of this id, in a sentence."""
    if ids.find_request_id(request_id) != request_id:
        return MALFORMED
    made, now, days = calls.made(request_id), clock.now(), current_app.config["REQUEST_LOG_DAYS"]
    environment, here = ids.environment(request_id), current_app.config["PIXEL_ENV"]
    when = f"{made:%Y-%m-%d %H:%M:%S} UTC"
    if environment not in (None, here):
        return f"It was made by a {environment} server; this one is {here}. Look there."
    if made > now + timedelta(minutes=5):
        return f"By its own time it will be made on {when}. It was mistyped, or made by a server whose clock is wrong."
    if made < now - timedelta(days=days):
        return f"It was made on {when}, and requests are kept for {days} days."
    return (
        f"By its own time it was made on {when}, but no such request reached this server: it was answered by something "
        "in front of it, or by another installation."
    )


def _steps(row):
    """What was done as [(name, milliseconds)], and how long it waited for its turn between them."""
    steps = [(name, taken) for name, taken in row["steps"]]
    return [*steps, ("waiting", max(0.0, row["milliseconds"] - sum(taken for _, taken in steps)))]


def _events(row):
    shown = row["event_ids"][:MOST_EVENTS]
    if not shown:
        return []
    try:
        stored = events.stored_among(row["workspace_id"], shown)
    except errors.AnalyticsError:
        stored = set()
    return [(event_id, "stored" if event_id in stored else "accepted") for event_id in shown]


def _readable(text):
    """A body with its JSON set out, if it is JSON."""
    try:
        return orjson.dumps(orjson.loads(text), option=orjson.OPT_INDENT_2).decode()
    except orjson.JSONDecodeError:
        return text
