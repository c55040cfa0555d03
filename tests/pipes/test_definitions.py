"""Every figure of every report, against the same words done naively in Python."""

import os
import random
import time
from functools import partial

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from pixel import pipes
from tests.pipes import journeys, reference, worlds
from tests.pipes.definitions import page

WORLDS, REPLAYED, SOAKED = 30, 3, 2000
#: How far a figure may be from the exact one: half of what it is rounded to.
ROUNDED = {
    "rate": 0.5e-4, "bounce_rate": 0.5e-4, "conversion_rate": 0.5e-4, "avg_seconds": 0.05, "value": 0.5e-6,
    "payments": 0.5e-4, "revenue": 0.5e-4, "median_seconds_from_previous": 0.05,
}  # fmt: skip
#: Reports whose rows are compared in an order of their own, because theirs is by what is not shown or is rounded.
IDENTITY = {
    "p_sessions_list": ("started_at", "website_id", "visitor_id"),
    "p_attributed_revenue": ("channel", "source", "medium", "campaign", "currency"),
}
ORDER = {
    "p_sessions_list": ("-started_at",),
    "p_attributed_revenue": ("-revenue", "currency", "channel", "source", "medium", "campaign"),
}
#: By the name of the report.
REFERENCE = {name: report for part in (reference, journeys) for name, report in vars(part).items() if name[:2] == "p_"}
WHOLE = {"limit": 1000, "offset": 0}


def in_worlds(number, check, first=None):
    """Check as many worlds, always the same or, after a first number, others; each is made of chance alone."""

    @given(st.integers(0, 2**32 - 1))
    def run(world):
        try:
            check(random.Random(world))
        except BaseException as error:
            error.add_note(f"In the world of random.Random({world}).")
            raise

    run = settings(
        max_examples=number, deadline=None, derandomize=first is None, database=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )(run)  # fmt: skip
    (run if first is None else seed(first)(run))()


def test_every_report_has_a_reference():
    assert REFERENCE.keys() == pipes.all().keys()


def test_every_report_says_what_the_definitions_say(warehouse):
    in_worlds(WORLDS, partial(agree, warehouse))


@pytest.mark.soak
@pytest.mark.timeout(7200)
def test_every_report_says_what_the_definitions_say_of_many_worlds(warehouse):
    first = int(os.environ.get("PIXEL_TEST_SEED") or time.time_ns() % 10**9)
    print(f"\nseed {first}")
    in_worlds(SOAKED, partial(agree, warehouse), first)


def test_a_replay_in_another_order_changes_no_report(warehouse):
    def replay(chance):
        world, answers = worlds.world(chance), []
        for _ in range(2):
            hold(warehouse, world, chance)
            answers.append({pipe: warehouse.ask(pipe, fitting(pipe, world.question)) for pipe in REFERENCE})
        assert answers[0] == answers[1]

    in_worlds(REPLAYED, replay)


def agree(warehouse, chance):
    world = worlds.world(chance)
    hold(warehouse, world, chance)
    for pipe, report in REFERENCE.items():
        asked = fitting(pipe, world.question)
        answer, wanted = warehouse.ask(pipe, asked), report(world._replace(question=asked))
        if pipe in IDENTITY:
            answer = whole(warehouse, pipe, asked, answer)
            answer, wanted = (page(rows, WHOLE, *IDENTITY[pipe]) for rows in (answer, wanted))
        assert_same(pipe, answer, wanted, asked)


def hold(warehouse, world, chance):
    """The world's events as they may arrive: in any order, in any batches."""
    arrival = chance.sample(world.events, len(world.events))
    warehouse.holds(arrival, chance.randint(1, 4), world.identities, world.drops)


def fitting(pipe, question):
    """The question with words that this pipe knows."""
    known = {one.name: one for one in pipes.all()[pipe].parameters if one.words}
    return question | {name: one.default for name, one in known.items() if question[name] not in one.words}


def whole(warehouse, pipe, asked, answer):
    """All rows of a report, once they are seen to be in order and the page to be the right part of them."""
    is_whole = len(answer) < asked["limit"] and not asked["offset"]
    rows = answer if is_whole else warehouse.ask(pipe, asked | WHOLE)
    assert rows == page(rows, WHOLE, *ORDER[pipe])
    assert answer == page(rows, asked)
    if pipe == "p_sessions_list":
        assert len({row["session_id"] for row in rows}) == len(rows)
        rows = [{name: row[name] for name in row if name != "session_id"} for row in rows]
    return rows


def assert_same(pipe, answer, wanted, question):
    assert len(answer) == len(wanted), (pipe, answer, wanted)
    for got, want in zip(answer, wanted, strict=True):
        assert got.keys() == want.keys()
        for name, value in want.items():
            is_figure = pipe == "p_metric_series" and name != "bucket"
            rounded = ROUNDED.get(question["metric"] if is_figure else name, 0)
            if rounded and value is not None:
                assert abs(got[name] - value) <= rounded + 1e-9, (pipe, name, got, want)
            elif name == "visitor_ids":
                assert sorted(got[name]) == value
            else:
                assert got[name] == value, (pipe, name, got, want)
