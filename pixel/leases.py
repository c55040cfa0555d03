"""Leases: what only one of several servers may do is done by the one that has the lease."""

from datetime import timedelta

from sqlalchemy import String
from sqlalchemy.orm import Mapped, mapped_column

from pixel.database import Moment, db, now, transaction

#: How long a lease holds when nobody renews it.
LASTS = timedelta(seconds=30)


class Lease(db.Model):
    __tablename__ = "leases"

    name: Mapped[str] = mapped_column(String(40), primary_key=True)
    holder: Mapped[str] = mapped_column(String(40))
    until: Mapped[object] = mapped_column(Moment)


def take(name, holder):
    """Take the lease of this name, or renew it. Returns whether `holder` has it now, for LASTS."""
    with transaction() as session:
        moment, lease = now(session), session.get(Lease, name)
        if lease is not None and lease.holder != holder and lease.until > moment:
            return False
        session.merge(Lease(name=name, holder=holder, until=moment + LASTS))
    return True


def give_back(name, holder):
    """Let another have the lease at once, if `holder` has it."""
    with transaction() as session:
        lease = session.get(Lease, name)
        if lease is not None and lease.holder == holder:
            session.delete(lease)
