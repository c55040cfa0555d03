"""Worlds: events as they might come, near all the edges there are, and a question about them."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

from pixel.metrics import BOTS, FILTERS
from tests.pipes.definitions import DAY, MINUTE, PAUSE, TICK, World, bounds

#: Zone, first day, last day.
RANGES = [
    ("UTC", "2026-03-01", "2026-03-01"),
    ("Asia/Kathmandu", "2026-02-27", "2026-03-01"),
    # Clocks go back, and forward.
    ("Europe/Berlin", "2026-10-24", "2026-10-26"),
    ("Europe/Berlin", "2026-03-29", "2026-03-29"),
    # By half an hour.
    ("Australia/Lord_Howe", "2026-04-05", "2026-04-05"),
    ("Australia/Lord_Howe", "2026-10-04", "2026-10-04"),
    # At midnight: days without their first hour, one with it twice, one with its last hour twice.
    ("America/Sao_Paulo", "2018-11-03", "2018-11-04"),
    ("Asia/Tehran", "2022-03-22", "2022-03-23"),
    ("America/Havana", "2026-11-01", "2026-11-01"),
    ("Asia/Tehran", "2021-09-20", "2021-09-22"),
    # A day that never was.
    ("Pacific/Apia", "2011-12-28", "2011-12-31"),
    ("Pacific/Apia", "2011-12-30", "2011-12-30"),
    # The year ends, first in Kiritimati.
    ("Pacific/Kiritimati", "2025-12-30", "2026-01-02"),
    ("America/New_York", "2025-12-01", "2026-01-20"),
]
MOMENTS = [timedelta(0), TICK, timedelta(seconds=7), timedelta(minutes=11)]
PAUSES = [PAUSE - TICK, PAUSE, PAUSE + TICK, timedelta(hours=2), timedelta(hours=7)]
LONG = [timedelta(hours=1), DAY, DAY + TICK, 6 * DAY, 7 * DAY, 23 * DAY]
#: How long there is between a visitor's events, and from an edge of the range to the first. By the first pace much happens
#: at once; by the last visitors come back for months, some to the millisecond as long after as a window is.
PACES = [
    ([0 * TICK, TICK, PAUSE], [-PAUSE, -MINUTE, 0 * DAY]),
    (MOMENTS + PAUSES, [-DAY - PAUSE, -DAY / 2, -PAUSE, -MINUTE, 0 * DAY, 0 * DAY]),
    ([*MOMENTS, PAUSE, PAUSE + TICK, *LONG], [-91 * DAY, -31 * DAY, -8 * DAY, -DAY, 0 * DAY]),
]
SITES = [("ws_1", "admx_a")] * 5 + [("ws_1", "admx_b")] * 2 + [("ws_2", "admx_c")]
WEBSITES = [["admx_a"], ["admx_a"], ["admx_a", "admx_b"], ["admx_a", "admx_b", "admx_c"], ["admx_b"]]
VISITORS = ["ada", "ada", "bob", "ada phone", "", *(f"visitor {n}" for n in range(6))]
NAMES = ["pageview", "pageview", "pageview", "custom", "payment"]
PATHS = ["/", "/é", "/b", "/b/c"]
STEPS = ["path:/*", "path:/*", "path:/", "path:/b*", "path:/b", "path:/é", "goal:signup", "goal:path=/", "payment"]
#: Channel, source, medium, campaign, referrer, assistant: of an event itself.
ORIGINS = [
    *[("Direct", "Direct", "", "", "", "")] * 3,
    ("Organic Search", "Google", "organic", "", "google.com", ""),
    ("Organic Search", "Bing", "organic", "", "bing.com", ""),
    ("Email", "News", "email", "x=y", "", ""),
    ("AI Assistants", "ChatGPT", "", "", "chatgpt.com", "chatgpt"),
    ("AI Assistants", "Claude", "", "", "claude.ai", "claude"),
    ("", "", "", "", "", ""),
]
#: Country, device, browser, os, language.
PLACES = [
    ("", "", "", "", ""),
    ("DE", "mobile", "Firefox", "", "de"),
    ("NP", "desktop", "Chrome", "Linux", "ne-NP"),
    ("NP", "desktop", "Firefox", "Linux", "en"),
]
TAGS = [
    *[{}] * 3,
    {"hostname": "a.example", "utm_source": "x", "utm_term": "t"},
    {"hostname": "b.example", "title": "Ü"},
]
AMOUNTS = [Decimal(amount) for amount in ("10", "0.25", "19.99", "0.0001", "-0.25", "-4.5", "0")]
CURRENCIES = ["EUR", "EUR", "USD", "GBP"]
PROPS = [{}, {}, {"plan": "pro"}, {"b": "1", "a": "2"}]
METRICS = ("visitors", "sessions", "pageviews", "bounce_rate", "avg_seconds", "conversions", "revenue")
MODELS = ("first_click", "last_click", "last_click_non_direct", "linear", "position_based", "time_decay")
GRANULARITIES = ("minute", "hour", "day", "week", "month")
#: A question without anything special.
QUESTION = {
    "workspace": "ws_1", "websites": ["admx_a"], "from": "2026-10-01", "to": "2026-10-31", "timezone": "UTC",
    "now": datetime(2026, 11, 24, tzinfo=UTC), "bots": "exclude", "filters": {}, "limit": 1000, "offset": 0,
    "metric": "visitors", "granularity": "day", "compare": "none", "currency": "", "steps": ["path:/", "payment"],
    "window_hours": 168, "model": "last_click", "window_days": 30, "visitor_id": "ada",
}  # fmt: skip
_PLAIN = {
    "workspace_id": "ws_1", "website_id": "admx_a", "name": "pageview", "visitor_id": "ada", "user_id": "",
    **dict.fromkeys(FILTERS, ""), "title": "", "bot": "", "value": None, "amount": Decimal(0), "currency": "", "props": {},
}  # fmt: skip


def event(event_id, timestamp, **fields):
    """An event as it is stored, by default a pageview of ada's that says nothing of itself."""
    about = {"event_id": event_id, "timestamp": timestamp, "received_at": timestamp}
    return _PLAIN | about | ({"path": "/"} if fields.get("name", "pageview") == "pageview" else {}) | fields


def world(chance):
    """Events in the order in which they happen, what was told of visitors and dropped, and a question."""
    zone, first, last = chance.choice(RANGES)
    question = QUESTION | {"timezone": zone, "from": first, "to": last}
    since, until = bounds(question)
    happen = _marathon if chance.random() < 0.15 else _lives
    events = sorted(happen(chance, since, until), key=lambda e: e["timestamp"])
    now = chance.choice([until + DAY, until, since + DAY / 5, since - PAUSE, *(e["timestamp"] for e in events)])
    for each in events:
        each["received_at"] = chance.choice([each["timestamp"], now, now - DAY, now - DAY + TICK, now - 2 * DAY])
    question |= _asked(chance) | {"now": now, "filters": _filters(chance, events), "steps": _steps(chance, events)}
    return World(events, question, _told(chance, now), _dropped(chance, now))


def _lives(chance, since, until):
    """Some visitors' events, each at a pace, from long before the range, from near its edges or from within it."""
    number = 0
    for _ in range(chance.choice([0, 1, 3, *range(12, 40)])):
        who, dressed = _who(chance), chance.choice([0.3, 1])
        pace, begins = chance.choice(PACES)
        moment = chance.choice([since, since, since, until - DAY / 2, until]) + chance.choice(begins)
        for _ in range(chance.randint(1, 12)):
            number += 1
            moment += chance.choice(pace)
            # Some say much of every event, some say nothing of most.
            about = _about(chance) if chance.random() < dressed else {}
            yield event(f"e{number}", moment, **who | about | _kind(chance))


def _marathon(chance, since, until):
    """A session that goes on for more than a day before and after an edge of the range."""
    middle, pause = chance.choice([since, until]), chance.choice([PAUSE, PAUSE - MINUTE])
    first, last = chance.randint(-60, -40), chance.randint(40, 60)
    interrupted = chance.choice([None, *range(first, last)])
    for place in range(first, last):
        about = _about(chance) | _kind(chance) | ({} if place == interrupted else {"bot": ""})
        yield event(f"m{place}", middle + place * pause, **about)


def _who(chance):
    workspace, website = chance.choice(SITES)
    return {"workspace_id": workspace, "website_id": website, "visitor_id": chance.choice(VISITORS)}


def _about(chance):
    origin = ("channel", "source", "medium", "campaign", "referrer", "llm_engine")
    place = ("country", "device", "browser", "os", "language")
    return {
        "user_id": chance.choice(["", "", "", "", "u1", "u2"]),
        "bot": chance.choice(["", "", "", "", "", "crawler"]),
        "props": chance.choice(PROPS),
        **dict(zip(origin, chance.choice(ORIGINS), strict=True)),
        **dict(zip(place, chance.choice(PLACES), strict=True)),
        **chance.choice(TAGS),
    }


def _kind(chance):
    name = chance.choice(NAMES)
    if name == "custom":
        value = chance.choice([None, 0, 2.5, -0.125])
        return {"name": name, "goal": chance.choice(["signup", "path=/"]), "value": value}
    if name == "payment":
        return {"name": name, "amount": chance.choice(AMOUNTS), "currency": chance.choice(CURRENCIES)}
    return {"name": name, "path": chance.choice(PATHS)}


def _filters(chance, events):
    """Mostly none; else what an event has, so that something is kept, and of each name sometimes another value."""
    one, other = (chance.choice(events or [event("none", None)]) for _ in range(2))
    names = chance.sample(FILTERS, chance.choice([0, 0, 0, 1, 1, 2, 3]))
    return {name: [one[name], *chance.choice([[], [other[name]], ["x=y"]])] for name in names}


def _steps(chance, events):
    """Steps of any kind, or those that some visitor takes one after the other."""
    size = chance.choice([2, 2, 3, 4, 10])
    one = chance.choice(events or [event("none", None)])
    own = [e for e in events if all(e[name] == one[name] for name in ("website_id", "visitor_id"))]
    begin = chance.randint(0, len(own))
    steps = [_step(e) for e in own[begin:][:size]] if chance.random() < 0.7 else []
    return steps + chance.choices(STEPS, k=max(0, size - len(steps)))


def _step(event):
    kind = {"pageview": f"path:{event['path']}", "custom": f"goal:{event['goal']}", "payment": "payment"}
    return kind[event["name"]]


def _asked(chance):
    return {
        "websites": chance.choice(WEBSITES),
        "bots": chance.choice(["exclude"] * 4 + [*BOTS]),
        "limit": chance.choice([1000, 50, 3]),
        "offset": chance.choice([0, 0, 0, 1]),
        "metric": chance.choice(METRICS),
        "granularity": chance.choice(GRANULARITIES),
        "compare": chance.choice(["none", "previous"]),
        "currency": chance.choice(["", "", "EUR", "USD", "JPY"]),
        "window_hours": chance.choice([1, 24, 168, 2160]),
        "model": chance.choice(MODELS),
        "window_days": chance.choice([1, 7, 30, 90]),
        "visitor_id": chance.choice(["ada", "ada", "ada phone", "bob", "nobody"]),
    }


def _told(chance, now):
    return [
        {
            "workspace_id": chance.choice(["ws_1", "ws_1", "ws_1", "ws_2"]),
            "website_id": chance.choice(["admx_a", "admx_a", "admx_b", "admx_c"]),
            "visitor_id": chance.choice(["ada", "ada phone", "bob", "eve"]),
            "user_id": chance.choice(["", "u1", "u2"]),
            "email": chance.choice(["", "a@a.example", "b@b.example"]),
            "traits": chance.choice([{}, {"plan": "pro"}, {"plan": "free", "age": "7"}]),
            "received_at": now - number * timedelta(hours=7),
        }
        for number in chance.sample(range(9), chance.randint(0, 4))
    ]


def _dropped(chance, now):
    return [
        {
            "workspace_id": chance.choice(["ws_1", "ws_1", "ws_1", "ws_2"]),
            "website_id": chance.choice(["admx_a", "admx_b", "admx_c"]),
            "at": chance.choice([now, now - DAY, now - DAY + TICK, now - 30 * DAY]),
            "reason": chance.choice(["duplicate", "bot", "invalid", "too_late"]),
            "events": chance.randint(1, 5),
        }
        for _ in range(chance.randint(0, 4))
    ]
