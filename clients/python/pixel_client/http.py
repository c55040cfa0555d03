"""One exchange with the server at a time, over connections that are kept alive."""

import os
import platform
import selectors
from dataclasses import dataclass
from email.message import Message
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from urllib.parse import urlencode, urlsplit

from pixel_client.errors import NoAnswer

VERSION = "0.1.0"
JSON, NDJSON = "application/json", "application/x-ndjson"


@dataclass(frozen=True)
class Request:
    """What is asked. `path` is below the base address and already quoted; `bearer` stands in for the client's key."""

    method: str
    path: str
    query: tuple[tuple[str, str], ...] = ()
    body: bytes | None = None
    content_type: str = JSON
    bearer: str | None = None

    @property
    def target(self) -> str:
        """The path with its query."""
        return f"{self.path}?{urlencode(self.query)}" if self.query else self.path


@dataclass(frozen=True)
class Answer:
    """What came back, of whatever status."""

    status: int
    headers: Message
    body: bytes


class Connections:
    """Connections to one server. Threads may share them: each call takes an idle one or makes its own."""

    def __init__(self, base_url: str, timeout_seconds: float) -> None:
        parts = urlsplit(base_url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username is not None or parts.query:
            raise ValueError("base_url must be an http or https address, such as http://localhost:8000.")
        self._kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
        self._host, self._port, self._prefix = parts.hostname, parts.port, parts.path.rstrip("/")
        self._timeout_seconds = timeout_seconds
        self._idle: list[HTTPConnection] = []
        self._process = os.getpid()

    def exchange(self, request: Request, key: str) -> Answer:
        """The answer to a request. Raises NoAnswer."""
        connection = self._take()
        try:
            answer = self._exchange(connection, request, key)
        except (OSError, HTTPException) as error:
            connection.close()
            raise NoAnswer(str(error) or type(error).__name__) from error
        except BaseException:
            # Half of an answer may be on its way still: nobody must take it for the next one.
            connection.close()
            raise
        self._idle.append(connection)
        return answer

    def close(self) -> None:
        """Close what is idle. A later call opens a new connection."""
        while self._idle:
            self._idle.pop().close()

    def _take(self) -> HTTPConnection:
        if self._process != os.getpid():
            # After a fork the connections belong to the parent.
            self._idle, self._process = [], os.getpid()
        while True:
            try:
                connection = self._idle.pop()
            except IndexError:
                return self._kind(self._host, self._port, timeout=self._timeout_seconds)
            if not _dropped(connection):
                return connection
            connection.close()

    def _exchange(self, connection: HTTPConnection, request: Request, key: str) -> Answer:
        headers = {
            "Authorization": f"Bearer {request.bearer or key}",
            "Accept": JSON,
            "User-Agent": f"pixel-api-client/{VERSION} python/{platform.python_version()}",
        }
        if request.body is not None:
            headers["Content-Type"] = request.content_type
        try:
            connection.request(request.method, self._prefix + request.target, request.body, headers)
        except (BrokenPipeError, ConnectionResetError):
            # A server that refuses a body may answer before it has read it all.
            if connection.sock is None:
                raise
        response = connection.getresponse()
        return Answer(response.status, response.headers, response.read())


def _dropped(connection: HTTPConnection) -> bool:
    """Whether the server has hung up meanwhile: then there is something to read, the end."""
    if connection.sock is None:
        return True
    with selectors.DefaultSelector() as selector:
        selector.register(connection.sock, selectors.EVENT_READ)
        return bool(selector.select(0))
