"""Events: what they hold, the ids they are counted once by, and how they are put into batches."""

import json
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from itertools import chain
from typing import Any, Literal, Required, TypedDict
from uuid import UUID

from pixel_client.answers import Result

#: What one batch may hold.
MOST_EVENTS, MOST_BYTES = 1000, 10 << 20


class Event(TypedDict, total=False):
    """One event, by the names of the API. The server checks it; a field that is None is left out."""

    website_id: Required[str]
    name: Required[Literal["pageview", "custom", "payment"]]
    event_id: str | None
    timestamp: datetime | str | None
    visitor_id: str | None
    session_id: str | None
    user_id: str | None
    url: str | None
    path: str | None
    title: str | None
    hostname: str | None
    referrer: str | None
    utm_source: str | None
    utm_medium: str | None
    utm_campaign: str | None
    utm_term: str | None
    utm_content: str | None
    gclid: str | None
    fbclid: str | None
    msclkid: str | None
    ttclid: str | None
    ip: str | None
    user_agent: str | None
    language: str | None
    screen: str | None
    country: str | None
    device: str | None
    browser: str | None
    os: str | None
    goal: str | None
    value: float | None
    amount: Decimal | float | str | None
    currency: str | None
    transaction_id: str | None
    provider: str | None
    props: Mapping[str, str | float | bool] | None


def new_event_id() -> str:
    """A UUIDv7 (RFC 9562) as text: unique, and in order of time."""
    number = time.time_ns() // 1_000_000 << 80 | int.from_bytes(os.urandom(10))
    number = number & ~(0xF << 76) | 7 << 76
    return str(UUID(int=number & ~(0b11 << 62) | 0b10 << 62))


def named(event: Mapping[str, Any]) -> dict[str, Any]:
    """The event without what is None, with an event_id."""
    given = {name: value for name, value in event.items() if value is not None}
    return given if "event_id" in given else {"event_id": new_event_id(), **given}


def encoded(thing: Mapping[str, Any]) -> bytes:
    """A JSON object as one line. Raises TypeError or ValueError for what JSON cannot hold."""
    return json.dumps(thing, default=_plain, separators=(",", ":")).encode()


def _plain(value: object) -> str:
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, Decimal | UUID):
        return str(value)
    raise TypeError(f"JSON cannot hold a value of type {type(value).__name__}.")


@dataclass(frozen=True)
class Prepared:
    """An event with its id, and either its line or why it has none."""

    event: Any
    line: bytes = b""
    errors: dict[str, list[str]] = field(default_factory=dict)


def prepared(event: Any) -> Prepared:
    """An event made ready for a batch. One that cannot be sent costs the others nothing."""
    if not isinstance(event, Mapping):
        return _refused(event, "Must be a JSON object.")
    whole = named(event)
    try:
        line = encoded(whole)
    except (TypeError, ValueError, RecursionError) as error:
        return _refused(whole, str(error))
    if len(line) > MOST_BYTES:
        return _refused(whole, f"Has more than {MOST_BYTES} bytes.")
    return Prepared(whole, line)


def _refused(event: Any, reason: str) -> Prepared:
    return Prepared(event, errors={"_body": [reason]})


class Sending:
    """Batches on their way: each step sends the next one and gives its results, in order.

    A step that raised can be made again: it sends the same batch, with the same event_ids.
    """

    def __init__(self, events: Iterable[Event], post: Callable[[list[Prepared]], list[Result]]) -> None:
        self._coming = map(prepared, events)
        self._post = post
        self._batch: list[Prepared] = []
        self._next: Prepared | None = None

    def __iter__(self) -> Iterator[list[Result]]:
        return self

    def __next__(self) -> list[Result]:
        self._fill()
        if not self._batch:
            raise StopIteration
        results = self._post(self._batch)
        self._batch = []
        return results

    def unsent(self) -> Iterator[Event]:
        """The events that are not known to be taken, each with its event_id: the batch at hand and all after it."""
        carried = [self._next] if self._next else []
        for one in chain(self._batch, carried, self._coming):
            yield one.event

    def _fill(self) -> None:
        size = sum(len(one.line) + 1 for one in self._batch)
        while len(self._batch) < MOST_EVENTS:
            self._next = self._next or next(self._coming, None)
            if self._next is None or size + len(self._next.line) > MOST_BYTES:
                return
            size += len(self._next.line) + 1
            self._batch.append(self._next)
            self._next = None
