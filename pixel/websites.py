"""Websites: what events belong to."""

import re
from typing import NamedTuple

from sqlalchemy import ForeignKey, String, UniqueConstraint, select
from sqlalchemy.orm import Mapped, mapped_column

from pixel import audit, clock, errors, ids
from pixel.database import Moment, db, remembered, transaction
from pixel.workspaces import Workspace, refuse_unknown_timezone

MOST = 1000
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


class Site(NamedTuple):
    """What the rest of the program needs to know of a website."""

    id: str
    workspace_id: str
    domain: str
    name: str
    timezone: str
    created_at: object


def add(workspace_id, domain, name=None, timezone=None, actor="command line", request_id=None):
    """A new website. The zone defaults to the workspace's, the name to the domain. Raises ValueError."""
    domain = _domain(domain)
    name = (name or domain).strip()
    if not 1 <= len(name) <= 100 or not name.isprintable():
        raise ValueError("A name has 1 to 100 printable characters.")
    with transaction() as session:
        timezone = timezone or session.get_one(Workspace, workspace_id).timezone
        refuse_unknown_timezone(timezone)
        if session.scalar(select(Website.id).filter_by(workspace_id=workspace_id, domain=domain)):
            raise ValueError(f"{domain} is already a website of this workspace.")
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


@remembered
def of(workspace_id):
    """The websites of a workspace as `{id: Site}`, newest first."""
    newest = select(*(getattr(Website, name) for name in Site._fields)).order_by(
        Website.created_at.desc(), Website.id.desc()
    )
    return {row.id: Site(*row) for row in db.session.execute(newest.filter_by(workspace_id=workspace_id))}


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


def anywhere(website_id):
    """The website of this id in any workspace, or None. For the command line."""
    return db.session.get(Website, website_id)


def _domain(text):
    domain = text.strip().lower().removeprefix("https://").removeprefix("http://").rstrip("/").rstrip(".")
    try:
        domain = domain.encode("idna").decode() if not domain.isascii() else domain
    except UnicodeError:
        domain = ""
    if len(domain) > 253 or not _DOMAIN.fullmatch(domain):
        raise ValueError(f"{text[:100]!r} is no domain. Give a host name such as example.com.")
    return domain
