"""Reports that count events and sessions, done naively: a function each, of the same name, gives the rows wanted."""

from collections import Counter
from datetime import timedelta

from tests.pipes.definitions import (
    DAY,
    SOURCE,
    TICK,
    Asked,
    bounced,
    bounds,
    bucket,
    currency,
    goals,
    grouped,
    iso,
    mean,
    of_websites,
    page,
    rate,
    revenue,
    seconds,
    shown_buckets,
    source_of,
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
    shown, before = shown_buckets(asked)
    if not of_websites(world.events, asked) or not shown:
        return []
    # What lies around the buckets that are shown is read with them.
    read = Asked(world, min(start for start, *_ in shown + before), max(end for _, end, _ in shown))
    figure = _FIGURES[asked["metric"]]
    money = asked["currency"] or currency(world)

    def name_of(event):
        return bucket(event["timestamp"], asked["granularity"], zone)

    def values(spans, begin, end):
        events = grouped((e for e in read.events if begin <= e["timestamp"] < end), name_of)
        starting = [run for run in read.sessions if begin <= run[0]["timestamp"] < end]
        runs = grouped(starting, lambda run: name_of(run[0]))
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


def p_pixel_healthcheck(world):
    asked, rows = world.question, []
    events = grouped(of_websites(world.events, asked), lambda e: e["website_id"])
    drops = [one for one in of_websites(world.drops, asked) if one["at"] > asked["now"] - DAY]
    dropped = grouped(drops, lambda one: one["website_id"])
    for website in {*events, *dropped}:
        rows.append({"website_id": website, **_health(events[website], dropped[website], asked["now"] - DAY)})
    return page(rows, asked, "website_id")


def _health(events, drops, lately):
    people = [e for e in events if not e["bot"]]
    fresh = [e for e in events if e["received_at"] > lately]
    fresh_people = [e for e in fresh if not e["bot"]]
    reasons = Counter()
    for one in drops:
        reasons[one["reason"]] += one["events"]
    return {
        "status": "ok" if fresh_people else "silent" if people else "no_data",
        "last_event_at": iso(max(e["received_at"] for e in people)) if people else None,
        "events_24h": len(fresh_people),
        "duplicates_24h": reasons["duplicate"],
        "rejected_24h": reasons.total() - reasons["duplicate"] - reasons["bot"],
        "bots_24h": sum(e["bot"] != "" for e in fresh) + reasons["bot"],
        "without_visitor_24h": sum(e["visitor_id"] == "" for e in fresh_people),
    }


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
    for source, runs in grouped(asked.runs, source_of).items():
        those = asked.counted(runs)
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
        those = asked.counted(runs)
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
