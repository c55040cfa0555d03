"""People: users, and what they are in a workspace."""

import re

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from sqlalchemy import ForeignKey, String, func, select
from sqlalchemy.orm import Mapped, mapped_column

from pixel import clock, ids
from pixel.database import Moment, db

ROLES = {
    "owner": "Everything, including the workspace itself.",
    "admin": "Keys, websites and members.",
    "viewer": "Looks, and changes nothing.",
}

#: OWASP's first choice for Argon2id: 19 MiB, two passes, one lane. The library's defaults cost ten times the time.
_HASHER = PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)
_EMAIL = re.compile(r"[^@\s]{1,64}@[^@\s.]+(\.[^@\s.]+)*")


class User(db.Model):
    __tablename__ = "users"

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    email: Mapped[str] = mapped_column(String(254), unique=True)
    password_hash: Mapped[str | None] = mapped_column(String(200))
    support: Mapped[bool] = mapped_column(default=False)
    created_at: Mapped[object] = mapped_column(Moment)


class Membership(db.Model):
    __tablename__ = "memberships"

    workspace_id: Mapped[str] = mapped_column(ForeignKey("workspaces.id"), primary_key=True)
    user_id: Mapped[str] = mapped_column(ForeignKey("users.id"), primary_key=True, index=True)
    role: Mapped[str] = mapped_column(String(10))


def join(session, workspace_id, email, role):
    """Make the user of this e-mail, new if need be, a member. Raises ValueError."""
    email = email.strip().lower()
    if len(email) > 254 or not email.isprintable() or not _EMAIL.fullmatch(email):
        raise ValueError(f"{email!r} is no e-mail address.")
    if role not in ROLES:
        raise ValueError(f"A role is one of {', '.join(ROLES)}.")
    user = session.scalar(select(User).where(func.lower(User.email) == email))
    if user is None:
        user = User(id="usr_" + ids.random(14), email=email, created_at=clock.now())
        session.add(user)
        session.flush()
    session.merge(Membership(workspace_id=workspace_id, user_id=user.id, role=role))
    return user


def hash_password(password):
    """The Argon2id hash to keep."""
    return _HASHER.hash(password)


def verify_password(password_hash, password):
    """Whether `password` is the one that was hashed."""
    try:
        return _HASHER.verify(password_hash, password)
    except (VerificationError, InvalidHashError):
        return False
