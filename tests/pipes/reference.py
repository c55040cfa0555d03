"""Every report, done naively: a function each, of the same name, that gives the rows which the SQL must give."""

import statistics
from datetime import UTC, datetime, timedelta

from tests.pipes.definitions import (
    DAY,
    MINUTE,
    SOURCE,
    TICK,
    Asked,
    bounced,
    bounds,
    bucket,
    buckets,
    currency,
    goals,
    grouped,
    iso,
    mean,
    of_websites,
    order,
    page,
    rate,
    revenue,
    seconds,
    start_of_previous,
    views,
    visitors,
)

# ---------------------------------------------------------------------------------------------- events


def p_realtime_visitors(world):
    now = world.question["now"]
    hour = Asked(world, now - timedelta(minutes=60) + TICK, now + TICK)
    live = visitors(e for e in hour.events if e["timestamp"] > now - timedelta(minutes=5))
    rows = [
        {"minute": minute, "visitors": visitors(those), "pageviews": len(views(those)), "live_visitors": live}
        for minute, those in grouped(hour.events, lambda e: e["timestamp"].strftime("%Y-%m-%dT%H:%M:00Z")).items()
    ]
    return page(rows, world.question, "-minute")


def p_geo(world):
    return _by(world, "country")


def p_devices(world):
    return _by(world, "device")


def p_tech(world):
    return _by(world, "browser", "os")


def p_languages(world):
    return _by(world, "language")


def _by(world, *names):
    rows = [
        dict(zip(names, values, strict=True)) | {"visitors": visitors(those), "pageviews": len(views(those))}
        for values, those in grouped(Asked(world).events, lambda e: tuple(e[name] for name in names)).items()
    ]
    return page(rows, world.question, "-visitors", "-pageviews", *names)


def p_events_catalog(world):
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
        for (name, goal), those in grouped(Asked(world).events, lambda e: (e["name"], e["goal"])).items()
    ]
    return page(rows, world.question, "-events", "name", "goal")


def p_goal_conversions(world):
    events = Asked(world).events
    rows = [
        {
            "goal": goal,
            "conversions": len(those),
            "visitors": visitors(those),
            "conversion_rate": rate(visitors(those), visitors(events)),
            "value": sum(e["value"] or 0 for e in those),
        }
        for goal, those in grouped(goals(events), lambda e: e["goal"]).items()
    ]
    return page(rows, world.question, "-conversions", "goal")


def p_metric_series(world):
    asked, zone = world.question, world.question["timezone"]
    since, until = bounds(asked)
    shown = [one for one in _spans(since, until, asked) if one[0] <= asked["now"]]
    before = _spans(start_of_previous(asked), since, asked) if asked["compare"] == "previous" else []
    shown = page(shown, asked)
    before = page(before, asked)[: len(shown)]
    if not of_websites(world) or not shown:
        return []
    # What lies around the buckets that are shown is read with them.
    read = Asked(world, min(start for start, *_ in shown + before), max(end for _, end, _ in shown))
    figure = _FIGURES[asked["metric"]]
    money = asked["currency"] or currency(world)

    def values(spans, begin, end):
        events = grouped(_between(read.events, begin, end), lambda e: bucket(e["timestamp"], asked["granularity"], zone))
        runs = [run for run in read.sessions if begin <= run[0]["timestamp"] < end]
        runs = grouped(runs, lambda run: bucket(run[0]["timestamp"], asked["granularity"], zone))
        return [figure(events[name], runs[name], money) for *_, name in spans]

    now = values(shown, since, until)
    past = values(before, start_of_previous(asked), since)
    past += [None] * (len(now) - len(past))
    return [
        {"bucket": name, "value": value, "previous_value": previous}
        for (*_, name), value, previous in zip(shown, now, past, strict=True)
    ]


_FIGURES = {
    "visitors": lambda events, runs, money: visitors(events),
    "pageviews": lambda events, runs, money: len(views(events)),
    "conversions": lambda events, runs, money: len(goals(events)),
    "revenue": lambda events, runs, money: revenue(events, money),
    "sessions": lambda events, runs, money: len(runs),
    "bounce_rate": lambda events, runs, money: rate(sum(map(bounced, runs)), len(runs)),
    "avg_seconds": lambda events, runs, money: mean(list(map(seconds, runs))),
}


def _spans(since, until, asked):
    """The buckets of a range, as [(start, end, name)]."""
    found = buckets(since, until, asked["granularity"], asked["timezone"])
    ends = [start for start, _ in found[1:]] + [until]
    return [(start, end, name) for (start, name), end in zip(found, ends, strict=True)] if found else []


def _between(events, begin, end):
    return [e for e in events if begin <= e["timestamp"] < end]


def p_retention_cohort(world):
    asked, zone, granularity = world.question, world.question["timezone"], world.question["granularity"]
    since, until = bounds(asked)
    periods = [name for _, name in buckets(since, until, granularity, zone)]
    cohorts = {name: [] for name in periods}
    for visitor, events in grouped(Asked(world, datetime(2010, 1, 1, tzinfo=UTC)).events, lambda e: e["visitor_id"]).items():
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


# ---------------------------------------------------------------------------------------------- sessions


def p_top_pages(world):
    asked = Asked(world)
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
    return page(rows.values(), world.question, "-visitors", "-pageviews", "path")


def p_referrers(world):
    asked = Asked(world)
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
    return page(rows, world.question, "-visitors", "-pageviews", "referrer")


def p_traffic_sources(world):
    asked = Asked(world)
    money = world.question["currency"] or currency(world)
    rows = []
    for source, runs in grouped(asked.runs, _source).items():
        those = [e for run in runs for e in run if e in asked.events]
        sessions = [run for run in runs if run in asked.sessions]
        if sessions or any(e["name"] != "pageview" for e in those):
            rows.append(dict(zip(SOURCE, source, strict=True)) | {
                "visitors": visitors(those),
                "sessions": len(sessions),
                "bounce_rate": rate(sum(map(bounced, sessions)), len(sessions)),
                "conversions": len(goals(those)),
                "revenue": revenue(those, money),
                "currency": money,
            })  # fmt: skip
    return page(rows, world.question, "-visitors", "-sessions", *SOURCE)


def _source(run):
    return tuple(run[0][name] for name in SOURCE)


def p_sessions_list(world):
    """All sessions, whatever the page; `session_id` is for the SQL to make."""
    rows = []
    for session in Asked(world).sessions:
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


def p_llm_traffic(world):
    asked = Asked(world)
    rows = []
    for engine, runs in grouped(asked.runs, lambda run: run[0]["llm_engine"]).items():
        those = [e for run in runs for e in run if e in asked.events]
        paths = [e["path"] for e in views(those)]
        row = {
            "llm_engine": engine,
            "visitors": visitors(those),
            "sessions": sum(run in asked.sessions for run in runs),
            "pageviews": len(paths),
            "top_path": min(paths, key=lambda path: (-paths.count(path), path), default=""),
        }
        if engine and (row["visitors"] or row["sessions"] or row["pageviews"]):
            rows.append(row)
    return page(rows, world.question, "-visitors", "-pageviews", "llm_engine")


# ---------------------------------------------------------------------------------------------- funnels


def p_funnel(world):
    if not of_websites(world):
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
    asked, window = world.question, timedelta(days=world.question["window_days"])
    here = Asked(world)
    read = Asked(world, here.since - window)
    rows = {}
    for own in read.all:
        for payment in own:
            if payment["name"] != "payment" or not here.in_range(payment) or not here.keeps(payment):
                continue
            touches = sorted(_touches(read, own, payment, window), key=lambda run: order(run[0]))
            weights = _WEIGHTS[asked["model"]](touches, payment)
            for run, weight in zip(touches, weights, strict=True):
                if weight and read.comes_from(run):
                    row = rows.setdefault((*_source(run), payment["currency"]), {"revenue": 0, "payments": 0, "who": []})
                    row["revenue"] += float(payment["amount"]) * weight / sum(weights)
                    row["payments"] += weight / sum(weights) if payment["amount"] > 0 else 0
                    row["who"].append(payment)
    for key, row in rows.items():
        row |= {**dict(zip((*SOURCE, "currency"), key, strict=True)), "visitors": visitors(row.pop("who"))}
    return list(rows.values())


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


# ---------------------------------------------------------------------------------------------- one visitor, one website


def linked(world):
    """All visitor ids of the same user on the websites that are asked about, in no order."""
    asked = world.question
    told = [one for one in world.identities if one["workspace_id"] == asked["workspace"]]
    told = [one for one in told if one["website_id"] in asked["websites"]] + of_websites(world)
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
    told = [one for one in world.identities if one["visitor_id"] in ids and one["workspace_id"] == world.question["workspace"]]
    told = sorted((one for one in told if one["website_id"] in world.question["websites"]), key=lambda one: one["received_at"])
    money = currency(world, ids)
    first = events[0]

    def known(name, events):
        return next((e[name] for e in events if e[name]), "")

    row = {
        "visitor_id": world.question["visitor_id"],
        "visitor_ids": sorted(ids),
        "first_seen": iso(first["timestamp"]),
        "last_seen": iso(events[-1]["timestamp"]),
        "sessions": sum(run[0]["visitor_id"] in ids for run in asked.sessions),
        "pageviews": len(views(events)),
        "events": len(events),
        **{name: known(name, events[::-1]) for name in ("country", "device", "browser", "os", "language")},
        "llm_engine": known("llm_engine", events),
        **{name: first[name] for name in (*SOURCE, "referrer")},
        "revenue": revenue(events, money),
        "currency": money,
        "user_ids": sorted({one["user_id"] for one in [*told, *events]} - {""}),
        "emails": sorted({one["email"] for one in told} - {""}),
        "traits": {name: value for one in told for name, value in one["traits"].items()},
    }
    return page([row], world.question)


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


def p_pixel_healthcheck(world):
    asked = world.question
    drops = [one for one in world.drops if one["workspace_id"] == asked["workspace"]]
    lately = [one for one in drops if one["at"] > asked["now"] - DAY]
    rows = []
    for website in asked["websites"]:
        events = [e for e in of_websites(world) if e["website_id"] == website]
        people = [e for e in events if not e["bot"]]
        fresh = [e for e in events if e["received_at"] > asked["now"] - DAY]
        fresh_people = [e for e in fresh if not e["bot"]]
        dropped = [one for one in lately if one["website_id"] == website]
        if events or dropped:
            rows.append({
                "website_id": website,
                "status": "ok" if fresh_people else "silent" if people else "no_data",
                "last_event_at": iso(max(e["received_at"] for e in people)) if people else None,
                "events_24h": len(fresh_people),
                "duplicates_24h": sum(one["events"] for one in dropped if one["reason"] == "duplicate"),
                "rejected_24h": sum(one["events"] for one in dropped if one["reason"] not in ("duplicate", "bot")),
                "bots_24h": sum(e["bot"] != "" for e in fresh)
                + sum(one["events"] for one in dropped if one["reason"] == "bot"),
                "without_visitor_24h": sum(e["visitor_id"] == "" for e in fresh_people),
            })  # fmt: skip
    return page(rows, asked, "website_id")


PIPES = {name: report for name, report in globals().items() if name.startswith("p_")}
