"""People: users, their roles in workspaces, and how they prove who they are.

A user is verified once they have proven that they own their e-mail address, by a link that was mailed there or printed
for the operator. An unverified user has no privileges: they cannot sign in, and their memberships and support flag have
no effect.
"""

import re
import shlex
import threading
import unicodedata
from datetime import datetime
from typing import NamedTuple

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from sqlalchemy import ForeignKey, Select, String, case, select
from sqlalchemy.orm import Mapped, Session, mapped_column

from pixel import audit, clock, devices, foreign_text, ids, letters, links, mail, passwords, sessions
from pixel.database import Moment, db, transaction

ROLES = {
    "owner": "Everything, and makes other owners.",
    "admin": "Keys, websites and members.",
    "viewer": "Looks, and changes nothing.",
}
#: A password that stands alone has at least 15 characters (NIST SP 800-63B-4, 3.1.1.2).
SHORTEST_PASSWORD, LONGEST_PASSWORD = 15, 128
_ADVICE = "Use four or more unrelated words."

#: OWASP's first choice for Argon2id: 19 MiB, two passes, one lane. The library's defaults cost ten times the time.
_HASHER = PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)
#: Each hash takes 19 MiB and a processor while it is made. Two leave processors for other requests.
_HASHES_AT_ONCE = threading.BoundedSemaphore(2)
#: Compared with the password of an unknown user, so that the answer takes as long.
_NOBODYS_HASH = _HASHER.hash(ids.random(20))
#: No character that has a meaning in a mail header, so that a mail goes to exactly the address that was checked.
#: The ASCII characters of a domain are letters, digits and hyphens.
_EMAIL = re.compile(r'[^@\s"(),:;<>\[\\\]]{1,64}@[^\x00-,./:-@\[-`{-\x7f]+(\.[^\x00-,./:-@\[-`{-\x7f]+)*')


class User(db.Model):
    __tablename__ = "users"

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    email: Mapped[str] = mapped_column(String(254), unique=True)
    password_hash: Mapped[str | None] = mapped_column(String(200))
    support: Mapped[bool] = mapped_column(default=False)
    #: When the user proved that they own the address; None for a user without privileges.
    verified_at: Mapped[datetime | None] = mapped_column(Moment)
    created_at: Mapped[object] = mapped_column(Moment)

    @property
    def is_verified(self) -> bool:
        return self.verified_at is not None


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
    is_verified: bool


def join(session: Session, workspace_id: str, email: str, role: str) -> User:
    """Within a transaction, make the user of an address a member, and create the user unverified if there is none.

    For the operator only: an invitation adds a member in `accept_invitation` or `choose_password`. Raise ValueError.
    """
    email = address(email)
    _refuse_unknown_role(role)
    user = _ensure_user(session, email)
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


def of(workspace_id: str) -> list[Member]:
    """Return the members of a workspace, owners first, then by e-mail."""
    columns = (User.id, User.email, Membership.role, User.verified_at.is_not(None))
    order = (case({role: place for place, role in enumerate(ROLES)}, value=Membership.role), User.email)
    rows = select(*columns).join(Membership, Membership.user_id == User.id).order_by(*order)
    return [Member(*row) for row in db.session.execute(rows.where(Membership.workspace_id == workspace_id))]


def owners(workspace_id: str) -> list[str]:
    """Return the e-mail addresses of a workspace's verified owners."""
    return [member.email for member in of(workspace_id) if member.role == "owner" and member.is_verified]


def member(workspace_id, user_id):
    """One member of a workspace, or None."""
    return next((member for member in of(workspace_id) if member.user_id == user_id), None)


# -- in and out of a workspace


def invite(
    workspace_id: str, workspace_name: str, email: str, role: str, actor: str, request_id: str | None = None
) -> str | None:
    """Invite the owner of an address. Mail the link, which then proves the address, and return None.

    Where no mail is configured, return the link for the inviter to pass on. That link proves nothing: it only adds a
    membership for a verified user who is signed in. Raise ValueError.
    """
    email = address(email)
    _refuse_unknown_role(role)
    with transaction() as session:
        if session.scalar(_membership(workspace_id).join(User).where(User.email == email)):
            raise ValueError(f"{email} is already a member.")
        token, link = links.make(session, "invite", email, actor, workspace_id, role, proves_address=False)
        link_address = links.address(token)
        link.proves_address = mail.post(
            session, email, "invite", workspace=workspace_name, inviter=actor, role=role, link=link_address
        )
        audit.record(session, workspace_id, actor, "member.invited", link.id, request_id, email=email, role=role)
    return None if link.proves_address else link_address


def withdraw(workspace_id: str, link_id: str, actor: str, request_id: str | None = None) -> str | None:
    """End an invitation. Return the address it was for, or None if there is no invitation of this id."""
    with transaction() as session:
        link = session.scalar(select(links.Link).filter_by(id=link_id, workspace_id=workspace_id, purpose="invite"))
        if link is None:
            return None
        _end_invitation(session, link, actor, request_id)
    return link.email


def change_role(workspace_id: str, user_id: str, role: str, actor: str, request_id: str | None = None) -> None:
    """Set a member's role, from the next request on. Raise ValueError, also for the last owner.

    It ends the open invitations that the member made and could not make with the new role.
    """
    _refuse_unknown_role(role)
    with transaction() as session:
        member = _member(session, workspace_id, user_id)
        if member.role != role:
            _refuse_last_owner(session, member)
            email = session.get_one(User, user_id).email
            audit.record(
                session, workspace_id, actor, "member.changed", user_id, request_id,
                email=email, before=member.role, role=role,
            )  # fmt: skip
            member.role = role
            if role != "owner":
                # Viewers invite nobody, and only an owner invites owners.
                invited = tuple(ROLES) if role == "viewer" else ("owner",)
                _end_invitations_by(session, workspace_id, email, invited, actor, request_id)


def remove(workspace_id: str, user_id: str, actor: str, request_id: str | None = None) -> None:
    """Remove a member, from the next request on, and end the open invitations that the member made.

    Raise ValueError, also for the last owner.
    """
    with transaction() as session:
        member = _member(session, workspace_id, user_id)
        _refuse_last_owner(session, member)
        session.delete(member)
        email = session.get_one(User, user_id).email
        audit.record(session, workspace_id, actor, "member.removed", user_id, request_id, email=email)
        _end_invitations_by(session, workspace_id, email, tuple(ROLES), actor, request_id)


# -- passwords and links


def authenticate(email: str, password: str) -> User | None:
    """Return the verified user with this e-mail and password, or None. An unknown user takes as long."""
    user = by_email(email)
    password_hash = user.password_hash if user and user.is_verified else None
    matches = verify_password(password_hash or _NOBODYS_HASH, password)
    return user if password_hash and matches else None


def start_session(user: User, network: str, address: str, user_agent: str, request_id: str | None = None) -> str | None:
    """Start a session of a user who has just proven who they are, and remember their network. Return its token.

    Return None if the password has changed since they proved it: no session of the old one may outlive a reset.
    """
    with transaction() as session:
        if session.get_one(User, user.id).password_hash != user.password_hash:
            return None
        devices.remember_network(session, user.id, network)
        return sessions.begin(session, user.id, user.email, address, user_agent, request_id)


def change_password(
    user: User, password: str, signed: sessions.Signed, network: str, request_id: str | None = None
) -> tuple[User, sessions.Signed]:
    """Change the password of a verified user who is signed in from `network`. Return the session with its new token.

    It ends the other sessions and the open password links, and forgets the other networks. Raise ValueError, also if
    the password has changed since `user` was read: a reset must not be undone by a session that it ended.
    """
    hashed = hash_password(checked_password(password, user.email, *_workspace_names(user)))
    with transaction() as session:
        current = session.get_one(User, user.id)
        if not current.is_verified:
            raise ValueError(f"{current.email} has not proven this address yet.")
        if current.password_hash != user.password_hash:
            raise ValueError("The password was changed in the meantime. Sign in with the new one.")
        _set_password(session, current, hashed, request_id, keep_session=signed.id)
        devices.remember_network(session, current.id, network)
        renewed = sessions.renew(session, signed)
        if renewed is None:
            raise ValueError(sessions.RENEWED_ELSEWHERE)
    return current, renewed


def welcome_link(email: str, actor: str = "command line") -> str:
    """Return a link to the first password of an unverified user, and create the user if there is none.

    Following the link proves the address, so print it for the operator and nobody else. Raise ValueError for a user
    who is verified.
    """
    email = address(email)
    with transaction() as session:
        user = _ensure_user(session, email)
        if user.is_verified:
            raise ValueError(f"{email} has an account. For a new password: {operator_command('reset', email)}")
        token, _ = links.make(session, "welcome", email, actor, proves_address=True)
        audit.record(session, None, actor, "link.welcome", user.id)
    return links.address(token)


def operator_command(verb: str, email: str) -> str:
    """Return the shell command with which the operator creates an account, or resets its password.

    An e-mail address may contain characters that a shell interprets, so the address is quoted.
    """
    return shlex.join(["flask", "--app", "app", "user", verb, email])


def reset_link(email: str, actor: str = "command line") -> str:
    """Return a link by which a user sets a new password.

    Following the link proves the address, so print it for the operator and nobody else. Raise ValueError for an
    unknown user.
    """
    user = called(email)
    with transaction() as session:
        token, _ = links.make(session, "reset", user.email, actor, proves_address=True)
        audit.record(session, None, actor, "link.reset", user.id)
    return links.address(token)


def mail_reset_link(email: str, request_id: str | None = None) -> None:
    """Have a link to set a new password mailed to an address, if it is a user's. Mail must be configured.

    An unknown address gets a link and a mail too, so that the same steps run. `release_reset_mails` deletes that mail
    before it is sent, so nobody has the token.
    """
    try:
        email = address(email)
    except ValueError:
        return
    with transaction() as session:
        user_id = session.scalar(_user_id(email))
        token, link = links.make(session, "reset", email, email, proves_address=True)
        mail.post(session, email, "reset", held=True, link=links.address(token))
        audit.record(session, None, email, "link.reset", user_id or link.id, request_id)


def release_reset_mails() -> None:
    """Let the held reset mails be sent to users, and delete those to unknown addresses."""
    if not mail.list_held("reset"):
        return
    with transaction() as session:
        for message in mail.list_held("reset", session):
            if session.scalar(_user_id(message.recipient)):
                message.due_at = clock.now()
            else:
                session.delete(message)


def lets_choose_password(link: links.Link) -> bool:
    """Return whether the holder of a link may choose a password: not by an invitation that proves nothing.

    A verified user accepts an invitation with the password they have.
    """
    return _lets_choose_password(link, by_email(link.email))


def choose_password(token: str, password: str, request_id: str | None = None) -> User | None:
    """Use a link up: verify its user, set the password and end their sessions; join the workspace of an invitation.

    Return the user, or None if the link no longer works or does not let its holder choose a password. Raise ValueError
    for a password that is not accepted; the link still works then.
    """
    link = links.find(token)
    if link is None or not lets_choose_password(link):
        return None
    names = _workspace_names(by_email(link.email), link.workspace_id)
    hashed = hash_password(checked_password(password, link.email, *names))
    with transaction() as session:
        link = links.find(token, session)
        user = link and session.scalar(select(User).filter_by(email=link.email))
        if link is None or not _lets_choose_password(link, user):
            return None
        user = user or _ensure_user(session, link.email)
        session.delete(link)
        if not user.is_verified:
            user.verified_at = clock.now()
            audit.record(session, None, user.email, "user.verified", user.id, request_id)
        _set_password(session, user, hashed, request_id)
        if link.purpose == "invite":
            _accept(session, link, user, request_id)
    return user


def accept_invitation(token: str, user: User, request_id: str | None = None) -> bool:
    """Use an invitation up for the signed-in user it is addressed to. Return False if it does not work for them."""
    with transaction() as session:
        link, user = links.find(token, session), session.get_one(User, user.id)
        if link is None or link.purpose != "invite" or link.email != user.email or not user.is_verified:
            return False
        session.delete(link)
        _accept(session, link, user, request_id)
    return True


def allow_support(email: str, allowed: bool = True) -> User:
    """Set or remove a user's support flag, which has no effect until they are verified. Raise ValueError.

    For the command line only.
    """
    user = called(email)
    with transaction() as session:
        user = session.get_one(User, user.id)
        user.support = allowed
        audit.record(session, None, "command line", "user.support", user.id, allowed=allowed)
    return user


def checked_password(password: str, *context: str) -> str:
    """Return the password in NFC, the form that is hashed. Raise ValueError for one that is not accepted.

    `context` are texts that somebody who guesses tries: the e-mail address, the names of the user's workspaces.
    """
    if len(password) > LONGEST_PASSWORD:
        raise ValueError(f"A password has at most {LONGEST_PASSWORD} characters.")
    password = unicodedata.normalize("NFC", password)
    if len(password) < SHORTEST_PASSWORD:
        raise ValueError(f"A password has at least {SHORTEST_PASSWORD} characters. {_ADVICE}")
    if "\0" in password:
        raise ValueError("A password has no NUL.")
    if passwords.is_guessable(password, context):
        raise ValueError(f"This password is on lists of stolen passwords or easy to guess. {_ADVICE}")
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


def address(text: str) -> str:
    """Return an e-mail address in its normal form. Raise ValueError."""
    email = letters.lower(text.strip())
    if len(email) > 254 or not email.isprintable() or not _EMAIL.fullmatch(email):
        raise ValueError(f"{text.strip()[:100]!r} is no e-mail address.")
    foreign_text.refuse_unseen(email, "An e-mail address")
    return email


def _ensure_user(session: Session, email: str) -> User:
    """Return the user of an address, created unverified if there is none."""
    user = session.scalar(select(User).filter_by(email=email))
    if user is None:
        user = User(id="usr_" + ids.random(14), email=email, created_at=clock.now())
        session.add(user)
        session.flush()
    return user


def _workspace_names(user: User | None, workspace_id: str | None = None) -> list[str]:
    """Return the names of a user's workspaces, and of a further one that the user is about to join."""
    workspaces = db.metadata.tables["workspaces"].c
    own = select(Membership.workspace_id).where(Membership.user_id == (user.id if user else None))
    names = select(workspaces.name).where(workspaces.id.in_(own) | (workspaces.id == workspace_id))
    return list(db.session.scalars(names))


def _user_id(email: str) -> Select[tuple[str]]:
    return select(User.id).where(User.email == email)


def _lets_choose_password(link: links.Link, user: User | None) -> bool:
    if not link.proves_address:
        return False
    return not (user and user.is_verified) if link.purpose == "invite" else user is not None


def _set_password(
    session: Session, user: User, hashed: str, request_id: str | None, keep_session: str | None = None
) -> None:
    user.password_hash = hashed
    links.end(session, user.email)
    sessions.end_others(session, user.id, but=keep_session)
    devices.forget_networks(session, user.id)
    audit.record(session, None, user.email, "password.changed", user.id, request_id)


def _accept(session: Session, link: links.Link, user: User, request_id: str | None) -> None:
    """Within a transaction, add the membership of an invitation. A member keeps the role they have."""
    membership = session.get(Membership, (link.workspace_id, user.id))
    if membership is None:
        membership = Membership(workspace_id=link.workspace_id, user_id=user.id, role=link.role)
        session.add(membership)
    audit.record(
        session, link.workspace_id, user.email, "member.joined", user.id, request_id,
        email=user.email, role=membership.role,
    )  # fmt: skip


def _end_invitations_by(
    session: Session, workspace_id: str, inviter: str, roles: tuple[str, ...], actor: str, request_id: str | None
) -> None:
    """Within a transaction, end the open invitations to some roles that an inviter made."""
    invitations = select(links.Link).filter_by(workspace_id=workspace_id, created_by=inviter, purpose="invite")
    for link in session.scalars(invitations.where(links.Link.role.in_(roles))).all():
        _end_invitation(session, link, actor, request_id)


def _end_invitation(session: Session, link: links.Link, actor: str, request_id: str | None) -> None:
    session.delete(link)
    audit.record(session, link.workspace_id, actor, "member.uninvited", link.id, request_id, email=link.email)


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
