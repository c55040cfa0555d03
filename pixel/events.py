"""Events: taken in once, durably, and found again by their id."""

import hashlib
import logging
import re
from collections.abc import Mapping
from datetime import timedelta
from typing import NamedTuple

import orjson
from flask import current_app

from pixel import agents, clock, errors, geo, ids, journal, percent, sources, telemetry
from pixel.extensions import journal as book
from pixel.extensions import warehouse
from pixel.text_cache import remember

TAGS = (
    "utm_source", "utm_medium", "utm_campaign", "utm_term", "utm_content", "gclid", "fbclid", "msclkid", "ttclid",
)  # fmt: skip
_AS_GIVEN = ("visitor_id", "session_id", "user_id", "title", "language", "screen", "goal", "value", "currency",
             "transaction_id", "provider", "props", "place")  # fmt: skip
_TAGS = frozenset(TAGS)
_LOG = logging.getLogger("pixel")
_MOST_TAG, _MOST_QUERY = 500, 4000
#: A tag in a query that begins with "&". Only tags are decoded: a query may have thousands of other parameters.
_TAG = re.compile(f"&({'|'.join(TAGS).replace('_', '(?:_|%5[Ff])')})=([^&]+)")


#: Why an event that came for a website was not counted, each with its sentence.
DROPS = {
    "duplicate": "An event of this id, or a payment of this transaction, was counted before.",
    "invalid_body": "The event was not valid. The answer to the request named each wrong field.",
    "origin": "The page that sent it is not on this website's domain, nor on a host that the website allows.",
    "opted_out": "The browser asks not to be tracked (Do Not Track, Global Privacy Control), so nobody is identified.",
    "rate_limited": "More came from one address, or for this website, than is taken in a minute.",
}


#: Fewer refused events in an hour are no news.
LEAST_JUMP = 20


class Ready(NamedTuple):
    """An event as it will be stored: its warehouse row, and its record in the journal."""

    row: dict
    frame: bytes


def prepare(event, site, request_id, lasting=False):
    """Make an event, validated and of the website `site`, ready to be kept. Nothing is kept yet.

    `event` has the fields of the API; in place of `url`, `query` may hold a query string. `lasting` has its event_id
    known for good and not for 24 hours, for a source that may be read again at any time. Its `place` may settle the
    order of events of one time.
    """
    received = clock.milliseconds()
    row = _row(event, site, request_id, received)
    key = _key("event", site.id, row["event_id"])
    transaction = event.get("transaction_id")
    other = _key("payment", site.id, event.get("provider", ""), transaction) if transaction else journal.NO_KEY
    row["event_key"] = key.hex()
    flags = journal.FOREVER if lasting else 0
    return Ready(row, journal.frame("events", orjson.dumps(row), received, key, other, flags))


def keep(ready):
    """Write prepared events to the journal and sync it: when this returns, they will be in the reports, once.

    Raises ServiceUnavailable, and then none of them counts as accepted.
    """
    book.append(b"".join(event.frame for event in ready))
    telemetry.count("pixel_events_accepted", amount=len(ready))


def drop(site, reason, request_id, number=1):
    """Note that so many events for a website are not counted, for one of DROPS. Nobody waits for it."""
    received = clock.milliseconds()
    row = {
        "workspace_id": site.workspace_id,
        "website_id": site.id,
        "at": clock.warehouse(received),
        "reason": reason,
        "events": number,
        "request_id": request_id,
    }
    telemetry.count("pixel_events_dropped", reason, amount=number)
    try:
        book.append_later(journal.frame("drops", orjson.dumps(row), received))
    except OSError:
        _LOG.exception("a drop was not noted")


def refuse_if_unavailable():
    """Raise IngestUnavailable when this server is not set up to take events."""
    if not current_app.config["ANALYTICS_INGEST_URL"]:
        raise errors.IngestUnavailable()


def receipt(workspace_id, website_ids, event_id):
    """What became of an event: its facts and whether it is `accepted` (durable) or `stored` (in the reports).

    Raises EventNotFound, or AnalyticsError when the warehouse must be asked and is away.
    """
    # The journal is looked at before and after the warehouse, because an event moves from the one to the other.
    try:
        found = _stored(workspace_id, website_ids, event_id)
        if not found:
            found = _waiting(workspace_id, website_ids, event_id) or _stored(workspace_id, website_ids, event_id)
    except errors.AnalyticsError:
        found = _waiting(workspace_id, website_ids, event_id)
        if not found:
            raise
    if not found:
        raise errors.EventNotFound()
    return found


def in_last_day(workspace_id):
    """What came from each website in 24 hours: `{website_id: {"events": count, "last": moment}}`."""
    rows = warehouse.query(
        "SELECT website_id, count() AS events, max(received_at) AS last FROM events"
        " WHERE workspace_id = {workspace:String} AND received_at >= {since:DateTime64(3)} GROUP BY website_id",
        {"workspace": workspace_id, "since": _a_day_ago()},
    )["data"]
    return {row["website_id"]: {"events": row["events"], "last": clock.from_warehouse(row["last"])} for row in rows}


def latest(workspace_id, website_id, most=10):
    """The last events that came from a website within 24 hours, newest first."""
    rows = warehouse.query(
        "SELECT received_at, event_id, name, path, goal, source, channel, country, browser, os, bot FROM events"
        " WHERE workspace_id = {workspace:String} AND website_id = {website:String}"
        " AND received_at >= {since:DateTime64(3)} ORDER BY received_at DESC, event_id DESC LIMIT {most:UInt32}",
        {"workspace": workspace_id, "website": website_id, "since": _a_day_ago(), "most": most},
    )["data"]
    return [row | {"moment": clock.from_warehouse(row["received_at"])} for row in rows]


def dropped(workspace_id, website_id, hours=24):
    """Why events that came for a website were not counted, most first.

    [{"reason", "events", "last", "newest"}], the last two a moment and a request id.
    """
    rows = warehouse.query(
        "SELECT reason, sum(events) AS total, max(at) AS last, argMax(request_id, at) AS newest FROM drops"
        " WHERE workspace_id = {workspace:String} AND website_id = {website:String} AND at >= {since:DateTime64(3)}"
        " GROUP BY reason ORDER BY total DESC, reason",
        {
            "workspace": workspace_id,
            "website": website_id,
            "since": clock.warehouse_moment(clock.now() - timedelta(hours=hours)),
        },
    )["data"]
    return [
        {
            "reason": row["reason"],
            "events": row["total"],
            "last": clock.from_warehouse(row["last"]),
            "newest": row["newest"],
        }
        for row in rows
    ]


def silent(workspace_id=None):
    """The websites, of one workspace or all, that used to send and have sent nothing for a day.

    [{"website_id", "last", "days"}]: when the last event of a person came, and on how many of the days before one did;
    two at the least.
    """
    rows = warehouse.query(
        "SELECT website_id, max(received_at) AS last, uniqExact(toDate(received_at)) AS days FROM events"
        " WHERE ({workspace:String} = '' OR workspace_id = {workspace:String}) AND bot = ''"
        " AND received_at >= {week:DateTime64(3)} GROUP BY website_id"
        " HAVING last < {day:DateTime64(3)} AND days >= 2 ORDER BY website_id LIMIT 1000",
        {"workspace": workspace_id or "", "week": clock.warehouse_moment(clock.now() - timedelta(days=8)),
         "day": _a_day_ago()},
    )["data"]  # fmt: skip
    return [row | {"last": clock.from_warehouse(row["last"])} for row in rows]


def jumps(workspace_id=None):
    """The websites of which far more is refused, for one reason, in this hour than in the hours of the day before.

    [{"website_id", "reason", "now", "before", "newest"}]: how many in this hour, and in an hour before on average.
    """
    return warehouse.query(
        "SELECT website_id, reason, sumIf(events, at >= {hour:DateTime64(3)}) AS now,"
        " round(sumIf(events, at < {hour:DateTime64(3)}) / 24, 1) AS before, argMax(request_id, at) AS newest"
        " FROM drops WHERE ({workspace:String} = '' OR workspace_id = {workspace:String}) AND reason != 'duplicate'"
        " AND at >= {day:DateTime64(3)} GROUP BY website_id, reason"
        " HAVING now >= {least:UInt32} AND now > 3 * before ORDER BY now DESC LIMIT 1000",
        {"workspace": workspace_id or "", "least": LEAST_JUMP,
         "hour": clock.warehouse_moment(clock.now() - timedelta(hours=1)),
         "day": clock.warehouse_moment(clock.now() - timedelta(hours=25))},
    )["data"]  # fmt: skip


def stored_among(workspace_id, event_ids):
    """Those of these events that are in the reports; the others are accepted, and on their way."""
    rows = warehouse.query(
        "SELECT DISTINCT event_id FROM events WHERE workspace_id = {workspace:String}"
        " AND has({ids:Array(String)}, event_id)",
        {"workspace": workspace_id, "ids": list(event_ids)},
    )["data"]
    return {row["event_id"] for row in rows}


def _a_day_ago():
    return clock.warehouse_moment(clock.now() - timedelta(hours=24))


def _row(event, site, request_id, received):
    url = event.get("url")
    tags = _tags(event, url.query if url else event.get("query", ""))
    hostname = (event.get("hostname") or (url.hostname if url else "")).lower()
    origin, referrer_url = _origin(event.get("referrer", ""), site.domain, hostname, tags)
    agent = agents.classify(event.get("user_agent", ""))
    moment = event.get("timestamp")
    row = {
        "workspace_id": site.workspace_id,
        "website_id": site.id,
        "name": event["name"],
        "event_id": event.get("event_id") or ids.in_time("evt_"),
        "request_id": request_id,
        "timestamp": clock.warehouse_moment(moment) if moment else clock.warehouse(received),
        "received_at": clock.warehouse(received),
        "hostname": hostname,
        "path": event.get("path") or (url.path or "/" if url else ""),
        "referrer": origin.referrer,
        "referrer_url": referrer_url,
        "channel": origin.channel,
        "source": origin.source,
        "medium": origin.medium,
        "campaign": origin.campaign,
        "llm_engine": origin.llm_engine,
        "country": (event.get("country") or geo.country(event.get("ip", ""))).upper(),
        "device": event.get("device") or agent.device,
        "browser": event.get("browser") or agent.browser,
        "os": event.get("os") or agent.os,
        "bot": agent.bot,
        **tags,
    }
    for name in _AS_GIVEN:
        if name in event:
            row[name] = event[name]
    if "amount" in event:
        row["amount"] = str(event["amount"])
    if "visitor_id" not in event and event.get("ip") and event.get("user_agent"):
        row["visitor_id"] = _visitor(site.id, event["ip"], event["user_agent"])
    return row


def _tags(event: Mapping, query: str) -> dict[str, str]:
    """Return the campaign tags and click ids of the event's fields, else those of the address's query."""
    given = {} if _TAGS.isdisjoint(event) else {name: event[name] for name in TAGS if event.get(name)}
    return _tags_of(query[:_MOST_QUERY]) | given if query else given


@remember(1 << 20)
def _tags_of(query: str) -> dict[str, str]:
    tags = {}
    for name, value in _TAG.findall("&" + query):
        name = percent.decode(name)
        if name not in tags and (text := percent.decode(value)):
            tags[name] = text.replace("\0", "")[:_MOST_TAG]
    return tags


def _origin(referrer: str, domain: str, hostname: str, tags: Mapping[str, str]) -> tuple[sources.Origin, str]:
    """Return where the event came from, and the address it came from if that is not the site's own."""
    return _origin_of(referrer, domain, hostname, tuple(tags.items()))


@remember(1 << 20)
def _origin_of(
    referrer: str, domain: str, hostname: str, tags: tuple[tuple[str, str], ...]
) -> tuple[sources.Origin, str]:
    host, address = sources.split_referrer(referrer)
    origin = sources.classify(host, {domain, hostname}, dict(tags))
    return origin, address if origin.referrer else ""


def _visitor(website_id, ip, user_agent):
    """An id for who sent no id: the same for the same address and browser, and not to be turned back into them."""
    return "v_" + _digest(_secret(), "visitor", website_id, ip, user_agent).hex()


def _secret():
    return hashlib.sha256(b"visitor ids\0" + current_app.config["SECRET_KEY"].encode()).digest()


def _key(*parts):
    """What an event is counted once by, as 16 bytes."""
    return _digest(b"", *parts)


def _digest(key, *parts):
    return hashlib.blake2b("\0".join(parts).encode(), digest_size=16, key=key).digest()


def _stored(workspace_id, website_ids, event_id):
    rows = warehouse.query(
        "SELECT event_id, website_id, name, received_at, request_id FROM events"
        " WHERE workspace_id = {workspace:String} AND has({websites:Array(String)}, website_id)"
        " AND event_id = {event:String} ORDER BY received_at DESC LIMIT 1",
        {"workspace": workspace_id, "websites": website_ids, "event": event_id},
    )["data"]
    return {"status": "stored", **rows[0]} if rows else None


def _waiting(workspace_id, website_ids, event_id):
    needle = orjson.dumps({"event_id": event_id})[1:-1]
    for record in journal.find(book.folder, needle):
        if record.table == "events":
            row = orjson.loads(record.row)
            if row["workspace_id"] == workspace_id and row["website_id"] in website_ids and row["event_id"] == event_id:
                facts = {name: row[name] for name in ("event_id", "website_id", "name", "received_at", "request_id")}
                return {"status": "accepted", **facts, "received_at": row["received_at"].replace(" ", "T") + "Z"}
    return None


def shown(row):
    """A row as people are shown it: without what is the server's own, its moments with their zone."""
    told = {name: value for name, value in row.items() if name not in ("workspace_id", "event_key")}
    return told | {name: clock.rfc3339(clock.from_warehouse(row[name])) for name in ("timestamp", "received_at")}
