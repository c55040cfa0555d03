"""Websites: what events belong to."""

import re
from collections.abc import Collection
from datetime import timedelta
from typing import NamedTuple

from sqlalchemy import JSON, ForeignKey, String, UniqueConstraint, select
from sqlalchemy.orm import Mapped, mapped_column

from pixel import audit, clock, errors, foreign_text, idn, ids, letters
from pixel.database import Moment, db, remembered, transaction
from pixel.workspaces import Workspace, refuse_unknown_timezone

MOST = 1000
MOST_HOSTS = 20
#: The longest domain that is read, with its scheme and a slash.
LONGEST_TYPED = 300
#: How long the data of a removed website is kept.
KEPT = timedelta(days=30)
#: How long it is known itself: each server has a day to delete what its own warehouse holds of it.
KNOWN = KEPT + timedelta(days=1)
_LABEL = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
_DOMAIN = re.compile(rf"{_LABEL}(\.{_LABEL})*")


class Website(db.Model):
    __tablename__ = "websites"
    __table_args__ = (UniqueConstraint("workspace_id", "domain"),)

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    workspace_id: Mapped[str] = mapped_column(ForeignKey("workspaces.id"), index=True)
    domain: Mapped[str] = mapped_column(String(253))
    name: Mapped[str] = mapped_column(String(100))
    timezone: Mapped[str] = mapped_column(String(64))
    created_at: Mapped[object] = mapped_column(Moment)
    #: Further hosts, and all below them, whose pages may send.
    hosts: Mapped[list] = mapped_column(JSON, default=list)
    removed_at: Mapped[object | None] = mapped_column(Moment)

    @property
    def deleted_at(self):
        """When the data of a removed website will be deleted."""
        return self.removed_at and self.removed_at + KEPT

    def is_due(self):
        """Whether the data of a removed website is deleted, now or already."""
        return self.removed_at is not None and self.deleted_at < clock.now()


class Site(NamedTuple):
    """What the rest of the program needs to know of a website."""

    id: str
    workspace_id: str
    domain: str
    name: str
    timezone: str
    created_at: object
    hosts: tuple = ()

    def takes_from(self, host):
        """Whether pages of this host may send: it is the website's domain or an allowed one, or below one of them."""
        return any(host == own or host.endswith("." + own) for own in (self.domain, *self.hosts))


def add(workspace_id, domain, name=None, timezone=None, actor="command line", request_id=None):
    """A new website. The zone defaults to the workspace's, the name to the domain. Raises ValueError."""
    domain = checked_domain(domain)
    name = checked_name(name or domain)
    with transaction() as session:
        timezone = timezone or session.get_one(Workspace, workspace_id).timezone
        refuse_unknown_timezone(timezone)
        if there := session.scalar(select(Website).filter_by(workspace_id=workspace_id, domain=domain)):
            if there.is_due():
                raise ValueError(
                    f"{domain} was removed {KEPT.days} days ago and is being deleted: add it again tomorrow."
                )
            what = "was removed from this workspace: restore it" if there.removed_at else "is already a website of it"
            raise ValueError(f"{domain} {what}.")
        website = Website(
            id="admx_" + ids.random(14),
            workspace_id=workspace_id,
            domain=domain,
            name=name,
            timezone=timezone,
            created_at=clock.now(),
        )
        session.add(website)
        audit.record(session, workspace_id, actor, "website.added", website.id, request_id, domain=domain)
    return website


def change(workspace_id, website_id, name, timezone, hosts=(), actor="command line", request_id=None):
    """Give a website another name, time zone and hosts that may send. Raises ValueError, or WebsiteNotFound."""
    name = checked_name(name)
    refuse_unknown_timezone(timezone)
    hosts = checked_hosts(hosts)
    with transaction() as session:
        website = _kept(session, workspace_id, website_id)
        if (website.name, website.timezone, website.hosts) != (name, timezone, hosts):
            website.name, website.timezone, website.hosts = name, timezone, hosts
            audit.record(
                session, workspace_id, actor, "website.renamed", website.id, request_id,
                name=name, timezone=timezone, hosts=hosts,
            )  # fmt: skip


def remove(workspace_id, website_id, actor="command line", request_id=None):
    """Take a website out: its events are refused from the next call on. Its data is kept for 30 days.

    Raises WebsiteNotFound.
    """
    with transaction() as session:
        website = _kept(session, workspace_id, website_id)
        website.removed_at = clock.now()
        audit.record(session, workspace_id, actor, "website.removed", website.id, request_id, domain=website.domain)
    return website


def restore(workspace_id, website_id, actor="command line", request_id=None):
    """Take a removed website in again, with all its data. Raises WebsiteNotFound."""
    with transaction() as session:
        website = _kept(session, workspace_id, website_id, removed=True)
        if website.is_due():
            raise errors.WebsiteNotFound()
        website.removed_at = None
        audit.record(session, workspace_id, actor, "website.restored", website.id, request_id, domain=website.domain)
    return website


def removed(workspace_id):
    """The removed websites of a workspace whose data is still there, newest first."""
    found = select(Website).where(Website.workspace_id == workspace_id, Website.removed_at >= clock.now() - KEPT)
    return db.session.scalars(found.order_by(Website.removed_at.desc(), Website.id)).all()


def due(kept=KEPT):
    """The websites, of any workspace, that were removed longer ago."""
    return db.session.scalars(select(Website).where(Website.removed_at < clock.now() - kept)).all()


def delete(website_id):
    """Forget a removed website whose data has been deleted."""
    with transaction() as session:
        website = session.get(Website, website_id)
        if website is not None and website.removed_at is not None:
            session.delete(website)
            audit.record(session, website.workspace_id, "server", "website.deleted", website.id, domain=website.domain)


@remembered
def of(workspace_id):
    """The websites of a workspace as `{id: Site}`, newest first."""
    newest = select(*(getattr(Website, name) for name in Site._fields)).order_by(
        Website.created_at.desc(), Website.id.desc()
    )
    rows = db.session.execute(newest.filter_by(workspace_id=workspace_id, removed_at=None))
    return {row.id: _site(row) for row in rows}


@remembered
def find(website_id):
    """The Site of this id in any workspace, or None. For the browser pixel, whose callers have no workspace."""
    asked = select(*(getattr(Website, name) for name in Site._fields)).filter_by(id=website_id, removed_at=None)
    row = db.session.execute(asked).first()
    return row and _site(row)


def visible(workspace_id, only=None):
    """As `of`, but only those that a key restricted to the ids `only` may see."""
    sites = of(workspace_id)
    return sites if only is None else {id: site for id, site in sites.items() if id in only}


def get(workspace_id, website_id, only=None):
    """The website, or WebsiteNotFound: another's is answered like one that is not there."""
    site = visible(workspace_id, only).get(website_id)
    if site is None:
        raise errors.WebsiteNotFound()
    return site


def anywhere(website_id, removed=False):
    """The website of this id in any workspace, or None; with `removed`, a removed one too. For the command line."""
    website = db.session.get(Website, website_id)
    return website if website is not None and (removed or website.removed_at is None) else None


def checked_name(name: str) -> str:
    """Return a website's name as it is stored. Raise ValueError."""
    return foreign_text.checked_name(name, "A website's name")


def checked_domain(text: str) -> str:
    """Return a host name in its one normal form. Raise ValueError for any other text."""
    domain = ""
    if len(text) <= LONGEST_TYPED:
        address = letters.lower(text.strip()).removeprefix("https://").removeprefix("http://")
        domain = idn.to_ascii(address.rstrip("/").rstrip("."))
    if not _DOMAIN.fullmatch(domain):
        raise ValueError(f"{text[:100]!r} is no domain. Give a host name such as example.com.")
    return domain


def checked_hosts(hosts: Collection[str]) -> list[str]:
    """Return the hosts in their one normal form, sorted. Raise ValueError for too many, or one that is not a host."""
    distinct = set(hosts)
    if len(distinct) > MOST_HOSTS:
        raise ValueError(f"At most {MOST_HOSTS} hosts.")
    return sorted({checked_domain(host) for host in distinct})


def _site(row):
    site = Site(*row)
    return site._replace(hosts=tuple(site.hosts or ()))


def _kept(session, workspace_id, website_id, removed=False):
    website = session.scalar(select(Website).filter_by(workspace_id=workspace_id, id=website_id))
    if website is None or (website.removed_at is not None) != removed:
        raise errors.WebsiteNotFound()
    return website
