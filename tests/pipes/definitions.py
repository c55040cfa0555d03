"""What visitor, session, range, source, filter, money and bucket mean, said again as loops over a list of events.

Nothing here is fast, and nothing is shared with the SQL or with `pixel.buckets`: a calendar is walked minute by minute.
"""

import zlib
from collections import Counter, defaultdict
from datetime import UTC, date, datetime, timedelta
from functools import cache
from typing import NamedTuple
from zoneinfo import ZoneInfo

TICK, MINUTE, DAY = timedelta(milliseconds=1), timedelta(minutes=1), timedelta(days=1)
PAUSE = timedelta(minutes=30)
SOURCE = ("channel", "source", "medium", "campaign")
OF_SESSIONS = (*SOURCE, "llm_engine")
OF_EVENTS = (
    "path", "hostname", "referrer", "utm_source", "utm_medium", "utm_campaign", "utm_term", "utm_content",
    "country", "device", "browser", "os", "language", "goal",
)  # fmt: skip
KINDS = ("pageview", "custom", "payment")


class World(NamedTuple):
    """All that the warehouse holds, and a question about it."""

    events: list
    question: dict
    identities: list = ()
    drops: list = ()


# ---------------------------------------------------------------------------------------------- events and sessions


class Asked:
    """The events and sessions that a question is about, in its own range or in another."""

    def __init__(self, world, since=None, until=None):
        self.question = world.question
        first, end = bounds(world.question)
        self.since, self.until = since or first, until or end
        near = [e for e in of_websites(world.events, world.question) if self._near(e) and self._wanted(e)]
        by_visitor = grouped(sorted(near, key=order), lambda e: (e["website_id"], e["visitor_id"] or e["event_id"]))
        #: Every session, and every event without a visitor as a list of its own, whatever the filters.
        self.all = [run for visits in by_visitor.values() for run in split(visits)]
        self.runs = [run for run in self.all if self.comes_from(run)]
        self.whole = [run for run in self.runs if run[0]["visitor_id"]]
        self.sessions = [run for run in self.whole if self.in_range(run[0]) and any(map(self.keeps, run))]
        self.events = sorted(self.counted(self.runs), key=order)

    def counted(self, runs):
        """The events of some runs that count."""
        return [e for run in runs for e in run if self.in_range(e) and self.keeps(e)]

    def in_range(self, event):
        return self.since <= event["timestamp"] < self.until

    def comes_from(self, run):
        return self._passes(run[0], OF_SESSIONS)

    def keeps(self, event):
        return self._passes(event, OF_EVENTS)

    def _near(self, event):
        return self.since - DAY <= event["timestamp"] < self.until + DAY

    def _wanted(self, event):
        return {"include": True, "exclude": event["bot"] == "", "only": event["bot"] != ""}[self.question["bots"]]

    def _passes(self, event, names):
        filters = self.question["filters"]
        return all(event[name] in filters[name] for name in names if name in filters)


def of_websites(rows, asked):
    """Those of the websites that are asked about, of whatever time."""
    return [one for one in rows if one["workspace_id"] == asked["workspace"] and one["website_id"] in asked["websites"]]


def order(event):
    """The order of events: by time, then by a number made of the event_id, then by kind."""
    return event["timestamp"], zlib.crc32(event["event_id"].encode()) & 0x7FFFF, KINDS.index(event["name"])


def split(visits):
    """One visitor's events, in order, as sessions."""
    sessions = []
    for event in visits:
        if sessions and event["timestamp"] - sessions[-1][-1]["timestamp"] <= PAUSE:
            sessions[-1].append(event)
        else:
            sessions.append([event])
    return sessions


def currency(world, whose=None):
    """The currency in which revenue is counted: the one with most payments in the range, whatever filters and bots."""
    since, until = bounds(world.question)
    counts = Counter(
        e["currency"]
        for e in of_websites(world.events, world.question)
        if e["name"] == "payment" and since <= e["timestamp"] < until and (whose is None or e["visitor_id"] in whose)
    )
    return min(counts, key=lambda currency: (-counts[currency], currency), default="")


def source_of(run):
    """Channel, source, medium and campaign of a session."""
    return tuple(run[0][name] for name in SOURCE)


def revenue(events, currency):
    return float(sum(e["amount"] for e in events if e["name"] == "payment" and e["currency"] == currency))


def visitors(events):
    return len({e["visitor_id"] for e in events} - {""})


def views(events):
    return [e for e in events if e["name"] == "pageview"]


def goals(events):
    return [e for e in events if e["name"] == "custom"]


def bounced(session):
    return len(session) == 1 and session[0]["name"] == "pageview"


def seconds(session):
    return (session[-1]["timestamp"] - session[0]["timestamp"]).total_seconds()


# ---------------------------------------------------------------------------------------------- days and buckets


def bounds(question):
    """The moments at which the range begins and ends."""
    first, last = (date.fromisoformat(question[name]) for name in ("from", "to"))
    return start_of(first, question["timezone"]), start_of(last + DAY, question["timezone"])


def start_of_previous(question):
    """When the range before begins, which has as many days."""
    since, until = (moment.astimezone(ZoneInfo(question["timezone"])).date() for moment in bounds(question))
    return start_of(since - (until - since), question["timezone"])


@cache
def start_of(day, zone):
    """The first minute of a day, or of the one after if the zone left it out."""
    minute = datetime(day.year, day.month, day.day, tzinfo=UTC) - DAY
    while minute.astimezone(ZoneInfo(zone)).date() < day:
        minute += MINUTE
    return minute


@cache
def buckets(since, until, granularity, zone):
    """The buckets of a range, as [(start, end, name)]."""
    starts, moment = {}, since
    while moment < until:
        starts.setdefault(bucket(moment, granularity, zone), moment)
        # All zones are ahead of or behind UTC by quarters of an hour.
        moment += MINUTE if granularity == "minute" else 15 * MINUTE
    ends = [*starts.values(), until][1:]
    return [(start, end, name) for (name, start), end in zip(starts.items(), ends, strict=False)]


def shown_buckets(question):
    """The buckets of a series that a question shows, up to now, and as many of the range before if it compares."""
    since, until = bounds(question)
    how = question["granularity"], question["timezone"]
    shown = page([one for one in buckets(since, until, *how) if one[0] <= question["now"]], question)
    before = page(buckets(start_of_previous(question), since, *how), question)
    return shown, before[: len(shown)] if question["compare"] == "previous" else []


def bucket(moment, granularity, zone):
    """The name of the bucket that a moment is in."""
    local = moment.astimezone(ZoneInfo(zone))
    return {
        "minute": local.replace(second=0, microsecond=0).isoformat,
        "hour": lambda: start_of_hour(local).isoformat(),
        "day": local.date().isoformat,
        "week": (local.date() - timedelta(days=local.weekday())).isoformat,
        "month": local.date().replace(day=1).isoformat,
    }[granularity]()  # fmt: skip


def start_of_hour(local):
    """Since when clocks show an hour: since it began, or since they were changed within it."""
    quarter = local.replace(minute=local.minute // 15 * 15, second=0, microsecond=0)
    while (
        quarter.minute
        and (earlier := (quarter.astimezone(UTC) - 15 * MINUTE).astimezone(local.tzinfo)).utcoffset()
        == local.utcoffset()
    ):
        quarter = earlier
    return quarter


# ---------------------------------------------------------------------------------------------- figures and rows


def iso(moment):
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def rate(part, whole):
    return part / whole if whole else 0


def mean(numbers):
    return sum(numbers) / len(numbers) if numbers else 0


def grouped(items, key):
    groups = defaultdict(list)
    for item in items:
        groups[key(item)].append(item)
    return groups


def page(rows, question, *columns):
    """Rows ordered by columns (after a minus, the largest first), then the part of them that is asked for."""
    for name in reversed(columns):
        rows = sorted(rows, key=lambda row: row[name.lstrip("-")], reverse=name.startswith("-"))
    return rows[question["offset"] :][: question["limit"]]
