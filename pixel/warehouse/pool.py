"""Clients of a warehouse for many threads: each is lent to one thread at a time, in the order in which they asked."""

import threading
from collections import deque
from contextlib import contextmanager

from pixel.errors import AnalyticsError


class Clients:
    """So many clients as `clients` has entries. An entry may be None: `open_one()` makes its client when it is lent."""

    def __init__(self, clients, open_one, timeout_seconds):
        self._open, self._timeout, self._number = open_one, timeout_seconds, len(clients)
        self._turns = InTurn()
        for client in clients:
            self._turns.put(client)

    @contextmanager
    def one(self):
        """A client to use. Raises AnalyticsError when none is given back in time."""
        client = self._turns.get(self._timeout)
        try:
            client = client or self._open()
            yield client
        except BaseException:
            # What a failed query has written comes out before the next answer on its connection, so that ends here.
            if client:
                client.close()
            client = None
            raise
        finally:
            self._turns.put(client)

    @property
    def lent(self):
        """How many are lent just now."""
        return self._number - len(self._turns.things)

    def close(self):
        for client in self._turns.things:
            if client:
                client.close()


class InTurn:
    """Things for many, lent to who asked first: a lock or a queue of Python's may leave one waiting for ever."""

    def __init__(self):
        self.things = []
        self._waiting = deque()
        self._lock = threading.Lock()

    def put(self, thing):
        with self._lock:
            if self._waiting:
                turn = self._waiting.popleft()
                turn.append(thing)
                turn.bell.set()
            else:
                self.things.append(thing)

    def get(self, timeout_seconds):
        """One of the things. Raises AnalyticsError when none is given back in time."""
        with self._lock:
            if self.things:
                return self.things.pop()
            turn = _Turn()
            self._waiting.append(turn)
        turn.bell.wait(timeout_seconds)
        with self._lock:
            if not turn:
                self._waiting.remove(turn)
                raise AnalyticsError("The analytics warehouse is busy.")
        return turn[0]


class _Turn(list):
    """Where a waiting thread finds what it is lent."""

    __hash__ = object.__hash__

    def __init__(self):
        super().__init__()
        self.bell = threading.Event()

    def __eq__(self, other):
        return self is other
