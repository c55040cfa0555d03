"""The shapes of answers, as JSON Schema: what `data` of the envelope holds."""


def _object(description, required, /, **properties):
    return {
        "type": "object",
        "description": description,
        "required": required.split(),
        "additionalProperties": False,
        "properties": properties,
    }


def _list(description, items):
    return {"type": "array", "description": description, "items": items}


_TEXT, _WHOLE, _ANY = {"type": "string"}, {"type": "integer"}, {}
_TEXTS = {"type": "array", "items": _TEXT}
_MOMENT = {"type": "string", "format": "date-time"}
_ROW = {"type": "object", "description": "By column; GET /pixel/metrics tells the columns."}

ALL = {
    "Me": _object(
        "The workspace and the key that call.", "workspace key",
        workspace=_object(
            "The workspace.", "id name timezone rate_limit",
            id=_TEXT, name=_TEXT, timezone=_TEXT, rate_limit=_WHOLE | {"description": "Calls a minute."},
        ),
        key=_object(
            "The key.", "id name hint scopes environment websites created_at expires_at",
            id=_TEXT, name=_TEXT, hint=_TEXT, scopes=_TEXTS, environment=_TEXT,
            websites={"type": ["array", "null"], "items": _TEXT, "description": "null: all."},
            created_at=_MOMENT, expires_at={"type": ["string", "null"], "format": "date-time"},
        ),
    ),
    "Websites": _list(
        "The websites that the key may see, newest first.",
        _object("A website.", "id domain name timezone createdAt",
                id=_TEXT, domain=_TEXT, name=_TEXT, timezone=_TEXT, createdAt=_MOMENT),
    ),
    "Catalogue": _list(
        "Every report.",
        _object("A report.", "name title about parameters columns",
                name=_TEXT, title=_TEXT, about=_TEXT, parameters=_list("What it takes.", {"type": "object"}),
                columns=_list("What it gives.", _object("A column.", "name about", name=_TEXT, about=_TEXT))),
    ),
    "Report": _object(
        "A report, as the warehouse gives it.", "data meta rows statistics data_status",
        data=_list("Rows.", _ROW),
        meta=_list("Columns.", _object("A column.", "name type", name=_TEXT, type=_TEXT)),
        rows=_WHOLE,
        statistics=_object("What it cost.", "elapsed rows_read bytes_read",
                           elapsed={"type": "number"}, rows_read=_WHOLE, bytes_read=_WHOLE),
        data_status={"type": "string", "enum": ["ok", "stale"],
                     "description": "stale: the warehouse is away, and this is its last answer to the same question."},
    ),
    "Receipt": _object(
        "What became of an event.", "status event_id website_id name received_at request_id",
        status={"type": "string", "enum": ["accepted", "stored"]},
        event_id=_TEXT, website_id=_TEXT, name=_TEXT, received_at=_MOMENT, request_id=_TEXT,
    ),
    "Accepted": _object(
        "The event is synced to disk.", "status event_id website_id name",
        status={"const": "accepted"}, event_id=_TEXT, website_id=_TEXT, name=_TEXT,
    ),
    "DryRunEvent": _object("The event as it would be stored.", "event", event={"type": "object"}),
    "Batch": _object(
        "Each event's fate, in order. Those that are accepted are synced to disk.", "accepted rejected results",
        accepted=_WHOLE, rejected=_WHOLE,
        results=_list("One for each event.", _object(
            "One event's fate.", "status",
            status={"type": "string", "enum": ["accepted", "rejected"]}, event_id=_TEXT, event={"type": "object"},
            errors={"type": "object", "additionalProperties": _TEXTS},
        )),
    ),
    "Identified": _object(
        "The call is synced to disk.", "status website_id visitor_id",
        status={"const": "accepted"}, website_id=_TEXT, visitor_id=_TEXT,
    ),
    "DryRunIdentity": _object("The call as it would be stored.", "identity", identity={"type": "object"}),
    "Visitor": {
        "type": "object",
        "description": "What is known of a visitor: the columns of p_visitor_profile, and the last events.",
        "required": ["visitor_id", "visitor_ids", "sessions", "pageviews", "recent_events"],
        "properties": {"recent_events": _list("The last 50, as p_visitor_timeline gives them.", _ROW)},
    },
    "Token": _object(
        "A query token.", "token pipe expires_at url",
        token=_TEXT, pipe=_TEXT, expires_at=_MOMENT, url={"type": "string", "format": "uri"},
        urls={"type": "object", "description": "Where there are several reports: the address of each."},
    ),
}  # fmt: skip
