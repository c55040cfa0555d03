"""The log on stdout: one JSON object a line.

Lines are gathered and written together by a thread of their own, a few hundredths of a second later: a write for each
request would let go of Python's interpreter lock for each request.
"""

import atexit
import os
import threading
import time

from pixel import telemetry

FLUSH_SECONDS = 0.05
_STDOUT = 1


class Lines:
    """Where lines are put. A full pipe or a closed stdout loses lines and disturbs nobody."""

    def __init__(self):
        self._begin_anew()
        os.register_at_fork(before=self.flush, after_in_child=self._begin_anew)
        atexit.register(self.flush)

    def put(self, line: bytes):
        """Write one line soon."""
        self._waiting.append(line)
        if self._thread is None:
            self._begin_thread()
        if not self._bell.is_set():
            self._bell.set()

    def flush(self):
        """Write what waits."""
        with self._lock:
            waiting, self._waiting = self._waiting, []
            rest = memoryview(b"".join(line + b"\n" for line in waiting))
            try:
                while rest:
                    rest = rest[os.write(_STDOUT, rest) :]
            except OSError:
                pass

    def _begin_anew(self):
        self._waiting = []
        self._lock = threading.Lock()
        self._bell = threading.Event()
        self._thread = None

    def _begin_thread(self):
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._flush_for_ever, name="log", daemon=True)
                self._thread.start()

    def _flush_for_ever(self):
        while True:
            self._bell.wait()
            self._bell.clear()
            time.sleep(FLUSH_SECONDS)
            self.flush()
            telemetry.flush()
