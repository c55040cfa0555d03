"""What owners should know before it hurts: a key that soon expires, one that used to work and now fails; a website that
falls silent, or of which much more is refused than before."""

from datetime import timedelta
from typing import NamedTuple

from flask import current_app
from sqlalchemy import select

from pixel import calls, clock, errors, events, keys, mail, members, websites, workspaces
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


class SiteNotice(NamedTuple):
    """Something to tell of a website: it is "silent", with `last` and `days`, or "refused", with what
    events.jumps() tells."""

    kind: str
    site: websites.Site
    told: dict


def of_websites(workspace_id):
    """What there is to tell of a workspace's websites, or of all. Without the warehouse, nothing."""
    try:
        found = [("silent", row) for row in events.silent(workspace_id)]
        found += [("refused", row) for row in events.jumps(workspace_id)]
    except errors.AnalyticsError:
        return []
    there = [(kind, websites.find(row["website_id"]), row) for kind, row in found]
    return [SiteNotice(kind, site, row) for kind, site, row in there if site]


def mail_owners():
    """Mail the owners what there is to tell, each thing once."""
    _mail_of_keys()
    for notice in of_websites(None):
        site, told = notice.site, notice.told
        about = {
            "site": site,
            "workspace": workspaces.get(site.workspace_id).name,
            "address": f"{current_app.config['public_url']}/websites/{site.id}",
            **told,
        }
        what = f"{told['last']:%Y%m%d%H}" if notice.kind == "silent" else f"{told['reason']} {clock.now():%Y%m%d}"
        with transaction() as session:
            for owner in members.owners(site.workspace_id):
                once = f"{notice.kind} {site.id} {what} {owner}"
                mail.post(session, owner, f"website_{notice.kind}", once, **about)


def _mail_of_keys():
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
