"""The pixel as a guest: on strict and broken pages, called with nonsense, and on the pages of strangers."""

import pytest

from tests.browser.sites import becomes
from tests.server import until


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


def test_a_strangers_page_counts_nothing_and_sees_nothing(host, reports, browser):
    host.site("strange")
    ada = browser().opens(f"{host.strange_url}/strange/")
    until(lambda: ada.sent)
    ada.page.wait_for_load_state("networkidle")
    assert reports.kinds("/strange/") == {}
