"""When a call is made again, as `/docs/errors` says."""

import logging
from collections.abc import Callable
from typing import TypeVar

from pixel_client.errors import NoAnswer, PixelError

#: Attempts after the first.
REPEATS = 5
log = logging.getLogger("pixel_client")
Made = TypeVar("Made")


class Retries:
    """Makes a call up to six times: once, and five times again.

    429 waits as long as its Retry-After says; 500, 503 and no answer at all wait 1, 2, 4, 8 and 16 seconds. Up to a
    second is added by chance, so that many callers do not come back at the same moment. Nothing else is made again.
    """

    def __init__(self, sleep: Callable[[float], object], chance: Callable[[], float]) -> None:
        self._sleep, self._chance = sleep, chance

    def make(self, call: Callable[[], Made], repeatable: bool) -> Made:
        """What `call` gives, or the error of its last attempt.

        Where no answer came it is made again only if it is `repeatable`: doing it twice does no more than once.
        """
        for attempt in range(REPEATS):
            try:
                return call()
            except PixelError as error:
                seconds = _wait_seconds(error, attempt, repeatable)
                if seconds is None:
                    raise
                seconds += self._chance()
                log.info("%s; trying again in %.1f s (%d of %d)", error, seconds, attempt + 1, REPEATS)
            self._sleep(seconds)
        return call()


def _wait_seconds(error: PixelError, attempt: int, repeatable: bool) -> float | None:
    """How long to wait at least; None where the same call would fail again, or do harm."""
    if error.status == 429 and error.retry_after_seconds is not None:
        return error.retry_after_seconds
    if error.status in (429, 500, 503) or (isinstance(error, NoAnswer) and repeatable):
        return float(2**attempt)
    return None
