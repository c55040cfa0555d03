"""Browsers and networks that a user has signed in from.

A signed cookie remembers a browser. It holds a random id of the browser and, for the accounts that signed in there
last, a keyed reference. The reference covers the password hash, so a new password makes every earlier one worthless.
A table remembers networks as keyed hashes. Neither holds an e-mail address or a network address.
"""

import hashlib
import hmac
from datetime import timedelta

from flask import current_app
from itsdangerous import BadData, URLSafeSerializer
from sqlalchemy import ForeignKey, LargeBinary, delete, select
from sqlalchemy.orm import Mapped, Session, mapped_column

from pixel import clock, ids
from pixel.database import Moment, db

COOKIE_LASTS, NETWORK_LASTS = timedelta(days=365), timedelta(days=90)
#: How many accounts the cookie of one browser holds.
MOST_ACCOUNTS = 5


class KnownNetwork(db.Model):
    __tablename__ = "known_networks"

    user_id: Mapped[str] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), primary_key=True)
    hash: Mapped[bytes] = mapped_column(LargeBinary(32), primary_key=True)
    seen_at: Mapped[object] = mapped_column(Moment)


def recognize(cookie: str, user_id: str, password_hash: str) -> str | None:
    """Return the id of the browser if this user signed in there with the present password, or None."""
    device, accounts = _read(cookie)
    return device if _reference(device, user_id, password_hash) in accounts else None


def renew(cookie: str, user_id: str, password_hash: str) -> str:
    """Return the cookie of a browser after this user has signed in there. `cookie` is the earlier one, or empty."""
    device, accounts = _read(cookie)
    device = device or ids.random(22)
    account = _reference(device, user_id, password_hash)
    accounts = [account, *(other for other in accounts if other != account)][:MOST_ACCOUNTS]
    return _serializer().dumps([int(clock.seconds()), device, accounts])


def remember_network(session: Session, user_id: str, network: str) -> None:
    """Within a transaction, remember that this user signed in from a network just now."""
    session.merge(KnownNetwork(user_id=user_id, hash=keyed_hash("network", user_id, network), seen_at=clock.now()))


def is_known_network(user_id: str, network: str) -> bool:
    """Return whether this user signed in from the network in the last 90 days."""
    network_hash = keyed_hash("network", user_id, network)
    seen_at = db.session.scalar(select(KnownNetwork.seen_at).filter_by(user_id=user_id, hash=network_hash))
    return seen_at is not None and clock.now() - seen_at < NETWORK_LASTS


def forget_networks(session: Session, user_id: str) -> None:
    """Within a transaction, forget every network of a user."""
    session.execute(delete(KnownNetwork).filter_by(user_id=user_id))


def sweep(session: Session) -> None:
    """Within a transaction, forget the networks that nobody signed in from in the last 90 days."""
    session.execute(delete(KnownNetwork).where(KnownNetwork.seen_at < clock.now() - NETWORK_LASTS))


def keyed_hash(purpose: str, *parts: str) -> bytes:
    """Return the HMAC-SHA256 of some text under SECRET_KEY. Hashes of different purposes have nothing in common."""
    message = "\0".join((purpose, *parts)).encode("utf-8", "replace")
    return hmac.digest(current_app.config["SECRET_KEY"].encode(), message, hashlib.sha256)


def _read(cookie: str) -> tuple[str, list[str]]:
    """Return the browser's id and its references, newest first. The id is empty for a foreign or expired cookie."""
    try:
        issued_at, device, accounts = _serializer().loads(cookie)
    except BadData:
        return "", []
    return (device, accounts) if clock.seconds() - issued_at < COOKIE_LASTS.total_seconds() else ("", [])


def _reference(device: str, user_id: str, password_hash: str) -> str:
    return keyed_hash("device", device, user_id, password_hash).hex()[:32]


def _serializer() -> URLSafeSerializer:
    return URLSafeSerializer(
        current_app.config["SECRET_KEY"],
        salt="pixel.device",
        signer_kwargs={"key_derivation": "hmac", "digest_method": hashlib.sha256},
    )
