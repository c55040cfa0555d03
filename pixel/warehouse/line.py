"""The line between a process that asks the warehouse and the engine that answers: a Unix socket, JSON, bytes."""

import hashlib
import os
import tempfile
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Client, Connection, Listener
from pathlib import Path

import orjson

from pixel import private_files
from pixel.errors import AnalyticsError
from pixel.warehouse.pool import InTurn

ANSWER_SECONDS = 12
#: What rewrites or copies everything may take this long.
LONG_SECONDS = {"export": 3600, "erase": 3600, "snapshot": 3600, "leave_snapshot": 600, "take_in": 3600}
#: A killed engine is back after a second or two; asking callers wait this long before they are told.
CONNECT_SECONDS = 0.5
#: Questions that one process has with the engine at once; more wait here.
CALLS = 4

_FAILED, _ANSWERED = b"-", b"+"


def address(folder: str | Path) -> str:
    """Return the path of the engine's socket for a warehouse folder.

    A socket's path has at most some 100 characters. With a longer one the socket is in a folder of this user's in /tmp,
    where another user could have put one of its own. Raises UnsafeFolder.
    """
    near = Path(folder).resolve() / "engine.sock"
    if len(os.fsencode(near)) < 100:
        return str(near)
    mine = Path(tempfile.gettempdir()) / f"pixel-{os.getuid()}"
    private_files.require_own_folder(mine)
    return str(mine / hashlib.sha256(os.fsencode(near)).hexdigest()[:32])


class Line:
    """The asking end. One connection a thread."""

    def __init__(self, folder: str | Path) -> None:
        self._folder = folder
        self._local = threading.local()
        self._calls = InTurn()
        for call in range(CALLS):
            self._calls.put(call)

    def ask(self, action, *arguments):
        """The engine's answer as bytes. Raises AnalyticsError when it fails, is away or takes too long."""
        call = self._calls.get(ANSWER_SECONDS)
        try:
            return self._exchange(orjson.dumps([action, *arguments]), LONG_SECONDS.get(action, ANSWER_SECONDS))
        finally:
            self._calls.put(call)

    def _exchange(self, question: bytes, seconds: float) -> bytes:
        # A connection that was open before may lead to an engine that has died since: one new one is tried.
        for connection in (getattr(self._local, "connection", None), None):
            try:
                connection = connection or self._connect()
                connection.send_bytes(question)
                if not connection.poll(seconds):
                    raise TimeoutError
                answer = connection.recv_bytes()
                break
            except private_files.UnsafeFolder as error:
                raise AnalyticsError("The warehouse engine cannot be reached safely. Run doctor.") from error
            except (OSError, EOFError) as error:
                self._hang_up()
                if isinstance(error, TimeoutError) or connection is None:
                    raise AnalyticsError() from error
                failure = error
        else:
            raise AnalyticsError() from failure
        if answer[:1] == _FAILED:
            raise AnalyticsError(answer[1:].decode() or None)
        return answer[1:]

    def _connect(self) -> Connection:
        socket_path = address(self._folder)
        deadline = time.monotonic() + CONNECT_SECONDS
        while True:
            try:
                self._local.connection = Client(socket_path, "AF_UNIX")
                return self._local.connection
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)

    def _hang_up(self):
        if connection := getattr(self._local, "connection", None):
            connection.close()
            self._local.connection = None


def probe(folder, seconds):
    """The status of a warehouse folder's engine, as bytes, over a connection of its own: no report is waited for.

    Raises OSError or EOFError when it does not answer in time.
    """
    with Client(address(folder), "AF_UNIX") as connection:
        connection.send_bytes(orjson.dumps(["status"]))
        if not connection.poll(seconds):
            raise TimeoutError(f"no answer within {seconds} s")
        return connection.recv_bytes()[1:]


class Switchboard:
    """The answering end: a thread for each connection, each question given to `answer(action, *arguments)`."""

    def __init__(self, socket_path: str, answer: Callable) -> None:
        self._answer = answer
        Path(socket_path).unlink(missing_ok=True)
        # Its folder keeps other users out meanwhile. A umask would hold for other threads too.
        self._listener = Listener(socket_path, "AF_UNIX", backlog=64)
        os.chmod(socket_path, 0o600)
        threading.Thread(target=self._listen, name="switchboard", daemon=True).start()

    def close(self):
        self._listener.close()

    def _listen(self):
        while True:
            try:
                connection = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), name="switchboard-line", daemon=True).start()

    def _serve(self, connection):
        with connection:
            while True:
                try:
                    action, *arguments = orjson.loads(connection.recv_bytes())
                    connection.send_bytes(self._reply(action, arguments))
                except (OSError, EOFError):
                    return

    def _reply(self, action, arguments):
        try:
            return _ANSWERED + (self._answer(action, *arguments) or b"")
        except AnalyticsError as error:
            return _FAILED + error.message.encode()
