"""The servers that the bench asks, each started when it is first needed."""

import subprocess
import sys
import time
from collections import Counter
from functools import cached_property
from typing import NamedTuple

import httpx

from pixel.warehouse import Warehouse
from tests.server import HOME, Server, until

_NO_WAREHOUSE = {"ANALYTICS_URL": "", "ANALYTICS_INGEST_URL": "", "IDENTIFY_INGEST_URL": ""}
LOADED_SECONDS = 600


class Place(NamedTuple):
    """A running server, and a website of it with a key that may read and write. `keeps` what it accepts, or not."""

    server: Server
    workspace: str
    website: str
    key: str
    keeps: bool = True


class World:
    """Servers in a folder of their own, all with the product's gunicorn settings."""

    def __init__(self, folder, events):
        self.folder, self.events = folder, events
        #: How many events the product's server has accepted, by website.
        self.accepted = Counter()
        self._servers = []

    @cached_property
    def bare(self):
        server = self._start(Server(self.folder / "bare", application="tests.bench.bare:app", **_NO_WAREHOUSE))
        return Place(server, "wsp_nobody", "site_nobody", "pxl_dev_" + "0" * 50, keeps=False)

    @cached_property
    def pixel(self):
        return self._set_up(Server(self.folder / "pixel"))

    @cached_property
    def unjournaled(self):
        server = Server(self.folder / "unjournaled", application="tests.bench.unjournaled:create_app()")
        return self._set_up(server)._replace(keeps=False)

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
        return website, written, time.monotonic() - begin

    def website(self, domain):
        """A new website of the product's server."""
        return self.pixel.server.flask("website", "add", domain, "--workspace", self.pixel.workspace)

    def settle(self):
        """Wait until every accepted event is in the warehouse. Fails if one is lost, or is there twice."""
        for website, accepted in self.accepted.items():
            until(lambda w=website, a=accepted: self._loaded(w) >= a, LOADED_SECONDS)
            loaded = self._loaded(website)
            assert loaded == accepted, f"{accepted} events were accepted and {loaded} are in the warehouse"

    def report(self, pipe, **query):
        """The rows of a report by HTTP."""
        url = f"{self.pixel.server.url}/api/v1/pixel/metrics/{pipe}"
        answer = self._http.get(url, params=query, headers={"Authorization": f"Bearer {self.pixel.key}"})
        assert answer.status_code == 200, answer.text
        return answer.json()["data"]["data"]

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

    @cached_property
    def _warehouse(self):
        """A line of the bench's own to the product's engine."""
        instance = self.pixel.server.instance
        line = Warehouse()
        line.bind(instance / "warehouse", instance / "journal", may_be_engine=False)
        return line

    def _loaded(self, website):
        asked = "SELECT count() AS n FROM events WHERE workspace_id = {w:String} AND website_id = {s:String}"
        return self._warehouse.query(asked, {"w": self.pixel.workspace, "s": website})["data"][0]["n"]

    def _set_up(self, server):
        place = Place(server, *server.set_up())
        self._start(server).wait_for_engine(place.key)
        return place

    def _start(self, server):
        self._servers.append(server)
        server.start()
        # The first worker answers for all while the others are not there yet.
        until(lambda: len(server.children()["web"]) == int(server.environment["WEB_CONCURRENCY"]))
        return server
