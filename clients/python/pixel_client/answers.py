"""What calls give back. What the API describes is a dict as it describes it, and may hold more than is named here."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NotRequired, TypedDict

from pixel_client.envelope import Envelope

Row = dict[str, Any]


class Workspace(TypedDict):
    """Whose key it is. `rate_limit` is in calls a minute."""

    id: str
    name: str
    timezone: str
    rate_limit: int


class Key(TypedDict):
    """The key that calls, without its secret. `websites` is None for all of the workspace."""

    id: str
    name: str
    hint: str
    scopes: list[str]
    environment: str
    websites: list[str] | None
    created_at: str
    expires_at: str | None


class Me(TypedDict):
    """Who calls."""

    workspace: Workspace
    key: Key


class Website(TypedDict):
    """A website that the key may see."""

    id: str
    domain: str
    name: str
    timezone: str
    createdAt: str


class Parameter(TypedDict):
    """A parameter that a report takes."""

    name: str
    about: str
    default: NotRequired[str]
    words: NotRequired[list[str]]
    low: NotRequired[int]
    high: NotRequired[int]
    repeatable: NotRequired[bool]


class DescribedColumn(TypedDict):
    """A column of a report, in words."""

    name: str
    about: str


class Pipe(TypedDict):
    """A report that can be asked for."""

    name: str
    title: str
    about: str
    parameters: list[Parameter]
    columns: list[DescribedColumn]


class Receipt(TypedDict):
    """What became of an event: `accepted` (synced to disk) or `stored` (in the reports)."""

    status: str
    event_id: str
    website_id: str
    name: str
    received_at: str
    request_id: str


class Token(TypedDict):
    """A token that reads one report for 120 seconds, and the address to read it at."""

    token: str
    pipe: str
    expires_at: str
    url: str


@dataclass(frozen=True)
class Sent:
    """An event that was accepted. Of a dry run nothing is kept, and `event` is what would have been."""

    event_id: str
    website_id: str
    name: str
    request_id: str
    event: Row | None = None

    @classmethod
    def read(cls, answer: Envelope) -> "Sent":
        """From the answer of POST /pixel/events."""
        facts = answer.data.get("event") or answer.data
        return cls(facts["event_id"], facts["website_id"], facts["name"], answer.request_id, answer.data.get("event"))


@dataclass(frozen=True)
class Identified:
    """An identify call that was accepted. Of a dry run nothing is kept, and `identity` is what would have been."""

    website_id: str
    visitor_id: str
    request_id: str
    identity: Row | None = None

    @classmethod
    def read(cls, answer: Envelope) -> "Identified":
        """From the answer of POST /pixel/identify."""
        facts = answer.data.get("identity") or answer.data
        return cls(facts["website_id"], facts["visitor_id"], answer.request_id, answer.data.get("identity"))


@dataclass(frozen=True)
class Result:
    """What became of one event of a batch. `errors` has a list of messages for each wrong field.

    `event` is the event as it was sent, with its event_id; `stored` is what a dry run would have kept.
    """

    accepted: bool
    errors: dict[str, list[str]]
    event: Any = field(repr=False)
    stored: Row | None = None

    @classmethod
    def read(cls, event: Any, verdict: Mapping[str, Any]) -> "Result":
        """From one of the results of POST /pixel/events/batch."""
        return cls(verdict.get("status") == "accepted", verdict.get("errors", {}), event, verdict.get("event"))

    @property
    def event_id(self) -> str:
        """The id that the event was sent with; empty if it was no object."""
        return str(self.event.get("event_id", "")) if isinstance(self.event, Mapping) else ""


@dataclass(frozen=True)
class Column:
    """A column of a report, and its type in the warehouse's words."""

    name: str
    type: str


@dataclass(frozen=True)
class Report:
    """A report's rows, which it can be iterated over for.

    `query` is the question as the server understood it. `data_status` is `stale` while the warehouse is away and this
    is its last answer of the hour.
    """

    rows: list[Row]
    columns: list[Column]
    row_count: int
    statistics: dict[str, Any]
    data_status: str
    query: dict[str, Any]
    request_id: str

    @classmethod
    def read(cls, answer: Envelope) -> "Report":
        """From the warehouse's own answer, in an envelope."""
        data = answer.data
        return cls(
            rows=data["data"],
            columns=[Column(column["name"], column["type"]) for column in data["meta"]],
            row_count=data["rows"],
            statistics=data.get("statistics", {}),
            data_status=data.get("data_status", "ok"),
            query=answer.meta.get("query", {}),
            request_id=answer.request_id,
        )

    def __iter__(self) -> Iterator[Row]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)
