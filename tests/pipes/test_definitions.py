"""Every figure of these reports, against the same words done naively in Python."""

import json
import random
from collections import Counter, defaultdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import clickhouse_connect
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from pixel.extensions import warehouse as open_one

PIXEL = Path(__file__).parents[2] / "pixel"
PAUSE = timedelta(minutes=30)
DAY = timedelta(days=1)
SOURCE = ("channel", "source", "medium", "campaign")
FILTERS = (
    *SOURCE,
    "path", "hostname", "referrer", "utm_source", "utm_medium", "utm_campaign", "utm_term", "utm_content",
    "country", "device", "browser", "os", "language", "llm_engine", "goal",
)  # fmt: skip
HOSTILE = [
    "'",
    '"',
    "\\",
    "\\'",
    "\t",
    "\n",
    "\r",
    "\0",
    "\\N",
    "{x:String}",
    "--",
    "/*",
    "%s",
    "$a$",
    "',''",
    "]",
    "path=x",
    "é😀",
]

# ---------------------------------------------------------------------------------------------- the warehouse


class Warehouse:
    def __init__(self, folder):
        # A database of its own in the engine that this process has open, which takes one folder a process.
        with clickhouse_connect.create_client(interface="chdb", path=str(folder)) as client:
            client.command("CREATE DATABASE definitions")
        self.client = clickhouse_connect.create_client(interface="chdb", path=str(folder), database="definitions")
        for setting in ("compile_expressions", "compile_aggregate_expressions", "compile_sort_description"):
            self.client.set_client_setting(
                setting, "0"
            )  # compiling a query costs more than answering it over 30 events
        for file in sorted((PIXEL / "warehouse" / "tables").glob("*.sql")):
            for statement in file.read_text().split(";\n"):
                if statement.strip():
                    self.client.command(statement)

    def holds(self, events, parts=1):
        """Nothing but these events, in this order, inserted in so many pieces."""
        self.client.command("TRUNCATE TABLE events")
        for part in range(parts):
            lines = [json.dumps(e | {"timestamp": text(e["timestamp"])}) for e in events[part::parts]]
            if lines:
                block = "\n".join(lines).encode()
                self.client.raw_insert("events", column_names=None, insert_block=block, fmt="JSONEachRow")

    def ask(self, pipe, **params):
        """The rows of a report, as dicts."""
        sql = (PIXEL / "pipes" / f"{pipe}.sql").read_text()
        moments = {name: text(params[name]) for name in ("since", "until", "now")}
        return json.loads(self.client.raw_query(sql, parameters=params | moments, fmt="JSON"))["data"]


@pytest.fixture(scope="session")
def warehouse(app):
    open_one.start()
    warehouse = Warehouse(open_one.folder / "data")
    yield warehouse
    warehouse.client.close()


def text(moment):
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]


def iso(moment):
    return text(moment).replace(" ", "T") + "Z"


# ---------------------------------------------------------------------------------------------- the definitions


class Asked:
    """What a question is about: the events that count, the sessions they make, and what the filters keep of both."""

    def __init__(self, events, params, since=None, until=None):
        self.params = params
        self.since, self.until = since or params["since"], until or params["until"]
        near = [e for e in events if self._near(e) and self._wanted(e)]
        by_visitor = defaultdict(list)
        for event in sorted(near, key=lambda e: (e["timestamp"], e["event_id"])):
            by_visitor[event["website_id"], event["visitor_id"] or event["event_id"]].append(event)
        runs = [run for visits in by_visitor.values() for run in split(visits)]
        self.runs = [run for run in runs if self._passes(run[0], SOURCE)]
        self.whole = [run for run in self.runs if run[0]["visitor_id"]]
        self.sessions = [run for run in self.whole if self.in_range(run[0]) and any(map(self.keeps, run))]
        self.events = [e for run in self.runs for e in run if self.in_range(e) and self.keeps(e)]

    def _near(self, event):
        mine = event["workspace_id"] == self.params["workspace"] and event["website_id"] in self.params["websites"]
        return mine and self.since - DAY <= event["timestamp"] < self.until + DAY

    def _wanted(self, event):
        return {"include": True, "exclude": event["bot"] == "", "only": event["bot"] != ""}[self.params["bots"]]

    def _passes(self, event, names):
        for name in names:
            values = [f.partition("=")[2] for f in self.params["filters"] if f.partition("=")[0] == name]
            if values and event.get(name, "") not in values:
                return False
        return True

    def in_range(self, event):
        return self.since <= event["timestamp"] < self.until

    def keeps(self, event):
        return self._passes(event, [name for name in FILTERS if name not in SOURCE])

    def currency(self):
        counts = Counter(e["currency"] for e in self.events if e["name"] == "payment")
        return self.params["currency"] or min(counts, key=lambda c: (-counts[c], c), default="")


def split(visits):
    """One visitor's events, in order, as sessions."""
    sessions = []
    for event in visits:
        if sessions and event["timestamp"] - sessions[-1][-1]["timestamp"] <= PAUSE:
            sessions[-1].append(event)
        else:
            sessions.append([event])
    return sessions


def visitors(events):
    return len({e["visitor_id"] for e in events} - {""})


def views(events):
    return [e for e in events if e["name"] == "pageview"]


def bounced(session):
    return len(session) == 1 and session[0]["name"] == "pageview"


def seconds(session):
    return (session[-1]["timestamp"] - session[0]["timestamp"]).total_seconds()


def rate(part, whole):
    return part / whole if whole else 0


def mean(numbers):
    return sum(numbers) / len(numbers) if numbers else 0


def grouped(items, key):
    groups = defaultdict(list)
    for item in items:
        groups[key(item)].append(item)
    return groups


def page(rows, params, *order):
    """Rows in their order (a name, or a name after a minus for the largest first), then the part of them asked for."""
    for name in reversed(order):
        rows = sorted(rows, key=lambda row: row[name.lstrip("-")], reverse=name.startswith("-"))
    return rows[params["offset"] :][: params["limit"]]


def p_realtime_visitors(events, params):
    now, tick = params["now"], timedelta(milliseconds=1)
    hour = Asked(events, params, now - timedelta(minutes=60) + tick, now + tick)
    live = visitors(e for e in hour.events if e["timestamp"] > now - timedelta(minutes=5))
    rows = [
        {"minute": minute, "visitors": visitors(those), "pageviews": len(views(those)), "live_visitors": live}
        for minute, those in grouped(hour.events, lambda e: e["timestamp"].strftime("%Y-%m-%dT%H:%M:00Z")).items()
    ]
    return page(rows, params, "-minute")


def p_top_pages(events, params):
    asked = Asked(events, params)
    rows = {
        path: dict(path=path, visitors=visitors(those), pageviews=len(those), entrances=0, exits=0, bounces=0, waits=[])
        for path, those in grouped(views(asked.events), lambda e: e["path"]).items()
    }
    for session in asked.whole:
        for event, following in zip(session, [*session[1:], None], strict=True):
            if event["name"] != "pageview" or not asked.in_range(event) or not asked.keeps(event):
                continue
            row = rows[event["path"]]
            if following:
                row["waits"].append((following["timestamp"] - event["timestamp"]).total_seconds())
            if asked.in_range(session[0]):
                row["entrances"] += event is views(session)[0]
                row["exits"] += event is views(session)[-1]
                row["bounces"] += bounced(session)
    for row in rows.values():
        row["bounce_rate"] = rate(row.pop("bounces"), row["entrances"])
        row["avg_seconds"] = mean(row.pop("waits"))
    return page(rows.values(), params, "-visitors", "-pageviews", "path")


def p_referrers(events, params):
    asked = Asked(events, params)
    referred = [e for e in views(asked.events) if e["referrer"]]
    rows = [
        {
            "referrer": referrer,
            "visitors": visitors(those),
            "sessions": sum(any(e in those for e in run) for run in asked.whole if asked.in_range(run[0])),
            "pageviews": len(those),
        }
        for referrer, those in grouped(referred, lambda e: e["referrer"]).items()
    ]
    return page(rows, params, "-visitors", "-pageviews", "referrer")


def p_traffic_sources(events, params):
    asked = Asked(events, params)
    currency = asked.currency()
    rows = []
    for source, runs in grouped(asked.runs, lambda run: tuple(run[0][name] for name in SOURCE)).items():
        those = [e for run in runs for e in run if e in asked.events]
        sessions = [run for run in runs if run in asked.sessions]
        conversions = [e for e in those if e["name"] == "custom"]
        payments = [e for e in those if e["name"] == "payment"]
        if sessions or conversions or payments:
            rows.append(dict(zip(SOURCE, source, strict=True)) | {
                "visitors": visitors(those),
                "sessions": len(sessions),
                "bounce_rate": rate(sum(map(bounced, sessions)), len(sessions)),
                "conversions": len(conversions),
                "revenue": sum(e["amount"] for e in payments if e["currency"] == currency),
                "currency": currency,
            })  # fmt: skip
    return page(rows, params, "-visitors", "-sessions", *SOURCE)


def p_sessions_list(events, params):
    rows = []
    for session in Asked(events, params).sessions:
        first, seen = session[0], [e["path"] for e in views(session)] or [""]
        same = ("visitor_id", "website_id", *SOURCE, "referrer", "country", "device", "browser", "os", "bot")
        rows.append({name: first[name] for name in same} | {
            "started_at": iso(first["timestamp"]),
            "seconds": seconds(session),
            "pageviews": len(views(session)),
            "events": len(session),
            "entry_path": seen[0],
            "exit_path": seen[-1],
            "bounced": int(bounced(session)),
        })  # fmt: skip
    return rows


def p_events_catalog(events, params):
    rows = [
        {
            "name": name,
            "goal": goal,
            "events": len(those),
            "visitors": visitors(those),
            "first_seen": iso(min(e["timestamp"] for e in those)),
            "last_seen": iso(max(e["timestamp"] for e in those)),
            "props": sorted({key for e in those for key in e["props"]}),
        }
        for (name, goal), those in grouped(Asked(events, params).events, lambda e: (e["name"], e["goal"])).items()
    ]
    return page(rows, params, "-events", "name", "goal")


def p_metric_series(events, params):
    since, until, zone = params["since"], params["until"], ZoneInfo(params["timezone"])
    if not any(e["workspace_id"] == params["workspace"] and e["website_id"] in params["websites"] for e in events):
        return []
    asked = Asked(events, params)
    now = _series(asked, params, min(until - timedelta(milliseconds=1), params["now"]), asked.currency())
    before = {}
    if params["compare"] == "previous":
        start, end = (moment.astimezone(zone).replace(tzinfo=None) for moment in (since, until))
        earliest = (start - (end - start)).replace(tzinfo=zone).astimezone(UTC)
        previous = Asked(events, params, earliest, since)
        values = _series(previous, params, since - timedelta(milliseconds=1), asked.currency())
        before = dict(enumerate(values.values()))
    rows = [
        {"bucket": bucket, "value": value, "previous_value": before.get(place)}
        for place, (bucket, value) in enumerate(now.items())
    ]
    return page(rows, params)


def _series(asked, params, last, currency):
    def name(moment):
        local = moment.astimezone(ZoneInfo(params["timezone"]))
        return {
            "minute": local.replace(second=0, microsecond=0).isoformat(),
            "hour": local.replace(minute=0, second=0, microsecond=0, tzinfo=None).isoformat() + local.isoformat()[-6:],
            "day": local.date().isoformat(),
            "week": (local.date() - timedelta(days=local.weekday())).isoformat(),
            "month": local.date().replace(day=1).isoformat(),
        }[params["granularity"]]

    minutes = int((last - asked.since) / timedelta(minutes=1)) + 1 if last >= asked.since else 0
    moments = [asked.since + timedelta(minutes=n) for n in range(minutes)] + [last] * (minutes > 0)
    events = grouped(asked.events, lambda e: name(e["timestamp"]))
    sessions = grouped(asked.sessions, lambda run: name(run[0]["timestamp"]))
    figure = {
        "visitors": lambda b: visitors(events[b]),
        "pageviews": lambda b: len(views(events[b])),
        "conversions": lambda b: sum(e["name"] == "custom" for e in events[b]),
        "revenue": lambda b: sum(
            e["amount"] for e in events[b] if e["name"] == "payment" and e["currency"] == currency
        ),
        "sessions": lambda b: len(sessions[b]),
        "bounce_rate": lambda b: rate(sum(map(bounced, sessions[b])), len(sessions[b])),
        "avg_seconds": lambda b: mean(list(map(seconds, sessions[b]))),
    }[params["metric"]]
    return {bucket: figure(bucket) for bucket in dict.fromkeys(map(name, moments))}


# ---------------------------------------------------------------------------------------------- the worlds

RANGES = [  # zone, first day, days: ordinary, clocks back and forward, half an hour back and forward, a day that never was
    ("UTC", (2026, 3, 1), 1),
    ("Europe/Berlin", (2026, 10, 24), 3),
    ("Europe/Berlin", (2026, 3, 29), 1),
    ("America/Sao_Paulo", (2018, 11, 3), 2),
    ("Asia/Kathmandu", (2026, 2, 27), 3),
    ("Australia/Lord_Howe", (2026, 4, 5), 1),
    ("Australia/Lord_Howe", (2026, 10, 4), 1),
    ("Pacific/Apia", (2011, 12, 28), 4),
]
GAPS = [
    timedelta(0), timedelta(milliseconds=1), timedelta(seconds=7), timedelta(minutes=11), PAUSE - timedelta(milliseconds=1),
    PAUSE, PAUSE + timedelta(milliseconds=1), timedelta(hours=2), timedelta(hours=7),
]  # fmt: skip
SITES = [("ws_1", "admx_a")] * 5 + [("ws_1", "admx_b"), ("ws_2", "admx_c")]


def some(*values):
    return st.sampled_from(values)


@st.composite
def worlds(draw):
    """Events in the order in which they happen, and a question."""
    zone, day, days = draw(st.sampled_from(RANGES))
    since = datetime(*day, tzinfo=ZoneInfo(zone))
    until = (since + timedelta(days=days)).astimezone(UTC)
    since = since.astimezone(UTC)
    cursor = draw(st.sampled_from([since, until - DAY / 2, until])) + draw(
        st.sampled_from([-DAY - PAUSE, -DAY / 2, -PAUSE, DAY * 0])
    )
    events = []
    for number in draw(st.permutations(range(draw(st.integers(0, 30))))):
        cursor += draw(st.sampled_from(GAPS))
        events.append(event(draw, number, cursor))
    used = [f"{name}={e[name]}" for e in events for name in FILTERS if name in e] or ["path=/"]
    filters = draw(
        st.lists(st.sampled_from(used) | some("path=", "goal=", "channel=none", "campaign=x=y"), max_size=3)
        | st.just([])
    )
    params = {
        "workspace": "ws_1",
        "websites": draw(some(["admx_a"], ["admx_a", "admx_b"], ["admx_a", "admx_c"], ["admx_b"])),
        "since": since,
        "until": until,
        "now": draw(some(until + DAY, since + timedelta(hours=5), cursor, since - PAUSE)),
        "timezone": zone,
        "bots": draw(some("exclude", "exclude", "include", "only")),
        "filters": filters,
        "limit": draw(some(1000, 50, 3)),
        "offset": draw(some(0, 0, 1)),
        "metric": draw(
            some("visitors", "sessions", "pageviews", "bounce_rate", "avg_seconds", "conversions", "revenue")
        ),
        "granularity": draw(some("hour", "day", "week", "month", "minute")),
        "compare": draw(some("none", "previous")),
        "currency": draw(some("", "", "EUR", "USD", "JPY")),
    }
    return events, params


def event(draw, number, timestamp):
    workspace, website = draw(st.sampled_from(SITES))
    name = draw(some("pageview", "pageview", "custom", "payment"))
    full = draw(st.booleans())
    channel, source = draw(some(("direct", ""), ("search", "google"), ("search", "bing"))) if full else ("", "")
    return {
        "workspace_id": workspace,
        "website_id": website,
        "event_id": f"e{number}",
        "name": name,
        "timestamp": timestamp,
        "visitor_id": draw(some("ada", "ada", "ada", "ada", "bob", "")),
        "path": draw(some("/", "/é", "/b")) if name == "pageview" or full else "",
        "bot": draw(some("", "", "", "", "", "crawler")),
        "goal": draw(some("signup", "path=/")) if name == "custom" else "",
        "amount": draw(some(10, 0.25, -0.25, -4.5)) if name == "payment" else 0,
        "currency": draw(some("EUR", "USD", "GBP")) if name == "payment" else "",
        "channel": channel,
        "source": source,
        "medium": draw(some("", "organic")) if full else "",
        "campaign": draw(some("", "x=y")) if full else "",
        "referrer": draw(some("", "google.com", "news.example")) if full else "",
        "country": draw(some("", "DE", "NP")) if full else "",
        "device": draw(some("", "mobile")) if full else "",
        "browser": "Firefox" if full else "",
        "os": "",
        "props": draw(some({}, {"plan": "pro"}, {"b": "1", "a": "2"})),
    }


PIPES = [
    p_realtime_visitors, p_top_pages, p_referrers, p_traffic_sources, p_sessions_list, p_events_catalog, p_metric_series,
]  # fmt: skip
ROUNDING = {"bounce_rate": 0.5e-4, "avg_seconds": 0.05}


@settings(
    max_examples=20, deadline=None, derandomize=True, database=None, phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)  # fmt: skip
@given(world=worlds(), seed=st.integers(0, 99))
def test_every_report_says_what_the_definitions_say(warehouse, world, seed):
    events, params = world
    arrival = random.Random(seed).sample(events, len(events))
    warehouse.holds(arrival, parts=1 + seed % 3)
    for pipe in PIPES:
        answer, wanted = warehouse.ask(pipe.__name__, **params), pipe(events, params)
        if pipe is p_sessions_list:
            answer, wanted = (
                sessions_listed(warehouse, answer, params),
                page(wanted, params | {"offset": 0, "limit": 1000}, *_LIST),
            )
        assert_same(answer, wanted, params)


_LIST = ("-started_at", "website_id", "visitor_id")


def sessions_listed(warehouse, answer, params):
    """All sessions by time, visitor and website, once the page is seen to be the right part of them."""
    everything = warehouse.ask("p_sessions_list", **params | {"limit": 1000, "offset": 0})
    assert everything == page(everything, params | {"limit": 1000, "offset": 0}, "-started_at", "session_id")
    assert answer == everything[params["offset"] :][: params["limit"]]
    assert len({row["session_id"] for row in everything}) == len(everything)
    rows = [{name: row[name] for name in row if name != "session_id"} for row in everything]
    return page(rows, {"limit": 1000, "offset": 0}, *_LIST)


def assert_same(answer, wanted, params):
    assert len(answer) == len(wanted), (answer, wanted)
    for got, want in zip(answer, wanted, strict=True):
        assert got.keys() == want.keys()
        for name, value in want.items():
            measure = params["metric"] if "value" in name else name
            if value is not None and measure in ROUNDING:
                assert abs(got[name] - value) <= ROUNDING[measure] + 1e-9, (name, got, want)
            else:
                assert got[name] == value, (name, got, want)


# ---------------------------------------------------------------------------------------------- single stories

QUESTION = {
    "workspace": "ws_1", "websites": ["admx_a"], "since": datetime(2026, 10, 1, tzinfo=UTC),
    "until": datetime(2026, 11, 1, tzinfo=UTC), "now": datetime(2026, 11, 24, tzinfo=UTC), "timezone": "UTC",
    "bots": "exclude", "filters": [], "limit": 1000, "offset": 0, "metric": "visitors", "granularity": "day",
    "compare": "none", "currency": "",
}  # fmt: skip


def pageview(number, **fields):
    plain = {"workspace_id": "ws_1", "website_id": "admx_a", "name": "pageview", "visitor_id": "ada", "path": "/"}
    return plain | {"event_id": f"e{number}", "timestamp": QUESTION["since"] + timedelta(minutes=number)} | fields


def test_hostile_filter_values_are_plain_text(warehouse):
    warehouse.holds([pageview(n, path="/" + value, campaign=value) for n, value in enumerate(HOSTILE)])
    for value in HOSTILE:
        for filters in ([f"path=/{value}"], [f"campaign={value}"], [f"path=/{value}", "path=nowhere"]):
            rows = warehouse.ask("p_top_pages", **QUESTION | {"filters": filters})
            if filters[0].startswith("path"):
                assert [row["path"] for row in rows] == ["/" + value]
            else:
                assert len(rows) == (len(HOSTILE) if value == HOSTILE[0] else 0)


def test_a_value_that_looks_like_another_filter_is_only_a_value(warehouse):
    warehouse.holds([pageview(1, path="country=DE", country="FR"), pageview(2, path="/", country="DE")])
    rows = warehouse.ask("p_top_pages", **QUESTION | {"filters": ["path=country=DE"]})
    assert [row["path"] for row in rows] == ["country=DE"]


@pytest.mark.parametrize("name", FILTERS)
def test_every_filter_keeps_what_equals_it(warehouse, name):
    column = {"goal": "custom"}.get(name, "pageview")
    warehouse.holds([
        pageview(1, **{"name": column, name: "/x", "visitor_id": "ada"}),
        pageview(2, **{"name": column, name: "/y", "visitor_id": "bob"}),
        pageview(3, **{"name": column, name: "", "visitor_id": ""}),
    ])  # fmt: skip
    for value, found in (("/x", 1), ("", 1), ("z", 0)):
        rows = warehouse.ask("p_events_catalog", **QUESTION | {"filters": [f"{name}={value}"]})
        assert sum(row["events"] for row in rows) == found


def test_the_hour_that_clocks_repeat_is_two(warehouse):
    night = datetime(2026, 10, 25, tzinfo=UTC)
    warehouse.holds(
        [pageview(n, timestamp=night + timedelta(minutes=30 + 60 * n), visitor_id=f"v{n}") for n in range(3)]
    )
    berlin = {"timezone": "Europe/Berlin", "granularity": "hour", "limit": 6, "metric": "pageviews"}
    range_ = {"since": night - timedelta(hours=2), "until": night + timedelta(hours=23)}
    rows = warehouse.ask("p_metric_series", **QUESTION | berlin | range_)
    assert [(row["bucket"][11:], row["value"]) for row in rows][2:6] == [
        ("02:00:00+02:00", 1), ("02:00:00+01:00", 1), ("03:00:00+01:00", 1), ("04:00:00+01:00", 0),
    ]  # fmt: skip


@pytest.mark.parametrize(("pause", "sessions"), [(PAUSE, 1), (PAUSE + timedelta(milliseconds=1), 2)])
def test_a_pause_of_exactly_30_minutes_continues_a_session(warehouse, pause, sessions):
    first = QUESTION["since"]
    warehouse.holds([pageview(2, timestamp=first + pause), pageview(1, timestamp=first)], parts=2)
    rows = warehouse.ask("p_sessions_list", **QUESTION)
    assert [row["seconds"] for row in rows] == ([1800] if sessions == 1 else [0, 0])


def test_a_session_keeps_its_id_in_any_range(warehouse):
    warehouse.holds([pageview(n) for n in range(0, 3000, 40)])
    all_ids = [row["session_id"] for row in warehouse.ask("p_sessions_list", **QUESTION)]
    first_day = warehouse.ask("p_sessions_list", **QUESTION | {"until": QUESTION["since"] + DAY})
    assert all_ids[-len(first_day) :] == [row["session_id"] for row in first_day]


def test_a_pipe_belongs_to_its_workspace(warehouse):
    warehouse.holds([pageview(1)])
    for pipe in PIPES:
        assert warehouse.ask(pipe.__name__, **QUESTION | {"workspace": "ws_2"}) == []
