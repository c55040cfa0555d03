"""Sessions: who is signed in, from where and since when.

The cookie holds a token, of which only the SHA-256 is stored. The token changes when the user signs in, types the
password again or changes it. The earlier token stops working at once.
"""

import base64
import hashlib
from datetime import timedelta
from typing import NamedTuple

from cryptography.fernet import Fernet, InvalidToken
from sqlalchemy import ForeignKey, LargeBinary, String, delete, select, update
from sqlalchemy.orm import Mapped, mapped_column
from sqlalchemy.orm import Session as DatabaseSession

from pixel import audit, clock, ids
from pixel.database import Moment, db, transaction

#: A session ends when it is not used for so long, and after so long in any case.
IDLE, LONGEST = timedelta(days=7), timedelta(days=30)
#: How long after the password was typed it need not be typed again for what makes or shows a secret.
CONFIRMED = timedelta(minutes=10)
#: How exactly it is known when a session was last used.
_SEEN = timedelta(minutes=5)
_PREFIX = "pxl_session_"
#: What to say when `renew` returns None.
RENEWED_ELSEWHERE = "You signed out or typed your password in another tab at the same time. Send this again."


class Session(db.Model):
    __tablename__ = "sessions"

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    hash: Mapped[bytes] = mapped_column(LargeBinary(32), unique=True)
    user_id: Mapped[str] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    workspace_id: Mapped[str | None] = mapped_column(ForeignKey("workspaces.id"))
    created_at: Mapped[object] = mapped_column(Moment)
    seen_at: Mapped[object] = mapped_column(Moment)
    confirmed_at: Mapped[object] = mapped_column(Moment)
    address: Mapped[str] = mapped_column(String(45))
    user_agent: Mapped[str] = mapped_column(String(500))


class Signed(NamedTuple):
    """A running session, with the token that its cookie holds."""

    id: str
    user_id: str
    workspace_id: str | None
    confirmed_at: object
    token: str

    @property
    def confirmed(self):
        """Whether the password was typed a short while ago."""
        return clock.now() - self.confirmed_at < CONFIRMED


def begin(
    session: DatabaseSession, user_id: str, email: str, address: str, user_agent: str, request_id: str | None = None
) -> str:
    """Within a transaction, start a session of a user. Return the token for the cookie.

    Pass `address` without its last part: it is stored.
    """
    token, now = _new_token(), clock.now()
    session.execute(delete(Session).where(Session.user_id == user_id, _over(now)))
    row = Session(
        id="ses_" + ids.random(14),
        hash=_hash(token),
        user_id=user_id,
        created_at=now,
        seen_at=now,
        confirmed_at=now,
        address=address[:45],
        user_agent=user_agent[:500],
    )
    session.add(row)
    audit.record(session, None, email, "session.begun", user_id, request_id, address=address)
    return token


def find(token):
    """The Signed session of this cookie, or None when it has ended."""
    if not token or not token.startswith(_PREFIX) or len(token) > 100:
        return None
    row, now = db.session.scalar(select(Session).filter_by(hash=_hash(token))), clock.now()
    if row is None or now - row.seen_at > IDLE or now - row.created_at > LONGEST:
        return None
    if now - row.seen_at > _SEEN:
        _change(row.id, seen_at=now)
    return Signed(row.id, row.user_id, row.workspace_id, row.confirmed_at, token)


def of(user_id):
    """The sessions of a user that are in force, last used first."""
    running = select(Session).where(Session.user_id == user_id, ~_over(clock.now()))
    return db.session.scalars(running.order_by(Session.seen_at.desc(), Session.id)).all()


def enter_workspace(session_id, workspace_id):
    """Have a session's pages be about another workspace."""
    _change(session_id, workspace_id=workspace_id)


def confirm(signed: Signed) -> Signed | None:
    """Note that the password was typed again just now. Return the session with its new token, as `renew` does."""
    with transaction() as session:
        return renew(session, signed)


def renew(session: DatabaseSession, signed: Signed) -> Signed | None:
    """Within a transaction, replace the token of a session whose user has just typed the password.

    Return the session with its new token, or None if it has ended or another request has replaced the token.
    """
    token, now = _new_token(), clock.now()
    same = (Session.id == signed.id, Session.hash == _hash(signed.token))
    renewed = session.execute(update(Session).where(*same).values(hash=_hash(token), confirmed_at=now)).rowcount
    return signed._replace(token=token, confirmed_at=now) if renewed else None


def end(user, session_id, request_id=None):
    """End one session of a user. Returns whether there was one."""
    with transaction() as session:
        ended = session.execute(delete(Session).filter_by(id=session_id, user_id=user.id)).rowcount
        if ended:
            audit.record(session, None, user.email, "session.ended", user.id, request_id, ended=session_id)
    return bool(ended)


def end_others(session, user_id, but=None):
    """Within a transaction, end all sessions of a user, except the one of the id `but`."""
    session.execute(delete(Session).where(Session.user_id == user_id, Session.id != (but or "")))


def seal(token, text):
    """`text` so that only who has the token can read it: what is kept of it is of no use to anyone else."""
    return _lock(token).encrypt(text.encode())


def unseal(token, sealed):
    """What was sealed with this token, or None when it was another."""
    try:
        return _lock(token).decrypt(sealed).decode()
    except InvalidToken:
        return None


def _lock(token):
    return Fernet(base64.urlsafe_b64encode(hashlib.sha256(b"seal:" + token.encode()).digest()))


def _over(now):
    return (Session.seen_at < now - IDLE) | (Session.created_at < now - LONGEST)


def _change(session_id, **values):
    with transaction() as session:
        session.execute(update(Session).where(Session.id == session_id).values(**values))


def _new_token() -> str:
    return _PREFIX + ids.random(32)


def _hash(token):
    return hashlib.sha256(token.encode()).digest()
