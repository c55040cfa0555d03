"""The pixel on other people's pages: real sites of other origins, a real browser, and what the reports tell."""

import gzip
import json
import subprocess
from collections import Counter
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.parse import quote, urlsplit

import pytest

from tests.browser.conftest import Person, chromium_binary
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


@pytest.fixture(scope="module")
def website(site):
    return site.server.flask("website", "add", "localhost", "--workspace", site.workspace)


@pytest.fixture(scope="module")
def reports(site, website):
    key = site.server.flask("key", "create", "pixel", "--workspace", site.workspace, "--scope", "pixel:read")
    return Reports(site, key, website)


@pytest.fixture(scope="module")
def host(site, website):
    host = Host(site.url, website)
    yield host
    host.server.shutdown()
    host.server.server_close()


@pytest.fixture
def browser(chromium):
    """Browsers, made on demand. No page in them ever sees an exception."""
    made = []

    def another(**options):
        made.append(Browser(chromium, **options))
        return made[-1]

    yield another
    for one in made:
        one.context.close()
    assert [error for one in made for error in one.errors] == []


def becomes(read, wanted, seconds=10):
    """Wait until what is read is what is wanted."""
    found = []

    def same():
        found[:] = [read()]
        return found[0] == wanted

    until(same, seconds, lambda: f"{found[0]!r}\nis not\n{wanted!r}")


def test_a_visit_is_told_page_by_page(host, reports, browser):
    shop = host.site("shop", body='<a href="/shop/pricing">Pricing</a><b data-pixel-goal="signup"><i>Join</i></b>')
    ada = browser().opens(f"{shop}/?utm_source=news&utm_campaign=may&gclid=g1&other=1")
    visitor = ada.visitor
    becomes(lambda: reports.story(visitor), ["/"])
    ada.page.get_by_text("Pricing").click()
    becomes(lambda: reports.story(visitor), ["/", "/pricing"])
    ada.page.get_by_text("Join").click()
    becomes(lambda: reports.story(visitor), ["/", "/pricing", "signup"])
    ada.calls("track", "trial", {"plan": "pro", "seats": 3, "paid": True, "value": 29.5})
    becomes(lambda: reports.story(visitor)[3:], ["trial"])
    ada.calls("payment", {"amount": 0.1 + 0.2, "currency": "eur", "transaction_id": 4711, "provider": "till"})
    ada.calls("payment", {"amount": 0.1 + 0.2, "currency": "eur", "transaction_id": 4711, "provider": "till"})
    becomes(lambda: reports.story(visitor)[4:], ["0.3 EUR"])
    ada.page.go_back()
    becomes(lambda: reports.story(visitor)[5:], ["/"])
    ada.page.go_forward()
    becomes(lambda: reports.story(visitor)[6:], ["/pricing"])

    first, second, signup, trial, payment, *_ = reports.rows(visitor)
    assert (first["source"], first["campaign"], first["title"]) == ("news", "may", "Page /shop/")
    assert (second["referrer"], first["props"], second["props"]) == ("", {}, {})
    touch = {"first_utm_source": "news", "first_utm_campaign": "may", "first_gclid": "g1"}
    assert signup["props"] == payment["props"] == touch
    assert trial["props"] == touch | {"plan": "pro", "seats": "3", "paid": "true", "value": "29.5"}
    assert trial["value"] == 29.5

    (cookie,) = ada.context.cookies(shop)
    assert (cookie["name"], cookie["value"], cookie["path"], cookie["sameSite"]) == ("pxl_vid", visitor, "/", "Lax")
    assert timedelta(days=364).total_seconds() < cookie["expires"] - datetime.now(UTC).timestamp() < 366 * 86400
    assert ada.stored()["pxl_vid"] == visitor


def test_an_application_of_one_page_is_told_as_many(host, reports, browser):
    app = host.site("app")
    ada = browser().opens(f"{app}/")
    visitor = ada.visitor
    going = [
        "history.pushState({}, '', '/app/inbox'); document.title = 'Inbox'",
        "history.pushState({}, '', '/app/inbox')",
        "history.replaceState({}, '', '/app/inbox')",
        "history.replaceState({}, '', '/app/sent')",
        "history.pushState({}, '', '/app/a'); history.pushState({}, '', '/app/b'); pixel('track', 'seen')",
        "history.back()",
        "history.forward()",
        "location.hash = 'top'",
        "history.pushState({}, '', location.href)",
    ]
    for there, sent in zip(going, [2, 2, 2, 3, 6, 7, 8, 9, 9], strict=True):
        ada.page.evaluate(there)
        until(lambda sent=sent: ada.page.wait_for_timeout(20) or len(ada.sent) >= sent)
    becomes(
        lambda: Counter(reports.story(visitor)),
        Counter(["/", "/inbox", "/sent", "/a", "/b", "seen", "/a", "/b", "/b"]),
    )
    views = [hit for hit in ada.sent if hit["name"] == "pageview"]
    assert [urlsplit(view["url"]).path.split("/")[2] for view in views] == [
        "",
        "inbox",
        "sent",
        "a",
        "b",
        "a",
        "b",
        "b",
    ]
    assert views[1]["title"] == "Inbox"
    assert [view["referrer"] for view in views[1:4]] == [view["url"] for view in views[:3]]
    goal = next(hit for hit in ada.sent if hit["name"] == "custom")
    assert goal["url"] == f"{app}/b"
    assert ada.sent.index(goal) == ada.sent.index(views[4]) + 1
    # Shown again from the browser's memory, without being loaded: a view of its own.
    ada.page.evaluate("dispatchEvent(new PageTransitionEvent('pageshow', { persisted: true }))")
    becomes(lambda: reports.story(visitor).count("/b"), 4)


def test_an_application_of_one_page_has_all_that_a_site_has(host, reports, browser):
    policy = f"default-src 'none'; script-src {host.analytics}; connect-src {host.analytics}"
    tag = (
        f'<script defer src="{host.analytics}/pixel.js" data-website-id="{host.website}" data-require-consent></script>'
    )
    body = '<button data-pixel-goal="join">Join</button>'
    app = host.site("whole", script=tag * 2, body=body, headers={"Content-Security-Policy": policy})
    ada = browser().opens(f"{app}/?utm_source=news")

    def goes(path):
        ada.page.evaluate("path => history.pushState({}, '', path)", f"/whole/{path}")

    goes("refused")
    ada.page.wait_for_timeout(50)
    assert (ada.sent, ada.stored()) == ([], {})
    ada.calls("consent", True)
    visitor = ada.visitor
    goes("inbox")
    ada.page.get_by_text("Join").click()
    ada.calls("payment", {"amount": 29.5, "currency": "EUR", "transaction_id": "whole"})
    ada.calls("identify", {"user_id": "u-whole"})
    told = ["/refused", "/inbox", "join", "29.5 EUR"]
    becomes(lambda: Counter(reports.story(visitor)), Counter(told))
    becomes(lambda: reports.known(visitor), (["u-whole"], [], {}))

    ada.context.set_offline(True)
    goes("away")
    ada.calls("track", "offline")
    until(lambda: len(json.loads(ada.stored()["pxl_queue"])) == 2)
    ada.context.set_offline(False)
    ada.page.go_back()
    told += ["/away", "offline", "/inbox"]
    becomes(lambda: Counter(reports.story(visitor)), Counter(told))

    other = ada.context.new_page()
    other.goto(f"{app}/tab")
    becomes(lambda: Counter(reports.story(visitor)), Counter([*told, "/tab"]))
    other.evaluate("pixel('consent', false)")
    # What another tab has stored is known here a moment later.
    becomes(ada.stored, {"pxl_consent": "0"})
    goes("late")
    ada.page.get_by_text("Join").click()
    ada.page.wait_for_timeout(50)
    assert ada.stored() == {"pxl_consent": "0"}
    assert len(ada.sent) == 9


def test_routes_behind_a_hash_are_pages_of_their_own(host, reports, browser):
    app = host.site("hash")
    ada = browser().opens(f"{app}/#/?utm_source=news")
    visitor = ada.visitor
    going = [
        "location.hash = '#/inbox'",
        "location.replace('#!/sent/1?page=2')",
        "history.back()",
        "location.hash = 'top'",
    ]
    for number, there in enumerate(going, 2):
        ada.page.evaluate(there)
        until(lambda number=number: ada.page.wait_for_timeout(20) or len(ada.sent) >= number)
    becomes(lambda: Counter(reports.story(visitor)), Counter({"/#/": 2, "/#!/sent/1": 1, "/#/inbox": 1, "/": 1}))
    assert {row["source"] for row in reports.rows(visitor) if row["path"].endswith("#/")} == {"news"}


@contextmanager
def left_alone(url, profile):
    """A browser that nobody steers, and so keeps pages in memory and loads them in advance as people's do."""
    options = ["--no-sandbox", "--headless=new", "--no-first-run", "--remote-debugging-port=0", f"--user-agent={AGENT}"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    running = subprocess.Popen([chromium_binary(), *options, f"--user-data-dir={profile}", url], **quiet)
    yield
    running.terminate()
    running.wait()


def test_a_page_counts_when_it_is_shown_not_when_it_is_loaded_in_advance(host, reports, browser, tmp_path):
    walk = """<a href="next">Next</a><script>
        const after = (work) => setTimeout(work, 100);
        const rules = { prerender: [{ urls: ["next"], eagerness: "immediate" }] };
        const go = async () => (await fetch("/gate/")).ok ? document.links[0].click() : after(go);
        if (location.pathname == "/advance/") {
            document.head.append(Object.assign(document.createElement("script"), { type: "speculationrules", text: JSON.stringify(rules) }));
            addEventListener("storage", () => go(pixel("track", "ready")));
        }
        pixel("track", document.prerendering ? "in advance" : "at once");
        if (document.prerendering) onload = () => (localStorage.ready = 1);
        document.addEventListener("prerenderingchange", () => after(() => (location = "last")));
        if (location.pathname == "/advance/last") onload = () => after(() => history.back());
        addEventListener("pageshow", ({ persisted }) => persisted && pixel("track", "again"));
    </script>"""
    with left_alone(host.site("advance", head=STUB, body=walk) + "/", tmp_path):
        becomes(lambda: reports.kinds("/advance/").keys(), {"pageview", "at once", "ready"}, seconds=20)
        assert reports.kinds("/advance/next") == {}
        host.site("gate")
        becomes(lambda: reports.kinds("/advance/last"), {"pageview": (1, 1), "at once": (1, 1)})
        becomes(lambda: reports.kinds("/advance/next"), {"pageview": (2, 1), "in advance": (1, 1), "again": (1, 1)})


def test_calls_from_before_it_loads_are_kept(host, reports, browser):
    early = "<script>pixel('track', 'early'); pixel('identify', {user_id: 7, email: 'a@b.example', traits: {plan: 'pro', none: null}})</script>"
    ada = browser().opens(host.site("early", head=STUB + early) + "/")
    becomes(lambda: sorted(reports.story(ada.visitor)), ["/", "early"])
    assert [hit["name"] for hit in ada.sent] == ["pageview", "custom", "identify"]
    becomes(lambda: reports.known(ada.visitor), (["7"], ["a@b.example"], {"plan": "pro"}))


def test_nothing_is_sent_or_stored_before_consent_and_after_it_is_withdrawn(host, reports, browser):
    shop = host.site("consent", options="data-require-consent")
    ada = browser().opens(f"{shop}/?utm_source=news")
    ada.calls("track", "too early")
    ada.calls("identify", {"user_id": "u"})
    assert (ada.sent, ada.stored(), ada.visitor) == ([], {}, None)
    ada.calls("consent", True)
    ada.calls("consent", True)
    ada.calls("track", "after")
    visitor = ada.visitor
    becomes(lambda: sorted(reports.story(visitor)), ["/", "after"])
    assert ada.stored().keys() == {"pxl_vid", "pxl_consent", "pxl_first", "pxl_queue"}
    ada.opens(f"{shop}/next")
    becomes(lambda: reports.story(visitor)[2:], ["/next"])

    other = ada.context.new_page()
    other.goto(f"{shop}/other")
    becomes(lambda: reports.story(visitor)[3:], ["/other"])
    ada.calls("consent", False)
    ada.calls("track", "too late")
    other.evaluate("pixel('track', 'too late')")
    assert ada.stored() == {"pxl_consent": "0"}
    ada.opens(f"{shop}/later")
    assert (ada.visitor, ada.stored()) == (None, {"pxl_consent": "0"})
    assert len(ada.sent) == 4
    ada.calls("consent", True)
    assert ada.visitor not in (None, visitor)
    becomes(lambda: reports.story(ada.visitor), ["/later"])


def test_who_refuses_is_left_alone_where_consent_is_not_asked_for(host, browser):
    ada = browser().opens(host.site("refusal", head=STUB + "<script>pixel('consent', false)</script>") + "/")
    ada.page.reload()
    assert (ada.sent, ada.stored()) == ([], {"pxl_consent": "0"})


def test_a_browser_that_asks_not_to_be_tracked_is_counted_without_an_id(host, reports, browser):
    ada = browser(extra_http_headers={"Sec-GPC": "1"})
    ada.context.add_init_script("Object.defineProperty(navigator, 'globalPrivacyControl', { value: true })")
    bob = browser(extra_http_headers={"DNT": "1"})
    bob.context.add_init_script("Object.defineProperty(navigator, 'doNotTrack', { value: '1' })")
    for name, one in (("gpc", ada), ("dnt", bob)):
        one.opens(host.site(name) + "/?utm_source=news")
        one.calls("track", "quiet")
        one.calls("identify", {"user_id": "u"})
        becomes(lambda name=name: reports.kinds(f"/{name}/"), {"pageview": (1, 0), "quiet": (1, 0)})
        assert (one.visitor, one.stored(), len(one.sent)) == (None, {}, 2)


def test_without_cookies_nothing_is_stored_and_a_day_is_one_visitor(host, reports, browser):
    ada = browser().opens(host.site("cookieless", options="data-cookieless") + "/?utm_source=news")
    ada.page.reload()
    ada.calls("track", "quiet")
    becomes(lambda: reports.kinds("/cookieless/"), {"pageview": (2, 1), "quiet": (1, 1)})
    assert (ada.visitor, ada.stored()) == (None, {})


def test_where_storage_is_blocked_no_id_is_sent(host, reports, browser):
    ada = browser()
    ada.context.add_init_script("""
        const denied = { get() { throw new DOMException("denied", "SecurityError") }, set() { throw new DOMException("denied", "SecurityError") } };
        Object.defineProperty(window, "localStorage", denied);
        Object.defineProperty(Document.prototype, "cookie", denied);
    """)
    ada.opens(host.site("blocked") + "/")
    ada.calls("track", "quiet")
    ada.page.evaluate("location.hash = '#/next'")
    becomes(lambda: reports.kinds("/blocked/"), {"pageview": (1, 1), "quiet": (1, 1)})
    becomes(lambda: reports.kinds("/blocked/#/next"), {"pageview": (1, 1)})
    assert not any("visitor_id" in hit for hit in ada.sent)
    # Cookies alone, or storage alone, are enough to be known again.
    for name, init in (
        ("no-cookies", "Object.defineProperty(Document.prototype, 'cookie', { get: () => '', set() {} })"),
        ("no-storage", "Object.defineProperty(window, 'localStorage', { value: null })"),
    ):
        bob = browser()
        bob.context.add_init_script(init)
        bob.opens(host.site(name) + "/")
        visitor = bob.visitor
        assert visitor
        bob.page.reload()
        becomes(lambda visitor=visitor: reports.story(visitor), ["/", "/"])


def test_two_tabs_are_one_visitor(host, reports, browser):
    shop = host.site("tabs")
    ada = browser().opens(f"{shop}/one")
    ada.page = ada.context.new_page()
    ada.opens(f"{shop}/two")
    becomes(lambda: reports.story(ada.visitor), ["/one", "/two"])


def test_a_storm_of_reloads_counts_nothing_twice(host, reports, browser):
    storm = """<script>
        sessionStorage.loads = 1 + +(sessionStorage.loads || 0);
        if (sessionStorage.loads < 12) setTimeout(() => location.reload(), 20 * sessionStorage.loads);
    </script>"""
    ada = browser().opens(host.site("storm", body=storm) + "/")
    ada.page.wait_for_function("sessionStorage.loads == 12 && document.readyState == 'complete' && !!window.pixel")
    ada.calls("track", "end")
    becomes(lambda: "end" in reports.story(ada.visitor), True)
    ids = {hit["event_id"] for hit in ada.sent}
    assert len(ids) > 6
    becomes(lambda: sorted(row["event_id"] for row in reports.rows(ada.visitor)), sorted(ids))
    assert {hit["visitor_id"] for hit in ada.sent} == {ada.visitor}


def test_what_happens_offline_is_told_later_with_its_own_time(host, reports, browser):
    shop = host.site("offline")
    ada = browser().opens(f"{shop}/")
    visitor = ada.visitor
    becomes(lambda: reports.story(visitor), ["/"])
    ada.context.set_offline(True)
    for number in range(3):
        ada.calls("track", f"offline {number}")
    ada.page.evaluate("history.pushState({}, '', '/offline/away')")
    ada.calls("identify", {"user_id": "u-offline"})
    until(lambda: len(json.loads(ada.stored()["pxl_queue"])) == 5)
    assert len(ada.sent) == 1
    back = datetime.now(UTC)
    ada.page.wait_for_timeout(5)
    ada.context.set_offline(False)
    becomes(lambda: sorted(reports.story(visitor)), ["/", "/away", "offline 0", "offline 1", "offline 2"])
    becomes(lambda: reports.known(visitor), (["u-offline"], [], {}))
    assert all(datetime.fromisoformat(row["timestamp"]) < back for row in reports.rows(visitor))
    becomes(lambda: json.loads(ada.stored()["pxl_queue"]), [])
    assert len(ada.sent) == 6

    # The page may be closed in between.
    ada.context.set_offline(True)
    ada.calls("track", "last words")
    ada.page.close()
    ada.context.set_offline(False)
    ada.page = ada.context.new_page()
    ada.opens(f"{shop}/again")
    becomes(lambda: sorted(reports.story(visitor)[5:]), ["/again", "last words"])
    ids = [hit["event_id"] for hit in ada.sent if "event_id" in hit]
    assert len(set(ids)) == len(ids)


def test_what_is_not_taken_is_told_again_within_a_minute(host, reports, browser):
    ada = browser()
    ada.page.clock.install()
    ada.opens(host.site("retry") + "/")
    visitor = ada.visitor
    becomes(lambda: reports.story(visitor), ["/"])
    answers = [503, 429, 500, None]
    ada.context.route("**/api/event", lambda route: fails(route, answers.pop(0)))
    for number in range(4):
        ada.calls("track", f"retry {number}")
        until(lambda number=number: len(json.loads(ada.stored().get("pxl_queue", "[]"))) == number + 1)
    ada.context.unroute("**/api/event")
    assert reports.story(visitor) == ["/"]
    ada.page.clock.fast_forward(61_000)
    ada.page.clock.run_for(1000)
    becomes(lambda: sorted(reports.story(visitor)), ["/", *(f"retry {number}" for number in range(4))])
    until(lambda: json.loads(ada.stored()["pxl_queue"]) == [])
    assert len(ada.sent) == 9

    # What is refused for good is not.
    ada.calls("payment", {"amount": "a lot", "currency": "EUR", "transaction_id": "t"})
    ada.page.clock.run_for(61_000)
    assert len(ada.sent) == 10
    assert ada.stored()["pxl_queue"] == "[]"


def fails(route, status):
    if status:
        route.fulfill(status=status, headers={"Access-Control-Allow-Origin": "*"}, body="{}")
    else:
        route.abort()


def test_the_queue_holds_fifty_for_a_day(host, reports, browser):
    shop = host.site("bounds")
    ada = browser().opens(f"{shop}/")
    visitor = ada.visitor
    becomes(lambda: reports.story(visitor), ["/"])
    ada.context.set_offline(True)
    ada.page.evaluate("for (let number = 0; number < 60; number++) pixel('track', `goal ${number}`)")
    kept = json.loads(ada.stored()["pxl_queue"])
    assert [json.loads(body)["goal"] for body, _ in kept] == [f"goal {number}" for number in range(10, 60)]
    ada.page.evaluate("""
        const queue = JSON.parse(localStorage.pxl_queue).slice(-2);
        queue[0][1] -= 864e5;
        localStorage.pxl_queue = JSON.stringify(queue);
    """)
    ada.context.set_offline(False)
    becomes(lambda: reports.story(visitor), ["/", "goal 59"])
    ada.calls("track", "end")
    becomes(lambda: "end" in reports.story(visitor), True)
    assert len(ada.sent) == 3


def test_what_is_told_while_the_page_goes_is_not_lost(host, reports, browser):
    shop = host.site("going", body="<a href=\"/going/next\" onclick=\"pixel('track', 'left')\">Next</a>")
    ada = browser().opens(f"{shop}/")
    visitor = ada.visitor
    ada.page.get_by_text("Next").click()
    ada.page.wait_for_url("**/next")
    ada.page.evaluate("addEventListener('pagehide', () => pixel('track', 'hidden'))")
    ada.opens(f"{shop}/last")
    ada.page.evaluate("pixel('track', 'closed')")
    ada.page.close()
    becomes(lambda: Counter(reports.story(visitor)), Counter(["/", "left", "/next", "hidden", "/last", "closed"]))


def test_a_script_that_is_loaded_twice_runs_once(host, reports, browser):
    tag = f'<script defer src="{host.analytics}/pixel.js" data-website-id="{host.website}"></script>'
    ada = browser().opens(host.site("twice", script=tag * 2) + "/")
    ada.page.evaluate("history.pushState({}, '', '/twice/next')")
    becomes(lambda: reports.story(ada.visitor), ["/", "/next"])
    assert len(ada.sent) == 2


def test_it_runs_under_a_strict_content_security_policy(host, reports, browser):
    policy = f"default-src 'none'; script-src {host.analytics}; connect-src {host.analytics}"
    ada = browser().opens(host.site("strict", headers={"Content-Security-Policy": policy}) + "/")
    becomes(lambda: reports.kinds("/strict/"), {"pageview": (1, 1)})
    assert not [said for said in ada.said if "Content Security Policy" in said and "favicon" not in said]


@pytest.mark.parametrize(
    "breaks",
    [
        "window.fetch = () => { throw new Error('broken') }",
        "window.fetch = undefined; delete window.fetch",
        "window.fetch = () => 1",
        "history.pushState = undefined",
        "Object.freeze(history)",
        "Object.defineProperty(history, 'pushState', { get() { throw 1 } })",
        "window.setInterval = () => { throw 1 }",
    ],
)
def test_it_works_on_a_page_that_is_broken(host, reports, browser, breaks):
    ada = browser().opens(host.site("broken", head=f"<script>{breaks}</script>") + "/")
    ada.calls("track", "still")
    ada.page.evaluate("location.hash = '#/next'")
    becomes(lambda: sorted(reports.story(ada.visitor)), ["/", "/#/next", "still"])
    assert len(ada.sent) == 3


def test_what_a_broken_fetch_refuses_is_told_by_the_next_page(host, reports, browser):
    ada = browser().opens(host.site("refuses", head="<script>fetch = () => Promise.reject(1)</script>") + "/")
    visitor = ada.visitor
    ada.opens(host.site("mended") + "/next")
    becomes(lambda: reports.story(visitor), ["/", "/next"])


def test_nonsense_never_reaches_the_page(host, reports, browser):
    ada = browser().opens(host.site("nonsense") + "/")
    for given in ([], ["nothing"], ["track"], ["payment"], ["identify"], ["constructor", 1], ["track", "x", 5]):
        ada.calls(*given)
    many = {f"key {number:02}": number for number in range(60)}
    ada.calls("track", "many", many)
    long = "x" * 999 + "😀"
    ada.calls("track", "g" * 100, {"long": long, "none": None, "list": [1, 2], "lone": "\ud800"})
    visitor = ada.visitor
    becomes(lambda: "g" * 64 in reports.story(visitor), True)
    rows = {row["goal"]: row["props"] for row in reports.rows(visitor)}
    assert len(rows["many"]) == 50
    assert rows["g" * 64] == {"long": "x" * 999, "list": "1,2", "lone": ""}
    ada.page.evaluate("history.pushState({}, '', '/nonsense/' + 'x'.repeat(3000))")
    becomes(lambda: len(max(reports.story(visitor), key=len)) > 1500, True)


def test_a_form_that_has_its_name_does_not_stop_it(host, reports, browser):
    ada = browser().opens(host.site("named", body='<form id="pixel"><input name="q"></form>') + "/")
    ada.calls("track", "still")
    becomes(lambda: sorted(reports.story(ada.visitor)), ["/", "still"])


def test_excluded_pages_are_not_told_of(host, reports, browser):
    shop = host.site("excluded", options='data-exclude="/excluded/admin/*,/excluded/x"')
    ada = browser().opens(f"{shop}/admin/users")
    ada.calls("track", "unseen")
    ada.opens(f"{shop}/x")
    ada.opens(f"{shop}/xy")
    ada.page.evaluate("history.pushState({}, '', '/excluded/admin/')")
    ada.page.evaluate("history.pushState({}, '', '/excluded/admin')")
    becomes(lambda: reports.story(ada.visitor), ["/xy", "/admin"])
    assert len(ada.sent) == 2


def test_a_path_to_exclude_is_no_expression(host, reports, browser):
    shop = host.site("literal", options='data-exclude="/literal/a.b,/literal/(x/*,/literal/[c"')
    ada = browser()
    for path in ("a.b", "aXb", "(x/1", "[c", "c", "a.b.c"):
        ada.opens(f"{shop}/{path}")
    becomes(lambda: reports.story(ada.visitor), ["/aXb", "/c", "/a.b.c"])
    assert len(ada.sent) == 3


def test_a_link_cannot_have_the_goals_of_who_follows_it_refused(host, reports, browser):
    tags = "&".join(["utm_a%00=1", f"utm_{'x' * 200}=1", "utm_source=news%00", *(f"utm_{n}={n}" for n in range(200))])
    shop = host.site("poisoned")
    ada = browser().opens(f"{shop}/?{tags}")
    ada.calls("track", "first", {f"key {number}": number for number in range(48)})
    ada.calls("payment", {"amount": 5, "currency": "EUR", "transaction_id": "poisoned"})
    becomes(lambda: sorted(reports.story(ada.visitor)), ["/", "5 EUR", "first"])
    row = next(row for row in reports.rows(ada.visitor) if row["goal"] == "first")
    assert len(row["props"]) == 50
    assert row["props"]["first_utm_source"] == "news"
    assert len(ada.stored()["pxl_first"]) <= 1000


def test_long_addresses_and_lines_in_names_lose_nothing(host, reports, browser):
    ada = browser().opens(host.site("long") + "/")
    ada.page.evaluate("history.pushState({}, '', '/long/' + '?' + 'x'.repeat(9000))")
    ada.page.evaluate("history.pushState({}, '', '/long/after')")
    ada.calls("track", "Buy\n\tnow", {"k" * 300: "\x00v"})
    becomes(lambda: reports.story(ada.visitor), ["/", "/", "/after", "Buynow"])
    assert reports.rows(ada.visitor)[3]["props"] == {"k" * 100: "v"}
    width, height = ada.page.evaluate("[screen.width, screen.height]")
    assert {hit["screen"] for hit in ada.sent} == {f"{width}x{height}"}


def test_outbound_links_downloads_forms_and_scrolling_are_goals_when_asked_for(host, reports, browser):
    body = """
        <a href="https://other.example/there?secret=1" target="_blank">Out</a> <a href="/auto/price.pdf">Price</a>
        <a href="mailto:someone@example.com">Mail</a> <a href="#here">Here</a>
        <form id="join" action="#sent"><input name="id"><button>Send</button></form><p style="height: 5000px">
        <script>document.addEventListener("click", event => event.target.matches("a:not([href^='#'])") && event.preventDefault())</script>"""
    for name, options in (("silent", ""), ("auto", 'data-auto="outbound,downloads,forms,scroll"')):
        ada = browser().opens(host.site(name, options=options, body=body) + "/")
        for words in ("Out", "Price", "Mail"):
            ada.page.get_by_text(words).click()
        ada.page.evaluate("scrollTo(0, 9999)")
        ada.page.wait_for_timeout(100)
        ada.page.evaluate("scrollTo(0, 0); scrollTo(0, 9999)")
        ada.page.wait_for_timeout(100)
        ada.page.get_by_text("Send").click()
        # That is a new page, whose pixel is there when it is loaded.
        ada.page.wait_for_url("**#sent")
        ada.calls("track", "end")
        becomes(lambda ada=ada: "end" in reports.story(ada.visitor), True)
        goals = {row["goal"]: row["props"] for row in reports.rows(ada.visitor) if row["goal"]}
        assert goals.pop("end") == {}
        if name == "auto":
            assert goals == {
                "outbound": {"url": "other.example/there"},
                "downloads": {"url": f"{urlsplit(host.url).netloc}/auto/price.pdf"},
                "scroll": {},
                "forms": {"form": "join"},
            }
            assert [hit.get("goal") for hit in ada.sent].count("scroll") == 1
        else:
            assert goals == {}


def test_pages_without_scripts_are_counted_by_an_image(site, host, reports, browser):
    guide = browser().opens(f"{site.url}/docs/install").page
    image = guide.locator("code", has_text="<noscript>").inner_text().replace("WEBSITE", host.website)
    image = image.replace(f"http://localhost:{site.server.port}", host.analytics)
    browser(java_script_enabled=False).opens(host.site("image", body=image) + "/page")
    becomes(lambda: reports.kinds("/image/page"), {"pageview": (1, 1)})


def test_a_strangers_page_counts_nothing_and_sees_nothing(host, reports, browser):
    host.site("strange")
    ada = browser().opens(f"{host.strange_url}/strange/")
    until(lambda: ada.sent)
    ada.page.wait_for_load_state("networkidle")
    assert reports.kinds("/strange/") == {}


def test_a_page_that_is_never_heard_asks_ever_more_rarely(host, browser):
    """A page of another host cannot read that it is refused: to it the network has failed."""
    host.site("insists")
    ada = browser()
    ada.page.clock.install()
    ada.opens(f"{host.strange_url}/insists/")
    for minutes in (1, 1, 2, 4, 8, 16, 28):
        until(lambda: ada.stored().get("pxl_queue", "[]") != "[]", otherwise=lambda: str(ada.sent))
        ada.page.clock.run_for(minutes * 60_000)
    assert 5 <= len(ada.sent) <= 7


def test_a_clock_that_is_ahead_loses_nothing(host, reports, browser):
    ada = browser()
    ada.page.clock.install(time=datetime.now() + timedelta(days=40))
    ada.opens(host.site("ahead") + "/")
    becomes(lambda: reports.story(ada.visitor), ["/"])
    assert reports.rows(ada.visitor)[0]["timestamp"][:4] == str(datetime.now(UTC).year)


def test_it_is_small_and_does_not_keep_a_page_waiting(host, browser, capsys):
    size = len(gzip.compress(SCRIPT.read_bytes(), 9))
    assert size < 2048
    without, with_it = (spent(browser(), url) for url in (host.site("bare", script=""), host.site("speed")))
    ada = browser().opens(host.site("speed") + "/")
    a_goal = ada.page.evaluate("""
        const start = performance.now();
        for (let number = 0; number < 20; number++) pixel("track", "again");
        (performance.now() - start) / 20""")
    until(lambda: ada.page.wait_for_timeout(20) or len(ada.sent) == 21)
    size_of_goal = len(json.dumps(ada.sent[-1], separators=(",", ":")))
    with capsys.disabled():
        print(
            f" {size} bytes gzipped, {size_of_goal} bytes a goal; milliseconds in scripts: {without:.1f} for an"
            f" empty page, {with_it:.1f} with the pixel, {a_goal:.2f} a goal ",
            end="",
        )


def spent(somebody, url):
    """For how many milliseconds scripts hold the main thread while a page is loaded, the least of five."""
    busy = clock_of(somebody.opens(url + "/"))

    def once():
        # The count begins anew with each page.
        somebody.page.reload()
        somebody.page.wait_for_timeout(100)
        return busy()

    return min(once() for _ in range(5))


def clock_of(somebody):
    """What tells for how many milliseconds scripts have held the main thread of the page."""
    session = somebody.context.new_cdp_session(somebody.page)
    session.send("Performance.enable")

    def busy():
        told = {metric["name"]: metric["value"] for metric in session.send("Performance.getMetrics")["metrics"]}
        return 1000 * told["ScriptDuration"]

    return busy


def test_the_tag_that_the_dashboard_shows_is_the_one_that_counts(site, host, reports, browser, chromium):
    owner = Person(site, chromium).signs_in()
    owner.opens(f"/websites/{host.website}")
    tag = owner.page.locator("code", has_text="pixel.js").inner_text()
    # People reach this server where PUBLIC_URL says; here it is at a port of its own.
    tag = tag.replace(f"http://localhost:{site.server.port}", host.analytics)
    ada = browser().opens(host.site("shown", script=tag) + "/")
    becomes(lambda: reports.story(ada.visitor), ["/"])
    owner.page.reload()
    owner.sees("/shown/")
    owner.follows("Tag managers, WordPress, applications of one page, consent, goals and payments")
    owner.sees("One tag in every page.")
    owner.leaves()
