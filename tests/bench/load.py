"""A client that costs little: one thread, keep-alive connections, requests as ready bytes, answers barely looked at."""

import gc
import select
import socket
import time
from collections import Counter
from contextlib import contextmanager

WARM_UP_SECONDS = 2


class Group:
    """Connections that ask alike, each the next request as soon as it has its answer.

    `request()` gives the bytes of the next request. Of the measured time there are the `milliseconds` of each answer;
    `statuses` counts the answers of the whole run, warm-up included.
    """

    def __init__(self, connections, request):
        self.connections, self.request = connections, request
        self.milliseconds, self.statuses = [], Counter()


def run(port, *groups, seconds, meter=None):
    """Load a port for a warm-up and so many seconds, and wait for the last answers. `meter` is told of both ends."""
    begin = time.perf_counter() + WARM_UP_SECONDS
    end = begin + seconds
    bells = [(begin, meter.begin), (end, meter.end)] if meter else []
    with _connections(port, groups) as (poll, lines), _no_garbage_collection():
        for line in lines.values():
            line.ask()
        asking = len(lines)
        while asking or bells:
            for fd, _ in poll.poll(0.1):
                line = lines[fd]
                status = line.answer()
                if status is None:
                    continue
                now = time.perf_counter()
                line.group.statuses[status] += 1
                if begin <= now <= end:
                    line.group.milliseconds.append((now - line.asked) * 1000)
                if now < end:
                    line.ask()
                else:
                    asking -= 1
            while bells and time.perf_counter() >= bells[0][0]:
                bells.pop(0)[1]()


class _Line:
    """One connection."""

    def __init__(self, port, group):
        self.group = group
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setblocking(False)

    def ask(self):
        self._unsent = memoryview(self.group.request())
        self._got, self._whole = b"", None
        self.asked = time.perf_counter()
        self._send()

    def answer(self):
        """The status of the answer once it is whole, else None. Raises ConnectionError when the server hangs up."""
        if self._unsent:
            self._send()
        while True:
            try:
                some = self.socket.recv(1 << 18)
            except BlockingIOError:
                return None
            if not some:
                raise ConnectionError("The server has closed a connection.")
            self._got += some
            if self._whole is None:
                self._whole = _size(self._got)
            if self._whole is not None and len(self._got) >= self._whole:
                return int(self._got[9:12])

    def _send(self):
        try:
            while self._unsent:
                self._unsent = self._unsent[self.socket.send(self._unsent) :]
        except BlockingIOError:
            pass


def _size(answer):
    """How long an answer is that begins like this; None while its head is not whole."""
    head = answer.find(b"\r\n\r\n")
    if head < 0:
        return None
    at = answer.index(b"Content-Length: ", 0, head + 2) + 16
    return head + 4 + int(answer[at : answer.index(b"\r", at)])


@contextmanager
def _connections(port, groups):
    lines = [_Line(port, group) for group in groups for _ in range(group.connections)]
    poll = select.epoll()
    try:
        for line in lines:
            # Edge-triggered, so that a request sent in parts needs no change of what is waited for.
            poll.register(line.socket, select.EPOLLIN | select.EPOLLOUT | select.EPOLLET)
        yield poll, {line.socket.fileno(): line for line in lines}
    finally:
        poll.close()
        for line in lines:
            line.socket.close()


@contextmanager
def _no_garbage_collection():
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
