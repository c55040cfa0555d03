"""What gunicorn runs: a worker that refuses in the envelope, and the engine process."""

import errno
import fcntl
import logging
import os
import select
import selectors
import signal
import socket
import sys
import time
from functools import partial

from gunicorn.dirty import DirtyApp
from gunicorn.http import errors as http
from gunicorn.workers.gthread import TConn, ThreadWorker

from pixel import envelope, ids, turns
from pixel.errors import PixelError
from pixel.extensions import journal, warehouse
from pixel.warehouse.engine import die_with_parent

_LOG = logging.getLogger("pixel")


class _Refused(PixelError):
    """The server could not read the request.

    It never reached the application, so it is not in the request log.
    """


_REFUSALS = {
    http.LimitRequestLine: (414, "The request line is too long."),
    http.LimitRequestHeaders: (431, "The request's headers are too large or too many."),
    http.UnsupportedTransferCoding: (501, "This transfer coding is not supported."),
    http.ExpectationFailed: (417, "This expectation cannot be met."),
}


class Worker(ThreadWorker):
    """gunicorn's threaded worker, with four changes.

    What cannot be parsed is refused in the envelope, without quoting it.

    Small requests are answered by the main thread, in rounds (see `turns`); all others have a thread, as ever. A
    connection is watched from its beginning, so that no thread waits for the head of a request.

    Where every request asks other servers, all have a thread; one that nobody else waits for stays with its connection
    for a moment after it has answered. Handing every kept-alive connection back to the main thread and out again took
    a third of the worker's time.

    The more connections a worker has, the longer it hesitates before it takes another one, so that one with fewer goes
    first: kept-alive connections stay where they were taken, and now and then one worker had them all, at half the
    throughput.
    """

    STAY_MILLISECONDS = 5
    LINGER_SECONDS = 2

    def init_process(self):
        self._turns = turns.Turns(self._answer, journal.write)
        super().init_process()

    def load_wsgi(self):
        super().load_wsgi()
        # Where each request asks another server, the main thread would wait for it.
        self._takes_turns = not self.cfg.is_ssl and not getattr(self.wsgi, "config", {}).get("asks_servers")

    def wait_for_and_dispatch_events(self, timeout):
        events = self.poller.select(timeout)
        self._turns.begin_round()
        for key, _ in events:
            if key.data != self.accept:
                key.data(key.fileobj)
        self._turns.end_round()
        for key, _ in events:
            if key.data == self.accept:
                if len(events) == 1:
                    time.sleep(min(0.002, 0.0001 * self.nr_conns))
                self.accept(key.fileobj)

    def accept(self, listener):
        if not self._takes_turns:
            return super().accept(listener)
        try:
            client, address = listener.accept()
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.ECONNABORTED):
                raise
            return None
        self.nr_conns += 1
        conn = _Conn(self.cfg, client, address, listener.getsockname(), self._linger)
        conn.init()
        self._watch(conn)
        return None

    def on_client_socket_readable(self, conn, client):
        """Have what a client has sent answered: a small request at once, when it is whole, and others by a thread."""
        if self._takes_turns and self._takes_turn(conn, client):
            return
        super().on_client_socket_readable(conn, client)

    def _takes_turn(self, conn, client):
        """Read what a client has sent: whether there is nothing left to do for a thread."""
        try:
            data = client.recv(turns.MOST_BYTES)
        except BlockingIOError:
            return True
        except OSError:
            data = b""
        begun = conn.parser.unreader.take_buffered()
        if not data:
            conn.parser.unreader.unread(begun)
            if not begun:
                self._forget(conn)
                conn.close()
            # Who has said half of it and says no more is told so.
            return not begun
        conn.parser.unreader.unread(begun + data)
        lacks = turns.missing(begun + data)
        if lacks == 0:
            self._turns.take(conn)
        elif lacks and not self.alive:
            # Until the end a thread waits for what has begun.
            return False
        elif lacks and not begun:
            # Whoever has begun has as long as is left between two requests, however slowly they go on.
            self._stay(conn)
        return lacks is not None

    def _cap_keepalive(self, deadline):
        for conn in [conn for conn in self.keepalived_conns if conn.parser.unreader.buf.getvalue()]:
            super().on_client_socket_readable(conn, conn.sock)
        super()._cap_keepalive(deadline)

    def _answer(self, conn):
        """Answer the request that a connection's parser has whole."""
        client = conn.sock
        conn.sock = conn.parser.unreader.sock = said = _Said(client)
        try:
            kept = self.handle(conn)
        finally:
            conn.sock = conn.parser.unreader.sock = client
        answer = b"".join(said.parts)
        turns.step()
        try:
            sent = client.send(answer)
        except BlockingIOError:
            sent = 0
        except OSError:
            sent, kept = len(answer), False
        if sent < len(answer):
            # The client does not read: let a thread wait for it.
            self._unwatch(conn)
            rest = self.tpool.submit(self._say, client, answer[sent:], kept)
            rest.add_done_callback(lambda future: self.method_queue.defer(self.finish_request, conn, future))
        elif kept:
            self._stay(conn)
        else:
            self._forget(conn)
            conn.close(graceful=True)

    def _say(self, client, answer, kept):
        try:
            client.settimeout(self.cfg.keepalive)
            client.sendall(answer)
        except OSError:
            return False
        return kept

    def _watch(self, conn):
        conn.sock.setblocking(False)
        conn.set_timeout()
        self.keepalived_conns.append(conn)
        self.poller.register(conn.sock, selectors.EVENT_READ, partial(self.on_client_socket_readable, conn))

    def _unwatch(self, conn):
        self.poller.unregister(conn.sock)
        self.keepalived_conns.remove(conn)

    def _stay(self, conn):
        """Keep a connection that is watched for a while longer; to the second, since it moves in the list."""
        if conn.timeout < time.monotonic() + self.cfg.keepalive - 1:
            self.keepalived_conns.remove(conn)
            conn.set_timeout()
            self.keepalived_conns.append(conn)

    def _forget(self, conn):
        self._unwatch(conn)
        self.nr_conns -= 1

    def _linger(self, conn):
        """Say that no more is said, and wait until the client has seen it: else its system might drop the answer."""
        try:
            conn.sock.shutdown(socket.SHUT_WR)
            conn.sock.setblocking(False)
        except OSError:
            conn.close()
            return
        self.nr_conns += 1
        conn.timeout = time.monotonic() + self.LINGER_SECONDS
        self.pending_conns.append(conn)
        self.poller.register(conn.sock, selectors.EVENT_READ, partial(self._end, conn))

    def _end(self, conn, client):
        try:
            if client.recv(turns.MOST_BYTES):
                return
        except BlockingIOError:
            return
        except OSError:
            pass
        self.poller.unregister(client)
        self.pending_conns.remove(conn)
        self.nr_conns -= 1
        conn.close()

    def handle(self, conn):
        kept = super().handle(conn)
        while kept is True and not self._takes_turns and self._next_request_is_near(conn):
            kept = super().handle(conn)
        return kept

    def _next_request_is_near(self, conn):
        if not self.alive or not self.tpool._work_queue.empty() or conn.is_http2:
            return False
        if conn.parser.unreader.buf.getvalue():
            return True
        poll = select.poll()
        poll.register(conn.sock, select.POLLIN)
        return bool(poll.poll(self.STAY_MILLISECONDS))

    def is_parent_alive(self):
        # Threads look at `alive`: without this they would go on answering kept-alive connections for a dead master,
        # and the next one could not have the port.
        self.alive = self.alive and super().is_parent_alive()
        return self.alive

    def handle_error(self, req, client, addr, exc):
        if not isinstance(exc, http.ParseException):
            return super().handle_error(req, client, addr, exc)
        status, message = next(
            (answer for kind, answer in _REFUSALS.items() if isinstance(exc, kind)), (400, "The request is malformed.")
        )
        refusal = _Refused(message)
        refusal.status, refusal.code = status, "bad_request"
        request_id = ids.in_time("req_")
        _LOG.warning("refused: %s", type(exc).__name__, extra={"request_id": request_id})
        response = envelope.failure(refusal, request_id)
        head = (
            f"HTTP/1.1 {response.status}\r\nConnection: close\r\nContent-Type: application/json\r\n"
            f"Content-Length: {response.content_length}\r\nX-Request-Id: {request_id}\r\n"
            "Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n"
            'Link: </docs/errors#bad_request>; rel="help"\r\n\r\n'
        )
        try:
            client.sendall(head.encode() + response.get_data())
        except OSError:
            pass


class _Conn(TConn):
    """A connection that ends without anybody standing still for it. gunicorn's own holds up the main thread for 2 s."""

    def __init__(self, cfg, sock, client, server, linger):
        super().__init__(cfg, sock, client, server)
        self._linger = linger

    def close(self, graceful=False):
        if graceful:
            self._linger(self)
        else:
            super().close()


class _Said:
    """Stands for the socket of a connection whose request is whole: it keeps what is said, and never waits."""

    def __init__(self, client):
        self._client = client
        self.parts = []

    def sendall(self, data):
        self.parts.append(bytes(data))

    def recv(self, _size):
        # Nothing is read behind a whole request. It looks like the end, so that what tries comes to one.
        return b""

    def setblocking(self, _blocking):
        pass

    settimeout = setblocking

    def gettimeout(self):
        return None

    def __getattr__(self, name):
        return getattr(self._client, name)


def hold(instance):
    """Be the only server of an instance folder until this process ends. Ends it with a sentence if another is."""
    fd = os.open(instance / "server.lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        sys.exit(f"Another server runs on {instance}. Stop it, or give this one a folder of its own: PIXEL_INSTANCE.")
    # The lock is the master's: a worker that outlives it for a moment must not keep the next master out.
    os.register_at_fork(after_in_child=lambda: os.close(fd))


class EngineProcess(DirtyApp):
    """The engine under gunicorn's watch. gunicorn only keeps it alive: it answers on its own socket."""

    # A reload must not start a second one beside the first.
    workers = 1

    def init(self):
        die_with_parent()
        # Until the engine is open there is nothing to finish, and gunicorn's own handler would only be looked at then.
        orderly = signal.signal(signal.SIGTERM, signal.SIG_DFL)
        warehouse.become_engine()
        signal.signal(signal.SIGTERM, orderly)

    def close(self):
        warehouse.stop()
