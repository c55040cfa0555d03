"""What the owners of keys should know before it hurts: a key that soon expires, one that used to work and now fails."""

from datetime import timedelta
from typing import NamedTuple

from flask import current_app
from sqlalchemy import select

from pixel import calls, clock, errors, keys, mail, members, workspaces
from pixel.database import db, transaction

#: How many days before a key expires its owners are told.
DAYS = (1, 7, 14)


class Notice(NamedTuple):
    """Something to tell. `kind` is "expiring", with `days` of DAYS, or "failing", with what calls.failing() tells."""

    kind: str
    key: keys.ApiKey
    days: int | None = None
    told: dict | None = None


def of(workspace_id):
    """What there is to tell a workspace about its keys, most urgent first. Without the warehouse, what is known."""
    return _failing(workspace_id) + _expiring(workspace_id)


def mail_owners():
    """Mail the owners what there is to tell, each thing once."""
    for notice in of(None):
        key = notice.key
        workspace = workspaces.get(key.workspace_id)
        about = {
            "key": key,
            "workspace": workspace.name,
            "zone": workspace.timezone,
            "address": f"{current_app.config['public_url']}/settings/api-keys/{key.id}",
        }
        with transaction() as session:
            for owner in members.owners(key.workspace_id):
                _post(session, owner, notice, about)


def _post(session, owner, notice, about):
    if notice.kind == "expiring":
        once = f"expiring {notice.key.id} {notice.days} {owner}"
        mail.post(session, owner, "key_expiring", once, days=notice.days, **about)
    else:
        told = notice.told
        once = f"failing {notice.key.id} {told['worked_at']:%Y%m%d%H%M%S} {owner}"
        manual = f"{current_app.config['public_url']}/docs/errors#{told['newest_code']}"
        mail.post(session, owner, "key_failing", once, manual=manual, **told, **about)


def _expiring(workspace_id):
    now = clock.now()
    soon = select(keys.ApiKey).where(
        keys.ApiKey.expires_at > now,
        keys.ApiKey.expires_at <= now + timedelta(days=max(DAYS)),
        # The old key of a rotation ends anyway.
        keys.ApiKey.revoked_at.is_(None),
    )
    if workspace_id:
        soon = soon.where(keys.ApiKey.workspace_id == workspace_id)
    found = []
    for key in db.session.scalars(soon.order_by(keys.ApiKey.expires_at).limit(1000)):
        days = next(days for days in DAYS if key.expires_at <= now + timedelta(days=days))
        # Who makes a key for a day needs not be told that it ends in a day.
        if key.created_at < key.expires_at - timedelta(days=days):
            found.append(Notice("expiring", key, days))
    return found


def _failing(workspace_id):
    try:
        told = calls.failing(workspace_id)
    except errors.AnalyticsError:
        return []
    found = select(keys.ApiKey).where(keys.ApiKey.id.in_(told)).order_by(keys.ApiKey.id)
    return [Notice("failing", key, told=told[key.id]) for key in db.session.scalars(found)]
