"""API keys: made, found, rotated, revoked. The key itself is never kept, only its SHA-256."""

import hashlib
import re
import zlib
from datetime import timedelta
from typing import NamedTuple

from sqlalchemy import JSON, ForeignKey, LargeBinary, String, select, update
from sqlalchemy.orm import Mapped, mapped_column

from pixel import audit, clock, errors, ids, websites
from pixel.database import Moment, db, remembered, transaction
from pixel.workspaces import Workspace

OVERLAPS = {
    "none": timedelta(0),
    "1h": timedelta(hours=1),
    "24h": timedelta(hours=24),
    "7d": timedelta(days=7),
}
LONGEST_OVERLAP = timedelta(days=7)

_ID, _SECRET, _CHECKSUM = 12, 32, 6
_SHAPE = re.compile(rf"pxl_([a-z]+)_[0-9A-Za-z]{{{_ID + _SECRET + _CHECKSUM}}}")
_LONGEST = 200


class ApiKey(db.Model):
    __tablename__ = "api_keys"

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    workspace_id: Mapped[str] = mapped_column(ForeignKey("workspaces.id"), index=True)
    hash: Mapped[bytes] = mapped_column(LargeBinary(32), unique=True)
    last_four: Mapped[str] = mapped_column(String(4))
    environment: Mapped[str] = mapped_column(String(10))
    name: Mapped[str] = mapped_column(String(100))
    scopes: Mapped[list] = mapped_column(JSON)
    websites: Mapped[list | None] = mapped_column(JSON(none_as_null=True))
    created_by: Mapped[str] = mapped_column(String(200))
    created_at: Mapped[object] = mapped_column(Moment)
    expires_at: Mapped[object | None] = mapped_column(Moment)
    revoked_at: Mapped[object | None] = mapped_column(Moment)
    rotated_from: Mapped[str | None] = mapped_column(ForeignKey("api_keys.id"), index=True)
    overlap_seconds: Mapped[int | None]
    first_used_at: Mapped[object | None] = mapped_column(Moment)
    last_used_at: Mapped[object | None] = mapped_column(Moment)
    last_used_address: Mapped[str | None] = mapped_column(String(45))
    last_used_user_agent: Mapped[str | None] = mapped_column(String(500))

    @property
    def hint(self):
        """What may be shown of the key: enough to know it again."""
        return hint(self.environment, self.id, self.last_four)


class Key(NamedTuple):
    """What a call needs to know of its key and of the key's workspace."""

    id: str
    workspace_id: str
    environment: str
    name: str
    scopes: tuple
    websites: tuple | None
    last_four: str
    created_at: object
    expires_at: object
    revoked_at: object
    first_used_at: object
    workspace_name: str
    timezone: str
    rate_limit: int | None

    @property
    def hint(self):
        return hint(self.environment, self.id, self.last_four)


def hint(environment, key_id, last_four):
    return f"pxl_{environment}_{key_id.removeprefix('key_')[:3]}…{last_four}"


def create(
    workspace_id, name, scopes, environment, website_ids=None, expires_at=None, actor="command line", request_id=None
):
    """A new key, as (secret, ApiKey). The secret is in no store: show it once. Raises ValueError."""
    name = name.strip()
    if not 1 <= len(name) <= 100 or not name.isprintable():
        raise ValueError("A key's name has 1 to 100 printable characters.")
    if expires_at is not None and expires_at <= clock.now():
        raise ValueError("A key must expire in the future.")
    if website_ids is not None and (strangers := set(website_ids) - set(websites.of(workspace_id))):
        raise ValueError(f"No such website in this workspace: {min(strangers)}.")
    secret, key = _new(environment)
    key.workspace_id = workspace_id
    key.name = name
    key.scopes = sorted(set(scopes))
    key.websites = sorted(set(website_ids)) if website_ids is not None else None
    key.created_by = actor
    key.expires_at = expires_at
    with transaction() as session:
        session.add(key)
        audit.record(session, workspace_id, actor, "key.created", key.id, request_id, scopes=key.scopes, name=name)
    return secret, key


def rotate(key_id, overlap="24h", add=(), drop=(), expires_at=None, actor="command line", request_id=None):
    """A successor of a live key, as (secret, ApiKey). Raises ValueError.

    The old key works on until `overlap` after the successor's first use, and never past 7 days from now. A rotation
    of a key that is itself in an overlap, or has a successor already, ends the earlier overlap.
    """
    if overlap not in OVERLAPS:
        raise ValueError(f"The overlap is one of {', '.join(OVERLAPS)}.")
    now = clock.now()
    with transaction() as session:
        old = session.get_one(ApiKey, key_id)
        if state(old, now) in ("revoked", "expired"):
            raise ValueError(f"This key is {state(old, now)}. Create a new one.")
        _end_earlier_overlaps(session, old, now)
        secret, new = _new(old.environment)
        new.workspace_id = old.workspace_id
        new.name = old.name
        new.scopes = sorted((set(old.scopes) | set(add)) - set(drop))
        new.websites = old.websites
        new.created_by = actor
        new.expires_at = expires_at if expires_at is not None else old.expires_at
        new.rotated_from = old.id
        new.overlap_seconds = int(OVERLAPS[overlap].total_seconds())
        old.revoked_at = now + LONGEST_OVERLAP if OVERLAPS[overlap] else now
        session.add(new)
        audit.record(
            session, old.workspace_id, actor, "key.rotated", old.id, request_id, successor=new.id, overlap=overlap
        )
    return secret, new


def revoke(key_id, actor="command line", request_id=None):
    """End a key now and for good. Ending it twice changes nothing."""
    now = clock.now()
    with transaction() as session:
        key = session.get_one(ApiKey, key_id)
        if key.revoked_at is None or key.revoked_at > now:
            key.revoked_at = now
            audit.record(session, key.workspace_id, actor, "key.revoked", key.id, request_id)
    return key


def of(workspace_id):
    """The keys of a workspace, newest first."""
    newest = select(ApiKey).filter_by(workspace_id=workspace_id).order_by(ApiKey.created_at.desc(), ApiKey.id.desc())
    return db.session.scalars(newest).all()


def called(text):
    """The one key that `text` means: its id, its hint or the key itself. Raises ValueError."""
    text = text.strip()
    if _SHAPE.fullmatch(text):
        found = db.session.scalars(select(ApiKey).filter_by(hash=_hash(text))).all()
    else:
        found = [k for k in db.session.scalars(select(ApiKey)) if text in (k.id, k.hint, k.name)]
    if len(found) != 1:
        raise ValueError(f"{'Several keys are' if found else 'No key is'} called that. Give the id of one key.")
    return found[0]


def find(secret, environment):
    """The Key that this secret is. Raises InvalidApiKey, ApiKeyRevoked or ApiKeyExpired."""
    _refuse_what_cannot_be(secret, environment)
    key = _by_hash(_hash(secret))
    if key is None:
        raise errors.InvalidApiKey()
    now = clock.now()
    if key.revoked_at is not None and key.revoked_at <= now:
        raise errors.ApiKeyRevoked(revoked_at=clock.rfc3339(key.revoked_at))
    if key.expires_at is not None and key.expires_at <= now:
        raise errors.ApiKeyExpired(expired_at=clock.rfc3339(key.expires_at))
    if key.first_used_at is None:
        _begin_overlap(key.id, now)
    return key


def state(key, now):
    """One word for how a key stands: active, rotating, expired or revoked."""
    if key.revoked_at is not None:
        return "revoked" if key.revoked_at <= now else "rotating"
    return "expired" if key.expires_at is not None and key.expires_at <= now else "active"


def note_use(uses):
    """Keep when and from where keys were last used: `{key_id: (at, address, user_agent)}`."""
    with transaction() as session:
        for key_id, (at, address, user_agent) in uses.items():
            session.execute(
                update(ApiKey)
                .where(ApiKey.id == key_id, (ApiKey.last_used_at.is_(None)) | (ApiKey.last_used_at < at))
                .values(last_used_at=at, last_used_address=address, last_used_user_agent=user_agent[:500])
            )


def _new(environment):
    key_id = ids.random(_ID)
    body = f"pxl_{environment}_{key_id}{ids.random(_SECRET)}"
    secret = body + _checksum(body)
    key = ApiKey(
        id="key_" + key_id,
        hash=_hash(secret),
        last_four=secret[-4:],
        environment=environment,
        created_at=clock.now(),
    )
    return secret, key


def _checksum(body):
    return ids.base62(zlib.crc32(body.encode()), _CHECKSUM)


def _hash(secret):
    return hashlib.sha256(secret.encode()).digest()


def _refuse_what_cannot_be(secret, environment):
    """Raise InvalidApiKey, without asking the database, for what no key of this server can be."""
    if len(secret) > _LONGEST:
        raise errors.InvalidApiKey()
    if secret[0] in "\"'`" or secret[-1] in "\"'`":
        raise errors.InvalidApiKey(hint="surrounding_quotes")
    if re.fullmatch(r"(sha256:)?[0-9a-fA-F]{64}", secret):
        raise errors.InvalidApiKey(hint="looks_like_hash")
    shape = _SHAPE.fullmatch(secret)
    if shape and _checksum(secret[:-_CHECKSUM]) == secret[-_CHECKSUM:]:
        if shape[1] != environment:
            raise errors.InvalidApiKey(
                hint="wrong_environment", key_environment=shape[1], server_environment=environment
            )
    elif secret.startswith("pxl_"):
        raise errors.InvalidApiKey(hint="truncated_or_mistyped")
    else:
        raise errors.InvalidApiKey()


@remembered
def _by_hash(digest):
    own = [getattr(ApiKey, name) for name in Key._fields[:11]]
    asked = select(*own, Workspace.name, Workspace.timezone, Workspace.rate_limit).join(
        Workspace, Workspace.id == ApiKey.workspace_id
    )
    row = db.session.execute(asked.where(ApiKey.hash == digest)).first()
    if row is None:
        return None
    key = Key(*row)
    return key._replace(scopes=tuple(key.scopes), websites=None if key.websites is None else tuple(key.websites))


def _begin_overlap(key_id, now):
    """Note a key's first use, from which the overlap with its predecessor runs."""
    with transaction() as session:
        key = session.get_one(ApiKey, key_id)
        if key.first_used_at is not None:
            return
        key.first_used_at = now
        if key.rotated_from:
            old = session.get_one(ApiKey, key.rotated_from)
            ends = now + timedelta(seconds=key.overlap_seconds)
            if old.revoked_at is not None and old.revoked_at > ends:
                old.revoked_at = ends


def _end_earlier_overlaps(session, key, now):
    """End what still runs beside `key`: its predecessor, and a successor that it already has."""
    beside = (ApiKey.id == key.rotated_from) | (ApiKey.rotated_from == key.id)
    for other in session.scalars(select(ApiKey).where(beside)):
        if other.revoked_at is None or other.revoked_at > now:
            other.revoked_at = now
