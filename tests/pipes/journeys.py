"""Reports that follow visitors, done naively: a function each, of the same name, gives the rows wanted."""

import statistics
from datetime import UTC, datetime, timedelta

from tests.pipes.definitions import (
    SOURCE,
    Asked,
    bounds,
    bucket,
    buckets,
    currency,
    grouped,
    iso,
    of_websites,
    order,
    page,
    rate,
    revenue,
    seconds,
    source_of,
    views,
    visitors,
)

# ---------------------------------------------------------------------------------------------- retention


def p_retention_cohort(world):
    asked, zone, granularity = world.question, world.question["timezone"], world.question["granularity"]
    since, until = bounds(asked)
    periods = [name for *_, name in buckets(since, until, granularity, zone)]
    cohorts = {name: [] for name in periods}
    ever = Asked(world, datetime(2010, 1, 1, tzinfo=UTC))
    for visitor, events in grouped(ever.events, lambda e: e["visitor_id"]).items():
        if visitor and events[0]["timestamp"] >= since:
            came = [bucket(e["timestamp"], granularity, zone) for e in events]
            cohorts[came[0]].append(set(came))
    rows = []
    for cohort, people in cohorts.items():
        for name in periods:
            number = sum(name in came for came in people)
            if number:
                period = periods.index(name) - periods.index(cohort)
                rows.append({"cohort": cohort, "period": period, "visitors": number, "rate": rate(number, len(people))})
    return page(rows, asked)


# ---------------------------------------------------------------------------------------------- funnels


def p_funnel(world):
    if not of_websites(world.events, world.question):
        return []
    best = _best_ways(world, Asked(world))
    return page(_steps(world.question, list(best.values())), world.question)


def p_funnel_v2(world):
    asked = Asked(world)
    by_entry = grouped(_best_ways(world, asked).values(), lambda way: _entry(asked, way[0]))
    rows = []
    for (channel, source), ways in by_entry.items():
        for row in _steps(world.question, ways):
            step = row["step"]
            waits = [seconds(way[step - 2 : step]) for way in ways if len(way) >= step > 1]
            median = statistics.median(waits) if waits else None
            entry = {"entry_channel": channel, "entry_source": source, "entries": len(ways)}
            rows.append(entry | row | {"median_seconds_from_previous": median})
    rows = page(rows, world.question, "-entries", "entry_channel", "entry_source", "step")
    return [{name: value for name, value in row.items() if name != "entries"} for row in rows]


def _steps(question, ways):
    took = [sum(len(way) >= step for way in ways) for step in range(1, len(question["steps"]) + 1)]
    return [
        {
            "step": step,
            "label": label,
            "visitors": took[step - 1],
            "conversion_rate": rate(took[step - 1], took[0]),
            "drop_off": took[step - 2] - took[step - 1] if step > 1 else 0,
        }
        for step, label in enumerate(question["steps"], 1)
    ]


def _best_ways(world, asked):
    """Of each visitor with any, the way that leads furthest; of several, the one that starts first."""
    steps, window = world.question["steps"], timedelta(hours=world.question["window_hours"])
    best = {}
    for (visitor, _), events in grouped(asked.events, lambda e: (e["visitor_id"], e["website_id"])).items():
        for start in events:
            if visitor and _takes(start, steps[0]):
                way = _way(events, start, steps, window)
                best.setdefault(visitor, []).append(way)
    return {visitor: min(ways, key=lambda way: (-len(way), order(way[0]))) for visitor, ways in best.items()}


def _way(events, start, steps, window):
    """The events by which the steps are taken from a start, each as early as can be."""
    way = [start]
    for step in steps[1:]:
        later = [e for e in events if e["timestamp"] > way[-1]["timestamp"] and _takes(e, step)]
        if not later or later[0]["timestamp"] - start["timestamp"] > window:
            break
        way.append(later[0])
    return way


def _takes(event, step):
    kind, _, wanted = step.partition(":")
    if kind == "payment":
        return event["name"] == "payment"
    if kind == "goal":
        return event["name"] == "custom" and event["goal"] == wanted
    begins = wanted.endswith("*") and event["path"].startswith(wanted[:-1])
    return event["name"] == "pageview" and (event["path"] == wanted or begins)


def _entry(asked, event):
    session = next(run for run in asked.runs if any(e is event for e in run))
    return session[0]["channel"], session[0]["source"]


# ---------------------------------------------------------------------------------------------- attribution


def p_attributed_revenue(world):
    """All rows, whatever the page."""
    return [
        dict(zip((*SOURCE, "currency"), key, strict=True))
        | {
            "revenue": sum(float(payment["amount"]) * share for _, payment, share in credits),
            "payments": sum(share for _, payment, share in credits if payment["amount"] > 0),
            "visitors": visitors(payment for _, payment, _ in credits),
        }
        for key, credits in grouped(_credits(world), lambda credit: credit[0]).items()
    ]


def _credits(world):
    """Each share of a payment that a session is credited with, as (source and currency, payment, share)."""
    window = timedelta(days=world.question["window_days"])
    here = Asked(world)
    read = Asked(world, here.since - window)
    for own in read.all:
        for payment in own:
            if payment["name"] == "payment" and here.in_range(payment) and here.keeps(payment):
                touches = sorted(_touches(read, own, payment, window), key=lambda run: order(run[0]))
                weights = _WEIGHTS[world.question["model"]](touches, payment)
                for run, weight in zip(touches, weights, strict=True):
                    if weight and read.comes_from(run):
                        yield (*source_of(run), payment["currency"]), payment, weight / sum(weights)


def _touches(read, own, payment, window):
    """The session of a payment, and those of its visitor that began within the window before it."""
    yield own
    for run in read.all:
        same = all(run[0][name] == payment[name] for name in ("visitor_id", "website_id")) and payment["visitor_id"]
        if same and run is not own and timedelta(0) <= payment["timestamp"] - run[0]["timestamp"] <= window:
            yield run


def _only(place, touches):
    return [float(number == place % len(touches)) for number in range(len(touches))]


def _last_not_direct(touches, payment):
    others = [place for place, run in enumerate(touches) if run[0]["channel"] != "Direct"]
    return _only(others[-1] if others else -1, touches)


def _ends_first(touches, payment):
    if len(touches) < 3:
        return [1] * len(touches)
    return [0.4, *[0.2 / (len(touches) - 2)] * (len(touches) - 2), 0.4]


def _half_each_week(touches, payment):
    return [0.5 ** ((payment["timestamp"] - run[0]["timestamp"]) / timedelta(days=7)) for run in touches]


_WEIGHTS = {
    "first_click": lambda touches, payment: _only(0, touches),
    "last_click": lambda touches, payment: _only(-1, touches),
    "last_click_non_direct": _last_not_direct,
    "linear": lambda touches, payment: [1] * len(touches),
    "position_based": _ends_first,
    "time_decay": _half_each_week,
}


# ---------------------------------------------------------------------------------------------- one visitor


def linked(world):
    """All visitor ids of the same user on the websites that are asked about, in no order."""
    asked = world.question
    told = of_websites([*world.identities, *world.events], asked)
    known, before = {asked["visitor_id"]}, set()
    while known != before:
        before = set(known)
        users = {user for one in told if one["visitor_id"] in known for user in _users(one)}
        known |= {one["visitor_id"] for one in told if users & _users(one)} - {""}
    return known


def _users(one):
    names = {(one["website_id"], name, one.get(name, "")) for name in ("user_id", "email")}
    return {user for user in names if user[2]}


def p_visitor_profile(world):
    asked, ids = Asked(world), linked(world)
    events = [e for e in asked.events if e["visitor_id"] in ids]
    if not events:
        return []
    row = _seen(world, asked, ids, events) | _known(world, ids, events)
    return page([row | {"visitor_id": world.question["visitor_id"], "visitor_ids": sorted(ids)}], world.question)


def _seen(world, asked, ids, events):
    money = currency(world, ids)

    def first(name, events):
        return next((e[name] for e in events if e[name]), "")

    return {
        "first_seen": iso(events[0]["timestamp"]),
        "last_seen": iso(events[-1]["timestamp"]),
        "sessions": sum(run[0]["visitor_id"] in ids for run in asked.sessions),
        "pageviews": len(views(events)),
        "events": len(events),
        **{name: first(name, events[::-1]) for name in ("country", "device", "browser", "os", "language")},
        "llm_engine": first("llm_engine", events),
        **{name: events[0][name] for name in (*SOURCE, "referrer")},
        "revenue": revenue(events, money),
        "currency": money,
    }


def _known(world, ids, events):
    told = [one for one in of_websites(world.identities, world.question) if one["visitor_id"] in ids]
    told = sorted(told, key=lambda one: one["received_at"])
    return {
        "user_ids": sorted({one["user_id"] for one in [*told, *events]} - {""}),
        "emails": sorted({one["email"] for one in told} - {""}),
        "traits": {name: value for one in told for name, value in one["traits"].items()},
    }


def p_visitor_timeline(world):
    ids = linked(world)
    same = ("name", "event_id", "website_id", "visitor_id", "hostname", "path", "title", "referrer", *SOURCE, "llm_engine",
            "goal", "value", "currency", "country", "device", "browser", "os", "props")  # fmt: skip
    rows = [
        {"timestamp": iso(e["timestamp"]), "amount": float(e["amount"]) if e["name"] == "payment" else None}
        | {name: e[name] for name in same}
        for e in reversed(Asked(world).events)
        if e["visitor_id"] in ids
    ]
    return page(rows, world.question)
