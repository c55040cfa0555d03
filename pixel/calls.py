"""Calls of the API, as the request log tells of them: lists, usage, neighbours. Rows are dicts of its columns."""

from datetime import UTC, datetime, timedelta

from pixel import clock, ids
from pixel.extensions import warehouse

MOST = 50
#: What lists show; a row has much more.
_LISTED = "request_id, at, workspace_id, key_id, method, path, route, status, code, milliseconds, address, user_agent"
#: A status's class, as charts and filters name it.
_OUTCOME = "multiIf(status < 400, 'ok', status < 500, 'warning', 'danger')"


def listed(workspace_id, status=None, code=None, key_id=None, route=None, since=None, before=None, most=MOST):
    """A workspace's calls, newest first, since a moment (default: 24 hours ago); `before` is a request id.

    `status` is a class such as "4" or a whole status such as "404"; `route` is a part of the path. One more than
    `most` are given if there are more. Raises AnalyticsError.
    """
    since = since or clock.now() - timedelta(hours=24)
    conditions = ["workspace_id = {workspace:String}", "key_id != ''", "at >= {since:DateTime64(3)}"]
    values = {"workspace": workspace_id, "since": clock.warehouse_moment(since), "most": most + 1}
    for name, value, condition in (
        ("status", status, "startsWith(toString(status), {status:String})"),
        ("code", code, "code = {code:String}"),
        ("key", key_id, "key_id = {key:String}"),
        ("route", route, "position(path, {route:String}) > 0"),
        ("before", before, "request_id < {before:String}"),
    ):
        if value:
            conditions.append(condition)
            values[name] = value
    return _rows(
        f"SELECT {_LISTED} FROM requests WHERE {' AND '.join(conditions)}"
        " ORDER BY request_id DESC LIMIT {most:UInt32}",
        values,
    )


def neighbours(row, minutes=5, most=MOST):
    """The calls of the same key, or without one from the same address, up to `minutes` around a row, oldest first."""
    moment = at(row)
    whose = "key_id = {key:String}" if row["key_id"] else "key_id = '' AND address = {address:String}"
    return _rows(
        f"SELECT {_LISTED} FROM requests WHERE {whose} AND workspace_id = {{workspace:String}}"
        " AND at BETWEEN {since:DateTime64(3)} AND {until:DateTime64(3)}"
        " AND request_id != {id:String} ORDER BY abs(toUnixTimestamp64Milli(at) - {milliseconds:Int64})"
        " LIMIT {most:UInt32}",
        {
            "key": row["key_id"],
            "address": row["address"],
            "workspace": row["workspace_id"],
            "since": clock.warehouse_moment(moment - timedelta(minutes=minutes)),
            "until": clock.warehouse_moment(moment + timedelta(minutes=minutes)),
            "id": row["request_id"],
            "milliseconds": int(moment.timestamp() * 1000),
            "most": most,
        },
        order="request_id",
    )


def of_event(event_id, most=20):
    """The calls, of any workspace, that accepted an event of this id, newest first. For support."""
    return _rows(
        f"SELECT {_LISTED} FROM requests WHERE has(event_ids, {{event:String}})"
        " ORDER BY request_id DESC LIMIT {most:UInt32}",
        {"event": event_id, "most": most},
    )


def of_user(user_id, most=MOST, days=30):
    """What a user asked of the pages, newest first. For support."""
    return _rows(
        f"SELECT {_LISTED} FROM requests WHERE user_id = {{user:String}} AND at >= {{since:DateTime64(3)}}"
        " ORDER BY request_id DESC LIMIT {most:UInt32}",
        {"user": user_id, "since": clock.warehouse_moment(clock.now() - timedelta(days=days)), "most": most},
    )


def these(request_ids):
    """The calls of these ids, newest first."""
    return _rows(
        f"SELECT {_LISTED} FROM requests WHERE has({{ids:Array(String)}}, request_id) ORDER BY request_id DESC",
        {"ids": request_ids},
    )


def in_last_hour(workspace_id):
    """How often each key was used in the last hour: `{key_id: calls}`."""
    rows = _rows(
        "SELECT key_id, count() AS calls FROM requests WHERE workspace_id = {workspace:String} AND key_id != ''"
        " AND at >= {since:DateTime64(3)} GROUP BY key_id",
        {"workspace": workspace_id, "since": clock.warehouse_moment(clock.now() - timedelta(hours=1))},
    )
    return {row["key_id"]: row["calls"] for row in rows}


def by_hour(workspace_id, key_id, hours=24):
    """A key's calls in each of the last hours, oldest first: [(hour's start, {"ok", "warning", "danger": calls})]."""
    now = clock.now().replace(minute=0, second=0, microsecond=0)
    starts = [now - timedelta(hours=hours - 1 - n) for n in range(hours)]
    rows = _rows(
        f"SELECT toUnixTimestamp(toStartOfHour(at)) AS hour, {_OUTCOME} AS outcome, count() AS calls FROM requests"
        " WHERE workspace_id = {workspace:String} AND key_id = {key:String} AND at >= {since:DateTime64(3)}"
        " GROUP BY hour, outcome",
        {"workspace": workspace_id, "key": key_id, "since": clock.warehouse_moment(starts[0])},
    )
    found = {(row["hour"], row["outcome"]): row["calls"] for row in rows}
    return [
        (start, {outcome: found.get((int(start.timestamp()), outcome), 0) for outcome in ("ok", "warning", "danger")})
        for start in starts
    ]


def errors_of(workspace_id, key_id, days=30):
    """A key's errors by code, most first: [{"code", "status", "calls", "last", "newest", "required"}].

    `required` are the scopes that these calls needed.
    """
    return _rows(
        "SELECT code, any(status) AS status, count() AS calls, max(at) AS last, max(request_id) AS newest,"
        " arraySort(groupUniqArrayIf(scope_required, scope_required != '')) AS required"
        " FROM requests WHERE workspace_id = {workspace:String} AND key_id = {key:String} AND code != ''"
        " AND at >= {since:DateTime64(3)} GROUP BY code ORDER BY calls DESC, code LIMIT 50",
        {"workspace": workspace_id, "key": key_id, "since": clock.warehouse_moment(clock.now() - timedelta(days=days))},
    )


def scopes_used(workspace_id, key_id, days=30):
    """The scopes that a key's calls have needed and had in the last days."""
    rows = _rows(
        "SELECT DISTINCT scope_required AS scope FROM requests WHERE workspace_id = {workspace:String}"
        " AND key_id = {key:String} AND scope_required != '' AND code != 'insufficient_scope'"
        " AND at >= {since:DateTime64(3)}",
        {"workspace": workspace_id, "key": key_id, "since": clock.warehouse_moment(clock.now() - timedelta(days=days))},
    )
    return {row["scope"] for row in rows}


def refused(workspace_id, website_id, hours=24):
    """Why calls that were to bring events of a website brought none, or not all, most first.

    [{"code", "status", "calls", "last", "newest"}], the last two a moment and a request id. A code is empty for a
    batch of which some events were taken. A call that was refused before its body was read may have been for any
    website of the workspace, so it is among them.
    """
    rows = _rows(
        "SELECT code, status, count() AS calls, max(at) AS last, max(request_id) AS newest FROM requests"
        " WHERE workspace_id = {workspace:String} AND at >= {since:DateTime64(3)}"
        " AND startsWith(route, '/api/v1/pixel/events') AND method = 'POST' AND response_body != ''"
        " AND (request_body = '' OR position(request_body, {website:String}) > 0)"
        " GROUP BY code, status ORDER BY calls DESC, code LIMIT 50",
        {
            "workspace": workspace_id,
            "website": website_id,
            "since": clock.warehouse_moment(clock.now() - timedelta(hours=hours)),
        },
    )
    return [row | {"last": clock.from_warehouse(row["last"])} for row in rows]


def failing(workspace_id=None, least=3):
    """The keys, of one workspace or all, that used to work and now only fail, as `{key_id: what to tell}`.

    At least `least` calls failed in the last 24 hours, none succeeded, and one did before. Being told to wait (429) is
    not to fail. What to tell: `calls` that failed, `newest_code` and `newest`, its request id, and
    `worked_at`.
    """
    whose = "workspace_id = {workspace:String}" if workspace_id else "key_id != ''"
    values = {
        "workspace": workspace_id or "",
        "since": clock.warehouse_moment(clock.now() - timedelta(hours=24)),
        "least": least,
    }
    failed = _rows(
        "SELECT key_id, countIf(status != 429) AS calls, argMax(code, request_id) AS newest_code,"
        f" max(request_id) AS newest FROM requests WHERE {whose} AND key_id != '' AND at >= {{since:DateTime64(3)}}"
        " GROUP BY key_id HAVING countIf(status < 400) = 0 AND calls >= {least:UInt32} LIMIT 1000",
        values,
    )
    if not failed:
        return {}
    worked = _rows(
        "SELECT key_id, max(at) AS last FROM requests WHERE has({keys:Array(String)}, key_id) AND status < 400"
        " GROUP BY key_id",
        {"keys": [row["key_id"] for row in failed]},
    )
    worked_at = {row["key_id"]: clock.from_warehouse(row["last"]) for row in worked}
    facts = ("calls", "newest_code", "newest")
    return {
        row["key_id"]: {name: row[name] for name in facts} | {"worked_at": worked_at[row["key_id"]]}
        for row in failed
        if row["key_id"] in worked_at
    }


def at(row):
    """When a row's request came, as a UTC moment."""
    return clock.from_warehouse(row["at"])


#: The last second of the year 9999, which a request id may exceed and a datetime may not.
_LAST_SECOND = 253_402_300_799


def made(request_id: str) -> datetime:
    """Return when a request id was made, in UTC, or the end of the calendar for a time beyond it."""
    return datetime.fromtimestamp(min(ids.milliseconds(request_id) / 1000, _LAST_SECOND), UTC)


def _rows(sql, parameters, order=None):
    rows = warehouse.query(sql, parameters)["data"]
    return sorted(rows, key=lambda row: row[order]) if order else rows
