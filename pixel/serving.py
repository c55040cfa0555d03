"""What gunicorn runs: a worker that refuses in the envelope, and the engine process."""

import fcntl
import logging
import os
import select
import signal
import sys
import time

from gunicorn.dirty import DirtyApp
from gunicorn.http import errors as http
from gunicorn.workers.gthread import ThreadWorker

from pixel import envelope, ids
from pixel.errors import PixelError
from pixel.extensions import warehouse
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
    """gunicorn's threaded worker, with three changes.

    What cannot be parsed is refused in the envelope, without quoting it.

    A worker whose threads have enough to do hesitates before it takes another connection, so that one with fewer goes
    first: kept-alive connections stay where they were taken, and now and then one worker had them all, at half the
    throughput.

    And a thread that nobody else waits for stays with its connection for a moment after it has answered. Handing
    every kept-alive connection back to the main thread and out again took a third of the worker's time.
    """

    STAY_MILLISECONDS = 5
    #: Connections that are work for a worker.
    ENOUGH = 6

    def handle(self, conn):
        kept = super().handle(conn)
        while kept is True and self._next_request_is_near(conn):
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

    def accept(self, listener):
        if self.nr_conns >= self.ENOUGH:
            time.sleep(min(0.002, 0.0001 * self.nr_conns))
        super().accept(listener)

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
