"""What the command `pixel` does, one function for each of its verbs. Each gives the exit code."""

import sys
import time
from argparse import Namespace
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from pixel_client import tables
from pixel_client.client import Client
from pixel_client.events import Event
from pixel_client.file import FileOfEvents
from pixel_client.tables import visible

#: The fields of an event that have an option of the same name.
FIELDS = [name for name in Event.__annotations__ if name not in ("website_id", "name")]
#: What `tail` shows of a session, and how wide.
_TAIL = {"started_at": 24, "visitor_id": 24, "events": 6, "country": 7, "device": 8, "source": 16, "exit_path": 0}
#: How many sessions `tail` reads at a time, and how many it begins with.
_LOOK, _BEGIN = 200, 10


class WrongUsage(Exception):
    """Options that do not go together."""


def send(client: Client, options: Namespace) -> int:
    """Send one event, or a file of them."""
    event = {name: value for name in FIELDS if (value := getattr(options, f"event_{name}")) is not None}
    if options.file is not None:
        if event or options.name:
            raise WrongUsage("--file takes the fields of events from the file.")
        return 0 if FileOfEvents(options.file, options.website).send(client, options.dry_run) else 1
    if options.website is None:
        raise WrongUsage("--website is required, unless --file is given.")
    whole: Any = {"website_id": options.website, "name": options.name or "pageview", **event}
    sent = client.send(dry_run=options.dry_run, **whole)
    if sent.event is not None:
        _write(tables.table(("field", "value"), tables.facts(sent.event)))
    else:
        _write(f"{sent.event_id}\n")
    return 0


def query(client: Client, options: Namespace) -> int:
    """Print a report."""
    named: dict[str, list[str]] = {}
    for name, value in options.param:
        named.setdefault(name, []).append(value)
    asked = {**named, "from_": options.from_, "to": options.to}
    if options.all:
        limits = {"limit": options.limit or 1000, "offset": options.offset or 0}
        reports = list(client.query_pages(options.pipe, options.website, **limits, **asked))
    else:
        limits = {"limit": options.limit, "offset": options.offset}
        reports = [client.query(options.pipe, options.website, **limits, **asked)]
    if any(report.data_status == "stale" for report in reports):
        sys.stderr.write("pixel: The warehouse is away; this is its last answer of the hour.\n")
    columns = [column.name for column in reports[0].columns]
    _write_rows(columns, [row for report in reports for row in report], options)
    return 0


def pipes(client: Client, options: Namespace) -> int:
    """Print which reports there are, or what one of them takes and gives."""
    found = client.pipes()
    if options.pipe is None:
        _write_rows(("name", "title"), found, options)
        return 0
    described = next((pipe for pipe in found if pipe["name"] == options.pipe), None)
    if described is None:
        raise WrongUsage(f"There is no report {options.pipe!r}. pixel pipes lists them.")
    rows = [{"what": kind[:-1], **one} for kind in ("parameters", "columns") for one in described[kind]]
    _write_rows(("what", "name", "default", "about"), rows, options)
    return 0


def websites(client: Client, options: Namespace) -> int:
    """Print which websites the key may see."""
    _write_rows(("id", "domain", "name", "timezone", "createdAt"), client.websites(), options)
    return 0


def me(client: Client, options: Namespace) -> int:
    """Print whose key it is, and what it may do."""
    _write_facts(client.me(), options.format)
    return 0


def receipt(client: Client, options: Namespace) -> int:
    """Print what became of an event."""
    _write_facts(client.receipt(options.event_id, options.website), options.format)
    return 0


def visitor(client: Client, options: Namespace) -> int:
    """Print what is known of a visitor."""
    found = client.visitor(options.visitor_id, options.website)
    events = found.get("recent_events") or []
    if options.format == "json" or not events:
        _write_facts(found, options.format)
        return 0
    _write_facts({name: value for name, value in found.items() if name != "recent_events"}, options.format)
    _write("\n" + tables.table(list(events[0]), events))
    return 0


def tail(client: Client, options: Namespace) -> int:
    """Print sessions as they begin and go on, until interrupted."""
    events_of: dict[str, int] = {}
    most = _BEGIN
    _write(_tail_line({name: name for name in _TAIL}))
    try:
        while True:
            sessions = _sessions(client, options.website)
            fresh = [one for one in sessions if events_of.get(one["session_id"]) != one["events"]]
            _write("".join(_tail_line(one) for one in reversed(fresh[:most])))
            sys.stdout.flush()
            events_of = {one["session_id"]: one["events"] for one in sessions}
            most = _LOOK
            time.sleep(options.every)
    except KeyboardInterrupt:
        return 0


def _sessions(client: Client, website_id: str) -> list[dict[str, Any]]:
    # From yesterday, because a session may begin before midnight and go on after it.
    yesterday = datetime.now(UTC).date() - timedelta(days=1)
    return client.query("p_sessions_list", website_id, from_=yesterday, limit=_LOOK).rows


def _tail_line(session: Mapping[str, Any]) -> str:
    cells = (visible(str(session.get(name, ""))).ljust(width) for name, width in _TAIL.items())
    return "  ".join(cells).rstrip() + "\n"


def _write_rows(columns: Sequence[str], rows: Sequence[Mapping[str, Any]], options: Namespace) -> None:
    if options.format == "json":
        _write(tables.indented(rows))
    elif options.format == "csv":
        _write(tables.comma_separated(columns, rows, options.raw))
    else:
        _write(tables.table(columns, rows))


def _write_facts(thing: Mapping[str, Any], form: str) -> None:
    _write(tables.indented(thing) if form == "json" else tables.table(("field", "value"), tables.facts(thing)))


def _write(text: str) -> None:
    sys.stdout.write(text)
