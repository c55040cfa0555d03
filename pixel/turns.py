"""Small requests, answered together by the thread that reads them.

A thread for each request costs as much as a small request itself: it is woken, and gives Python's interpreter lock away
and takes it back, a dozen times. So what takes a fraction of a millisecond is answered by the worker's main thread, in
rounds. All requests that have come are taken one step on their way, then all of them the next step: code that has just
run runs the faster again, which a whole request later it would not (cohort scheduling, Larus and Parkes, 2002). Where
they wait for the disk, all are written and synced at once. Who waits stands aside in a greenlet of its own.
"""

import re

from greenlet import getcurrent, greenlet

#: A request with a larger body has a thread.
MOST_BYTES = 16 << 10
#: The requests that are answered so: none of them asks the warehouse, and what they wait for else is over in no time.
_SMALL = re.compile(rb"(?:POST /(?:api/v1/pixel/(?:events|identify)|api/event)|GET /(?:pixel\.gif|api/v1/me))[ ?]")
_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]{1,9})[ \t]*\r\n", re.IGNORECASE)
#: What may become the head of a request. What may not is refused by the parser at once.
_HEAD = re.compile(rb"[^\n]*\Z|[A-Z]+ [!-~]+ HTTP/1\.[01]\r\n")
_OF_LENGTH = re.compile(rb"\n(?:content-length|transfer-encoding|expect|upgrade)[ \t]*:", re.IGNORECASE)


def missing(data):
    """How many bytes, at least, `data` lacks to be a whole small request: 0 if it is one.

    None if it is for a thread: because its head says that it is another, or cannot be one, or is very long.
    """
    end = data.find(b"\r\n\r\n")
    if end < 0 and len(data) < MOST_BYTES and _HEAD.match(data):
        return 1
    if end < 0 or not _SMALL.match(data):
        return None
    found = _LENGTH.search(data, 0, end + 2)
    # Whatever else a head says of its body's length, a thread may find out.
    if len(_OF_LENGTH.findall(data, 0, end)) != bool(found):
        return None
    size = int(found[1]) if found else 0
    lacks = end + 4 + size - len(data)
    # What follows a whole request is another one.
    return lacks if size <= MOST_BYTES and lacks >= 0 else None


def current():
    """The turn in which this is called, or None."""
    turn = getcurrent()
    return turn if isinstance(turn, Turn) else None


def step():
    """A step is done: let the others of the round do it too. Nobody may hold what others wait for meanwhile."""
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
