"""Workspaces: what owns websites, keys and members."""

from functools import cache
from zoneinfo import available_timezones

from sqlalchemy import String, select
from sqlalchemy.orm import Mapped, mapped_column

from pixel import audit, clock, foreign_text, ids, members
from pixel.database import Moment, db, transaction


class Workspace(db.Model):
    __tablename__ = "workspaces"

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    name: Mapped[str] = mapped_column(String(100))
    timezone: Mapped[str] = mapped_column(String(64))
    rate_limit: Mapped[int | None]
    created_at: Mapped[object] = mapped_column(Moment)


def create(name: str, owner_email: str, timezone: str = "UTC", actor: str = "command line") -> Workspace:
    """Create a workspace and its owner, unverified if there is no user of this e-mail yet. Raise ValueError."""
    name = foreign_text.checked_name(name, "A workspace's name")
    refuse_unknown_timezone(timezone)
    with transaction() as session:
        workspace = Workspace(id="ws_" + ids.random(14), name=name, timezone=timezone, created_at=clock.now())
        session.add(workspace)
        session.flush()
        members.join(session, workspace.id, owner_email, "owner")
        audit.record(session, workspace.id, actor, "workspace.created", workspace.id, name=name)
    return workspace


def get(workspace_id):
    """The workspace of this id, or None."""
    return db.session.get(Workspace, workspace_id)


def of(user_id):
    """The workspaces that a user is a member of, by name, as [(Workspace, role)]."""
    found = select(Workspace, members.Membership.role).join(
        members.Membership, members.Membership.workspace_id == Workspace.id
    )
    return db.session.execute(
        found.where(members.Membership.user_id == user_id).order_by(Workspace.name, Workspace.id)
    ).all()


def called(name_or_id):
    """The one workspace of this id or name. Raises ValueError when there is none, or several."""
    either = (Workspace.id == name_or_id) | (Workspace.name == name_or_id)
    found = db.session.scalars(select(Workspace).where(either)).all()
    if len(found) != 1:
        raise ValueError(f"There {'are several workspaces' if found else 'is no workspace'} called {name_or_id!r}.")
    return found[0]


def limit(workspace_id, calls_a_minute, actor="command line"):
    """Give a workspace a rate limit of its own, or the server's again with None. Raises ValueError."""
    if calls_a_minute is not None and not 1 <= calls_a_minute <= 10**9:
        raise ValueError("The limit must be between 1 and 1000000000 calls a minute.")
    with transaction() as session:
        session.get_one(Workspace, workspace_id).rate_limit = calls_a_minute
        audit.record(session, workspace_id, actor, "workspace.limited", workspace_id, limit=calls_a_minute)


def refuse_unknown_timezone(timezone: str) -> None:
    """Raise ValueError unless `timezone` is an IANA name."""
    if timezone not in _timezones():
        raise ValueError(f"{timezone[:100]!r} is no time zone. Use a name such as Europe/Berlin.")


@cache
def _timezones():
    # Each look reads some 600 files.
    return available_timezones()
