"""Which websites there are."""

from itertools import islice

from flask import g

from pixel import clock, websites
from pixel.access import Scope, require
from pixel.api import answer, api
from pixel.intake import body, schemas


@api.get("/pixel/websites")
@require(Scope.PIXEL_READ)
def list_websites():
    """The websites that this key may see, newest first."""
    body.query(schemas.Nothing())
    sites = websites.visible(g.caller.workspace_id, g.caller.websites).values()
    return answer(
        [
            {
                "id": site.id,
                "domain": site.domain,
                "name": site.name,
                "timezone": site.timezone,
                "createdAt": clock.rfc3339(site.created_at),
            }
            for site in islice(sites, websites.MOST)
        ]
    )
