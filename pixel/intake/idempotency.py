"""The Idempotency-Key header."""

import re

from flask import request

from pixel import errors

HEADER = "Idempotency-Key"
#: The rule of an event_id, for what a header can carry.
PATTERN = r"^[!-~](?:[ -~]{0,126}[!-~])?$"
_VALID = re.compile(PATTERN)


def key() -> str | None:
    """Return the request's Idempotency-Key, or None. Raise BadRequest if it is not a valid event_id."""
    text = request.headers.get(HEADER)
    if text is not None and not _VALID.fullmatch(text):
        raise errors.BadRequest(f"The header {HEADER} must have 1 to 128 printable ASCII characters.", header=HEADER)
    return text


def with_event_id(body: object) -> object:
    """Return the body of an event with the Idempotency-Key as its event_id, if it has none.

    Raise BadRequest for an invalid key, and for one that differs from the body's event_id.
    """
    text = key()
    if text is None or not isinstance(body, dict):
        return body
    if body.setdefault("event_id", text) != text:
        raise errors.BadRequest(f"The header {HEADER} differs from the event_id in the body.", header=HEADER)
    return body


def refuse() -> None:
    """Raise BadRequest if the request has an Idempotency-Key: this route would ignore it."""
    if "HTTP_IDEMPOTENCY_KEY" in request.environ:
        raise errors.BadRequest(f"This endpoint does not support the header {HEADER}. Leave it out.", header=HEADER)
