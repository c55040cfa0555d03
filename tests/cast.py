"""A small world of workspaces, websites and keys, and what can be done with them."""

import ipaddress
import itertools
import os
import threading
import time
from contextlib import contextmanager, suppress

from sqlalchemy import event

from app import create_app  # noqa: F401  imported here so that the path is right for every test
from pixel import forwarding, keys, websites, workspaces
from pixel.access import Scope
from pixel.database import db

READ, WRITE = Scope.PIXEL_READ.value, Scope.PIXEL_WRITE.value
#: Every key that was made in this run. None of them may be found anywhere afterwards.
SECRETS = set()
#: What reports must be given to be asked at all, by their name.
NEEDED = {
    "p_funnel": {"steps": ["path:/", "goal:signup"]},
    "p_funnel_v2": {"steps": ["path:/", "goal:signup"]},
    "p_visitor_profile": {"visitor_id": "v"},
    "p_visitor_timeline": {"visitor_id": "v"},
}
_numbers = itertools.count(1)
#: 10.0.0.1 and so on. No generator, which two threads could not ask at once.
addresses = map(str, map(ipaddress.IPv4Address, itertools.count((10 << 24) + 1)))


class Workspace:
    """A workspace with one website, whose limit does not get in the way."""

    def __init__(self, app, domain="example.com", timezone="UTC", limit=1_000_000):
        self.app = app
        number = next(_numbers)
        with app.app_context():
            self.id = workspaces.create(f"Workspace {number}", f"owner{number}@example.com", timezone).id
            if limit:
                workspaces.limit(self.id, limit)
            self.site = websites.add(self.id, domain).id

    def website(self, domain, timezone=None):
        """The id of another website."""
        with self.app.app_context():
            return websites.add(self.id, domain, timezone=timezone).id

    def key(self, *scopes, **options):
        """A caller with a new key."""
        with self.app.app_context():
            secret, made = keys.create(self.id, "a key", scopes, "dev", **options)
        return Caller(self.app, secret, made.id)

    def rotate(self, caller, **options):
        """A caller with the successor of a key."""
        with self.app.app_context():
            secret, made = keys.rotate(caller.key_id, **options)
        return Caller(self.app, secret, made.id)

    def revoke(self, caller):
        with self.app.app_context():
            keys.revoke(caller.key_id)


class Caller:
    """Someone who calls the API with a key, or with none, from an address of their own."""

    def __init__(self, app, secret=None, key_id=None):
        self.app, self.secret, self.key_id = app, secret, key_id
        self.address = next(addresses)
        SECRETS.update({secret} - {None})

    def get(self, path, **options):
        return self.call("GET", path, **options)

    def post(self, path, **options):
        return self.call("POST", path, **options)

    def call(self, method, path, headers=(), **options):
        sent = {"Authorization": f"Bearer {self.secret}"} if self.secret else {}
        options.setdefault("environ_base", {"REMOTE_ADDR": self.address})
        return self.app.test_client().open("/api/v1" + path, method=method, headers=sent | dict(headers), **options)

    def sends(self, website_id, **event):
        """Send one event, in a millisecond of its own, so that it is known which came first; a pageview of / by default."""
        time.sleep(0.001)
        whole = {"website_id": website_id, "name": "pageview", **event}
        if whole["name"] == "pageview":
            whole.setdefault("path", "/")
        return self.post("/pixel/events", json=whole)

    def rows(self, pipe, **query):
        """The rows of a report, once everything sent is loaded."""
        load(self.app)
        response = self.get(f"/pixel/metrics/{pipe}", query_string={k.rstrip("_"): v for k, v in query.items()})
        assert response.status_code == 200, response.text
        assert response.json["data"]["data_status"] == "ok"
        return response.json["data"]["data"]


def trust(app, monkeypatch, hops: int, proxies: str = "127.0.0.0/8") -> None:
    """Configure an app as TRUSTED_HOPS and TRUSTED_PROXIES do at its start."""
    networks = forwarding.parse_networks(proxies)
    monkeypatch.setattr(app, "wsgi_app", forwarding.ForwardedAddress(app.wsgi_app.application, hops, networks))
    monkeypatch.setitem(app.config, "TRUSTED_HOPS", hops)


def load(app):
    """Have the engine load everything that was sent."""
    from pixel.extensions import journal, warehouse

    journal.flush()
    with app.app_context():
        warehouse.load()


def stored(app, website_id, table="events"):
    """The rows that the warehouse has of a website, in the order in which they came, once everything is loaded."""
    from pixel.extensions import warehouse

    load(app)
    found = f"SELECT * FROM {table} WHERE website_id = {{site:String}} ORDER BY received_at"
    with app.app_context():
        return warehouse.query(found, {"site": website_id})["data"]


@contextmanager
def statements(app):
    """The SQL statements that this thread asks the control database meanwhile; jobs of the engine's ask it too."""
    asked, us = [], threading.get_ident()
    with app.app_context():
        engine = db.engine

    def note(connection, cursor, statement, *_):
        if threading.get_ident() == us:
            asked.append(statement)

    event.listen(engine, "before_cursor_execute", note)
    try:
        yield asked
    finally:
        event.remove(engine, "before_cursor_execute", note)


def everything_below(folder):
    """The bytes of all files below a folder. The engine tidies up meanwhile: what vanishes is left out."""
    found = []
    for where, _, names in os.walk(folder):
        for path in filter(os.path.isfile, (os.path.join(where, name) for name in names)):
            with suppress(FileNotFoundError), open(path, "rb") as file:
                found.append(file.read())
    return b"".join(found)


def error(response):
    """(status, code) of an error in the envelope, which must be whole."""
    assert set(response.json) == {"error", "meta"}, response.text
    assert set(response.json["error"]) == {"code", "message", "details"}
    assert response.headers["X-Request-Id"] == response.json["meta"]["request_id"]
    return response.status_code, response.json["error"]["code"]


def told(response):
    """What is wrong with a body, by field."""
    assert error(response) == (400, "invalid_body"), response.text
    return response.json["error"]["details"]


def shown(caller, site, **event):
    """The event as it would be stored. A field whose value is `...` is not sent."""
    whole = {"website_id": site, "name": "pageview", "path": "/", **event}
    response = caller.post("/pixel/events?dry_run=true", json={k: v for k, v in whole.items() if v is not ...})
    assert response.status_code == 200, response.text
    return response.json["data"]["event"]
