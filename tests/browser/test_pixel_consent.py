"""What the pixel keeps on a device and tells of a person: with consent, without it, and where nothing can be kept."""

from tests.browser.sites import STUB, becomes


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
