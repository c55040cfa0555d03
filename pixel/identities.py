"""Who visitors say they are."""

import orjson
from flask import current_app

from pixel import clock, errors, journal, letters
from pixel.extensions import journal as book
from pixel.extensions import warehouse


def prepare(identity, site, request_id):
    """The row that an identify call, validated, will be stored as, and its record in the journal."""
    received = clock.milliseconds()
    row = {
        "workspace_id": site.workspace_id,
        "website_id": site.id,
        "visitor_id": identity["visitor_id"],
        "user_id": identity.get("user_id", ""),
        "email": letters.lower(identity.get("email", "")),
        "traits": identity.get("traits", {}),
        "request_id": request_id,
        "received_at": clock.warehouse(received),
    }
    return row, journal.frame("identities", orjson.dumps(row), received)


def shown(row):
    """A row as people are shown it: without what is the server's own, its moment with its zone."""
    told = {name: value for name, value in row.items() if name != "workspace_id"}
    return told | {"received_at": clock.rfc3339(clock.from_warehouse(row["received_at"]))}


def keep(frame):
    """Write a prepared identify call to the journal and sync it. Raises ServiceUnavailable."""
    book.append(frame)


#: Visitor ids of one user that are brought together, at most.
MOST_LINKED = 200


def linked(workspace_id, website_ids, visitor_id, most=MOST_LINKED):
    """All visitor ids of the same user, this one first: whoever was identified alike on the same website, and so on.

    A user is known by the user_id or e-mail of an identify call, or by the user_id that an event carries. Raises
    AnalyticsError.
    """
    asked = {"workspace": workspace_id, "websites": list(website_ids)}
    known, users = [visitor_id], set()
    while True:
        rows = warehouse.query(_USERS, asked | {"visitors": known})["data"]
        new_users = {row["user"] for row in rows} - users
        if not new_users:
            return known
        users |= new_users
        rows = warehouse.query(_VISITORS, asked | {"users": sorted(users), "most": most})["data"]
        new = [row["visitor_id"] for row in rows if row["visitor_id"] not in known]
        if not new or len(known) + len(new) > most:
            return [*known, *new][:most]
        known += new


# A user as text: by which name, on which website, and the name.
_USERS = """
    SELECT DISTINCT arrayJoin(arrayFilter(user -> user != '', [
        if(user_id = '', '', concat('user ', website_id, ' ', user_id)),
        if(email = '', '', concat('email ', website_id, ' ', email))])) AS user
    FROM (
        SELECT website_id, user_id, email FROM identities
        WHERE workspace_id = {workspace:String} AND website_id IN {websites:Array(String)}
            AND visitor IN (SELECT sipHash64(arrayJoin({visitors:Array(String)})))
        UNION ALL
        SELECT website_id, user_id, '' AS email FROM events
        WHERE workspace_id = {workspace:String} AND website_id IN {websites:Array(String)} AND user_id != ''
            AND visitor IN (SELECT sipHash64(arrayJoin({visitors:Array(String)})))
        GROUP BY website_id, user_id
    )
    ORDER BY user LIMIT 1000
"""
_VISITORS = """
    SELECT DISTINCT visitor_id
    FROM (
        SELECT visitor_id FROM identities
        WHERE workspace_id = {workspace:String} AND website_id IN {websites:Array(String)}
            AND (concat('user ', website_id, ' ', user_id) IN {users:Array(String)}
                OR concat('email ', website_id, ' ', email) IN {users:Array(String)})
        UNION ALL
        SELECT visitor_id FROM events
        WHERE workspace_id = {workspace:String} AND website_id IN {websites:Array(String)}
            AND user_id IN (
                SELECT replaceRegexpOne(user, '^user [^ ]+ ', '')
                FROM (SELECT arrayJoin({users:Array(String)}) AS user) WHERE startsWith(user, 'user '))
            AND concat('user ', website_id, ' ', user_id) IN {users:Array(String)}
        GROUP BY visitor_id
    )
    WHERE visitor_id != ''
    ORDER BY visitor_id LIMIT {most:UInt32}
"""


def refuse_if_unavailable():
    """Raise IdentifyUnavailable when this server is not set up to take identify calls."""
    if not current_app.config["IDENTIFY_INGEST_URL"]:
        raise errors.IdentifyUnavailable()
