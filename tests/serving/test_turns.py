"""Small requests are answered together in the main thread."""

import pytest
from sqlalchemy import text

from pixel import turns, websites
from pixel.database import _Memory, db, remembered
from tests.cast import READ, WRITE
from tests.collect.pages import Browser


@pytest.mark.parametrize(
    "line",
    [
        b"POST /api/v1/pixel/events HTTP/1.1",
        b"POST /api/v1/pixel/events?dry_run=true HTTP/1.1",
        b"POST /api/v1/pixel/identify HTTP/1.1",
        b"POST /api/event HTTP/1.1",
        b"GET /pixel.gif?website_id=x HTTP/1.1",
        b"GET /api/v1/me HTTP/1.1",
        b"GET /healthz HTTP/1.1",
        b"HEAD /healthz HTTP/1.0",
    ],
)
def test_a_request_that_waits_for_nothing_is_small(line):
    assert turns.is_small(line, turns.MOST_BYTES)
    assert not turns.is_small(line, turns.MOST_BYTES + 1)
    assert turns.is_small(line, 0, all_kinds=False) == (b"/healthz" in line)


@pytest.mark.parametrize(
    "line",
    [
        b"POST /api/v1/pixel/events/batch HTTP/1.1",
        b"GET /api/v1/pixel/metrics/p_top_pages HTTP/1.1",
        b"GET /api/v1/mentions HTTP/1.1",
        b"get /api/v1/me HTTP/1.1",
        b"GET /readyz HTTP/1.1",
        b"GET http://host/healthz HTTP/1.1",
    ],
)
def test_any_other_request_gets_a_thread(line):
    assert not turns.is_small(line, 0)


def test_requests_go_step_by_step_and_are_written_together():
    seen = []

    def serve(name):
        seen.append(("first", name))
        turns.step()
        error = turns.current().sync(name.encode())
        seen.append(("written", name, error))
        turns.step()
        seen.append(("last", name))

    def write(frames):
        seen.append(("write", frames))

    together = turns.Turns(serve, write)
    for _ in range(2):
        seen.clear()
        for name in "abc":
            together.take(name)
        together.end_round()
        assert seen == [
            ("first", "a"), ("first", "b"), ("first", "c"),
            ("write", b"abc"),
            ("written", "a", None), ("written", "b", None), ("written", "c", None),
            ("last", "a"), ("last", "b"), ("last", "c"),
        ]  # fmt: skip
    # The greenlets of the first round were used again.
    assert len(together.idle) == 3


def test_what_was_not_written_is_told_to_each():
    told = []
    broken = OSError("no room")
    together = turns.Turns(lambda name: told.append((name, turns.current().sync(b"x"))), lambda frames: broken)
    for name in "ab":
        together.take(name)
    together.end_round()
    assert told == [("a", broken), ("b", broken)]


def test_however_many_come_they_are_answered_in_groups():
    written = []
    together = turns.Turns(lambda _: turns.current().sync(b"x"), written.append)
    for _ in range(3 * turns.Turns.MOST + 1):
        together.take(None)
    together.end_round()
    assert [len(frames) for frames in written] == [turns.Turns.MOST] * 3 + [1]


def test_outside_of_a_round_nobody_stands_aside():
    assert turns.current() is None
    assert turns.step() is None


@pytest.fixture
def in_a_round():
    """Do some things in one round, each in a greenlet of its own: what they came to."""

    def do(*things):
        came_to = {}

        def serve(number):
            came_to[number] = things[number]()

        together = turns.Turns(serve, lambda frames: None)
        together.begin_round()
        for number in range(len(things)):
            together.take(number)
        together.end_round()
        return [came_to[number] for number in range(len(things))]

    return do


def test_whoever_stands_aside_holds_no_connection_to_the_control_data(app, ada, in_a_round, monkeypatch):
    held = []
    stand_aside, sync = turns.Turn.stand_aside, turns.Turn.sync

    def noted(turn, original, *arguments):
        with app.app_context():
            held.append(db.engine.pool.checkedout())
        return original(turn, *arguments)

    monkeypatch.setattr(turns.Turn, "stand_aside", lambda turn: noted(turn, stand_aside))
    monkeypatch.setattr(turns.Turn, "sync", lambda turn, frames: noted(turn, sync, frames))
    caller = ada.key(READ, WRITE)
    browser = Browser(app, ada.site)
    answers = in_a_round(
        lambda: caller.get("/me"),
        lambda: caller.sends(ada.site),
        lambda: caller.post("/pixel/identify", json={"website_id": ada.site, "visitor_id": "v", "user_id": "u"}),
        lambda: browser.sends(name="pageview", url="https://ada.example/"),
        lambda: app.test_client().get(f"/pixel.gif?website_id={ada.site}"),
    )
    assert [answer.status_code for answer in answers] == [200, 202, 202, 202, 200]
    assert len(held) > 20
    assert set(held) == {0}


def test_a_read_that_fails_holds_no_connection(app, in_a_round):
    held = []

    @remembered
    def broken():
        db.session.execute(text("SELECT 1"))
        raise ZeroDivisionError

    def ask():
        with app.app_context():
            try:
                broken()
            except ZeroDivisionError:
                turns.step()
                held.append(db.engine.pool.checkedout())

    in_a_round(*[ask] * 20)
    assert held == [0] * 20


def test_what_is_remembered_is_not_trusted_after_the_database_did_not_answer(in_a_round):
    asked = []

    def version():
        asked.append(True)
        if len(asked) < 3:
            raise OSError
        return 2

    memory = _Memory(lambda: version)

    def check():
        try:
            memory.check()
        except OSError:
            return "failed"

    assert in_a_round(*[check] * 5) == ["failed", "failed", None, None, None]
    assert len(asked) == 3


def test_what_one_of_a_round_changes_the_next_one_sees(app, ada, in_a_round):
    def seen():
        with app.app_context():
            return len(websites.visible(ada.id, None))

    def add():
        with app.app_context():
            before = len(websites.visible(ada.id, None))
            websites.add(ada.id, "second.example")
            return before, len(websites.visible(ada.id, None))

    assert in_a_round(seen, add, seen) == [1, (1, 2), 2]
