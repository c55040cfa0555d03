"""Taking events."""

from collections import Counter

from flask import g
from marshmallow import ValidationError

from pixel import envelope, errors, events, websites
from pixel.access import Scope, require
from pixel.api import answer, api
from pixel.intake import body, idempotency, schemas

MOST_EVENTS = 1000
_QUERY, _EVENT, _RECEIPT = schemas.DryRun(), schemas.Event(), schemas.OfWebsite()


@api.post("/pixel/events")
@require(Scope.PIXEL_WRITE)
def accept_event():
    """Accept one event."""
    dry_run = body.query(_QUERY).get("dry_run") == "true"
    given, sites, entry = idempotency.with_event_id(body.json()), visible_websites(), g.entry
    try:
        event = _EVENT.load(given)
    except ValidationError:
        if not dry_run:
            _note_refused([given], sites)
        raise
    ready = events.prepare(event, website(event, sites), entry.request_id)
    entry.step("validation")
    if dry_run:
        return answer({"event": events.shown(ready.row)})
    events.refuse_if_unavailable()
    events.keep([ready])
    entry.step("journal")
    entry.event_ids = (ready.row["event_id"],)
    return answer(_receipt(ready.row), 202)


@api.post("/pixel/events/batch")
@require(Scope.PIXEL_WRITE)
def accept_batch():
    """Accept up to 1,000 events; a bad one never costs a good one."""
    dry_run = body.query(_QUERY).get("dry_run") == "true"
    idempotency.refuse()
    given = body.lines(MOST_EVENTS)
    sites, request_id = visible_websites(), g.entry.request_id
    judged = [_judged(event, sites, request_id) for event in given]
    ready = [event for event in judged if isinstance(event, events.Ready)]
    g.entry.step("validation")
    if not dry_run:
        _note_refused([event for event, fate in zip(given, judged, strict=True) if isinstance(fate, dict)], sites)
        events.refuse_if_unavailable()
        if ready:
            events.keep(ready)
        g.entry.step("journal")
        g.entry.event_ids = [event.row["event_id"] for event in ready]
    g.entry.refused = len(judged) - len(ready)
    results = [_result(event, dry_run) for event in judged]
    data = {"accepted": len(ready), "rejected": g.entry.refused, "results": results}
    return answer(data, 200 if dry_run else 202)


accept_batch.most_bytes = 10 << 20


@api.get("/pixel/events/<anything:event_id>")
@require(Scope.PIXEL_READ)
def read_receipt(event_id):
    """What became of an event."""
    only = body.query(_RECEIPT).get("website_id")
    sites = visible_websites()
    if only:
        sites = [websites.get(g.caller.workspace_id, only, g.caller.websites).id]
    return answer(events.receipt(g.caller.workspace_id, list(sites), event_id))


def visible_websites():
    """The websites that this key may see, by id."""
    caller = g.caller
    return websites.visible(caller.workspace_id, caller.websites)


def website(given, sites):
    """The one of `sites` that a body names. Raises ValidationError for any other, whether it is there or not."""
    site = sites.get(given["website_id"])
    if site is None:
        raise ValidationError({"website_id": ["No such website in this workspace."]})
    return site


def _judged(given, sites, request_id):
    """An event of a batch, ready to be kept, or what is wrong with it."""
    if isinstance(given, envelope.NotStrictJson):
        return {"_body": [str(given)]}
    try:
        event = _EVENT.load(given)
        return events.prepare(event, website(event, sites), request_id)
    except ValidationError as error:
        return errors.flat(error.messages)


def _note_refused(refused, sites):
    """Tell each website how many of its events were not valid, as far as they say whose they are."""
    named = [event.get("website_id") for event in refused if isinstance(event, dict)]
    counts = Counter(website_id for website_id in named if isinstance(website_id, str) and website_id in sites)
    for website_id, number in counts.items():
        events.drop(sites[website_id], "invalid_body", g.entry.request_id, number)


def _result(judged, dry_run):
    if not isinstance(judged, events.Ready):
        return {"status": "rejected", "errors": judged}
    if dry_run:
        return {"status": "accepted", "event": events.shown(judged.row)}
    return {"status": "accepted", "event_id": judged.row["event_id"]}


def _receipt(row):
    facts = {name: row[name] for name in ("event_id", "website_id", "name")}
    return {"status": "accepted", **facts}
