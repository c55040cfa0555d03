"""Who am I."""

from flask import current_app, g

from pixel import clock
from pixel.access import require
from pixel.api import answer, api
from pixel.intake import body, schemas


@api.get("/me")
@require(None)
def me():
    """The workspace and the key that call."""
    body.query(schemas.Nothing())
    key = g.caller.key
    return answer(
        {
            "workspace": {
                "id": key.workspace_id,
                "name": key.workspace_name,
                "timezone": key.timezone,
                "rate_limit": key.rate_limit or current_app.config["RATELIMIT_API"],
            },
            "key": {
                "id": key.id,
                "name": key.name,
                "hint": key.hint,
                "scopes": key.scopes,
                "environment": key.environment,
                "websites": key.websites,
                "created_at": clock.rfc3339(key.created_at),
                "expires_at": clock.rfc3339(key.expires_at),
            },
        }
    )
