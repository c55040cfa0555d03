"""A website's reports as a page: the same figures as the API's, for a range and filters that the address holds."""

import re
from datetime import timedelta

import pytest

from pixel import clock, errors, metrics, pipes
from pixel.analytics import figures
from tests.cast import READ, WRITE, Workspace, load
from tests.pages import field, person


@pytest.fixture
def owner(app, ada):
    return person(app, ada.id, "owner")


@pytest.fixture
def site(app, ada, caller):
    """A website with some visits: two people, one from a search engine who pays."""
    one = {"visitor_id": "one", "country": "DE"}
    payment = {"name": "payment", "amount": 12.5, "currency": "EUR", "transaction_id": "t"}
    for seconds, event in enumerate(
        (
            one | {"path": "/a", "referrer": "https://www.google.com/"},
            one | {"path": "/b"},
            {"path": "/a", "visitor_id": "two", "country": "FR"},
            one | {"name": "custom", "goal": "signup"},
            one | payment,
        )
    ):
        when = clock.now() - timedelta(seconds=30 - seconds)
        assert caller.sends(ada.site, timestamp=clock.rfc3339(when), **event).status_code == 202
    load(app)
    return ada.site


def text(page):
    """What a page says, without its markup."""
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page.text))


def test_it_shows_what_the_reports_say(owner, site, caller):
    page = owner.get(f"/analytics/{site}")
    assert page.status_code == 200
    said = text(page)
    for path, visitors, pageviews in (("/a", 2, 2), ("/b", 1, 1)):
        assert f"{path} {visitors} {pageviews}" in said
    assert "DE 1 FR 1" in said
    assert "signup 1 50 %" in said
    assert "Google Organic Search 12.50 1" in said
    assert "2 visitors now" in said
    assert "Visitors by day" in said


@pytest.mark.parametrize("metric", ["visitors", "sessions", "pageviews", "conversions", "revenue"])
def test_the_line_is_the_series_of_the_api(owner, site, caller, metric):
    said = text(owner.get(f"/analytics/{site}?period=7&metric={metric}"))
    rows = caller.rows("p_metric_series", website_id=site, metric=metric)
    last = float(rows[-1]["value"])
    told = f"{last:,.2f}" if metric == "revenue" else f"{round(last):,}"
    assert last > 0
    assert re.search(rf"{rows[-1]['bucket']} {re.escape(told)} –", said)


def test_a_filter_is_in_the_address_and_can_be_taken_away(owner, site):
    led = owner.get(f"/analytics/{site}?period=7&filter=country&value=DE")
    assert (led.status_code, led.location) == (303, f"/analytics/{site}?period=7&country=DE")
    page = owner.get(led.location)
    assert "FR" not in text(page)
    assert "country is DE" in text(page)
    assert f'href="/analytics/{site}?period=7"' in page.text


def test_a_list_leads_to_its_filter(owner, site):
    page = owner.get(f"/analytics/{site}")
    assert f"/analytics/{site}?path=%2Fa" in page.text
    assert "/b" in text(owner.get(f"/analytics/{site}?source=Google"))


def test_a_funnel_is_counted(owner, site):
    said = text(owner.get(f"/analytics/{site}?steps=path:/a,goal:signup,payment"))
    assert "path:/a 2 100 % 0 goal:signup 1 50 % 1 payment 1 50 % 0" in said


def test_a_funnel_takes_what_its_hint_shows(owner, site):
    hint = re.search(r'id="steps-hint">[^:]*: (.*) or payment', owner.get(f"/analytics/{site}").text)[1]
    page = owner.get(f"/analytics/{site}", query_string={"steps": hint})
    assert page.status_code == 200
    assert "path:/pricing 0 0 % 0 path:/blog/* 0" in text(page)


@pytest.mark.parametrize("steps", ["nowhere", "payment", "/a, /b"])
def test_wrong_steps_are_told_beside_them_and_hide_nothing(owner, site, steps):
    page = owner.get(f"/analytics/{site}", query_string={"steps": steps})
    assert page.status_code == 400
    assert re.search(r'id="steps-wrong">(A step is path|Must have 2 to 10)', page.text)
    assert field(page.text, "steps") == steps
    assert "Top pages" in text(page)
    assert "Visitors by day" in text(page)


@pytest.mark.parametrize(
    "asked",
    ["from=never", "from=2026-02-30", "from=2026-05-02&to=2026-05-01", "metric=nothing", "metric=nothing&steps=nowhere",
     "from=1900-01-01&to=2026-01-01", "path=" + "x" * 3000],
)  # fmt: skip
def test_what_there_is_not_is_said_and_nothing_else(owner, site, asked):
    page = owner.get(f"/analytics/{site}?{asked}")
    assert page.status_code == 400
    assert f"<code>{asked.partition('=')[0]}</code>" in page.text or "from" in asked


@pytest.mark.parametrize("period", ["0", "-1", "99999", "x", ""])
def test_a_period_that_there_is_not_is_the_usual_one(owner, site, period):
    assert 'aria-current="true">30 days' in owner.get(f"/analytics/{site}?period={period}").text


def test_an_assistant_has_the_name_that_people_know(owner, ada, caller):
    caller.sends(ada.site, visitor_id="v", referrer="https://chatgpt.com/")
    load(caller.app)
    page = owner.get(f"/analytics/{ada.site}")
    assert re.search(r'href="[^"]*llm_engine=chatgpt"><bdi>ChatGPT</bdi><', page.text)
    assert "chatgpt" not in text(page)


@pytest.mark.parametrize(("value", "told"), [(None, "0 %"), (0, "0 %"), (0.001, "< 1 %"), (0.01, "1 %"), (1, "100 %")])
def test_a_share_of_one_in_many_is_not_none(value, told):
    assert figures.share(value) == told


def test_hostile_values_are_text(owner, ada, caller):
    evil = '"><script>alert(1)</script>'
    caller.sends(ada.site, path=f"/{evil}", visitor_id="v", country="DE")
    load(caller.app)
    for asked in ("", f"?path={evil}", f"?steps=path:/{evil},payment", f"?{evil}={evil}&filter=path"):
        page = owner.get(f"/analytics/{ada.site}{asked}")
        assert page.status_code == 200
        assert "<script>alert" not in page.text


def test_it_belongs_to_the_workspace(app, owner, ada, bob):
    bobs = person(app, bob.id, "viewer")
    assert bobs.get(f"/analytics/{ada.site}").status_code == 404
    assert bobs.get(f"/analytics?website={ada.site}").status_code == 404
    assert bobs.get(f"/analytics/{bob.site}").status_code == 200
    assert person(app).get("/analytics").location == "/account"


def test_it_begins_with_the_first_website(app, owner, ada):
    assert owner.get("/analytics").location == f"/analytics/{ada.site}"
    other = ada.website("second.example")
    assert owner.get(f"/analytics?website={other}").location == f"/analytics/{other}"
    assert 'name="website"' in owner.get(f"/analytics/{other}").text


def test_a_website_without_events_says_what_to_do(owner, ada):
    page = owner.get(f"/analytics/{ada.site}")
    assert "Nothing has come from this website yet." in text(page)
    assert f'href="/websites/{ada.site}"' in page.text


def test_a_workspace_without_websites_says_what_to_do(app):
    from pixel import websites

    empty = Workspace(app, "gone.example")
    with app.app_context():
        websites.remove(empty.id, empty.site)
    assert "Add a website" in person(app, empty.id, "owner").get("/analytics").text
    assert "Add a website" not in person(app, empty.id, "viewer").get("/analytics").text


def test_without_the_warehouse_it_says_so(owner, site, monkeypatch):
    def fails(*_):
        raise errors.AnalyticsError()

    monkeypatch.setattr(metrics.warehouse, "report", fails)
    monkeypatch.setattr(metrics.answers, "last", lambda question: None)
    page = owner.get(f"/analytics/{site}")
    assert page.status_code == 200
    assert "does not answer just now" in text(page)


def test_questions_put_together_are_answered_as_alone(app, ada, caller, site):
    from pixel.access import Caller
    from pixel.keys import find

    names = ["p_top_pages", "p_geo", "p_devices", "p_goal_conversions"]
    with app.test_request_context():
        key = find(caller.secret, "dev")
        asks = Caller(key, key.workspace_id, key.websites)
        found = metrics.together(asks, [(pipes.all()[name], {"website_id": [site]}) for name in names])
    assert found == [caller.rows(name, website_id=site) for name in names]
    assert ada.key(READ, WRITE).rows("p_geo") == found[1]
