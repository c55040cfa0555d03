"""People: users, what they are in a workspace, and how they prove who they are."""

import re
import threading
import unicodedata
from typing import NamedTuple

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from sqlalchemy import ForeignKey, String, case, select
from sqlalchemy.orm import Mapped, mapped_column

from pixel import audit, clock, ids, letters, links, mail, sessions
from pixel.database import Moment, db, transaction

ROLES = {
    "owner": "Everything, and makes other owners.",
    "admin": "Keys, websites and members.",
    "viewer": "Looks, and changes nothing.",
}
#: A password that stands alone has at least 15 characters (NIST SP 800-63B-4, 3.1.1.2).
SHORTEST_PASSWORD, LONGEST_PASSWORD = 15, 128

#: OWASP's first choice for Argon2id: 19 MiB, two passes, one lane. The library's defaults cost ten times the time.
_HASHER = PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)
#: Each hash takes 19 MiB while it is made.
_HASHES_AT_ONCE = threading.BoundedSemaphore(4)
#: Verified against where there is no such user, so that this takes as long.
_NOBODYS_HASH = _HASHER.hash(ids.random(20))
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


class Member(NamedTuple):
    """A user as a member of one workspace."""

    user_id: str
    email: str
    role: str


def join(session, workspace_id, email, role):
    """Make the user of this e-mail, new if need be, a member. Raises ValueError."""
    email = address(email)
    _refuse_unknown_role(role)
    user = session.scalar(select(User).filter_by(email=email))
    if user is None:
        user = User(id="usr_" + ids.random(14), email=email, created_at=clock.now())
        session.add(user)
        session.flush()
    session.merge(Membership(workspace_id=workspace_id, user_id=user.id, role=role))
    return user


def called(email):
    """The user of this e-mail address. Raises ValueError."""
    user = by_email(email)
    if user is None:
        raise ValueError(f"There is no user {email!r}.")
    return user


def by_email(email):
    """The user of this e-mail address, or None."""
    return db.session.scalar(select(User).where(User.email == letters.lower(email.strip())))


def by_id(user_id):
    """The user of this id, or None."""
    return db.session.get(User, user_id)


def of(workspace_id):
    """The members of a workspace, owners first, then by e-mail."""
    found = select(User.id, User.email, Membership.role).join(Membership, Membership.user_id == User.id)
    order = (case({role: place for place, role in enumerate(ROLES)}, value=Membership.role), User.email)
    return [
        Member(*row)
        for row in db.session.execute(found.where(Membership.workspace_id == workspace_id).order_by(*order))
    ]


def owners(workspace_id):
    """The e-mail addresses of a workspace's owners."""
    return [member.email for member in of(workspace_id) if member.role == "owner"]


def member(workspace_id, user_id):
    """One member of a workspace, or None."""
    return next((member for member in of(workspace_id) if member.user_id == user_id), None)


# -- in and out of a workspace


def invite(workspace_id, workspace_name, email, role, actor, request_id=None):
    """Invite somebody: mails a link by which whoever reads this address's mail joins.

    Returns the link where no mail is configured, to be passed on by hand, and None where it was mailed. Raises
    ValueError.
    """
    email = address(email)
    _refuse_unknown_role(role)
    with transaction() as session:
        if session.scalar(_membership(workspace_id).join(User).where(User.email == email)):
            raise ValueError(f"{email} is already a member.")
        token, link = links.make(session, "invite", email, actor, workspace_id, role)
        address_of_link = links.address(token)
        mailed = mail.post(
            session, email, "invite", workspace=workspace_name, inviter=actor, role=role, link=address_of_link
        )
        audit.record(session, workspace_id, actor, "member.invited", link.id, request_id, email=email, role=role)
    return None if mailed else address_of_link


def withdraw(workspace_id, link_id, actor, request_id=None):
    """End an invitation. Returns the address it was for, or None when there is none of this id."""
    with transaction() as session:
        link = session.scalar(select(links.Link).filter_by(id=link_id, workspace_id=workspace_id, purpose="invite"))
        if link is None:
            return None
        session.delete(link)
        audit.record(session, workspace_id, actor, "member.uninvited", link.id, request_id, email=link.email)
    return link.email


def change_role(workspace_id, user_id, role, actor, request_id=None):
    """Give a member another role, from the next request on. Raises ValueError, also for the last owner."""
    _refuse_unknown_role(role)
    with transaction() as session:
        member = _member(session, workspace_id, user_id)
        if member.role != role:
            _refuse_last_owner(session, member)
            audit.record(
                session, workspace_id, actor, "member.changed", user_id, request_id,
                email=session.get_one(User, user_id).email, before=member.role, role=role,
            )  # fmt: skip
            member.role = role


def remove(workspace_id, user_id, actor, request_id=None):
    """Take a member out, from the next request on. Raises ValueError, also for the last owner."""
    with transaction() as session:
        member = _member(session, workspace_id, user_id)
        _refuse_last_owner(session, member)
        session.delete(member)
        email = session.get_one(User, user_id).email
        audit.record(session, workspace_id, actor, "member.removed", user_id, request_id, email=email)


# -- passwords and links


def verified(email, password):
    """The user whose e-mail and password these are, or None. It takes as long for a user there is not."""
    user = by_email(email)
    fits = verify_password((user and user.password_hash) or _NOBODYS_HASH, password)
    return user if user and user.password_hash and fits else None


def change_password(user, password, keep_session=None, request_id=None):
    """Give a user another password; ends the other sessions and the open reset links. Raises ValueError."""
    hashed = hash_password(checked_password(password, user.email))
    with transaction() as session:
        _set_password(session, session.get_one(User, user.id), hashed, request_id)
        sessions.end_others(session, user.id, but=keep_session)


def password_link(email, purpose="reset", actor="command line", request_id=None):
    """A link by which a user sets a password. Raises ValueError for a user there is not."""
    user = called(email)
    with transaction() as session:
        token, _ = links.make(session, purpose, user.email, actor)
        audit.record(session, None, actor, f"link.{purpose}", user.id, request_id)
    return links.address(token)


def mail_reset_link(email, request_id=None):
    """Mail a user a link to set a new password; who has no account gets nothing. Mail must be configured."""
    try:
        email = address(email)
    except ValueError:
        return
    user = by_email(email)
    with transaction() as session:
        # Made for nobody too, so that this takes as long.
        token, link = links.make(session, "reset", email, email)
        if user is not None:
            mail.post(session, email, "reset", link=links.address(token))
        audit.record(session, None, email, "link.reset", user.id if user else link.id, request_id)


def follow(token, password=None, request_id=None):
    """Use a link up: sets the password, joins the workspace. Returns the User, or None when the link works no more.

    `password` may be None for an invited user who has one. Raises ValueError for a password that will not do, and
    then the link still works.
    """
    link = links.find(token)
    hashed = hash_password(checked_password(password, link.email)) if link and password is not None else None
    with transaction() as session:
        link = links.take(session, token)
        if link is None:
            return None
        user = session.scalar(select(User).filter_by(email=link.email))
        if link.purpose == "invite":
            user = _joined(session, link, request_id)
        if hashed:
            _set_password(session, user, hashed, request_id)
            sessions.end_others(session, user.id)
    return user


def allow_support(email, allowed=True):
    """Let a user look up any workspace's requests, or no longer. From the command line only. Raises ValueError."""
    user = called(email)
    with transaction() as session:
        session.get_one(User, user.id).support = allowed
        audit.record(session, None, "command line", "user.support", user.id, allowed=allowed)


def checked_password(password, email):
    """The password in its one normal form. Raises ValueError for one that will not do."""
    if len(password) > LONGEST_PASSWORD:
        raise ValueError(f"A password has at most {LONGEST_PASSWORD} characters.")
    password = unicodedata.normalize("NFC", password)
    if len(password) < SHORTEST_PASSWORD:
        raise ValueError(f"A password has at least {SHORTEST_PASSWORD} characters. A few words make a good one.")
    if "\0" in password:
        raise ValueError("A password has no NUL.")
    if len(set(password.lower())) < 6 or password.lower() in email or email in password.lower():
        raise ValueError("This password is too easy to guess. A few words make a good one.")
    return password


def hash_password(password):
    """The Argon2id hash to keep."""
    with _HASHES_AT_ONCE:
        return _HASHER.hash(password)


def verify_password(password_hash, password):
    """Whether `password` is the one that was hashed."""
    if len(password) > LONGEST_PASSWORD:
        password = ""
    try:
        with _HASHES_AT_ONCE:
            return _HASHER.verify(password_hash, unicodedata.normalize("NFC", password))
    except (VerificationError, InvalidHashError):
        return False


def address(text):
    """An e-mail address in its one normal form. Raises ValueError."""
    email = letters.lower(text.strip())
    if len(email) > 254 or not email.isprintable() or not _EMAIL.fullmatch(email):
        raise ValueError(f"{text.strip()[:100]!r} is no e-mail address.")
    return email


def _set_password(session, user, hashed, request_id):
    user.password_hash = hashed
    links.end(session, user.email)
    audit.record(session, None, user.email, "password.changed", user.id, request_id)


def _joined(session, link, request_id):
    known = session.scalar(_membership(link.workspace_id).join(User).where(User.email == link.email))
    user = join(session, link.workspace_id, link.email, known.role if known else link.role)
    audit.record(
        session, link.workspace_id, user.email, "member.joined", user.id, request_id, email=user.email, role=link.role
    )
    return user


def _refuse_unknown_role(role):
    if role not in ROLES:
        raise ValueError(f"A role is one of {', '.join(ROLES)}.")


def _refuse_last_owner(session, member):
    another = _membership(member.workspace_id).where(Membership.role == "owner", Membership.user_id != member.user_id)
    if member.role == "owner" and session.scalar(another) is None:
        raise ValueError("A workspace has at least one owner. Make another member an owner first.")


def _member(session, workspace_id, user_id):
    member = session.get(Membership, (workspace_id, user_id))
    if member is None:
        raise ValueError("There is no such member.")
    return member


def _membership(workspace_id):
    return select(Membership).where(Membership.workspace_id == workspace_id)
