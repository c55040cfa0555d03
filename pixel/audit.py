"""Who changed what, when, and in which request."""

from sqlalchemy import JSON, ForeignKey, String
from sqlalchemy.orm import Mapped, mapped_column

from pixel import clock, ids
from pixel.database import Moment, db


class AuditEntry(db.Model):
    __tablename__ = "audit"

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    workspace_id: Mapped[str] = mapped_column(ForeignKey("workspaces.id"), index=True)
    at: Mapped[object] = mapped_column(Moment)
    actor: Mapped[str] = mapped_column(String(200))
    action: Mapped[str] = mapped_column(String(60))
    subject: Mapped[str] = mapped_column(String(60))
    request_id: Mapped[str | None] = mapped_column(String(40))
    details: Mapped[dict] = mapped_column(JSON)


def record(session, workspace_id, actor, action, subject, request_id=None, **details):
    """Add an entry within the transaction of the change it tells of. `details` must hold no secret."""
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
