"""A store that does not answer is left alone for a while, so that not every call waits for it in vain."""

import threading
import time


class Breaker:
    """Whether a store may be asked: after a failure not for `seconds`, and then by one thread before the others."""

    def __init__(self, seconds):
        self.seconds = seconds
        self._lock = threading.Lock()
        #: When it may be asked again; None while it answers.
        self._again = None
        self._told = -seconds

    def lets_ask(self):
        """Whether the caller may ask the store now, and is to say whether it `worked` or `failed`."""
        if self._again is None:
            return True
        with self._lock:
            now = time.monotonic()
            if self._again is not None and now < self._again:
                return False
            if self._again is not None:
                self._again = now + self.seconds
            return True

    def worked(self):
        """Note that the store answered."""
        if self._again is not None:
            self._again = None

    def failed(self):
        """Note that it did not. Returns whether that is worth a line in the log: once in `seconds` it is."""
        with self._lock:
            now = time.monotonic()
            self._again = now + self.seconds
            news = now >= self._told + self.seconds
            if news:
                self._told = now
            return news
