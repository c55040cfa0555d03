"""Who changed what, when, and in which request."""

from sqlalchemy import JSON, ForeignKey, String, select
from sqlalchemy.orm import Mapped, mapped_column

from pixel import clock, foreign_text, ids
from pixel.database import Moment, db, transaction

#: Every action, in words that follow the name of who did it.
ACTIONS = {
    "workspace.created": "created the workspace",
    "workspace.limited": "changed the rate limit",
    "key.created": "created a key",
    "key.rotated": "rotated a key",
    "key.overlap_ended": "ended a key's overlap",
    "key.discarded": "discarded a new key",
    "key.revoked": "revoked a key",
    "website.added": "added a website",
    "website.renamed": "changed a website",
    "website.removed": "removed a website",
    "website.restored": "restored a website",
    "website.deleted": "deleted a removed website's data",
    "visitor.erased": "erased a visitor",
    "member.invited": "invited a member",
    "member.uninvited": "withdrew an invitation",
    "member.joined": "joined",
    "member.changed": "changed a member's role",
    "member.removed": "removed a member",
    "support.looked_up": "looked up a request for support",
    "session.begun": "signed in",
    "session.ended": "ended a session",
    "password.changed": "changed the password",
    "link.reset": "asked for a password link",
    "link.welcome": "was given a sign-in link",
    "user.support": "changed the support flag",
    "user.verified": "proved the e-mail address",
}


class AuditEntry(db.Model):
    __tablename__ = "audit"

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    #: None for what a person did with their own account.
    workspace_id: Mapped[str | None] = mapped_column(ForeignKey("workspaces.id"), index=True)
    at: Mapped[object] = mapped_column(Moment)
    actor: Mapped[str] = mapped_column(String(254))
    action: Mapped[str] = mapped_column(String(60))
    subject: Mapped[str] = mapped_column(String(60), index=True)
    request_id: Mapped[str | None] = mapped_column(String(40))
    details: Mapped[dict] = mapped_column(JSON)

    @property
    def words(self):
        """What was done, to follow the actor's name."""
        return ACTIONS[self.action]


def record(session, workspace_id, actor, action, subject, request_id=None, **details):
    """Add an entry within the transaction of the change it tells of. `details` must hold no secret."""
    assert action in ACTIONS
    session.add(
        AuditEntry(
            id=ids.in_time("aud_"),
            workspace_id=workspace_id,
            at=clock.now(),
            actor=actor,
            action=action,
            subject=subject,
            request_id=request_id,
            details=details,
        )
    )


def of(workspace_id, before=None, most=50, action=None):
    """The entries of a workspace, newest first: at most `most` that are older than the entry of the id `before`."""
    return _newest(AuditEntry.workspace_id == workspace_id, before, most, action)


def about(workspace_id, subjects, most=50):
    """The entries of a workspace about any of these things, newest first."""
    return _newest((AuditEntry.workspace_id == workspace_id) & AuditEntry.subject.in_(subjects), None, most)


def of_account(user_id, most=20):
    """What was done with a user's account, newest first."""
    return _newest(AuditEntry.workspace_id.is_(None) & (AuditEntry.subject == user_id), None, most)


def looked_up(workspace_ids, actor, subject, request_id, **details):
    """Tell each of these workspaces that support looked at something of theirs; None stands for nobody's."""
    known = db.metadata.tables["workspaces"].c.id
    with transaction() as session:
        # The request log may tell of a workspace that this database never had, after a restore for one.
        there = set(session.scalars(select(known).where(known.in_([id for id in workspace_ids if id]))))
        for workspace_id in {id if id in there else None for id in workspace_ids}:
            record(session, workspace_id, actor, "support.looked_up", subject, request_id, **details)


def is_looked_up(actor, subject, since):
    """Whether this person has looked something up, and said why, since a moment."""
    found = select(AuditEntry.id).filter_by(actor=actor, subject=subject, action="support.looked_up")
    return db.session.scalar(found.where(AuditEntry.at >= since).limit(1)) is not None


def look_ups_of(actor, most=10):
    """What this person looked up last, each thing once, newest first."""
    found = select(AuditEntry).filter_by(actor=actor, action="support.looked_up").order_by(AuditEntry.id.desc())
    once = {entry.subject: entry for entry in reversed(db.session.scalars(found.limit(5 * most)).all())}
    return sorted(once.values(), key=lambda entry: entry.id, reverse=True)[:most]


def checked_reason(reason: str) -> str:
    """Return the reason of a look-up as it is stored. Raise ValueError."""
    return foreign_text.checked_name(reason, "A reason", 3, 200)


def _newest(which, before, most, action=None):
    asked = select(AuditEntry).where(which)
    if before:
        asked = asked.where(AuditEntry.id < before)
    if action:
        asked = asked.where(AuditEntry.action == action)
    return db.session.scalars(asked.order_by(AuditEntry.id.desc()).limit(most)).all()
