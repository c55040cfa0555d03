"""The gunicorn worker: the main thread reads and writes all connections, and no client can hold a thread."""

import errno
import io
import logging
import resource
import select
import selectors
import socket
import time
from concurrent.futures import Future
from typing import Any

from gunicorn.http import errors as http
from gunicorn.workers.gthread import ThreadWorker

from pixel import clock, envelope, errors, ids, request_log, turns
from pixel.extensions import journal
from pixel.serving.arrival import MAX_BODY_BYTES, Refused
from pixel.serving.connection import Connection, Queue
from pixel.serving.headers import SINGLE, refuse_ambiguous

_LOG = logging.getLogger("pixel")
#: What gunicorn's parser refuses, and what the caller is answered. Everything else that it refuses is malformed.
_PARSER_REFUSALS = {
    http.LimitRequestLine: (414, "The request line is too long."),
    http.LimitRequestHeaders: (431, "The request's headers are too large or too many."),
    http.UnsupportedTransferCoding: (501, "The only Transfer-Encoding that is supported is chunked."),
    http.ExpectationFailed: (417, "This expectation cannot be met."),
}
_RECEIVE_BYTES, _MAX_RECEIVE_BYTES = 64 << 10, 1 << 20
_NOTHING = memoryview(b"")


class Worker(ThreadWorker):
    """gunicorn's threaded worker with other input and output.

    The main thread reads each request until it is whole and writes each response until it is taken. A request has one
    deadline for its head and body, and a response has one. A client that misses the first gets request_timeout; one
    that misses the second is cut off. So a slow client costs memory, which is bounded, and never a thread.

    Small requests are answered by the main thread in rounds (see `turns`), and /healthz always is. All others get a
    thread. Where every request waits for other servers (PostgreSQL, Redis), all get a thread, and a thread stays with
    its connection for some milliseconds: handing each request to the main thread and back took a third of the time.

    The more connections a worker has, the longer it hesitates to accept another. Kept-alive connections stay with the
    worker that accepted them, and without this one worker sometimes had them all, at half the throughput. The time that
    it may hesitate is bounded, and the more it has to do, the more connections it accepts at once. Otherwise clients
    that connect often, or send often, would keep others waiting to be accepted.
    """

    #: How long the head and the body of a request may take to arrive, from its first byte.
    REQUEST_SECONDS = 30
    #: How long the client may take to read a response.
    RESPONSE_SECONDS = 30
    #: How long a closed connection is drained, so that the client's system does not discard the response.
    LINGER_SECONDS = 2
    #: How long a thread waits on its connection for the next request.
    STAY_MILLISECONDS = 5
    #: The most connections of a worker. Beyond it, those that have waited longest are closed.
    MAX_CONNECTIONS = 10_000
    #: The most bytes of unfinished requests that a worker holds, as many of whole ones, and as many of responses.
    MAX_BUFFERED_BYTES = 128 << 20
    #: How long the worker may hesitate to accept connections in a burst, and which part of the time in the long run.
    MAX_PATIENCE_SECONDS, PATIENCE_SHARE = 0.1, 0.1

    def init_process(self) -> None:
        self._turns = turns.Turns(self._answer_in_turn, journal.write)
        #: Connections that have sent nothing yet, and those between two requests.
        self._silent, self._idle = Queue(), Queue()
        #: Connections whose request has begun to arrive, and those that have not read their response.
        self._arriving, self._writing = Queue(), Queue()
        #: Connections that are closed on our side.
        self._lingering = Queue()
        #: Connections whose request a thread answers. They wait for nothing and do not expire.
        self._working = Queue()
        #: Connections with bytes of a further request that no event will report.
        self._pipelined = Queue()
        #: How long the worker may still hesitate to accept, as of that time.
        self._patience_seconds, self._patience_at = self.MAX_PATIENCE_SECONDS, time.monotonic()
        self._max_connections = min(self.MAX_CONNECTIONS, _raised_file_limit() - 256)
        # gunicorn would stop accepting at its own limit; here the longest waiting make room.
        self.worker_connections = self._max_connections + 1
        super().init_process()

    def load_wsgi(self) -> None:
        super().load_wsgi()
        if self.cfg.is_ssl:
            raise SystemExit("gunicorn's TLS settings are not supported. Put a proxy in front that ends TLS.")
        config = getattr(self.wsgi, "config", {})
        # Where each request waits for another server, the main thread would wait with it.
        self._takes_turns = not config.get("asks_servers")
        self._environment = config.get("PIXEL_ENV", "dev")

    # -- the loop

    def wait_for_and_dispatch_events(self, timeout: float) -> None:
        events = self.poller.select(0 if self._pipelined else timeout)
        self._turns.begin_round()
        # One request of each, or these connections would keep all others waiting.
        pipelined = list(self._pipelined)
        for connection in pipelined:
            if connection.state is self._pipelined:
                self._advance(connection, connection.arrival.advance)
        accepting = []
        for key, _ in events:
            if type(key.data) is Connection:
                self._on_event(key.data)
            elif key.data == self.accept:
                accepting.append(key.fileobj)
            else:
                key.data(key.fileobj)
        self._turns.end_round()
        for listener in accepting:
            if len(events) == 1:
                self._hesitate()
            for _ in range(1 + (len(events) + len(pipelined)) // 16):
                if not self.accept(listener):
                    break

    def _hesitate(self) -> None:
        """Give workers with fewer connections time to accept first."""
        now = time.monotonic()
        patience = self._patience_seconds + (now - self._patience_at) * self.PATIENCE_SHARE
        seconds = min(patience, 0.002, 0.0001 * self.nr_conns)
        self._patience_seconds, self._patience_at = min(self.MAX_PATIENCE_SECONDS, patience) - seconds, now
        time.sleep(seconds)

    def accept(self, listener: socket.socket) -> bool:
        """Accept a connection. Return whether there was one."""
        try:
            stream, peer = listener.accept()
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                self._make_room()
            elif error.errno not in (errno.EAGAIN, errno.ECONNABORTED, errno.EINTR):
                raise
            return False
        if self.nr_conns >= self._max_connections:
            self._make_room()
        self.nr_conns += 1
        connection = Connection(self.cfg, stream, peer, listener.getsockname())
        self._wait_in(self._silent, connection, self.cfg.keepalive)
        self._watch(connection, selectors.EVENT_READ)
        return True

    def murder_keepalived(self, force: bool = False) -> None:
        """End what has waited too long, or every connection. gunicorn calls this once in each turn of its loop."""
        now = time.monotonic()
        for queue in (self._silent, self._idle, self._arriving, self._pipelined, self._writing, self._lingering):
            while queue and (force or next(iter(queue)).deadline <= now):
                connection = next(iter(queue))
                if queue is self._arriving and not force:
                    self._refuse(connection, errors.RequestTimeout(self.REQUEST_SECONDS))
                else:
                    self._drop(connection)

    def murder_pending(self) -> None:
        """Do nothing: `murder_keepalived` looks at all connections."""

    def _cap_keepalive(self, deadline: float) -> None:
        """Close idle connections by `deadline`. Requests that have begun to arrive keep theirs."""
        for connection in (*self._silent, *self._idle):
            connection.deadline = min(connection.deadline, deadline)

    # -- reading

    def _on_event(self, connection: Connection) -> None:
        # Pipelined bytes come first: reading more while a whole request is there would have no bound.
        if connection.busy or connection.state is None or connection.state is self._pipelined:
            return
        if connection.state is self._writing:
            self._send_rest(connection)
        elif connection.state is self._lingering:
            self._drain(connection)
        else:
            self._read(connection)

    def _read(self, connection: Connection) -> None:
        size = min(max(_RECEIVE_BYTES, connection.arrival.missing), _MAX_RECEIVE_BYTES)
        try:
            data = connection.stream.recv(size)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self._drop(connection)
            return
        if data:
            self._advance(connection, connection.arrival.add, data)
        elif connection.arrival.has_begun:
            of_body = "The body ended before its Content-Length."
            of_head = "The connection ended before the request was whole."
            self._refuse(connection, Refused(400, of_body if connection.arrival.missing else of_head))
        else:
            self._drop(connection)

    def _advance(self, connection: Connection, step: Any, *data: bytes) -> None:
        """Take one step with what has arrived, and answer the request if it is whole now."""
        try:
            whole = step(*data)
        except Refused as refusal:
            self._refuse(connection, refusal)
            return
        if whole:
            self._answer(connection)
        else:
            self._await_rest(connection)

    def _await_rest(self, connection: Connection) -> None:
        arrival = connection.arrival
        if connection.state is not self._arriving:
            self._wait_in(self._arriving, connection, self.REQUEST_SECONDS)
        self._account(connection, arrival.size)
        if connection.state is None:
            # It has waited longest itself.
            return
        if self._is_too_large(connection):
            connection.body_is_unread = True
            self._answer(connection)
        elif arrival.expects_continue:
            arrival.expects_continue = False
            self._tell_to_continue(connection)

    def _tell_to_continue(self, connection: Connection) -> None:
        try:
            connection.stream.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        except OSError:
            self._drop(connection)

    def _is_too_large(self, connection: Connection) -> bool:
        """Whether the body is longer than the application takes."""
        arrival = connection.arrival
        if not arrival.is_larger_than(turns.MOST_BYTES):
            return False
        if connection.body_limit is None:
            method, target, _ = arrival.head[: arrival.head.index(b"\r\n")].decode("latin-1").split(" ")
            limit = getattr(self.wsgi, "body_limit", None)
            connection.body_limit = limit(method, target) if limit else MAX_BODY_BYTES
        return arrival.is_larger_than(connection.body_limit)

    # -- answering

    def _answer(self, connection: Connection) -> None:
        """Answer a request that is whole, here or in a thread."""
        arrival = connection.arrival
        connection.body_limit = None
        if turns.is_small(arrival.head, len(arrival.body), all_kinds=self._takes_turns):
            connection.busy = True
            self._turns.take(connection)
        elif self._working.held_bytes + (size := len(arrival.head) + len(arrival.body)) > self.MAX_BUFFERED_BYTES:
            self._refuse(connection, errors.ServiceUnavailable())
        else:
            connection.busy = True
            self._watch(connection, 0)
            self._wait_in(self._working, connection, 0)
            self._account(connection, size)
            future = self.tpool.submit(self._answer_in_thread, connection)
            future.add_done_callback(lambda done: self.method_queue.defer(self._finish, connection, done))

    def _answer_in_turn(self, connection: Connection) -> None:
        keep = self._serve(connection)
        turns.step()
        connection.busy = False
        self._send(connection, keep)

    def _answer_in_thread(self, connection: Connection) -> tuple[memoryview, bool]:
        """Answer requests and send what the client takes at once. Return the rest, and whether to keep it open."""
        while True:
            keep = self._serve(connection)
            connection.arrival.next()
            rest = connection.send(memoryview(connection.sock.take()))
            if rest or not keep or self._takes_turns or not self._next_request_arrives(connection):
                return rest, keep

    def _serve(self, connection: Connection) -> bool:
        """Have gunicorn parse and answer the request. Return whether the connection stays open."""
        connection.feed_parser()
        return bool(self.handle(connection))

    def handle_request(self, req: Any, conn: Connection) -> bool:
        refuse_ambiguous(req)
        if conn.body_is_unread:
            req.force_close()
        req.body = io.BytesIO(conn.arrival.body)
        try:
            return super().handle_request(req, conn)
        finally:
            # The parser would hold the request, its body included, until the next one.
            conn.parser.mesg = None

    def _next_request_arrives(self, connection: Connection) -> bool:
        """Wait some milliseconds for the next request, unless others wait for a thread."""
        if not self.alive or not self.tpool._work_queue.empty():
            return False
        try:
            if connection.arrival.has_begun and connection.arrival.advance():
                return True
            poll = select.poll()
            poll.register(connection.stream, select.POLLIN)
            if not poll.poll(self.STAY_MILLISECONDS):
                return False
            data = connection.stream.recv(_RECEIVE_BYTES)
            return bool(data) and connection.arrival.add(data)
        except (Refused, OSError):
            # The main thread finds the same again.
            return False

    def _finish(self, connection: Connection, future: Future) -> None:
        """Take a connection back from its thread."""
        connection.busy = False
        try:
            rest, keep = future.result()
        except OSError:
            self._drop(connection)
        except Exception:
            _LOG.exception("a connection failed")
            self._drop(connection)
        else:
            self._after_send(connection, rest, keep)

    # -- writing

    def _send(self, connection: Connection, keep: bool) -> None:
        """Send the response that gunicorn has written, and go on to the next request."""
        connection.arrival.next()
        try:
            rest = connection.send(memoryview(connection.sock.take()))
        except OSError:
            self._drop(connection)
            return
        self._after_send(connection, rest, keep)

    def _send_rest(self, connection: Connection) -> None:
        try:
            connection.output = connection.send(connection.output)
        except OSError:
            self._drop(connection)
            return
        self._account(connection, len(connection.output))
        if not connection.output:
            self._after_send(connection, _NOTHING, connection.keep)

    def _after_send(self, connection: Connection, rest: memoryview, keep: bool) -> None:
        if rest:
            connection.output, connection.keep = rest, keep
            self._wait_in(self._writing, connection, self.RESPONSE_SECONDS)
            self._watch(connection, selectors.EVENT_WRITE)
            self._account(connection, len(rest))
        elif not keep:
            self._linger(connection)
        else:
            self._await_next(connection)

    def _await_next(self, connection: Connection) -> None:
        if connection.arrival.has_begun:
            self._wait_in(self._pipelined, connection, self.REQUEST_SECONDS)
        # Moving it in the queue costs as much as a step of a small request: to the second is exact enough.
        elif connection.state is not self._idle or connection.deadline < time.monotonic() + self.cfg.keepalive - 1:
            self._wait_in(self._idle, connection, self.cfg.keepalive)
        self._watch(connection, selectors.EVENT_READ)
        if connection.state is self._pipelined:
            self._account(connection, connection.arrival.size)

    def _linger(self, connection: Connection) -> None:
        """End our side of the connection, and read until the client ends its own."""
        try:
            connection.stream.shutdown(socket.SHUT_WR)
        except OSError:
            self._drop(connection)
            return
        self._wait_in(self._lingering, connection, self.LINGER_SECONDS)
        self._watch(connection, selectors.EVENT_READ)

    def _drain(self, connection: Connection) -> None:
        try:
            if not connection.stream.recv(_RECEIVE_BYTES):
                self._drop(connection)
        except (BlockingIOError, InterruptedError):
            pass
        except OSError:
            self._drop(connection)

    # -- what all connections share

    def _watch(self, connection: Connection, events: int) -> None:
        if connection.events == events:
            return
        if not events:
            self.poller.unregister(connection.stream)
        elif connection.events:
            self.poller.modify(connection.stream, events, connection)
        else:
            self.poller.register(connection.stream, events, connection)
        connection.events = events

    def _wait_in(self, queue: Queue, connection: Connection, seconds: float) -> None:
        """Have a connection wait in one of the queues, behind all others there."""
        self._leave(connection)
        connection.deadline = time.monotonic() + seconds
        connection.state = queue
        queue[connection] = None

    def _leave(self, connection: Connection) -> None:
        if connection.state is not None:
            # Not `_account`: closing others here could close this connection again, without end.
            connection.state.held_bytes -= connection.held_bytes
            connection.held_bytes = 0
            del connection.state[connection]
            connection.state = None

    def _account(self, connection: Connection, size: int) -> None:
        """Note how many bytes a connection holds. Beyond the limit of its queue, the longest waiting are closed."""
        queue = connection.state
        queue.held_bytes += size - connection.held_bytes
        connection.held_bytes = size
        while queue.held_bytes > self.MAX_BUFFERED_BYTES and self._shed(queue):
            pass

    def _drop(self, connection: Connection) -> None:
        """Close a connection at once."""
        if connection.state is None:
            return
        self._watch(connection, 0)
        self._leave(connection)
        self.nr_conns -= 1
        connection.close()

    def _shed(self, *queues: Queue) -> bool:
        """Close the connection that has waited longest in the first queue that has any. Return whether there is one."""
        for queue in queues:
            for connection in queue:
                if not connection.busy:
                    self._drop(connection)
                    return True
        return False

    def _make_room(self) -> None:
        """Close one connection: one that has its response, or else one of the largest queue.

        A client that fills one queue, such as that of idle connections, so displaces nobody in another.
        """
        queues = (self._silent, self._arriving, self._idle, self._writing, self._pipelined)
        self._shed(self._lingering, *sorted(queues, key=len, reverse=True))

    def is_parent_alive(self) -> bool:
        # Threads look at `alive`. Without this they would go on answering kept-alive connections for a dead master,
        # and the next one could not have the port.
        self.alive = self.alive and super().is_parent_alive()
        return self.alive

    # -- refusing

    def _refuse(self, connection: Connection, refusal: Refused | errors.PixelError) -> None:
        """Answer a request that the application does not see, and close the connection."""
        first_line = bytes(connection.arrival.head or connection.arrival.unread)[:10_000].partition(b"\r\n")[0]
        connection.sock.sendall(self._refusal(refusal, first_line.decode("latin-1")))
        self._send(connection, keep=False)

    def handle_error(self, req: Any, client: Any, addr: Any, exc: Exception) -> None:
        """Answer what gunicorn's parser, or `handle_request`, has refused."""
        refusal = exc
        if isinstance(exc, http.ParseException):
            status, message = next(
                (answer for kind, answer in _PARSER_REFUSALS.items() if isinstance(exc, kind)),
                (400, "The request is malformed."),
            )
            header = SINGLE.get(getattr(exc, "hdr", None) or "", "")
            if header:
                message = f"The header {header} is malformed, or was sent more than once."
            refusal = Refused(status, message, header)
        elif not isinstance(exc, Refused):
            _LOG.error("a request failed", exc_info=exc)
            refusal = errors.InternalError()
        line = f"{req.method} {req.uri} HTTP" if req is not None else ""
        client.sendall(self._refusal(refusal, line))

    def _refusal(self, refusal: Refused | errors.PixelError, request_line: str) -> bytes:
        """Return the response for a refusal, whose request gets its row in the request log."""
        if isinstance(refusal, Refused):
            error: errors.PixelError = errors.BadRequest(
                refusal.message, **({"header": refusal.header} if refusal.header else {})
            )
            error.status = refusal.status
        else:
            error = refusal
        request_id = ids.of_request(self._environment)
        response = envelope.failure(error, request_id)
        body = response.get_data()
        request_log.record_refusal(request_id, clock.milliseconds(), request_line, error, body)
        more = "".join(f"{name}: {value}\r\n" for name, value in error.headers.items())
        head = (
            f"HTTP/1.1 {response.status}\r\nConnection: close\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\nX-Request-Id: {request_id}\r\n"
            "Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n"
            f"{more}"
            f'Link: </docs/errors#{error.code}>; rel="help"\r\n\r\n'
        )
        return head.encode() + body


def _raised_file_limit() -> int:
    """Raise the limit of open files as far as it may go. Return it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = Worker.MAX_CONNECTIONS + 1024
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return wanted if soft == resource.RLIM_INFINITY else soft
