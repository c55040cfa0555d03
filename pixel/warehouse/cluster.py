"""The tables as a server and as a cluster have them, made from the plain statements in `tables/`.

On a cluster a table is two: `events_local`, replicated, holds a shard's rows, and `events`, distributed, is what
everybody inserts into and reads. A visitor's rows are all on one shard.
"""

import re

#: Which shard a row is on: for each table a number that is the same for rows that belong together.
SHARDED_BY = {
    "events": "if(visitor = 0, sipHash64(event_id), visitor)",
    "identities": "visitor",
    "requests": "sipHash64(request_id)",
    "drops": "sipHash64(request_id)",
}
#: How many blocks a table on a server knows again; a replicated one knows 10,000 as it is.
_REMEMBERED_BLOCKS = 10_000

#: What tells a table that keeps rows from one that holds them for a moment.
_KEPT = "ENGINE = MergeTree\n"
_CREATE = re.compile(r"^CREATE TABLE IF NOT EXISTS (\w+)", re.MULTILINE)
_ALTER = re.compile(r"^ALTER TABLE (\w+)", re.MULTILINE)
_REPLACE = re.compile(r"^CREATE OR REPLACE (VIEW|FUNCTION) (\w+)", re.MULTILINE)


def for_server(statement):
    """A statement of `tables/` for a single server."""
    if _CREATE.search(statement) and _KEPT in statement:
        return f"{statement}, non_replicated_deduplication_window = {_REMEMBERED_BLOCKS}"
    return statement


def for_cluster(statement, cluster):
    """The statements that do on all servers of a cluster what one of `tables/` does. Raises ValueError."""
    if (created := _CREATE.search(statement)) and _KEPT not in statement:
        return [statement.replace(created[0], f"{created[0]} ON CLUSTER '{cluster}'", 1)]
    if created:
        local = on_local(statement, cluster)
        path = "/clickhouse/tables/{shard}/{database}/{table}"
        replicated = local.replace(_KEPT, f"ENGINE = ReplicatedMergeTree('{path}', '{{replica}}')\n")
        return [replicated, _distributed(created[1], cluster)]
    if altered := _ALTER.search(statement):
        # A distributed table has no data, and is made anew with the columns that the local one has now.
        return [on_local(statement, cluster), _distributed(altered[1], cluster)]
    if _REPLACE.search(statement):
        return [_REPLACE.sub(rf"CREATE OR REPLACE \1 \2 ON CLUSTER '{cluster}'", statement, count=1)]
    raise ValueError(f"It is not known how a cluster does this: {statement[:100]}")


def on_local(statement, cluster):
    """A statement about a table, for the tables that hold the rows."""
    for kind in (_CREATE, _ALTER):
        statement = kind.sub(rf"\g<0>_local ON CLUSTER '{cluster}'", statement, count=1)
    return statement


def _distributed(table, cluster):
    return (
        f"CREATE OR REPLACE TABLE {table} ON CLUSTER '{cluster}' AS {table}_local\n"
        f"ENGINE = Distributed('{cluster}', currentDatabase(), {table}_local, {SHARDED_BY[table]})"
    )
