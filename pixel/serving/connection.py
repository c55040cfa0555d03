"""One client's connection, and the parser's view of it."""

import socket
from collections import OrderedDict
from typing import Any

from gunicorn import http

from pixel.serving.arrival import Arrival


class Output:
    """The socket that gunicorn sees: it collects the response and has nothing to read.

    A request reaches the parser when all of it has arrived, so reading finds the end of the stream.
    """

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def take(self) -> bytes:
        """Return what was written since the last call."""
        parts, self._parts = self._parts, []
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def sendall(self, data: bytes) -> None:
        self._parts.append(bytes(data))

    def send(self, data: bytes) -> int:
        # gunicorn sends nothing but "100 Continue" in this way. The worker has sent that already.
        return len(data)

    def recv(self, _size: int) -> bytes:
        return b""

    def shutdown(self, _how: int) -> None:
        pass

    def close(self) -> None:
        """Discard what was written: gunicorn gives up on a response that failed in the middle."""
        self._parts.clear()

    def setblocking(self, _blocking: bool) -> None:
        pass

    def settimeout(self, _seconds: float | None) -> None:
        pass

    def gettimeout(self) -> None:
        return None


class Queue(OrderedDict):
    """Connections that wait for the same thing for the same time: the next to expire is first.

    `held_bytes` is the size of their unfinished requests or responses.
    """

    held_bytes = 0


class Connection:
    """A client's connection. It belongs to the main thread, and to one other thread while that answers a request.

    `deadline` is when the state it is in ends. `output` is what the client has not taken of a response, and `keep`
    says whether the connection stays open afterwards.
    """

    # What gunicorn's worker asks of a connection.
    initialized = data_ready = True
    is_http2 = False

    def __init__(self, cfg: Any, stream: socket.socket, peer: Any, server: Any) -> None:
        stream.setblocking(False)
        self.stream, self.client, self.server = stream, peer, server
        self.sock = Output()
        self.parser = http.get_parser(cfg, self.sock, peer)
        self.arrival = Arrival()
        self.deadline = 0.0
        self.output = memoryview(b"")
        self.keep = False
        #: Whether the answer is being made, and the connection must be left alone.
        self.busy = False
        #: Whether the body is too large to be read: the application refuses it by its length.
        self.body_is_unread = False
        #: The largest body that the application takes for this request; None until it is looked up.
        self.body_limit: int | None = None
        self.held_bytes = 0
        #: The events that the poller reports, and the queue in which the connection waits.
        self.events = 0
        self.state: Queue | None = None

    def init(self) -> None:
        """Do nothing: gunicorn calls this before it parses."""

    def feed_parser(self) -> None:
        """Give the head of the whole request to the parser."""
        self.parser.unreader.unread(self.arrival.head)

    def send(self, data: memoryview) -> memoryview:
        """Send what the client takes without waiting. Return the rest. Raise OSError when the client is gone."""
        try:
            return data[self.stream.send(data) :]
        except (BlockingIOError, InterruptedError):
            return data

    def close(self) -> None:
        try:
            self.stream.close()
        except OSError:
            pass
