"""Other people's pages with the pixel in them, the browsers that open them, and what the reports tell."""

import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.parse import quote, urlsplit

from tests.server import HOME, until

SCRIPT = HOME / "static" / "pixel.js"
#: Chromium without a head says so, and would rightly be taken for a bot.
AGENT = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36"
STUB = "<script>window.pixel = window.pixel || function () { (pixel.q = pixel.q || []).push(arguments) }</script>"


class Host:
    """Small websites, each in a folder of its own, on the host `localhost` and, for strangers, `127.0.0.1`."""

    def __init__(self, analytics, website):
        self.analytics, self.website, self.sites = analytics, website, {}
        host = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                found = host.sites.get(self.path.split("/")[1])
                self.send_response(404 if found is None else 200)
                self.send_header("Content-Type", "text/html; charset=utf-8")
                for name, value in (found or {}).get("headers", {}).items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(host.html(urlsplit(self.path).path, **(found or {})).encode())

            def log_message(self, *given):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://localhost:{self.server.server_port}"
        self.strange_url = f"http://127.0.0.1:{self.server.server_port}"
        Thread(target=self.server.serve_forever, daemon=True).start()

    def html(self, path, options="", head="", body="", script=None, **_):
        tag = f'<script defer src="{self.analytics}/pixel.js" data-website-id="{self.website}" {options}></script>'
        return f"<!doctype html><html lang=en><title>Page {path}</title>{head}{tag if script is None else script}{body}"

    def site(self, name, **made_of):
        """The address of a site, whose pages are all alike but for their title."""
        self.sites[name] = made_of
        return f"{self.url}/{name}"


class Reports:
    """What is told over the API."""

    def __init__(self, site, key, website):
        self.site, self.key, self.website = site, key, website

    def ask(self, path):
        answer = self.site.call(self.key, path)
        assert answer.status_code == 200, answer.text
        return answer.json()["data"]

    def rows(self, visitor):
        """What a visitor did, oldest first. A page that is leaving forgets the user agent that it was given."""
        asked = f"/pixel/metrics/p_visitor_timeline?visitor_id={visitor}&limit=1000&bots=include"
        return self.ask(asked)["data"][::-1]

    def story(self, visitor):
        """What a visitor did, each in a word."""
        return [short(row) for row in self.rows(visitor)]

    def known(self, visitor):
        """Who a visitor says they are."""
        profile = self.ask(f"/pixel/visitors/{visitor}")
        return profile["user_ids"], profile["emails"], profile["traits"]

    def kinds(self, path):
        """What happened on a page: {"pageview": (events, visitors)}."""
        rows = self.ask(f"/pixel/metrics/p_events_catalog?website_id={self.website}&path={quote(path)}")["data"]
        return {row["goal"] or row["name"]: (row["events"], row["visitors"]) for row in rows}


def short(row):
    if row["name"] == "payment":
        return f"{row['amount']} {row['currency']}"
    return row["goal"] or "/" + row["path"].split("/", 2)[2]


class Browser:
    """Somebody's browser: every page in it, what they send, and what goes wrong in them."""

    def __init__(self, chromium, **options):
        self.context = chromium.new_context(user_agent=AGENT, **options)
        self.context.set_default_timeout(10_000)
        self.sent, self.errors, self.said = [], [], []
        self.context.on("request", self._note)
        self.context.on("weberror", lambda error: self.errors.append(str(error.error)))
        self.context.on("console", lambda said: self.said.append(said.text))
        self.page = self.context.new_page()

    def _note(self, asked):
        if asked.url.endswith("/api/event") and asked.method == "POST":
            self.sent.append(json.loads(asked.post_data))

    def opens(self, url):
        self.page.goto(url)
        return self

    def calls(self, *given):
        self.page.evaluate("given => pixel(...given)", list(given))

    def stored(self):
        """All that is kept on the device by this site."""
        kept = self.page.evaluate("({...localStorage})")
        return kept | {cookie["name"]: cookie["value"] for cookie in self.context.cookies(self.page.url)}

    @property
    def visitor(self):
        return self.page.evaluate("pixel.visitorId()")


def becomes(read, wanted, seconds=10):
    """Wait until what is read is what is wanted."""
    found = []

    def same():
        found[:] = [read()]
        return found[0] == wanted

    until(same, seconds, lambda: f"{found[0]!r}\nis not\n{wanted!r}")
