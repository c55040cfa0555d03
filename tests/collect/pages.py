"""Browsers on pages with the pixel, as far as the server sees them, and what becomes of what they send."""

import json
import time

from pixel import events, websites
from tests.cast import addresses, load

FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:143.0) Gecko/20100101 Firefox/143.0"


class Browser:
    """A browser at an address of its own, on a page of ada.example."""

    def __init__(self, app, site, origin="https://ada.example", agent=FIREFOX):
        self.app, self.site, self.origin, self.agent = app, site, origin, agent
        self.address = next(addresses)

    def sends(self, headers=(), content_type="text/plain;charset=UTF-8", data=None, origin=..., **hit):
        # In a millisecond of its own, so that it is known which came first.
        time.sleep(0.001)
        whole = {"website_id": self.site, "name": "pageview", "url": "https://ada.example/a", **hit}
        told = self.origin if origin is ... else origin
        sent = {"User-Agent": self.agent, **({"Origin": told} if told else {}), **dict(headers)}
        return self.app.test_client().post(
            "/api/event", data=json.dumps(whole) if data is None else data, content_type=content_type, headers=sent,
            environ_base={"REMOTE_ADDR": self.address},
        )  # fmt: skip


def fate(response):
    assert response.status_code == 202, response.text
    return response.json["data"]


def drops(app, site):
    load(app)
    with app.app_context():
        return {row["reason"]: row["events"] for row in events.dropped(websites.find(site).workspace_id, site)}


def image(app, headers=(), **query):
    return show(app, query, headers)


def show(app, query, headers=()):
    address = next(addresses)
    return app.test_client().get(
        "/pixel.gif", query_string=query, headers={"User-Agent": FIREFOX, **dict(headers)},
        environ_base={"REMOTE_ADDR": address},
    )  # fmt: skip
