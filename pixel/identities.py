"""Who visitors say they are."""

import orjson
from flask import current_app

from pixel import clock, errors, journal
from pixel.extensions import journal as book


def prepare(identity, site, request_id):
    """The row that an identify call, validated, will be stored as, and its record in the journal."""
    received = clock.milliseconds()
    row = {
        "workspace_id": site.workspace_id,
        "website_id": site.id,
        "visitor_id": identity["visitor_id"],
        "user_id": identity.get("user_id", ""),
        "email": identity.get("email", "").lower(),
        "traits": identity.get("traits", {}),
        "request_id": request_id,
        "received_at": clock.warehouse(received),
    }
    return row, journal.frame("identities", orjson.dumps(row), received)


def keep(frame):
    """Write a prepared identify call to the journal and sync it. Raises ServiceUnavailable."""
    book.append(frame)


def refuse_if_unavailable():
    """Raise IdentifyUnavailable when this server is not set up to take identify calls."""
    if not current_app.config["IDENTIFY_INGEST_URL"]:
        raise errors.IdentifyUnavailable()
