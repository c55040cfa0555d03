"""Visitors."""

from flask import g

from pixel import visitors
from pixel.access import Scope, require
from pixel.api import answer, api
from pixel.intake import body, schemas

_QUERY = schemas.OfWebsite()


@api.get("/pixel/visitors/<anything_or_nothing:visitor_id>")
@require(Scope.PIXEL_READ)
def read_visitor(visitor_id):
    """What is known of a visitor."""
    visitor_id = visitors.checked_id(visitor_id)
    only = body.query(_QUERY).get("website_id")
    found = visitors.profile(g.caller, visitor_id, only)
    g.entry.step("report")
    return answer(found)
