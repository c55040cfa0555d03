"""Taking visitors out of the warehouse's tables and of the journal's files. For the engine, between two loads."""

import json
import os

import orjson

from pixel import journal
from pixel.errors import AnalyticsError
from pixel.warehouse.embedded import parsed

#: How many ids a text is searched for at once.
_AT_ONCE = 50

_OURS = """
    workspace_id = {workspace:String} AND has({websites:Array(String)}, website_id)
    AND visitor IN (SELECT sipHash64(id) FROM erasing WHERE what = 'visitor')
    AND visitor_id IN (SELECT id FROM erasing WHERE what = 'visitor')
"""
_NOTE_EVENTS = f"INSERT INTO erasing SELECT DISTINCT 'event', event_id FROM events WHERE {_OURS}"
_NOTE_REQUESTS = f"""
    INSERT INTO erasing SELECT DISTINCT 'request', request_id FROM (
        SELECT request_id FROM events WHERE {_OURS} UNION ALL
        SELECT request_id FROM identities WHERE {_OURS} UNION ALL
        SELECT request_id FROM requests WHERE workspace_id = {{workspace:String}}
            AND hasAny(event_ids, (SELECT groupArray(id) FROM erasing WHERE what = 'event')))
"""
#: Requests that came to nothing are known by what they say. A key that is refused belongs to no workspace.
_NOTE_MENTIONS = """
    INSERT INTO erasing SELECT 'request', request_id FROM requests WHERE workspace_id IN ({workspace:String}, '')
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
        event_ids = arrayFilter(id -> id NOT IN (SELECT id FROM erasing WHERE what = 'event'), event_ids)
    WHERE request_id IN (SELECT id FROM erasing WHERE what = 'request') SETTINGS mutations_sync = 2
"""
_DELETE = f"DELETE WHERE {_OURS} SETTINGS mutations_sync = 2"


def erase(warehouse, loader, workspace_id, website_ids, visitor_ids):
    """Take visitors out, and all that requests said of them: how many rows, as {place: number or names}.

    The loader must have loaded what there is. Raises AnalyticsError; then it can be run again.
    """
    asked = {"workspace": workspace_id, "websites": website_ids}
    try:
        requests = _note(warehouse, asked, visitor_ids)
        counted = {table: _count(warehouse, table, _OURS, asked) for table in ("events", "identities")}
        # What events are known by must be read before they go.
        warehouse.command(_BLANK_REQUESTS)
        for table in counted:
            warehouse.command(f"ALTER TABLE {table} {_DELETE}", asked)
        if any(_count(warehouse, table, _OURS, asked) for table in counted):
            raise AnalyticsError("The warehouse has kept some of the rows.")
    finally:
        warehouse.command("TRUNCATE TABLE erasing")
    return {**counted, "requests": len(requests), **_from_files(loader, asked, set(visitor_ids), requests)}


def _note(warehouse, asked, visitor_ids):
    """Write down all ids that this is about, in the table `erasing`. Returns those of the requests."""
    warehouse.command("TRUNCATE TABLE erasing")
    warehouse.insert("erasing", b"\n".join(orjson.dumps({"what": "visitor", "id": id}) for id in visitor_ids))
    warehouse.command(_NOTE_EVENTS, asked)
    warehouse.command(_NOTE_REQUESTS, asked)
    for start in range(0, len(visitor_ids), _AT_ONCE):
        ids = visitor_ids[start : start + _AT_ONCE]
        warehouse.command(_NOTE_MENTIONS, asked | {"ids": ids, "quoted": [text for id in ids for text in _quoted(id)]})
    rows = parsed(warehouse.query("SELECT DISTINCT id FROM erasing WHERE what = 'request'", {}))["data"]
    return {row["id"] for row in rows}


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
    refused = _from_refused(loader.folder / "refused.ndjson", is_meant)
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
        for path in sorted([*folder.glob("*.damaged"), *folder.glob("*.torn")])
        if any(n in path.read_bytes() for n in needles)
    ]
