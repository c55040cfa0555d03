"""Now, from one place, so that a test can move it."""

import time
from datetime import UTC, datetime
from functools import lru_cache


def now():
    """The time in UTC."""
    return datetime.fromtimestamp(seconds(), UTC)


def seconds():
    """Seconds since 1970, as a float."""
    return time.time()


def milliseconds():
    """Whole milliseconds since 1970."""
    return int(seconds() * 1000)


def rfc3339(moment):
    """A UTC moment as RFC 3339 text with milliseconds and a Z, or None for None."""
    return moment and moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


@lru_cache(64)
def warehouse(milliseconds):
    """A time in milliseconds since 1970 in the warehouse's own form, UTC."""
    return warehouse_moment(datetime.fromtimestamp(milliseconds / 1000, UTC))


def warehouse_moment(moment):
    """A moment in the warehouse's own form, UTC."""
    # Without its zone's six characters, which stand at the end.
    return moment.astimezone(UTC).isoformat(" ", "milliseconds")[:-6]


def from_warehouse(text):
    """The moment that a time of the warehouse's, in its own form or in RFC 3339, is."""
    moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def moment(seconds):
    """The moment so many seconds after 1970, in UTC. Raises ValueError or OverflowError beyond all calendars."""
    return datetime.fromtimestamp(seconds, UTC)
