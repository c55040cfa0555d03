"""Clients that hold a connection as long as they can, each in its own way."""

import socket
from collections.abc import Callable

_EVENTS = "POST /api/v1/pixel/events/batch HTTP/1.1\r\nHost: pixel\r\nContent-Type: application/json\r\n"
_PAGE = "GET /docs HTTP/1.1\r\nHost: pixel\r\n"


def _says_nothing(connection: socket.socket) -> None:
    pass


def _sends(text: str) -> Callable[[socket.socket], None]:
    def send(connection: socket.socket) -> None:
        connection.sendall(text.encode())

    return send


def _reads_nothing(connection: socket.socket) -> None:
    """Ask for more than the sockets' buffers hold, and never read."""
    connection.setblocking(False)
    request = b"GET /api/v1/openapi.json HTTP/1.1\r\nHost: pixel\r\n\r\n"
    try:
        connection.sendall(request * 40)
    except BlockingIOError:
        pass


#: By name: what a client does once it is connected.
KINDS: dict[str, Callable[[socket.socket], None]] = {
    "says nothing": _says_nothing,
    "an empty line alone": _sends("\r\n"),
    "half a head": _sends(_PAGE),
    "a head of 20 KiB that does not end": _sends(
        _PAGE + "X-Filler: " + "x" * 5000 + ("\r\nX-Filler: " + "x" * 5000) * 3
    ),
    "half a request behind a whole one": _sends(_PAGE + "\r\n" + _PAGE),
    "a body that never arrives": _sends(_EVENTS + "Content-Length: 1000\r\n\r\n"),
    "half a small body": _sends("POST /api/event HTTP/1.1\r\nHost: pixel\r\nContent-Length: 1000\r\n\r\n{"),
    "a chunk that never arrives": _sends(_EVENTS + "Transfer-Encoding: chunked\r\n\r\n3e8\r\nx"),
    "waits to be told to continue": _sends(_EVENTS + "Content-Length: 1000\r\nExpect: 100-continue\r\n\r\n"),
    "reads nothing": _reads_nothing,
}


def connect(port: int, kind: str) -> socket.socket:
    """Connect a client of one of KINDS."""
    connection = socket.socket()
    # Small, so that a response does not fit.
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.settimeout(30)
    connection.connect(("127.0.0.1", port))
    KINDS[kind](connection)
    return connection


def read_all(connection: socket.socket) -> bytes:
    """Read until the server closes the connection, which it does within the timeout of the socket."""
    connection.setblocking(True)
    connection.settimeout(30)
    parts = []
    try:
        while part := connection.recv(1 << 16):
            parts.append(part)
    except ConnectionResetError:
        pass
    return b"".join(parts)
