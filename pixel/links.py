"""One-time links: an invitation, a forgotten password, the first sign-in. Only their SHA-256 is kept."""

import hashlib
from datetime import timedelta

from flask import current_app
from sqlalchemy import ForeignKey, LargeBinary, String, delete, select
from sqlalchemy.orm import Mapped, mapped_column

from pixel import clock, ids
from pixel.database import Moment, db

#: What a link is for, and how long it works.
LIVES = {"invite": timedelta(days=7), "reset": timedelta(hours=1), "welcome": timedelta(days=1)}


class Link(db.Model):
    __tablename__ = "links"

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    hash: Mapped[bytes] = mapped_column(LargeBinary(32), unique=True)
    purpose: Mapped[str] = mapped_column(String(10))
    email: Mapped[str] = mapped_column(String(254), index=True)
    workspace_id: Mapped[str | None] = mapped_column(ForeignKey("workspaces.id"), index=True)
    role: Mapped[str | None] = mapped_column(String(10))
    created_by: Mapped[str] = mapped_column(String(254))
    created_at: Mapped[object] = mapped_column(Moment)
    expires_at: Mapped[object] = mapped_column(Moment)


def make(session, purpose, email, actor, workspace_id=None, role=None):
    """Within a transaction, a new link in place of an earlier one for the same: (token, Link)."""
    session.execute(delete(Link).filter_by(purpose=purpose, email=email, workspace_id=workspace_id))
    # Of the form of a key, so that whatever keeps keys out of logs keeps these out too.
    token, now = f"pxl_{purpose}_{ids.random(32)}", clock.now()
    link = Link(
        id="lnk_" + ids.random(14),
        hash=_hash(token),
        purpose=purpose,
        email=email,
        workspace_id=workspace_id,
        role=role,
        created_by=actor,
        created_at=now,
        expires_at=now + LIVES[purpose],
    )
    session.add(link)
    return token, link


def address(token):
    """Where a link leads. It is made of the settings alone, never of what a request says the host is."""
    return f"{current_app.config['public_url']}/links/{token}"


def find(token):
    """The Link of a token that still works, or None."""
    return db.session.scalar(_working(token)) if token.startswith("pxl_") else None


def take(session, token):
    """Within a transaction, use a link up: the Link, or None when it works no more."""
    link = session.scalar(_working(token))
    if link is not None:
        session.delete(link)
    return link


def of(workspace_id):
    """The open invitations of a workspace, newest first."""
    found = select(Link).where(Link.workspace_id == workspace_id, Link.expires_at > clock.now())
    return db.session.scalars(found.order_by(Link.created_at.desc(), Link.id)).all()


def end(session, email):
    """Within a transaction, end the links with which this person could set a password."""
    session.execute(delete(Link).where(Link.email == email, Link.purpose.in_(("reset", "welcome"))))


def sweep(session):
    """Within a transaction, drop the links that work no more."""
    session.execute(delete(Link).where(Link.expires_at <= clock.now()))


def _working(token):
    return select(Link).where(Link.hash == _hash(token), Link.expires_at > clock.now())


def _hash(token):
    return hashlib.sha256(token.encode()).digest()
