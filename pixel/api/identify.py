"""Who a visitor is."""

from flask import g

from pixel import identities
from pixel.access import Scope, require
from pixel.api import answer, api
from pixel.api.events import visible_websites, website
from pixel.intake import body, idempotency, schemas

_QUERY, _IDENTITY = schemas.DryRun(), schemas.Identity()


@api.post("/pixel/identify")
@require(Scope.PIXEL_WRITE)
def identify():
    """Tie a visitor to a user_id or an e-mail address."""
    dry_run = body.query(_QUERY).get("dry_run") == "true"
    # A repeated call changes nothing, so the key is only validated.
    idempotency.key()
    identity = _IDENTITY.load(body.json())
    row, frame = identities.prepare(identity, website(identity, visible_websites()), g.entry.request_id)
    if dry_run:
        return answer({"identity": identities.shown(row)})
    identities.refuse_if_unavailable()
    identities.keep(frame)
    g.entry.step("journal")
    facts = {name: row[name] for name in ("website_id", "visitor_id")}
    return answer({"status": "accepted", **facts}, 202)
