"""Whoever comes: by keyboard alone, on a phone, in the dark, with a screen reader."""

import re

import pytest

from tests.browser.conftest import PASSWORD, Person, examined
from tests.browser.test_stories import creates_key

OPEN = ["/sign-in", "/forgot", "/links/pxl_reset_nothing", "/nowhere", "/docs", "/docs/install", "/docs/quickstart", "/docs/authentication",
        "/docs/rate-limits", "/docs/api", "/docs/retries", "/docs/troubleshooting", "/docs/operations", "/docs/errors", "/docs/metrics"]  # fmt: skip
SIGNED_IN = ["/settings/api-keys", "/settings/api-keys/new", "/requests", "/websites", "/websites/new",
             "/settings/members", "/settings/audit", "/account", "/support"]  # fmt: skip


@pytest.fixture(scope="module")
def things(site, chromium):
    """Pages that are about one thing, and need one to be about."""
    person = Person(site, chromium).signs_in()
    key = creates_key(person, "a key to look at", "pixel:read")
    for path in ("/me", "/me", "/pixel/metrics/nope"):
        answer = site.call(key, path)
    request_id = answer.headers["X-Request-Id"]
    person.follows("To the key's page")
    page = person.page.url.removeprefix(site.url)
    person.leaves()
    site.server.flask("user", "support", "owner@example.com")
    yield [page, f"{page}/secret", f"{page}/rotate", f"{page}/revoke", f"/requests/{request_id}",
           f"/requests/req_{'0' * 26}", f"/websites/{site.website}", f"/websites/{site.website}/change",
           f"/websites/{site.website}/remove",
           f"/analytics/{site.website}?steps=path:/,payment&country=DE", f"/analytics/{site.website}?from=never", "/settings/members/leave", support_finds(site, chromium, request_id)]  # fmt: skip
    site.server.flask("user", "support", "owner@example.com", "--remove")


def support_finds(site, chromium, request_id):
    """The page of a request that support has looked up."""
    person = Person(site, chromium).signs_in()
    person.opens("/support")
    person.page.get_by_label("What to find").fill(request_id)
    person.page.get_by_label("Reason").fill("a look at the page")
    person.presses("Look up")
    address = person.page.url.removeprefix(site.url)
    person.leaves()
    return address


def test_axe_finds_nothing(site, chromium, axe, things):
    person = Person(site, chromium)
    # The examiner is a script of the test's own, which our pages would rightly not run.
    found = {}

    def examine(path):
        if path:
            person.opens(path)
        if wrong := examined(person.page, axe):
            found[path] = wrong

    for path in OPEN:
        examine(path)
    person.signs_in()
    for path in SIGNED_IN + things:
        examine(path)
    person.page.goto("/settings/api-keys/new")
    person.presses("Create key")
    examine("")
    person.context.close()
    assert found == {}


@pytest.fixture(scope="module")
def longest(site, chromium):
    """Somebody all of whose things are called as long as may be, in one word, and the pages of these things."""
    name, email = "W" * 100, f"{'w' * 60}@{'w' * 60}.example"
    workspace, link = site.workspace_of(name, email)
    website = site.server.flask("website", "add", email.partition("@")[2], "--name", name, "--workspace", workspace)
    person = Person(site, chromium)
    person.opens(link)
    person.page.get_by_label("New password").fill(PASSWORD)
    person.presses("Set the password and sign in")
    for path in ("/me", "/pixel/metrics/nope"):
        site.call(creates_key(person, name, "pixel:read", "pixel:write"), path)
    person.follows("To the key's page")
    key = person.page.url.removeprefix(site.url)
    person.follows("Rotate")
    person.presses(f"Rotate {name}")
    yield person, [key, f"{key}/rotate", f"{key}/revoke", f"/websites/{website}", f"/websites/{website}/remove",
                   f"/analytics/{website}"]  # fmt: skip
    person.leaves()


def test_no_page_scrolls_sideways(site, chromium, things, longest):
    wide = []

    def measure(person, paths):
        for path in paths:
            person.opens(path)
            for width in (390, 768, 1024, 1280):
                person.page.set_viewport_size({"width": width, "height": 900})
                more = person.page.evaluate("document.documentElement.scrollWidth - innerWidth")
                if more > 0:
                    wide.append(f"{path} at {width} by {more} px")

    person = Person(site, chromium)
    measure(person, OPEN)
    person.signs_in()
    measure(person, SIGNED_IN + things)
    person.context.close()
    measure(longest[0], [path for path in SIGNED_IN if path != "/support"] + longest[1])
    assert wide == []


def test_the_keyboard_alone_is_enough(site, chromium):
    person = Person(site, chromium)
    keys = person.page.keyboard
    person.opens("/sign-in")

    def tab_to(name):
        for _ in range(80):
            keys.press("Tab")
            focused = person.page.evaluate(
                "(document.activeElement.labels?.[0]?.textContent || document.activeElement.textContent || '').trim()"
            )
            outline = person.page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
            if focused == name:
                assert outline != "none", f"the focus on {name} cannot be seen"
                return
        raise AssertionError(f"{name} cannot be reached")

    tab_to("E-mail")
    keys.type("owner@example.com")
    tab_to("Password")
    keys.type(PASSWORD)
    keys.press("Enter")
    person.page.wait_for_url("**/analytics/**")
    tab_to("API keys")
    keys.press("Enter")
    person.page.wait_for_url("**/settings/api-keys")
    tab_to("Create key")
    keys.press("Enter")
    person.page.wait_for_url("**/new")
    tab_to("Name")
    keys.type("by keyboard")
    tab_to("pixel:read")
    keys.press("Space")
    tab_to("Create key")
    keys.press("Enter")
    person.page.wait_for_url("**/secret")
    assert person.secret().startswith("pxl_dev_")
    tab_to("To the key's page")
    keys.press("Enter")
    person.page.wait_for_url(re.compile("/key_[^/]+$"))
    tab_to("Revoke")
    keys.press("Enter")
    person.page.wait_for_url("**/revoke")
    tab_to("Revoke by keyboard")
    keys.press("Enter")
    person.sees("is revoked")
    person.leaves()


def test_every_page_is_small_and_asks_no_other_host(site, chromium, things):
    person = Person(site, chromium)
    asked = []
    person.page.on("response", lambda answer: asked.append((answer.url, len(answer.body()))))
    person.signs_in()
    person.page.wait_for_load_state("networkidle")
    for path in SIGNED_IN[:1] + things[:1] + things[4:5]:
        asked.clear()
        person.opens(path)
        person.page.wait_for_load_state("networkidle")
        assert all(url.startswith(site.url) for url, _ in asked)
        assert sum(size for _, size in asked) < 60_000, (path, asked)
    person.leaves()
