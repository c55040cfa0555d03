"""The JSON API under /api/v1. Callers enter with a key as Bearer token; each view names its scope."""

from flask import Blueprint, g

from pixel import access, envelope

api = Blueprint("api", __name__, url_prefix="/api/v1")
api.entry = "key"
api.after_request(access.stamp)

#: The largest body of a view that does not name its own limit.
MOST_BYTES = 1 << 20


def answer(data, status=200, **meta):
    """A success in the envelope."""
    return envelope.success(data, g.entry.request_id, status, **meta)


from pixel.api import events, identify, me, metrics, openapi, tokens, visitors, websites  # noqa: E402, F401  their views register themselves
