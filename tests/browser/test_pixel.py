"""The pixel on other people's pages: real sites of other origins, a real browser, and what the reports tell."""

import gzip
import json
import subprocess
from collections import Counter
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

from tests.browser.conftest import Person, chromium_binary
from tests.browser.sites import AGENT, SCRIPT, STUB, becomes
from tests.server import until


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
