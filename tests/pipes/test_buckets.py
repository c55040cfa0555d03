"""Days and buckets, against a walk through the calendar."""

from datetime import date, timedelta
from zoneinfo import available_timezones

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pixel import buckets, metrics
from tests.pipes import definitions
from tests.pipes.definitions import DAY, TICK
from tests.pipes.worlds import GRANULARITIES, QUESTION, RANGES

PAGES = [(0, 1000), (0, 3), (2, 3), (1, 50), (10**9, 50)]


def question(zone, first, last, granularity="day", **others):
    return QUESTION | {"timezone": zone, "from": first, "to": last, "granularity": granularity} | others


def bound(question):
    """The moments at which the range begins, ends, and at which the one before begins."""
    zone = question["timezone"]
    since = buckets.start_of_day(date.fromisoformat(question["from"]), zone)
    until = buckets.start_of_day(date.fromisoformat(question["to"]) + DAY, zone)
    return since, until, buckets.before(since, until, zone)


@pytest.mark.parametrize(("zone", "first", "last"), RANGES)
def test_a_range_begins_and_ends_when_the_calendar_does(zone, first, last):
    asked = question(zone, first, last)
    assert bound(asked) == (*definitions.bounds(asked), definitions.start_of_previous(asked))


@pytest.mark.parametrize("granularity", GRANULARITIES)
@pytest.mark.parametrize(("zone", "first", "last"), RANGES)
def test_buckets_and_pages_of_them_are_those_of_a_walk(zone, first, last, granularity):
    since, until, before = bound(question(zone, first, last))
    for begin, end in ((since, until), (before, since)):
        found = buckets.of(begin, end, granularity, zone)
        walked = [
            (buckets.milliseconds(start), name) for start, _, name in definitions.buckets(begin, end, granularity, zone)
        ]
        assert list(found) == walked
        assert len(found) == len(walked)
        for offset, limit in [*PAGES, (len(walked) - 2, 9)]:
            assert found[offset : offset + limit] == walked[offset : offset + limit]


@pytest.mark.parametrize("granularity", GRANULARITIES)
@pytest.mark.parametrize(("zone", "first", "last"), RANGES)
def test_a_series_is_of_the_buckets_up_to_now_and_of_as_many_before(zone, first, last, granularity):
    since, until, _ = bound(question(zone, first, last))
    _, end, _ = (definitions.buckets(since, until, granularity, zone) or [(since, since, "")])[0]
    for now in (until + DAY, until - TICK, end, end - TICK, since, since - TICK):
        for offset, limit in PAGES:
            page = {"now": now, "offset": offset, "limit": limit, "compare": "previous"}
            assert_bound(question(zone, first, last, granularity, **page))


def assert_bound(asked):
    since, until, _ = bound(asked)
    shown, before = (
        [(*map(buckets.milliseconds, times), name) for *times, name in part]
        for part in definitions.shown_buckets(asked)
    )
    assert metrics._series(since, until, asked["now"], asked) == {
        "names": [name for *_, name in shown],
        "starts": [start for start, *_ in shown],
        "previous_starts": [start for start, *_ in before] + [-1] * (len(shown) - len(before)),
        "edges": sorted({time for *times, _ in shown + before for time in times}) or [0],
    }


@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(
    zone=st.sampled_from(sorted(available_timezones() - {"localtime"})),
    first=st.dates(date(2012, 1, 1), date(2060, 1, 1)),
    days=st.integers(1, 5),
    granularity=st.sampled_from(["hour", "day", "week", "month"]),
)
def test_any_zone_in_any_year_has_the_buckets_of_a_walk(zone, first, days, granularity):
    last = first + timedelta(days=days - 1)
    test_buckets_and_pages_of_them_are_those_of_a_walk(zone, first.isoformat(), last.isoformat(), granularity)
