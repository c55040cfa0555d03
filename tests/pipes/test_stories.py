"""What single reports must never get wrong, each told as a story."""

from datetime import UTC, datetime, timedelta

import pytest

from pixel import pipes
from pixel.metrics import FILTERS
from pixel.warehouse import embedded
from tests.pipes.definitions import DAY, MINUTE, PAUSE, TICK
from tests.pipes.worlds import QUESTION, event

SINCE = datetime(2026, 10, 1, tzinfo=UTC)
HOSTILE = [
    "'", '"', "\\", "\\'", "\t", "\n", "\r", "\0", "\\N", "{x:String}", "--", "/*", "%s", "$a$", "',''", "]", "path=x", "é😀",
]  # fmt: skip


def pageview(number, **fields):
    return event(f"e{number}", SINCE + timedelta(minutes=number), **fields)


def test_events_of_a_table_that_was_made_before_sources_were_one_word_have_theirs(warehouse):
    source = {"channel": "Email", "source": "it's", "medium": "a\\b", "campaign": "('x',\t\n)"}
    warehouse.client.command("ALTER TABLE events DROP COLUMN attribution")
    warehouse.client.command("ALTER TABLE events ADD COLUMN origin UInt64")
    warehouse.holds([pageview(0, **source)])
    for statement in embedded.definitions():
        warehouse.client.command(statement)
    [row] = warehouse.ask("p_traffic_sources", QUESTION)
    assert {name: row[name] for name in source} == source
    assert "origin" not in warehouse.query("SELECT * FROM events")["data"][0]


def test_hostile_filter_values_are_plain_text(warehouse):
    warehouse.holds([pageview(n, path="/" + value, campaign=value) for n, value in enumerate(HOSTILE)])
    for value in HOSTILE:
        rows = warehouse.ask("p_top_pages", QUESTION | {"filters": {"path": ["/" + value, "nowhere"]}})
        assert [row["path"] for row in rows] == ["/" + value]
    # They are one session, whose campaign is that of its first event.
    for campaigns, found in ((HOSTILE[:1], len(HOSTILE)), (HOSTILE[1:], 0)):
        assert len(warehouse.ask("p_top_pages", QUESTION | {"filters": {"campaign": campaigns}})) == found


def test_a_value_that_looks_like_another_filter_is_only_a_value(warehouse):
    warehouse.holds([pageview(1, path="country=DE", country="FR"), pageview(2, path="/", country="DE")])
    rows = warehouse.ask("p_top_pages", QUESTION | {"filters": {"path": ["country=DE"]}})
    assert [row["path"] for row in rows] == ["country=DE"]


@pytest.mark.parametrize("name", FILTERS)
def test_every_filter_keeps_what_equals_it_of_events_and_of_sessions(warehouse, name):
    kind = {"goal": "custom"}.get(name, "pageview")
    values = ("/x", "/y", "")
    warehouse.holds([pageview(n, name=kind, visitor_id=f"v{n}", **{name: value}) for n, value in enumerate(values)])
    for wanted, found in ((["/x"], 1), (["", "z"], 1)):
        asked = QUESTION | {"filters": {name: wanted}}
        assert sum(row["events"] for row in warehouse.ask("p_events_catalog", asked)) == found
        assert len(warehouse.ask("p_sessions_list", asked)) == found


def test_the_hour_that_clocks_repeat_is_two(warehouse):
    night = datetime(2026, 10, 25, tzinfo=UTC)
    times = [night + timedelta(minutes=30 + 60 * n) for n in range(3)]
    warehouse.holds([event(f"e{n}", time, visitor_id=f"v{n}") for n, time in enumerate(times)])
    berlin = {"timezone": "Europe/Berlin", "from": "2026-10-25", "to": "2026-10-25"}
    rows = warehouse.ask("p_metric_series", QUESTION | berlin | {"granularity": "hour", "limit": 4, "offset": 2})
    assert [(row["bucket"][11:], row["value"]) for row in rows] == [
        ("02:00:00+02:00", 1), ("02:00:00+01:00", 1), ("03:00:00+01:00", 1), ("04:00:00+01:00", 0),
    ]  # fmt: skip


def test_an_event_of_the_next_minutes_is_not_counted_in_this_hour(warehouse):
    now = SINCE + timedelta(minutes=58)
    warehouse.holds([event("e1", now), event("e2", now + timedelta(minutes=4))])
    rows = warehouse.ask("p_metric_series", QUESTION | {"now": now, "granularity": "hour", "metric": "pageviews"})
    assert [row["value"] for row in rows] == [1]


def test_a_day_without_its_first_hour_is_compared_with_the_whole_day_before(warehouse):
    day = datetime(2022, 3, 20, 20, 30, tzinfo=UTC)
    warehouse.holds([event("e1", day), event("e2", day + DAY)])
    tehran = {"timezone": "Asia/Tehran", "from": "2022-03-22", "to": "2022-03-22", "compare": "previous"}
    [row] = warehouse.ask("p_metric_series", QUESTION | tehran)
    assert (row["value"], row["previous_value"]) == (1, 1)


@pytest.mark.parametrize("pipe", sorted(pipes.all()))
def test_a_day_that_never_was_can_be_asked_about(warehouse, pipe):
    moment = datetime(2011, 12, 30, 10, tzinfo=UTC)
    warehouse.holds(
        [event("e1", moment), event("e2", moment, name="payment", currency="EUR"), event("e3", moment - TICK)]
    )
    samoa = {"timezone": "Pacific/Apia", "from": "2011-12-30", "to": "2011-12-30"}
    rows = warehouse.ask(pipe, QUESTION | samoa)
    assert [row for row in rows if "step" not in row] == [] or pipe == "p_pixel_healthcheck"


@pytest.mark.parametrize(
    ("age", "shown"),
    [(0 * TICK, [1]), (5 * MINUTE - TICK, [1]), (5 * MINUTE, [0]), (60 * MINUTE - TICK, [0]), (60 * MINUTE, [])],
)
def test_the_last_hour_is_shown_and_the_last_five_minutes_are_live(warehouse, age, shown):
    warehouse.holds([event("e", QUESTION["now"] - age)])
    assert [row["live_visitors"] for row in warehouse.ask("p_realtime_visitors", QUESTION)] == shown


@pytest.mark.parametrize(("pause", "seconds"), [(PAUSE, [1800]), (PAUSE + TICK, [0, 0])])
def test_a_pause_of_exactly_30_minutes_continues_a_session(warehouse, pause, seconds):
    warehouse.holds([event("e2", SINCE + pause), event("e1", SINCE)], parts=2)
    assert [row["seconds"] for row in warehouse.ask("p_sessions_list", QUESTION)] == seconds


def test_a_session_keeps_its_id_in_any_range(warehouse):
    warehouse.holds([pageview(n) for n in range(0, 3000, 40)])
    all_ids = [row["session_id"] for row in warehouse.ask("p_sessions_list", QUESTION)]
    first_day = warehouse.ask("p_sessions_list", QUESTION | {"to": QUESTION["from"]})
    assert all_ids[-len(first_day) :] == [row["session_id"] for row in first_day]


@pytest.mark.parametrize("pipe", sorted(pipes.all()))
def test_a_report_is_of_its_workspace_alone(warehouse, pipe):
    told = {"workspace_id": "ws_1", "website_id": "admx_a", "visitor_id": "ada", "user_id": "u", "received_at": SINCE}
    dropped = {"workspace_id": "ws_1", "website_id": "admx_a", "at": QUESTION["now"], "reason": "bot", "events": 1}
    warehouse.holds([pageview(1), pageview(2, name="payment", currency="EUR")], 1, [told], [dropped])
    assert warehouse.ask(pipe, QUESTION | {"workspace": "ws_2"}) == []


@pytest.mark.parametrize("pipe", ["p_funnel", "p_funnel_v2"])
def test_a_step_may_come_until_the_window_ends_and_must_come_later_than_the_one_before(warehouse, pipe):
    asked = QUESTION | {"steps": ["path:/", "goal:signup"], "window_hours": 24}
    for wait, took in ((timedelta(0), 0), (TICK, 1), (DAY, 1), (DAY + TICK, 0)):
        warehouse.holds([pageview(0), event("e", SINCE + wait, name="custom", goal="signup")])
        assert [row["visitors"] for row in warehouse.ask(pipe, asked)] == [1, took], wait


def test_a_visitor_counts_in_a_funnel_once_where_the_way_leads_furthest(warehouse):
    news = {"channel": "Email", "source": "News"}
    search = {"channel": "Organic Search", "source": "Google"}
    warehouse.holds([
        pageview(0, **news, website_id="admx_b"),
        # This session came from a search, though its second event says otherwise.
        pageview(1, path="/start", **search), pageview(2, **news), pageview(3, name="payment", currency="EUR"),
        # Another try that leads as far, and later.
        pageview(60, **news), pageview(61, name="payment", currency="EUR"),
    ])  # fmt: skip
    rows = warehouse.ask("p_funnel_v2", QUESTION | {"websites": ["admx_a", "admx_b"]})
    assert [(row["entry_source"], row["step"], row["visitors"], row["median_seconds_from_previous"]) for row in rows] == [
        ("Google", 1, 1, None), ("Google", 2, 1, 60),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("model", "credited"),
    [
        ("first_click", {"Google": 90}),
        ("last_click", {"Direct": 90}),
        ("last_click_non_direct", {"Bing": 90}),
        ("linear", {"Google": 30, "Bing": 30, "Direct": 30}),
        ("position_based", {"Google": 36, "Bing": 18, "Direct": 36}),
        ("time_decay", {"Google": 12.8571, "Bing": 25.7143, "Direct": 51.4286}),
    ],
)
def test_a_model_shares_a_payment_between_sessions_a_week_apart(warehouse, model, credited):
    payment = SINCE + 20 * DAY
    sources = ["Google", "Bing", "Direct"]
    warehouse.holds([
        *(event(source, payment - weeks * 7 * DAY, channel="Direct" if source == "Direct" else "Organic Search", source=source)
          for weeks, source in zip((2, 1, 0), sources, strict=True)),
        event("paid", payment, name="payment", amount=90, currency="EUR"),
    ])  # fmt: skip
    rows = warehouse.ask("p_attributed_revenue", QUESTION | {"model": model})
    assert {row["source"]: row["revenue"] for row in rows} == credited
    assert sum(row["payments"] for row in rows) == pytest.approx(1, abs=0.0002)


@pytest.mark.parametrize("pipe", ["p_traffic_sources", "p_attributed_revenue", "p_visitor_profile", "p_metric_series"])
def test_the_largest_amounts_add_up(warehouse, pipe):
    paid = {"name": "payment", "amount": "99999999999999.9999", "currency": "EUR"}
    warehouse.holds([pageview(n, **paid) for n in range(20)])
    rows = warehouse.ask(pipe, QUESTION | {"metric": "revenue", "granularity": "month"})
    assert sum(row.get("revenue", row.get("value")) for row in rows) == pytest.approx(20 * 10**14)


@pytest.mark.parametrize(("age", "source"), [(DAY, "News"), (DAY + TICK, "Direct")])
def test_a_session_is_credited_that_began_as_long_before_as_the_window_is(warehouse, age, source):
    payment = SINCE + timedelta(hours=1)
    warehouse.holds([
        event("came", payment - age, channel="Email", source="News"),
        event("paid", payment, name="payment", amount=10, currency="EUR", channel="Direct", source="Direct"),
    ])  # fmt: skip
    [row] = warehouse.ask("p_attributed_revenue", QUESTION | {"window_days": 1, "model": "first_click"})
    assert row["source"] == source


@pytest.mark.parametrize("pipe", ["p_top_pages", "p_events_catalog"])
@pytest.mark.parametrize(("early", "found"), [(0 * TICK, 1), (TICK, 0)])
def test_a_session_of_more_than_a_day_is_cut_a_day_before_the_range(warehouse, pipe, early, found):
    begin = SINCE - DAY - early
    times = [begin + n * PAUSE for n in range(60)]
    warehouse.holds([event(f"e{n}", time, source="News" if n == 0 else "") for n, time in enumerate(times)])
    asked = QUESTION | {"filters": {"source": ["News"]}}
    assert sum(row["visitors"] for row in warehouse.ask(pipe, asked)) == found
