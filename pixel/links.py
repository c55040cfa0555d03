"""One-time links: an invitation, a forgotten password, the first sign-in. The table holds only their SHA-256.

A link proves its e-mail address when it was mailed there or printed for the operator on the command line. Only such a
link sets a password or signs somebody in. An invitation that was shown to the inviter proves nothing.
"""

import hashlib
from datetime import timedelta

from flask import current_app
from sqlalchemy import ForeignKey, LargeBinary, String, delete, select
from sqlalchemy.orm import Mapped, Session, mapped_column

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
    #: Whether only the owner of the address can have the link: it was mailed there, or printed for the operator.
    proves_address: Mapped[bool]
    created_by: Mapped[str] = mapped_column(String(254))
    created_at: Mapped[object] = mapped_column(Moment)
    expires_at: Mapped[object] = mapped_column(Moment)


def make(
    session: Session,
    purpose: str,
    email: str,
    actor: str,
    workspace_id: str | None = None,
    role: str | None = None,
    *,
    proves_address: bool,
) -> tuple[str, Link]:
    """Within a transaction, add a link and delete an earlier one for the same purpose. Return its token and the Link.

    Pass `proves_address` only for a link that is mailed to `email` or printed on the command line.
    """
    session.execute(delete(Link).filter_by(purpose=purpose, email=email, workspace_id=workspace_id))
    # The form of a key, so that every filter that keeps keys out of logs applies to links too.
    token, now = f"pxl_{purpose}_{ids.random(32)}", clock.now()
    link = Link(
        id="lnk_" + ids.random(14),
        hash=_hash(token),
        purpose=purpose,
        email=email,
        workspace_id=workspace_id,
        role=role,
        proves_address=proves_address,
        created_by=actor,
        created_at=now,
        expires_at=now + LIVES[purpose],
    )
    session.add(link)
    return token, link


def address(token: str) -> str:
    """Return the URL of a link. It depends on the settings alone, never on the Host of a request."""
    return f"{current_app.config['public_url']}/links/{token}"


def find(token: str, session: Session | None = None) -> Link | None:
    """Return the Link of a token that still works, or None. Pass the session of a transaction to use the link up."""
    if not token.startswith("pxl_"):
        return None
    working = select(Link).where(Link.hash == _hash(token), Link.expires_at > clock.now())
    return (session or db.session).scalar(working)


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


def _hash(token):
    return hashlib.sha256(token.encode()).digest()
