"""Sending a file of events, one a line."""

import json
import sys
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any, TextIO

from pixel_client.answers import Result
from pixel_client.client import Client
from pixel_client.errors import PixelError, reasons
from pixel_client.events import Event, encoded
from pixel_client.tables import visible


class FileOfEvents:
    """Events of a file on their way. What is refused is told on stderr, by its line, and costs the others nothing."""

    def __init__(self, name: str, website_id: str | None = None) -> None:
        self.name = name
        self.website_id = website_id
        self.accepted = self.rejected = 0
        self._numbers = deque[int]()

    def send(self, client: Client, dry_run: bool = False) -> bool:
        """Send them all; whether every one was accepted.

        When that breaks off, the events not known to be taken are kept in a file beside, with their event_ids.
        """
        with _opened(self.name) as lines:
            sending = client.send_batches(self._events(lines), dry_run=dry_run)
            try:
                for results in sending:
                    self._count(results)
            except (PixelError, KeyboardInterrupt) as error:
                if not dry_run and self._may_be_taken(error):
                    self._keep(sending.unsent())
                raise
        return not self.rejected

    def _events(self, lines: Iterable[str]) -> Iterator[Any]:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                event = json.loads(line)
            except (ValueError, RecursionError) as error:
                self._reject(number, f"Not JSON: {error}")
                continue
            if self.website_id and isinstance(event, dict):
                event = {"website_id": self.website_id, **event}
            self._numbers.append(number)
            yield event

    def _count(self, results: list[Result]) -> None:
        for result in results:
            number = self._numbers.popleft()
            if result.accepted:
                self.accepted += 1
            else:
                self._reject(number, " ".join(reasons(result.errors)))
        sys.stderr.write(f"{self.accepted:,} accepted, {self.rejected:,} rejected\n")

    def _reject(self, number: int, reason: str) -> None:
        self.rejected += 1
        sys.stderr.write(f"line {number}: {visible(reason)}\n")

    def _may_be_taken(self, error: BaseException) -> bool:
        refused = isinstance(error, PixelError) and 400 <= error.status < 500
        return self.accepted > 0 or not refused

    def _keep(self, events: Iterable[Event]) -> None:
        name = "stdin.unsent" if self.name == "-" else f"{self.name}.unsent"
        # Appended to, because an earlier run may have left what is still to be sent.
        with open(name, "ab") as file:
            file.writelines(encoded(event) + b"\n" for event in events)
        sys.stderr.write(f"The rest is kept: pixel send --file {name} sends it, and counts nothing twice.\n")


def _opened(name: str) -> TextIO:
    """The lines of a file, or of stdin for "-". Bytes that are not UTF-8 make their line be refused, and no other."""
    return open(0 if name == "-" else name, encoding="utf-8-sig", errors="surrogateescape", closefd=name != "-")
