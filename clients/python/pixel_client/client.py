"""The client: one method for each route of the API."""

import os
import random
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Unpack, cast

from pixel_client import envelope
from pixel_client.answers import Identified, Me, Pipe, Receipt, Report, Result, Row, Sent, Token, Website
from pixel_client.envelope import Envelope
from pixel_client.errors import PixelError
from pixel_client.events import Event, Prepared, Sending, encoded, named
from pixel_client.http import NDJSON, Answer, Connections, Request
from pixel_client.parameters import Value, fixed, pairs, segment
from pixel_client.retries import Retries

DEFAULT_URL = "http://localhost:8000"
_API = "/api/v1"
_MOST_ROWS = 1000


class Client:
    """Calls one Pixel API with one key. Threads may share it; close it, or use it in a `with` statement.

    Each method raises a subclass of PixelError. 429, 500 and 503 are tried again up to five times after the first try,
    waiting as the server says or 1, 2, 4, 8 and 16 seconds; so is a call that got no answer, where repeating it does no
    harm. `timeout_seconds` is how long one attempt may wait for the server to say anything: by itself the server gives
    a report up after 12 s, or after 24 when others wait too. Each attempt and its reason is logged to `pixel_client`,
    as info.
    """

    def __init__(
        self,
        key: str,
        base_url: str = DEFAULT_URL,
        timeout_seconds: float = 30,
        *,
        sleep: Callable[[float], object] = time.sleep,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self.base_url = base_url.rstrip("/").removesuffix(_API)
        self._key = _fit_for_a_header(key, "key")
        self._connections = Connections(self.base_url, timeout_seconds)
        self._retries = Retries(sleep, chance)

    @classmethod
    def from_environment(cls) -> "Client":
        """A client with the key of PIXEL_API_KEY and the address of PIXEL_API_URL. Raises ValueError without a key."""
        key = os.environ.get("PIXEL_API_KEY")
        if not key:
            raise ValueError("PIXEL_API_KEY is not set.")
        return cls(key, os.environ.get("PIXEL_API_URL") or DEFAULT_URL)

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Client(base_url={self.base_url!r})"

    def close(self) -> None:
        """Close the connections."""
        self._connections.close()

    # -- sending

    def send(self, *, dry_run: bool = False, **event: Unpack[Event]) -> Sent:
        """Send one event. Without an event_id it gets one here, so that no retry counts it twice."""
        return Sent.read(self._post("/pixel/events", named(event), query=_dry(dry_run), repeatable=True))

    def send_batch(self, events: Iterable[Event], *, dry_run: bool = False) -> list[Result]:
        """Send any number of events and tell what became of each, in order. A rejected one raises nothing.

        When a whole batch fails, the error's `results` has what came before, and its `unsent` what is to be sent again.
        """
        sending, results = self.send_batches(events, dry_run=dry_run), list[Result]()
        try:
            for batch in sending:
                results += batch
        except PixelError as error:
            error.results, error.unsent = results, list(sending.unsent())
            raise
        return results

    def send_batches(self, events: Iterable[Event], *, dry_run: bool = False) -> Sending:
        """Send events without holding them all in memory. Nothing is sent until the answer is iterated over.

        Each step sends at most 1,000 events or 10 MiB, and gives their results.
        """
        return Sending(events, lambda batch: self._post_batch(batch, dry_run))

    def identify(
        self,
        website_id: str,
        visitor_id: str,
        *,
        user_id: str | None = None,
        email: str | None = None,
        traits: Mapping[str, str | float | bool] | None = None,
        dry_run: bool = False,
    ) -> Identified:
        """Tie a visitor to a user_id, an e-mail address, or both."""
        given = {"user_id": user_id, "email": email, "traits": traits}
        known = {name: value for name, value in given.items() if value is not None}
        identity = {"website_id": website_id, "visitor_id": visitor_id, **known}
        return Identified.read(self._post("/pixel/identify", identity, query=_dry(dry_run), repeatable=True))

    def receipt(self, event_id: str, website_id: str | None = None) -> Receipt:
        """What became of an event."""
        found = self._get(f"/pixel/events/{segment(event_id)}", pairs({"website_id": website_id}))
        return cast(Receipt, found.data)

    # -- reading

    def query(self, pipe: str, /, website_id: str | None = None, **parameters: Value) -> Report:
        """A report. Without a website it is about all that the key may see.

        `from_` and `to` are days, both included; a list is one of several values.
        """
        asked = pairs({"website_id": website_id, **parameters})
        return Report.read(self._get(f"/pixel/metrics/{segment(pipe)}", asked))

    def query_all(
        self,
        pipe: str,
        /,
        website_id: str | None = None,
        *,
        limit: int = _MOST_ROWS,
        offset: int = 0,
        **parameters: Value,
    ) -> Iterator[Row]:
        """Every row of a report from `offset` on, read in pages of `limit` rows."""
        for page in self.query_pages(pipe, website_id, limit=limit, offset=offset, **parameters):
            yield from page

    def query_pages(
        self,
        pipe: str,
        /,
        website_id: str | None = None,
        *,
        limit: int = _MOST_ROWS,
        offset: int = 0,
        **parameters: Value,
    ) -> Iterator[Report]:
        """A report in pages of `limit` rows, each by a call of its own.

        All pages are about the days of the first. Rows that come in between may shift what follows.
        """
        while True:
            page = self.query(pipe, website_id, limit=limit, offset=offset, **parameters)
            yield page
            if len(page) < limit:
                return
            parameters |= {"from_": page.query["from"], "to": page.query["to"]}
            offset += limit

    def pipes(self) -> list[Pipe]:
        """The reports there are: what each means, takes and gives."""
        return cast(list[Pipe], self._get("/pixel/metrics").data)

    def visitor(self, visitor_id: str, website_id: str | None = None) -> dict[str, Any]:
        """What is known of a visitor, with their `recent_events`: of one website, or of all that the key may see."""
        found = self._get(f"/pixel/visitors/{segment(visitor_id)}", pairs({"website_id": website_id}))
        return cast(dict[str, Any], found.data)

    def websites(self) -> list[Website]:
        """The websites that the key may see, newest first."""
        return cast(list[Website], self._get("/pixel/websites").data)

    def me(self) -> Me:
        """The workspace and the key that call."""
        return cast(Me, self._get("/me").data)

    # -- tokens, for what must not have the key

    def token(self, pipe: str, /, website_id: str | None = None, **parameters: Value) -> Token:
        """A token that reads this report for 120 seconds. Whoever holds it cannot change the parameters given here."""
        return self._token(f"/pixel/metrics/{segment(pipe)}/token", {"website_id": website_id, **parameters})

    def visitor_token(self, visitor_id: str, /, **parameters: Value) -> Token:
        """A token that reads this visitor's profile and timeline for 120 seconds."""
        return self._token(f"/pixel/visitors/{segment(visitor_id)}/token", parameters)

    def query_by_token(self, pipe: str, token: str, /, **parameters: Value) -> Report:
        """A report, read with a token in place of the key, as a browser would. Its `query` is empty."""
        bearer = _fit_for_a_header(token, "token")
        answer = self._answer(Request("GET", f"/v0/pipes/{segment(pipe)}.json", pairs(parameters), bearer=bearer))
        said = {"request_id": answer.headers.get("X-Request-Id", "")}
        return Report.read(Envelope(envelope.read(answer), said))

    # -- the description of the API

    def openapi(self) -> dict[str, Any]:
        """The OpenAPI document."""
        return cast(dict[str, Any], envelope.read(self._answer(Request("GET", f"{_API}/openapi.json"))))

    def openapi_yaml(self) -> str:
        """The OpenAPI document as YAML text."""
        return self._answer(Request("GET", f"{_API}/openapi.yaml")).body.decode()

    # -- calling

    def _token(self, path: str, parameters: Mapping[str, Value]) -> Token:
        return cast(Token, self._post(path, fixed(parameters), repeatable=False).data)

    def _post_batch(self, batch: list[Prepared], dry_run: bool) -> list[Result]:
        lines = [one.line for one in batch if not one.errors]
        verdicts = iter(self._verdicts(lines, dry_run) if lines else ())
        return [Result.read(one.event, {"errors": one.errors} if one.errors else next(verdicts)) for one in batch]

    def _verdicts(self, lines: list[bytes], dry_run: bool) -> list[dict[str, Any]]:
        answer = self._answer(Request("POST", f"{_API}/pixel/events/batch", _dry(dry_run), b"\n".join(lines), NDJSON))
        verdicts = cast(list[dict[str, Any]], envelope.opened(answer).data["results"])
        if len(verdicts) != len(lines):
            raise envelope.unexpected(answer)
        return verdicts

    def _post(
        self, path: str, body: Mapping[str, Any], query: tuple[tuple[str, str], ...] = (), *, repeatable: bool
    ) -> Envelope:
        return envelope.opened(self._answer(Request("POST", _API + path, query, encoded(body)), repeatable))

    def _get(self, path: str, query: tuple[tuple[str, str], ...] = ()) -> Envelope:
        return envelope.opened(self._answer(Request("GET", _API + path, query)))

    def _answer(self, request: Request, repeatable: bool = True) -> Answer:
        return self._retries.make(
            lambda: envelope.successful(self._connections.exchange(request, self._key)), repeatable
        )


def _dry(dry_run: bool) -> tuple[tuple[str, str], ...]:
    return (("dry_run", "true"),) if dry_run else ()


def _fit_for_a_header(secret: str, name: str) -> str:
    """The secret without space around it. Raises ValueError, which does not show it, for what no secret looks like."""
    stripped = secret.strip()
    if not stripped or not stripped.isascii() or not stripped.isprintable() or " " in stripped:
        raise ValueError(f"The {name} is empty, or has characters that no {name} has.")
    return stripped
