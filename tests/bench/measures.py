"""What is measured. Each measure gives rows of the table."""

import random
import statistics
import time
from concurrent.futures import ThreadPoolExecutor

from pixel import pipes
from tests.bench import load, traffic, watch
from tests.bench.runs import BARE, CONNECTIONS, percentiles, say

ROUNDS = 3
#: Calls of each report by one caller, and events whose way into a report is timed.
CALLS, SAMPLES = 100, 200
REPORT = "p_top_pages"
#: Rows of the request log that support looks through.
LOGGED = 10_000_000
TEN_MILLION = 10_000_000
#: Funnels, retention, attribution (which channel, source or assistant a session, a goal or a payment is from) and lists
#: of sessions may take more time than other reports.
HEAVY = {
    "p_funnel", "p_funnel_v2", "p_retention_cohort", "p_attributed_revenue", "p_traffic_sources", "p_llm_traffic",
    "p_sessions_list",
}  # fmt: skip
#: What a first page shows.
OVERVIEW = (
    "p_realtime_visitors", "p_metric_series", "p_top_pages", "p_traffic_sources", "p_geo", "p_devices", "p_llm_traffic",
    "p_goal_conversions",
)  # fmt: skip
MEMORY_SECONDS = 60
#: Connections of browsers that go on while bots send.
FEW = 4


def requests(world, runs):
    """Single requests in rounds, so that whatever else the machine does falls on all of them."""
    for _ in range(ROUNDS):
        runs.bare()
        runs.load("one event", world.pixel, traffic.events)
        runs.load("one event, journal off", world.unjournaled, traffic.events)
        runs.load("GET /me", world.pixel, lambda _, key: traffic.me(key))
    runs.bare()
    one = runs.row("one event")
    beside = runs.ratio("one event", "one event, journal off")
    one["goals"] = {
        "0.45 of bare": one["of bare"] >= 0.45,
        f"0.6 of journal off (is {beside:.2f})": beside >= 0.6,
        "p99 < 60": one["milliseconds"][2] < 60,
    }
    return [runs.row(BARE), one, runs.row("one event, journal off"), runs.row("GET /me")]


def collection(world, runs):
    """Hits of browsers, beside the same that are not stored; and what they notice of a flood of bots."""
    place = world.collecting
    hit, off = "one hit of a browser", "one hit of a browser, journal off"
    for _ in range(ROUNDS):
        runs.bare()
        runs.load(hit, place, _people)
        runs.load(off, world.collecting_unjournaled, _people)
    alone, beside = f"hits of browsers on {FEW} connections", "the same while bots send all they can"
    flood = f"hits of bots on {CONNECTIONS} connections, meanwhile"
    runs.load(alone, place, _people, connections=FEW)
    runs.load_with(place, {
        beside: load.Group(FEW, traffic.hits(place.website)),
        flood: load.Group(CONNECTIONS, traffic.hits(place.website, bots=True)),
    })  # fmt: skip
    runs.load(alone, place, _people, connections=FEW)
    runs.bare()
    row, of_off = runs.row(hit), runs.ratio(hit, off)
    row["goals"] = {
        f"0.7 of journal off (is {of_off:.2f})": of_off >= 0.7,
        "p99 < 60": row["milliseconds"][2] < 60,
    }
    return [row, *map(runs.row, (off, alone, beside, flood))]


def batch(world, runs):
    """Events in batches: as fast as they are accepted, and as fast as they get into the reports."""
    name = f"events in batches of {traffic.BATCH:,}"
    runs.bare()
    begin, before = time.monotonic(), world.accepted.total()
    runs.load(name, world.pixel, traffic.batches, size=traffic.BATCH)
    loaded = (world.accepted.total() - before) / (time.monotonic() - begin)
    runs.bare()
    row = runs.row(name)
    row["goals"] = {"30,000": row["rate"] > 30_000}
    row["remarks"] = f"{loaded:,.0f} a second from the first sent to the last in a report {row['remarks']}"
    return [row]


def reports(world, runs):
    """Every report for one caller, then one report for all connections at once."""
    website, written, loaded = world.filled
    filling = {
        "name": f"filling a website with {world.events:,} events",
        "rate": world.events / loaded,
        "remarks": f"{written:.0f} s until all were in the journal, {loaded:.0f} s until all were in the warehouse",
    }
    rows = _for_one_caller(world, website, f"{world.events:,} events", plain=100, heavy=300)
    runs.bare()
    runs.load(REPORT, world.pixel, lambda _, key: traffic.reports(website, key, [REPORT]))
    runs.bare()
    return [filling, *rows, runs.row(REPORT)]


def overview(world, runs):
    """The eight reports of an overview asked at once, a website with a million events."""
    website, *_ = world.filled
    times = []
    with ThreadPoolExecutor(len(OVERVIEW)) as people:
        for _ in range(CALLS):
            begin = time.perf_counter()
            list(people.map(lambda pipe: world.report(pipe, website_id=website), OVERVIEW))
            times.append((time.perf_counter() - begin) * 1000)
    say(f"overview: {statistics.median(times):.0f} ms")
    row = {"name": f"{len(OVERVIEW)} reports at once", "milliseconds": percentiles(times)}
    return [row | {"goals": {"p95 < 500": percentiles(times)[1] < 500}, "remarks": ", ".join(OVERVIEW)}]


def scale(world, runs):
    """Every report at ten million events: of one website, and of one among a thousand."""
    rows = []
    for sites in (1, 1000):
        website = world.poured(TEN_MILLION, sites)
        about = f"{TEN_MILLION:,} events, {sites:,} website{'s' if sites > 1 else ''}"
        rows += _for_one_caller(world, website, about, plain=700, heavy=2500)
        world.forget(website)
    return rows


def lag(world, runs):
    """From the 202 of an event until a report counts it, on a quiet server and on one that takes all it can."""
    website = world.website("lag.example")
    place = world.pixel
    quiet = [_milliseconds_to_report(world, website, f"/quiet/{number}") for number in range(SAMPLES)]
    busy, group = [], load.Group(CONNECTIONS, traffic.events(place.website, place.key))
    with ThreadPoolExecutor(1) as background:
        sending = background.submit(load.run, place.server.port, group, seconds=3 * runs.seconds)
        while not sending.done():
            busy.append(_milliseconds_to_report(world, website, f"/busy/{len(busy)}"))
        sending.result()
    world.accepted[place.website] += group.statuses[202]
    world.settle()
    return [
        _lag_row("from 202 to a report", quiet) | {"goals": {"p99 < 1,000": percentiles(quiet)[2] < 1000}},
        _lag_row(f"the same while {CONNECTIONS} connections send events", busy),
    ]


def mixed(world, runs):
    """Events and reports at the same time, each with connections of their own."""
    website, *_ = world.filled
    place = world.pixel
    writing = "one event, 16 connections, while reports run"
    reading = f"reports, {CONNECTIONS} connections, each in turn, meanwhile"
    groups = {
        writing: load.Group(16, traffic.events(place.website, place.key)),
        reading: load.Group(CONNECTIONS, traffic.reports(website, place.key, sorted(pipes.all()))),
    }
    runs.bare()
    runs.load_with(place, groups)
    runs.bare()
    row = runs.row(writing)
    row["goals"] = {"p99 < 100": row["milliseconds"][2] < 100}
    return [row, runs.row(reading)]


def support(world, runs):
    """Support's way from a pasted id to the page of that request, with a month of calls in the request log."""
    agent = world.agent
    known = world.logged(LOGGED)
    rows = []
    for name, wanted in (("a request_id", known["request_id"]), ("an event_id", known["event_id"])):
        times = [agent.look_up(text) for text in wanted[:SAMPLES]]
        found, shown = [milliseconds for milliseconds, _ in times], [sum(both) for both in times]
        say(f"support, {name}: {statistics.median(found):.0f} ms, with its page {statistics.median(shown):.0f} ms")
        rows.append({
            "name": f"support finds {name} among {LOGGED:,} requests",
            "milliseconds": percentiles(found),
            "goals": {"p95 < 100": percentiles(found)[1] < 100},
            "remarks": "and its page: " + ", ".join(f"{ms:.0f}" for ms in percentiles(shown)),
        })  # fmt: skip
    return rows


def memory(world, runs):
    """What the processes hold while they are at it, after a minute of events and reports."""
    place = world.pixel
    writes = load.Group(CONNECTIONS, traffic.events(place.website, place.key))
    reads = load.Group(1, traffic.reports(place.website, place.key, sorted(pipes.all())))
    held = watch.Memory(place.server)
    load.run(place.server.port, writes, reads, seconds=MEMORY_SECONDS, meter=held)
    world.accepted[place.website] += writes.statuses[202]
    world.settle()
    parts = ", ".join(f"{name} {megabytes:.0f}" for name, megabytes in held.megabytes.items())
    whole = sum(held.megabytes.values())
    say(f"memory: {whole:.0f} MB")
    row = {"name": "memory (PSS) in a minute of load, MB", "rate": whole, "remarks": parts}
    return [row | {"goals": {"450": whole < 450}}]


ALL = {
    measure.__name__: measure
    for measure in (requests, collection, batch, reports, overview, lag, mixed, memory, support, scale)
}


def _people(website, _key):
    return traffic.hits(website)


def _for_one_caller(world, website, about, plain, heavy):
    """Every report, once of a server that has just started and then again and again, and its limit in milliseconds."""
    cold = {pipe: _timed(world, website, pipe) for pipe in sorted(pipes.all())}
    rows = []
    for pipe, first in cold.items():
        milliseconds = [_timed(world, website, pipe) for _ in range(CALLS)]
        say(f"{pipe}: {statistics.median(milliseconds):.0f} ms")
        limit = heavy if pipe in HEAVY else plain
        read = world.answer(pipe, website_id=website)["statistics"]["rows_read"]
        rows.append({
            "name": f"{pipe}, {about}",
            "rate": 1000 / statistics.mean(milliseconds),
            "milliseconds": percentiles(milliseconds),
            "goals": {f"p95 < {limit:,}": percentiles(milliseconds)[1] < limit},
            "remarks": f"first {first:.0f} ms, {read:,} rows read",
        })  # fmt: skip
    return rows


def _timed(world, website, pipe):
    begin = time.perf_counter()
    world.report(pipe, website_id=website)
    return (time.perf_counter() - begin) * 1000


def _milliseconds_to_report(world, website, path):
    # Loads come at a beat, and the end of a wait is on it: step off it, as events do.
    time.sleep(random.uniform(0, 0.5))
    world.send(website, name="pageview", path=path, visitor_id="bench")
    begin = time.perf_counter()
    while not world.report("p_events_catalog", website_id=website, path=path):
        time.sleep(0.01)
    return (time.perf_counter() - begin) * 1000


def _lag_row(name, milliseconds):
    say(f"{name}: {statistics.median(milliseconds):.0f} ms")
    return {
        "name": name,
        "milliseconds": percentiles(milliseconds),
        "remarks": f"{len(milliseconds)} events; asking takes its part of it",
    }
