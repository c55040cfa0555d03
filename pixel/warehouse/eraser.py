"""Taking visitors out of the warehouse's tables and of the journal's files. For the engine, between two loads."""

import json
import os

import orjson

from pixel import clock, ids, journal
from pixel.errors import AnalyticsError
from pixel.warehouse.embedded import parsed

#: How many ids a text is searched for at once.
_AT_ONCE = 50

#: What an erasure is about while it runs: ids of visitors, events and requests. A mutation keeps its own text in the
#: table's folder, so that must not name anybody; this table is in memory. Each erasure has its own, because several
#: machines may erase on one server at once.
_TABLE = "CREATE TABLE {erasing:Identifier} (what LowCardinality(String), id String) ENGINE = Memory"
_PREFIX = "erasing_"
#: The table of an erasure that was killed is removed by the next one after that.
_LEFT_OVER_MILLISECONDS = 86_400_000

_OURS = """
    workspace_id = {workspace:String} AND has({websites:Array(String)}, website_id)
    AND visitor IN (SELECT sipHash64(id) FROM {erasing:Identifier} WHERE what = 'visitor')
    AND visitor_id IN (SELECT id FROM {erasing:Identifier} WHERE what = 'visitor')
"""
#: The same rows, by the ids themselves.
_STILL_THERE = """
    workspace_id = {workspace:String} AND has({websites:Array(String)}, website_id)
    AND visitor IN (SELECT sipHash64(arrayJoin({ids:Array(String)}))) AND has({ids:Array(String)}, visitor_id)
"""
_NOTE_EVENTS = f"INSERT INTO {{erasing:Identifier}} SELECT DISTINCT 'event', event_id FROM events WHERE {_OURS}"
_NOTE_REQUESTS = f"""
    INSERT INTO {{erasing:Identifier}} SELECT DISTINCT 'request', request_id FROM (
        SELECT request_id FROM events WHERE {_OURS} UNION ALL
        SELECT request_id FROM identities WHERE {_OURS} UNION ALL
        SELECT request_id FROM requests WHERE workspace_id = {{workspace:String}}
            AND hasAny(event_ids, (SELECT groupArray(id) FROM {{erasing:Identifier}} WHERE what = 'event')))
"""
#: Requests that came to nothing are known by what they say. A key that is refused belongs to no workspace.
_NOTE_MENTIONS = """
    INSERT INTO {erasing:Identifier} SELECT 'request', request_id FROM requests
    WHERE workspace_id IN ({workspace:String}, '')
        AND (multiSearchAny(
                replaceRegexpAll(concat(request_body, response_body, exception), '"visitor_id"\\\\s*:\\\\s*', ':'),
                {quoted:Array(String)})
            OR hasAny(
                arrayMap(pair -> decodeURLFormComponent(pair), splitByChar('&', query)),
                arrayMap(id -> concat('visitor_id=', id), {ids:Array(String)}))
            OR arrayExists(id -> position(concat(path, '/'), concat('/visitors/', id, '/')) > 0, {ids:Array(String)})
            OR has({ids:Array(String)}, client_request_id))
"""
_BLANK_REQUESTS = """
    ALTER TABLE requests UPDATE
        request_body = '', response_body = '', query = '', client_request_id = '', exception = '',
        path = if(route = '', '[erased]', route),
        event_ids = arrayFilter(id -> id NOT IN (SELECT id FROM {erasing:Identifier} WHERE what = 'event'), event_ids)
    WHERE request_id IN (SELECT id FROM {erasing:Identifier} WHERE what = 'request') SETTINGS mutations_sync = 2
"""
_DELETE = f"DELETE WHERE {_OURS} SETTINGS mutations_sync = 2"
#: One that was not waited for to its end would fail for ever without its table, and hold up all that come after it.
_KILL = """
    KILL MUTATION WHERE database = currentDatabase() AND NOT is_done AND position(command, {erasing:String}) > 0 SYNC
"""


def erase(warehouse, loader, workspace_id, website_ids, visitor_ids):
    """Take visitors out, and all that requests said of them: how many rows, as {place: number or names}.

    The loader must have loaded what there is. Raises AnalyticsError; then it can be run again.
    """
    _sweep(warehouse)
    asked = {"workspace": workspace_id, "websites": website_ids, "erasing": ids.in_time(_PREFIX)}
    try:
        requests = _note(warehouse, asked, visitor_ids)
        counted = {table: _count(warehouse, table, _OURS, asked) for table in ("events", "identities")}
        # What events are known by must be read before they go.
        warehouse.command(_BLANK_REQUESTS, asked)
        for table in counted:
            warehouse.command(f"ALTER TABLE {table} {_DELETE}", asked)
        for some in _portions(visitor_ids):
            if any(_count(warehouse, table, _STILL_THERE, asked | {"ids": some}) for table in counted):
                raise AnalyticsError("The warehouse has kept some of the rows.")
    finally:
        _drop(warehouse, asked["erasing"])
    return {**counted, "requests": len(requests), **_from_files(loader, asked, set(visitor_ids), requests)}


def _sweep(warehouse):
    """Remove the tables of erasures that were killed."""
    asked = "SELECT name FROM system.tables WHERE database = currentDatabase() AND startsWith(name, {prefix:String})"
    for row in parsed(warehouse.query(asked, {"prefix": _PREFIX}))["data"]:
        if ids.milliseconds(row["name"]) < clock.milliseconds() - _LEFT_OVER_MILLISECONDS:
            _drop(warehouse, row["name"])


def _drop(warehouse, table):
    warehouse.command(_KILL, {"erasing": table})
    warehouse.command("DROP TABLE IF EXISTS {erasing:Identifier} SYNC", {"erasing": table})


def _note(warehouse, asked, visitor_ids):
    """Write down all ids that this is about, in the table of this erasure. Returns those of the requests."""
    warehouse.command(_TABLE, asked)
    warehouse.insert(asked["erasing"], b"\n".join(orjson.dumps({"what": "visitor", "id": id}) for id in visitor_ids))
    warehouse.command(_NOTE_EVENTS, asked)
    warehouse.command(_NOTE_REQUESTS, asked)
    for some in _portions(visitor_ids):
        quoted = [text for id in some for text in _quoted(id)]
        warehouse.command(_NOTE_MENTIONS, asked | {"ids": some, "quoted": quoted})
    rows = parsed(warehouse.query("SELECT DISTINCT id FROM {erasing:Identifier} WHERE what = 'request'", asked))["data"]
    return {row["id"] for row in rows}


def _portions(visitor_ids):
    for start in range(0, len(visitor_ids), _AT_ONCE):
        yield visitor_ids[start : start + _AT_ONCE]


def _quoted(visitor_id):
    """How an id is written in JSON: the word "visitor_id" before it is taken off, the colon stays."""
    return {":" + json.dumps(visitor_id), ":" + json.dumps(visitor_id, ensure_ascii=False)}


def _count(warehouse, table, condition, asked):
    found = warehouse.query(f"SELECT count() AS n FROM {table} WHERE {condition}", asked)
    return parsed(found)["data"][0]["n"]


def _from_files(loader, asked, visitor_ids, requests):
    """Take them out of what is left of loaded journal files, and of what could not be loaded."""

    def is_meant(table, row):
        if table == "requests":
            return row.get("request_id") in requests
        ours = row.get("workspace_id") == asked["workspace"] and row.get("website_id") in asked["websites"]
        return ours and row.get("visitor_id") in visitor_ids

    blanked = sum(
        journal.blank(path, end, lambda record: is_meant(record.table, orjson.loads(record.row)))
        for path, end in loader.reached()
    )
    refused = _from_refused(loader.folder / journal.REFUSED, is_meant)
    return {"journal": blanked, "refused": refused, "damaged": _still_in_damaged(loader.folder, visitor_ids)}


def _from_refused(path, is_meant):
    """Take them out of the rows that the warehouse could not read: how many."""
    if not path.exists():
        return 0
    lines = path.read_bytes().splitlines(keepends=True)
    kept = [line for line in lines if not is_meant((said := orjson.loads(line))["table"], said["row"])]
    fresh = path.with_suffix(".new")
    with open(fresh, "wb") as file:
        file.writelines(kept)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
    return len(lines) - len(kept)


def _still_in_damaged(folder, visitor_ids):
    """The damaged files that still name one of the visitors. Nobody can tell where a record of theirs begins."""
    needles = [json.dumps(id, ensure_ascii=False).encode() for id in visitor_ids]
    return [
        path.name
        for path in journal.set_aside(folder)
        if path.name != journal.REFUSED and any(n in path.read_bytes() for n in needles)
    ]
