"""API keys: made, found, rotated, revoked. The key itself is never kept, only its SHA-256."""

import hashlib
import re
import unicodedata
import zlib
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from typing import NamedTuple

from flask import current_app
from sqlalchemy import JSON, ForeignKey, LargeBinary, String, exists, func, select, update
from sqlalchemy.orm import Mapped, Session, aliased, mapped_column

from pixel import audit, clock, errors, foreign_text, ids, websites
from pixel.database import Moment, db, remembered, transaction
from pixel.workspaces import Workspace

OVERLAPS = {
    "none": timedelta(0),
    "1h": timedelta(hours=1),
    "24h": timedelta(hours=24),
    "7d": timedelta(days=7),
}
LONGEST_OVERLAP = timedelta(days=7)
STATES = ("active", "rotating", "expired", "revoked")
#: The expiry of a successor that is not given one.
AS_BEFORE = object()
#: How long a new key waits to be shown.
WAITS = timedelta(minutes=10)
#: After so long without use a key is idle; after so long without any use it was made for nothing.
IDLE, UNUSED = timedelta(days=90), timedelta(days=30)
#: How long a rotated key must be left alone before it is said to be.
LEFT = timedelta(hours=1)

_ID, _SECRET, _CHECKSUM = 12, 32, 6
_SHAPE = re.compile(rf"pxl_([a-z]+)_[0-9A-Za-z]{{{_ID + _SECRET + _CHECKSUM}}}")
_HINT = re.compile(r"key_([0-9A-Za-z]{12})|pxl_([a-z]+)_([0-9A-Za-z]{3})(?:…|\.\.\.)([0-9A-Za-z]{4})")
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
    created_by: Mapped[str] = mapped_column(String(254))
    created_at: Mapped[object] = mapped_column(Moment)
    expires_at: Mapped[object | None] = mapped_column(Moment)
    revoked_at: Mapped[object | None] = mapped_column(Moment)
    rotated_from: Mapped[str | None] = mapped_column(ForeignKey("api_keys.id"), index=True)
    overlap_seconds: Mapped[int | None]
    first_used_at: Mapped[object | None] = mapped_column(Moment)
    last_used_at: Mapped[object | None] = mapped_column(Moment)
    last_used_address: Mapped[str | None] = mapped_column(String(45))
    last_used_user_agent: Mapped[str | None] = mapped_column(String(500))
    #: The form that made the key, so that one sent twice makes one key.
    form: Mapped[str | None] = mapped_column(String(40), unique=True)
    #: The key itself for as long as it waits to be shown, readable with its maker's session only (see `reveal`).
    sealed: Mapped[bytes | None] = mapped_column(LargeBinary)

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


class MadeAlready(Exception):
    """The form that asks for a key was sent before, and made the key of the id `key_id`."""

    def __init__(self, key_id):
        super().__init__()
        self.key_id = key_id


class Showing(NamedTuple):
    """How a new key is shown once: the form that asked for it, and what seals the key for whoever sent that."""

    form: str
    seal: Callable


def create(
    workspace_id: str,
    name: str,
    scopes: Iterable[str],
    environment: str,
    website_ids: Iterable[str] | None = None,
    expires_at: datetime | None = None,
    actor: str = "command line",
    request_id: str | None = None,
    showing: Showing | None = None,
) -> tuple[str, ApiKey]:
    """Create a key. Return (secret, ApiKey). The secret is in no store: show it once.

    With a Showing, store the sealed secret for `reveal`. Raise MadeAlready for a form that was sent before,
    LimitReached if the workspace has MAX_ACTIVE_KEYS active keys, and ValueError for a wrong value.
    """
    name = checked_name(name)
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
        _prepare_showing(session, workspace_id, key, secret, showing)
        _refuse_beyond_limit(_count_active(session, workspace_id) + 1)
        session.add(key)
        audit.record(session, workspace_id, actor, "key.created", key.id, request_id, scopes=key.scopes, name=name)
    return secret, key


def rotate(
    key_id: str,
    overlap: str = "24h",
    add: Iterable[str] = (),
    drop: Iterable[str] = (),
    expires_at: datetime | object | None = AS_BEFORE,
    actor: str = "command line",
    request_id: str | None = None,
    showing: Showing | None = None,
) -> tuple[str, ApiKey]:
    """Create the successor of a working key. Return (secret, ApiKey). Raise the errors of `create`.

    A rotation that ends no active key adds one, and is refused at the limit.

    The old key works until `overlap` after the successor's first use, and for 7 days at most. A rotation of a key that
    is itself in an overlap, or has a successor already, ends the earlier overlap. The successor expires when the old
    key does, unless `expires_at` is another moment, or None for never.
    """
    if overlap not in OVERLAPS:
        raise ValueError(f"The overlap is one of {', '.join(OVERLAPS)}.")
    now = clock.now()
    if expires_at not in (AS_BEFORE, None) and expires_at <= now:
        raise ValueError("A key must expire in the future.")
    with transaction() as session:
        old = session.get_one(ApiKey, key_id)
        secret, new = _new(old.environment)
        _prepare_showing(session, old.workspace_id, new, secret, showing)
        if state(old, now) in ("revoked", "expired"):
            raise ValueError(f"This key is {state(old, now)}. Create a new one.")
        active_before = _count_active(session, old.workspace_id)
        _end_earlier_overlaps(session, old, now)
        new.workspace_id = old.workspace_id
        new.name = old.name
        new.scopes = sorted((set(old.scopes) | set(add)) - set(drop))
        new.websites = old.websites
        new.created_by = actor
        new.expires_at = old.expires_at if expires_at is AS_BEFORE else expires_at
        new.rotated_from = old.id
        new.overlap_seconds = int(OVERLAPS[overlap].total_seconds())
        old.revoked_at = now + LONGEST_OVERLAP if OVERLAPS[overlap] else now
        active_after = _count_active(session, old.workspace_id) + 1
        if active_after > active_before:
            _refuse_beyond_limit(active_after)
        session.add(new)
        audit.record(
            session, old.workspace_id, actor, "key.rotated", old.id, request_id,
            name=old.name, successor=new.id, overlap=overlap, scopes=new.scopes,
        )  # fmt: skip
    return secret, new


def reveal(key_id: str, unseal: Callable, use_up: bool = True) -> str | None:
    """Return the secret of a key that waits to be shown, or None if it was shown or waited too long.

    The key then no longer waits, unless `use_up` is false. `unseal` opens the seal of its Showing, and returns None for
    anybody else's: then the key goes on waiting.
    """
    with transaction() as session:
        key = session.get_one(ApiKey, key_id)
        if key.sealed is None or clock.now() - key.created_at > WAITS:
            return None
        secret = unseal(key.sealed)
        if secret is not None and use_up:
            key.sealed = None
    return secret


def sweep():
    """Drop the secrets that waited too long to be shown."""
    waiting = (ApiKey.sealed.is_not(None), ApiKey.created_at < clock.now() - WAITS)
    if db.session.scalar(select(ApiKey.id).where(*waiting).limit(1)):
        with transaction() as session:
            session.execute(update(ApiKey).where(*waiting).values(sealed=None))


def end_overlap(key_id, actor="command line", request_id=None):
    """End a rotated key now, before its overlap does. Raises ValueError when it is in none."""
    now = clock.now()
    with transaction() as session:
        key = session.get_one(ApiKey, key_id)
        if state(key, now) != "rotating":
            raise ValueError("This key is not in an overlap.")
        key.revoked_at = now
        audit.record(session, key.workspace_id, actor, "key.overlap_ended", key.id, request_id, name=key.name)
    return key


def discard(key_id, actor="command line", request_id=None):
    """End a key that was made by rotation and never used; the old key, if it still works, works on as before.

    Raises ValueError. Returns the old key.
    """
    now = clock.now()
    with transaction() as session:
        key = session.get_one(ApiKey, key_id)
        if key.rotated_from is None or key.first_used_at is not None or state(key, now) in ("revoked", "expired"):
            raise ValueError("Only a new key that was made by rotation and never used can be discarded.")
        key.revoked_at = now
        old = session.get_one(ApiKey, key.rotated_from)
        if state(old, now) == "rotating":
            old.revoked_at = None
        audit.record(session, key.workspace_id, actor, "key.discarded", key.id, request_id, name=key.name, kept=old.id)
    return old


def revoke(key_id, actor="command line", request_id=None):
    """End a key now and for good. Ending it twice changes nothing."""
    now = clock.now()
    with transaction() as session:
        key = session.get_one(ApiKey, key_id)
        if key.revoked_at is None or key.revoked_at > now:
            key.revoked_at = now
            audit.record(session, key.workspace_id, actor, "key.revoked", key.id, request_id, name=key.name)
    return key


def of(workspace_id, state=None, most=None, offset=0):
    """The keys of a workspace, newest first; only those in `state` (see STATES) if that is given."""
    found = select(ApiKey).where(ApiKey.workspace_id == workspace_id, *_in_state(state, clock.now()))
    newest = found.order_by(ApiKey.created_at.desc(), ApiKey.id.desc())
    return db.session.scalars(newest.limit(most).offset(offset)).all()


def count(workspace_id, state=None):
    """How many keys a workspace has in a state, or at all."""
    found = select(func.count()).where(ApiKey.workspace_id == workspace_id, *_in_state(state, clock.now()))
    return db.session.scalar(found)


def get(workspace_id, key_id):
    """The key of this id in this workspace. Raises NotFound."""
    key = db.session.scalar(select(ApiKey).filter_by(id=key_id, workspace_id=workspace_id))
    if key is None:
        raise errors.NotFound()
    return key


def beside(key):
    """The keys of the same rotation that may run beside this one: (the one before it, the one after it)."""
    before = db.session.get(ApiKey, key.rotated_from) if key.rotated_from else None
    after = select(ApiKey).filter_by(rotated_from=key.id).order_by(ApiKey.created_at.desc()).limit(1)
    return before, db.session.scalar(after)


def recognise(workspace_id, text):
    """The key of this workspace that a found text is, by its hash, or None. The text is not kept."""
    found = _SHAPE.search(text)
    return found and db.session.scalar(select(ApiKey).filter_by(workspace_id=workspace_id, hash=_hash(found[0])))


def anywhere(text):
    """The key of any workspace that a found text is or has within it, by its hash, as a list of one or none."""
    found = _SHAPE.search(text)
    return found and db.session.scalars(select(ApiKey).filter_by(hash=_hash(found[0]))).all()


def get_anywhere(key_id):
    """The key of this id in any workspace. Raises NotFound."""
    key = db.session.get(ApiKey, key_id)
    if key is None:
        raise errors.NotFound()
    return key


def contains_key(text: str) -> bool:
    """Return whether `text` contains an API key with a valid checksum. No store is read."""
    return any(_checksum(key[0][:-_CHECKSUM]) == key[0][-_CHECKSUM:] for key in _SHAPE.finditer(text))


def looks_like(text):
    """Whether a text means a key: it has one, a hint or an id within it."""
    return bool(_SHAPE.search(text) or _HINT.search(text))


def hinted(text):
    """The keys of any workspace that a hint, or an id, could mean: at most 20. For support."""
    found = _HINT.search(text)
    if not found:
        return []
    if found[1]:
        meant = ApiKey.id == "key_" + found[1]
    else:
        meant = (
            (ApiKey.environment == found[2])
            & (ApiKey.last_four == found[4])
            & ApiKey.id.startswith("key_" + found[3], autoescape=True)
        )
    return db.session.scalars(select(ApiKey).where(meant).limit(20)).all()


def care(workspace_id, most=5):
    """The working keys that deserve a look, as {why: [ApiKey]}; at most `most` of each.

    `forever`: never expires. `idle`: not used for 90 days. `removable`: 30 days old and never used, or the old key of
    a rotation that nobody has used since the new one was, an hour ago or more.
    """
    now = clock.now()
    working = select(ApiKey).where(
        ApiKey.workspace_id == workspace_id,
        ApiKey.revoked_at.is_(None) | (ApiKey.revoked_at > now),
        ApiKey.expires_at.is_(None) | (ApiKey.expires_at > now),
    )
    successor = aliased(ApiKey)
    left = exists().where(
        successor.rotated_from == ApiKey.id,
        successor.first_used_at < now - LEFT,
        (ApiKey.last_used_at.is_(None)) | (ApiKey.last_used_at < successor.first_used_at),
    )
    never_used = ApiKey.first_used_at.is_(None) & (ApiKey.created_at < now - UNUSED)
    reasons = {
        "forever": ApiKey.expires_at.is_(None) & ApiKey.revoked_at.is_(None),
        "idle": ApiKey.last_used_at < now - IDLE,
        "removable": left | never_used,
    }
    oldest = working.order_by(ApiKey.created_at, ApiKey.id).limit(most)
    return {why: db.session.scalars(oldest.where(condition)).all() for why, condition in reasons.items()}


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
        raise _refused(errors.ApiKeyRevoked(revoked_at=clock.rfc3339(key.revoked_at)), key)
    if key.expires_at is not None and key.expires_at <= now:
        raise _refused(errors.ApiKeyExpired(expired_at=clock.rfc3339(key.expires_at)), key)
    if key.first_used_at is None:
        _begin_overlap(key.id, now)
    return key


def working(key_id):
    """The Key of an id if it works now, else None."""
    key, now = _by_id(key_id), clock.now()
    return key if key is not None and state(key, now) in ("active", "rotating") else None


def state(key, now):
    """One word of STATES for how a key stands."""
    if key.revoked_at is not None and key.revoked_at <= now:
        return "revoked"
    if key.expires_at is not None and key.expires_at <= now:
        return "expired"
    return "active" if key.revoked_at is None else "rotating"


def note_use(uses):
    """Keep when and from where keys were last used: `{key_id: (at, address, user_agent)}`."""
    with transaction() as session:
        for key_id, (at, address, user_agent) in uses.items():
            session.execute(
                update(ApiKey)
                .where(ApiKey.id == key_id, (ApiKey.last_used_at.is_(None)) | (ApiKey.last_used_at < at))
                .values(last_used_at=at, last_used_address=address[:45], last_used_user_agent=user_agent[:500])
            )


def is_blank(character: str) -> bool:
    """Return whether a character is whitespace or invisible, such as U+00A0, U+200B or U+FEFF."""
    return unicodedata.category(character) in ("Cc", "Cf", "Zl", "Zp", "Zs")


def checked_name(name: str) -> str:
    """Return a key's name as it is stored. Raise ValueError."""
    return foreign_text.checked_name(name, "A key's name")


def _refused(refusal, key):
    # Its owners want to know that a key of theirs is still tried.
    refusal.key = key
    return refusal


def _in_state(state, now):
    over = ApiKey.revoked_at <= now
    past = ApiKey.expires_at <= now
    alive = ApiKey.expires_at.is_(None) | (ApiKey.expires_at > now)
    return {
        None: (),
        "active": (ApiKey.revoked_at.is_(None), alive),
        "rotating": (ApiKey.revoked_at > now, alive),
        "expired": (ApiKey.revoked_at.is_(None) | (ApiKey.revoked_at > now), past),
        "revoked": (over,),
    }[state]


def _prepare_showing(session, workspace_id, key, secret, showing):
    if showing is None:
        return
    # Two workspaces may be sent the same name by who makes up their own.
    form = hashlib.sha256(f"{workspace_id}\0{showing.form}".encode()).hexdigest()[:40]
    made = session.scalar(select(ApiKey.id).filter_by(form=form))
    if made is not None:
        raise MadeAlready(made)
    key.form, key.sealed = form, showing.seal(secret)


def _count_active(session: Session, workspace_id: str) -> int:
    """Within a transaction, count the active keys. It holds the write lock, so no other change comes in between."""
    return session.scalar(
        select(func.count()).where(ApiKey.workspace_id == workspace_id, *_in_state("active", clock.now()))
    )


def _refuse_beyond_limit(active: int) -> None:
    limit = current_app.config["MAX_ACTIVE_KEYS"]
    if active > limit:
        raise errors.LimitReached(
            f"This workspace has {limit} active API keys, which is the limit; revoke one that nothing uses.",
            resource="api_keys",
            limit=limit,
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


def _refuse_what_cannot_be(secret: str, environment: str) -> None:
    """Raise InvalidApiKey, without a database query, for a text that no key of this server can be.

    The hint is the first that applies, from the outside of the text to its inside.
    """
    if len(secret) > _LONGEST:
        raise errors.InvalidApiKey()
    if is_blank(secret[0]) or is_blank(secret[-1]):
        raise errors.InvalidApiKey(hint="surrounding_whitespace")
    if not secret.isascii():
        raise errors.InvalidApiKey(hint="non_ascii_characters")
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
    return _read(ApiKey.hash == digest)


@remembered
def _by_id(key_id):
    return _read(ApiKey.id == key_id)


def _read(which):
    own = [getattr(ApiKey, name) for name in Key._fields[:11]]
    asked = select(*own, Workspace.name, Workspace.timezone, Workspace.rate_limit).join(
        Workspace, Workspace.id == ApiKey.workspace_id
    )
    row = db.session.execute(asked.where(which)).first()
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
