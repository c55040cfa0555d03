"""Small requests, answered together by the thread that reads them.

A thread for each request costs as much as a small request itself: it is woken, and it releases and takes Python's
interpreter lock a dozen times. So the worker's main thread answers requests that take a fraction of a millisecond, in
rounds. Each round takes all waiting requests through one step, then through the next: code that has just run is still
in the processor's caches (cohort scheduling, Larus and Parkes, 2002). Their journal entries are written and synced
together. Each request runs in its own greenlet and yields while it waits.
"""

import re

from greenlet import getcurrent, greenlet

#: A request with a larger body has a thread.
MOST_BYTES = 16 << 10
#: The request that asks no store at all.
_HEALTH = re.compile(rb"(?:GET|HEAD) /healthz[ ?]")
#: Requests that never ask the warehouse and wait for nothing else that takes long.
_SMALL = re.compile(
    rb"POST /(?:api/v1/pixel/(?:events|identify)|api/event)[ ?]"
    rb"|GET /(?:pixel\.gif|api/v1/me)[ ?]"
    rb"|" + _HEALTH.pattern
)


def is_small(head: bytes, body_bytes: int, all_kinds: bool = True) -> bool:
    """Return whether the main thread answers this request. Without `all_kinds` it answers /healthz alone."""
    pattern = _SMALL if all_kinds else _HEALTH
    return body_bytes <= MOST_BYTES and pattern.match(head) is not None


def current() -> "Turn | None":
    """Return the turn that calls this, or None."""
    turn = getcurrent()
    return turn if isinstance(turn, Turn) else None


def step() -> None:
    """Yield to the other requests of the round. The caller must hold nothing that another request waits for."""
    if turn := current():
        turn.stand_aside()


class Turn(greenlet):
    """Answers requests by `answer(request)`, one after the other."""

    def __init__(self, turns, answer):
        super().__init__()
        self._turns, self._answer = turns, answer

    def run(self, request):
        while True:
            self._answer(request)
            self._turns.idle.append(self)
            request = self.parent.switch()

    @property
    def round(self):
        """Which round this is. All that is answered in a round had begun to come before the round began."""
        return self._turns.round

    def stand_aside(self):
        self._turns.aside.append(self)
        self.parent.switch()

    def sync(self, frames):
        """Stand aside until `frames` are synced, with those of others. Returns the error, if there is one."""
        self._turns.writing.append((self, frames))
        return self.parent.switch()


class Turns:
    """The requests that one thread answers. `write(frames)` syncs them, and returns an error or None."""

    #: How many are answered together.
    MOST = 64

    def __init__(self, answer, write):
        self._answer, self._write = answer, write
        self.round = 0
        self.idle, self.aside, self.writing = [], [], []

    def begin_round(self):
        self.round += 1

    def take(self, request):
        """Begin to answer a request."""
        # A new greenlet maps memory for its stack, which takes as long as a step.
        turn = self.idle.pop() if self.idle else Turn(self, self._answer)
        turn.switch(request)
        if len(self.aside) + len(self.writing) >= self.MOST:
            self.end_round()

    def end_round(self):
        """Answer all that were taken."""
        while self.aside or self.writing:
            aside, self.aside = self.aside, []
            for turn in aside:
                turn.switch()
            if not self.aside and self.writing:
                writing, self.writing = self.writing, []
                error = self._write(b"".join(frames for _, frames in writing))
                for turn, _ in writing:
                    turn.switch(error)
