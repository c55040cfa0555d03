"""What is kept how long: whole months go when all of them is too old, and nothing newer goes with them."""

from datetime import UTC, datetime

import orjson
import pytest

import config
from pixel import clock, errors, jobs, journal, websites
from pixel.extensions import journal as book
from pixel.extensions import warehouse
from tests.cast import load, stored

#: With so many months to keep, nothing that another test has stored is old.
MONTHS = 150


@pytest.fixture
def months(app, monkeypatch):
    """The months around the oldest that is kept, the newest first: as "YYYY-MM"."""
    monkeypatch.setitem(app.config, "RETENTION_MONTHS", MONTHS)
    now = clock.now()
    last = now.year * 12 + now.month - 1 - MONTHS
    return [f"{m // 12:04}-{m % 12 + 1:02}" for m in (last + 1, last, last - 1, last - 2, last - 30)]


def forget(app):
    load(app)
    with app.app_context():
        jobs.forget_old_events()


def test_months_that_are_older_than_all_that_is_kept_are_dropped(app, ada, caller, months):
    for month in months:
        for moment in (f"{month}-01T00:00:00Z", f"{month}-28T23:59:59.999Z"):
            assert caller.sends(ada.site, path=f"/{month}", timestamp=moment).status_code == 202
    caller.sends(ada.site, path="/now")
    forget(app)
    kept = sorted(row["path"] for row in stored(app, ada.site))
    assert kept == sorted([f"/{months[0]}", f"/{months[1]}"] * 2 + ["/now"])
    forget(app)
    assert len(stored(app, ada.site)) == 5


def test_identify_calls_go_by_when_they_came(app, ada, months):
    for month in months:
        moment = int(datetime.fromisoformat(f"{month}-15T00:00:00+00:00").astimezone(UTC).timestamp() * 1000)
        row = {
            "workspace_id": ada.id,
            "website_id": ada.site,
            "visitor_id": month,
            "received_at": clock.warehouse(moment),
        }
        book.append(journal.frame("identities", orjson.dumps(row), moment))
    forget(app)
    assert [row["visitor_id"] for row in stored(app, ada.site, "identities")] == [months[1], months[0]]


def test_the_job_is_the_engines(app):
    load(app)
    assert "forget_old_events" in [job.__name__ for _, _, job in warehouse.start()._jobs]


class OtherEngine:
    """The jobs of another server, which has not the lease."""

    def __init__(self, app):
        self.jobs = {}
        jobs.schedule(app, self)
        self.let_go()

    def every(self, _seconds, job):
        self.jobs[job.__name__] = job

    def at_stop(self, call):
        self.let_go = call


def test_each_server_deletes_what_it_has_of_a_removed_website_before_it_is_forgotten(app, ada, caller, moved_clock):
    other = OtherEngine(app)
    caller.sends(ada.site)
    load(app)
    with app.app_context():
        websites.remove(ada.id, ada.site)
        moved_clock.forward(days=30, minutes=1)
        other.jobs["forget_removed_websites"]()
        assert stored(app, ada.site) == []
        assert websites.removed(ada.id) == []
        with pytest.raises(errors.WebsiteNotFound):
            websites.restore(ada.id, ada.site)
        with pytest.raises(ValueError, match="tomorrow"):
            websites.add(ada.id, "ada.example")
        jobs.forget_emptied_websites()
        moved_clock.forward(days=1)
        other.jobs["forget_emptied_websites"]()
        assert websites.anywhere(ada.site, removed=True)
        jobs.forget_emptied_websites()
        assert websites.anywhere(ada.site, removed=True) is None
        websites.add(ada.id, "ada.example")


@pytest.mark.parametrize("months", ["0", "241", "-1", "x", "2.5"])
def test_a_wrong_number_of_months_stops_the_start(months):
    with pytest.raises(config.WrongSetting, match="RETENTION_MONTHS"):
        config.load(RETENTION_MONTHS=months)
