"""Visitor ids for browsers that keep none: the same for one day, and never to be made again afterwards.

An id is a keyed hash of the website, the address and the browser. Its key is random, made each day (UTC) and deleted
two days later; what it hashed is kept nowhere.
"""

import hashlib
import secrets
from datetime import timedelta

from sqlalchemy import LargeBinary, String, delete, select
from sqlalchemy.orm import Mapped, mapped_column

from pixel import clock
from pixel.database import db, remembered, transaction

LIVES = timedelta(days=2)


class Salt(db.Model):
    __tablename__ = "salts"

    day: Mapped[str] = mapped_column(String(10), primary_key=True)
    salt: Mapped[bytes] = mapped_column(LargeBinary(32))


def visitor(website_id, address, user_agent):
    """Today's id of a browser at an address, on one website."""
    day = f"{clock.now():%Y-%m-%d}"
    salt = _of(day) or _make(day)
    text = "\0".join((website_id, address, user_agent))
    return "d_" + hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=16, key=salt).hexdigest()


def sweep():
    """Delete the salts that are two days old: from then on nobody can tell whose an id was."""
    oldest = f"{clock.now() - LIVES:%Y-%m-%d}"
    with transaction() as session:
        session.execute(delete(Salt).where(Salt.day <= oldest))


@remembered
def _of(day):
    return db.session.scalar(select(Salt.salt).filter_by(day=day))


def _make(day):
    with transaction() as session:
        found = session.scalar(select(Salt.salt).filter_by(day=day))
        if found is None:
            found = secrets.token_bytes(32)
            session.add(Salt(day=day, salt=found))
    return found
