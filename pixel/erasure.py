"""Erasure: all that is kept of a visitor is taken out, and a receipt is kept of it that names nobody."""

import hashlib
import time

from flask import current_app

from pixel import audit, clock, identities, ids
from pixel.database import transaction
from pixel.extensions import answers, warehouse

#: How many ids of one person are brought together.
MOST = 2000
#: How long to wait for the engine to remove the files that rows were taken out of.
FILES_SECONDS = 60


def linked(workspace_id, website_ids, visitor_id):
    """The ids that a person is known by: this one, and those identified as the same user. Raises AnalyticsError."""
    return identities.linked(workspace_id, website_ids, visitor_id, MOST)


def erase(workspace_id, website_ids, visitor_ids, actor="command line", request_id=None):
    """Take visitors out of journal, warehouse and request log, and return the receipt.

    What was acknowledged before is gone; what comes while this runs counts as having come afterwards. Raises
    ValueError, or AnalyticsError: then it can be run again, and the receipt tells what was left.
    """
    if not visitor_ids or not all(visitor_ids):
        raise ValueError("A visitor's id must not be empty.")
    found = warehouse.erase(workspace_id, list(website_ids), list(visitor_ids))
    gone = _files_are_gone()
    answers.clear()
    receipt = {
        "receipt": ids.in_time("era_"),
        "erased_at": clock.rfc3339(clock.now()),
        "websites": list(website_ids),
        "visitor_ids": len(visitor_ids),
        "visitor_hashes": [hashed(workspace_id, id) for id in visitor_ids],
        "removed": {name: found[name] for name in ("events", "identities", "requests", "journal", "refused")},
        "files_removed": gone,
        "damaged": found["damaged"],
    }
    with transaction() as session:
        audit.record(session, workspace_id, actor, "visitor.erased", receipt["receipt"], request_id, **receipt)
    return receipt


def hashed(workspace_id, visitor_id):
    """What a receipt has in place of an id: who has the id and this server can tell that it is meant, nobody else."""
    key = hashlib.sha256(b"erasure\0" + current_app.config["SECRET_KEY"].encode()).digest()
    return hashlib.blake2b(f"{workspace_id}\0{visitor_id}".encode(), digest_size=16, key=key).hexdigest()


def warnings(receipt):
    """What is left to do after an erasure, in sentences."""
    if receipt["visitor_ids"] >= MOST:
        yield f"More than {MOST} ids belong to this visitor. Erase one of the others too."
    if not receipt["files_removed"]:
        yield "The rows are gone; the engine will remove the files that held them within some minutes."
    for name in receipt["damaged"]:
        yield f"journal/{name} could not be loaded and still names the visitor. Remove it when you need it no more."


def _files_are_gone():
    """Wait for the files that rows were taken out of to be removed. Returns whether they are."""
    deadline = time.monotonic() + FILES_SECONDS
    now = warehouse.query("SELECT toString(now()) AS now")["data"][0]["now"]
    while True:
        left = warehouse.query(
            "SELECT count() AS n FROM system.parts WHERE database = currentDatabase() AND NOT active"
            " AND table IN ('events', 'identities', 'requests') AND remove_time <= toDateTime({now:String})",
            {"now": now},
        )["data"][0]["n"]
        if not left or time.monotonic() > deadline:
            return not left
        time.sleep(0.5)
