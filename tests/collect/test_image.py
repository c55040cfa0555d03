"""The image, for pages without scripts."""

import pytest

from tests.cast import stored
from tests.collect.pages import drops, image, show


def test_the_image_counts_a_view_where_no_script_runs(app, ada, caller):
    page = {"Referer": "https://ada.example/plain"}
    for answer in (
        image(app, website_id=ada.site, headers=page),
        image(app, website_id=ada.site, path="/mail/1", utm_source="x"),
        image(app, website_id=ada.site, name="custom", goal="mail opened"),
    ):
        assert (answer.status_code, answer.mimetype, len(answer.data)) == (200, "image/gif", 43)
        assert answer.headers["Cache-Control"] == "no-store"
    assert {row["path"] for row in caller.rows("p_top_pages")} == {"/plain", "/mail/1"}
    assert {row["goal"] for row in caller.rows("p_events_catalog")} == {"", "mail opened"}


def test_an_image_that_nobody_sees_counts_nothing(app, ada):
    query = {"website_id": ada.site, "path": "/mail/2"}
    for method, headers in (("HEAD", {}), ("GET", {"Sec-Purpose": "prefetch"}), ("GET", {"X-Moz": "prefetch"})):
        answer = app.test_client().open("/pixel.gif", method=method, query_string=query, headers=headers)
        assert (answer.status_code, answer.mimetype) == (200, "image/gif")
    assert stored(app, ada.site) == []


@pytest.mark.parametrize(
    "query", [{}, {"website_id": "nope"}, {"website_id": "SITE", "name": "payment"}, {"website_id": "SITE", "url": "x"},
              {"website_id": "SITE", "name": "x" * 1000}, {"website_id": "SITE", "event_id": "\x00"}],
)  # fmt: skip
def test_the_image_is_an_image_whatever_is_asked(app, ada, query):
    query = {name: ada.site if value == "SITE" else value for name, value in query.items()}
    assert image(app, **query).mimetype == "image/gif"
    assert stored(app, ada.site) == []


@pytest.mark.parametrize(
    "query",
    [
        "website_id=%ff%fe&path=/%ff",
        "website_id=SITE&website_id=SITE&path=x",
        "website_id[]=SITE",
        "website_id=SITE&name=custom&goal=%00",
        "website_id=SITE&name=custom&goal=" + "g" * 65,
        "website_id=SITE&path=" + "/" * 2001,
        "website_id=SITE&url=javascript:alert(1)",
        "website_id=SITE&url=http://[",
        "website_id=SITE&event_id=%E2%80%8B",
        "website_id=SITE&name=identify&visitor_id=v&user_id=u",
        "website_id=" + "x" * 5000,
        "&&&==;;",
        "%",
    ],
)
def test_hostile_queries_show_an_image_and_count_nothing(app, ada, query):
    answer = show(app, query.replace("SITE", ada.site))
    assert (answer.status_code, answer.mimetype) == (200, "image/gif")
    assert stored(app, ada.site) == []


@pytest.mark.parametrize("referrer", ["x", "javascript:1", "https://[", "https://ada.example/" + "x" * 5000, "\xff"])
def test_hostile_referrers_show_an_image(app, ada, referrer):
    assert image(app, website_id=ada.site, headers={"Referer": referrer}).mimetype == "image/gif"


def test_another_sites_page_shows_the_image_in_vain(app, ada):
    image(app, website_id=ada.site, headers={"Referer": "https://bob.example/"})
    assert drops(app, ada.site) == {"origin": 1}
