"""Text of other people in a browser: marks, and long texts that open by keyboard and stay open."""

import pytest

from tests.browser.conftest import WIDTHS, Person, examined
from tests.browser.test_stories import creates_key
from tests.server import until

LONG = "/" + "long-segment/" * 60 + "end.html"
PATHS = [LONG, "/a\u202efdp.exe", "/e" + "\u0301\u0302" * 200, "/" + "a\u200b" * 300, "/שלום/עולם", "/" + "W" * 900]


@pytest.fixture
def owner(site, chromium):
    """An owner, once the website's page shows an event of each path."""
    person = Person(site, chromium).signs_in()
    key = creates_key(person, "foreign text", "pixel:write")
    for path in PATHS:
        sent = site.call(key, "/pixel/events", json=site.event() | {"path": path, "utm_source": path[1:200]})
        assert sent.status_code == 202, sent.text
    until(lambda: person.opens(f"/websites/{site.website}") and person.page.locator(".whole").count() >= 4, 20)
    yield person
    person.leaves()


def test_a_long_text_opens_by_keyboard_and_stays_open_while_the_page_looks_for_events(site, owner):
    page = owner.page
    opener = page.get_by_text(f"All {len(LONG)} characters").first
    whole = page.locator(".whole bdi", has_text=LONG).first
    assert not whole.is_visible()
    opener.focus()
    page.keyboard.press("Enter")
    assert whole.is_visible()
    for _ in range(2):
        with page.expect_response("**/latest"):
            pass
    assert whole.is_visible()
    assert page.get_by_text("U+202E", exact=True).first.is_visible()


@pytest.mark.parametrize("width", WIDTHS)
def test_no_foreign_text_widens_a_page(site, owner, width):
    page = owner.page
    page.set_viewport_size({"width": WIDTHS[width], "height": 900})
    for address in (f"/websites/{site.website}", f"/analytics/{site.website}", "/requests"):
        owner.opens(address)
        for opener in page.locator(".whole summary").all():
            opener.click()
        assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth"), address


def test_axe_finds_nothing_on_pages_with_marks(site, owner, axe):
    for address in (f"/websites/{site.website}", f"/analytics/{site.website}"):
        owner.opens(address)
        for opener in owner.page.locator(".whole summary").all():
            opener.click()
        assert examined(owner.page, axe) == [], address
