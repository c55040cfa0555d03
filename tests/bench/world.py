"""The servers that the bench asks, each started when it is first needed."""

import re
import subprocess
import sys
import time
from collections import Counter
from contextlib import contextmanager
from functools import cache, cached_property
from typing import NamedTuple

import httpx

from pixel.warehouse import Warehouse
from pixel.warehouse.embedded import Embedded, parsed
from tests.bench import pour, traffic
from tests.bench.runs import say
from tests.bench.traffic import NEEDED
from tests.server import HOME, Server, until

_NO_WAREHOUSE = {"ANALYTICS_URL": "", "ANALYTICS_INGEST_URL": "", "IDENTIFY_INGEST_URL": ""}
#: Behind a proxy, so that hits have addresses, and without limits, which are not what is measured.
_COLLECTING = {"TRUSTED_HOPS": "1", "RATELIMIT_COLLECT": "1000000000", "RATELIMIT_COLLECT_WEBSITE": "1000000000"}
_UNJOURNALED = "tests.bench.unjournaled:create_app()"
LOADED_SECONDS = 600


class Place(NamedTuple):
    """A running server, and a website of it with a key that may read and write. `keeps` what it accepts, or not."""

    server: Server
    workspace: str
    website: str
    key: str
    keeps: bool = True


#: Calls of the last 30 days by a thousand keys of a thousand workspaces, their ids as the server makes them.
_CALLS = """
INSERT INTO requests (request_id, at, workspace_id, key_id, method, path, route, status, milliseconds, steps, address,
    user_agent, request_body, event_ids)
SELECT
    concat('req_', arrayStringConcat(arrayMap(
        place -> substring('0123456789abcdefghjkmnpqrstvwxyz', bitAnd(bitShiftRight(ms, 5 * (9 - place)), 31) + 1, 1),
        range(10))), 'e', substring(lower(hex(sipHash64(number))), 1, 14), 'd'),
    fromUnixTimestamp64Milli(ms, 'UTC'), if(number % 1000 = 0, '{workspace}', concat('ws_', toString(number % 1000))),
    concat('key_', toString(number % 1000)), 'POST', '/api/v1/pixel/events', '/api/v1/pixel/events', 202, 1.5,
    [('authentication', 0.1), ('rate limit', 0.1), ('validation', 0.2), ('journal', 1), ('answer', 0.1)],
    '203.0.113.0', 'integration/1.0',
    concat('{{"website_id": "admx_', toString(number % 1000), '", "name": "pageview", "path": "/', hex(number), '"}}'),
    [concat('logged-', toString(number))]
FROM (SELECT number, toInt64(toUnixTimestamp64Milli(now64(3)) - 2592000000 * ({all} - number) / {all}) AS ms
      FROM numbers({first}, {last} - {first}))
"""


class Agent:
    """Somebody of support at a browser without scripts."""

    def __init__(self, url, link):
        self._http = httpx.Client(base_url=url, timeout=60)
        self._send(re.search(r"/links/\S+", link)[0], password="four plain words here")

    def look_up(self, text):
        """Paste a text and open the page it leads to: the milliseconds of both."""
        begin = time.perf_counter()
        found = self._send("/support", token=self._token, wanted=text, reason="the bench")
        middle = time.perf_counter()
        page = self._http.get(found.headers["Location"])
        assert text in page.text
        return (middle - begin) * 1000, (time.perf_counter() - middle) * 1000

    @cached_property
    def _token(self):
        return self._token_of("/support")

    def _token_of(self, path):
        return re.search(r'name="csrf_token"[^>]*value="([^"]+)"', self._http.get(path).text)[1]

    def _send(self, path, token=None, **fields):
        answer = self._http.post(path, data={"csrf_token": token or self._token_of(path), **fields})
        assert answer.status_code == 303, answer.text
        return answer


class World:
    """Servers in a folder of their own, all with the product's gunicorn settings."""

    def __init__(self, folder, events):
        self.folder, self.events = folder, events
        #: How many events the product's server has accepted, by website.
        self.accepted = Counter()
        self._servers = []
        #: Which server a website is of, if not of the product's first.
        self._homes = {}

    @cached_property
    def bare(self):
        server = Server(self.folder / "bare", application="tests.bench.bare:app", **_NO_WAREHOUSE)
        server.command += ["--worker-class", "tests.bench.bare.Worker", "--threads", "4"]
        return Place(self._start(server), "wsp_nobody", "site_nobody", "pxl_dev_" + "0" * 50, keeps=False)

    @cached_property
    def pixel(self):
        return self._set_up(Server(self.folder / "pixel"))

    @cached_property
    def unjournaled(self):
        return self._set_up(Server(self.folder / "unjournaled", application=_UNJOURNALED))._replace(keeps=False)

    @cached_property
    def collecting(self):
        """A server that takes as many hits of browsers as come."""
        place = self._set_up(Server(self.folder / "collecting", **_COLLECTING), traffic.BROWSED)
        self._homes[place.website] = place
        return place

    @cached_property
    def collecting_unjournaled(self):
        server = Server(self.folder / "collecting-unjournaled", application=_UNJOURNALED, **_COLLECTING)
        return self._set_up(server, traffic.BROWSED)._replace(keeps=False)

    @cached_property
    def filled(self):
        """A website of the product's server with a month of traffic: (its id, seconds to write, seconds to load)."""
        server, workspace, *_ = self.pixel
        website = self.website("filled.example")
        begin = time.monotonic()
        command = [sys.executable, "-m", "tests.bench.fill", workspace, website, str(self.events)]
        subprocess.run(command, cwd=HOME, env=server.environment, check=True)
        written = time.monotonic() - begin
        self.accepted[website] += self.events
        self.settle()
        loaded = time.monotonic() - begin
        with self._opened() as warehouse:
            self._rest(warehouse)
        return website, written, loaded

    def website(self, domain):
        """A new website of the product's server."""
        return self.pixel.server.flask("website", "add", domain, "--workspace", self.pixel.workspace)

    @cached_property
    def agent(self):
        """Somebody of support, signed in."""
        server = self.pixel.server
        server.flask("user", "support", "owner@example.com")
        return Agent(server.url, server.flask("user", "reset", "owner@example.com"))

    def poured(self, number, sites):
        """A new website of the product's server with a month of `number` events, or with its share if it has others."""
        _, workspace, *_ = self.pixel
        website = self.website(f"poured{sites}.example")
        with self._opened() as warehouse:
            for statement in pour.statements(workspace, website, number, sites):
                warehouse.command(statement)
            self._rest(warehouse)
        return website

    @staticmethod
    def _rest(warehouse):
        """As events stand after a quiet night; otherwise the measures would depend on how far the merges are."""
        warehouse.command("OPTIMIZE TABLE events FINAL")

    def forget(self, website):
        """Delete a website's events, so that the next ones are measured alone."""
        with self._opened() as warehouse:
            warehouse.command("TRUNCATE TABLE events")
        self.accepted.clear()

    @contextmanager
    def _opened(self):
        """The product's warehouse, opened here while its server is stopped."""
        server = self.pixel.server
        server.stop()
        warehouse = Embedded(server.instance / "warehouse" / "data")
        try:
            yield warehouse
        finally:
            warehouse.close()
            server.start().wait_for_engine(self.pixel.key)

    def logged(self, number):
        """Fill the request log with a month of calls; returns some of their ids, by kind."""
        _, workspace, *_ = self.pixel
        with self._opened() as warehouse:
            begin = time.monotonic()
            for part in range(0, number, 1_000_000):
                last = min(number, part + 1_000_000)
                warehouse.command(_CALLS.format(first=part, last=last, all=number, workspace=workspace))
            asked = "SELECT request_id, event_ids[1] AS event_id FROM requests WHERE event_ids[1] LIKE 'logged-%'"
            found = parsed(warehouse.query(f"{asked} ORDER BY sipHash64(request_id) LIMIT 500", {}))["data"]
            say(f"{number:,} calls logged in {time.monotonic() - begin:.0f} s")
        return {kind: [row[kind] for row in found] for kind in ("request_id", "event_id")}

    def settle(self):
        """Wait until every accepted event is in the warehouse. Fails if one is lost, or is there twice."""
        for website, accepted in self.accepted.items():
            until(lambda w=website, a=accepted: self._loaded(w) >= a, LOADED_SECONDS)
            loaded = self._loaded(website)
            assert loaded == accepted, f"{accepted} events were accepted and {loaded} are in the warehouse"

    def report(self, pipe, **query):
        """The rows of a report by HTTP."""
        return self.answer(pipe, **query)["data"]

    def answer(self, pipe, **query):
        """A report by HTTP, whole."""
        url = f"{self.pixel.server.url}/api/v1/pixel/metrics/{pipe}"
        asked = NEEDED.get(pipe, {}) | query
        answer = self._http.get(url, params=asked, headers={"Authorization": f"Bearer {self.pixel.key}"})
        assert answer.status_code == 200, answer.text
        return answer.json()["data"]

    def send(self, website, **event):
        """Have one event accepted."""
        url = f"{self.pixel.server.url}/api/v1/pixel/events"
        headers = {"Authorization": f"Bearer {self.pixel.key}"}
        answer = self._http.post(url, json={"website_id": website, **event}, headers=headers)
        assert answer.status_code == 202, answer.text
        self.accepted[website] += 1

    def stop(self):
        for server in self._servers:
            server.stop()

    @cached_property
    def _http(self):
        return httpx.Client(timeout=60)

    @cache
    def _warehouse(self, instance):
        """A line of the bench's own to an engine."""
        line = Warehouse()
        line.bind(instance / "warehouse", instance / "journal", may_be_engine=False)
        return line

    def _loaded(self, website):
        place = self._homes.get(website, self.pixel)
        asked = "SELECT count() AS n FROM events WHERE workspace_id = {w:String} AND website_id = {s:String}"
        rows = self._warehouse(place.server.instance).query(asked, {"w": place.workspace, "s": website})["data"]
        return rows[0]["n"]

    def _set_up(self, server, domain="example.com"):
        place = Place(server, *server.set_up(domain=domain))
        self._start(server).wait_for_engine(place.key)
        return place

    def _start(self, server):
        self._servers.append(server)
        server.start()
        # The first worker answers for all while the others are not there yet.
        until(lambda: len(server.children()["web"]) == int(server.environment["WEB_CONCURRENCY"]))
        return server
