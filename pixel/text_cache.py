"""Results of functions of outside text, remembered up to a number of bytes.

`functools.lru_cache` counts entries, so that long hostile texts fill a hundred times the memory of ordinary ones.
"""

from collections.abc import Callable
from functools import wraps
from sys import getsizeof
from threading import Lock
from typing import Any

#: The caches of this program, for the test that fills them: (function, its limit in bytes).
CACHES: list[tuple[Callable, int]] = []
#: The limit of all caches together, in bytes for each process.
BUDGET_BYTES = 8 << 20
#: The share of an entry in the tables of the two dicts, at their emptiest.
_ENTRY_BYTES = 160
#: An entry larger than this part of a cache is not kept.
_LARGEST_SHARE = 16
_MISSING = object()


def remember(max_bytes: int) -> Callable[[Callable], Callable]:
    """Decorate a pure function of hashable arguments so that its results are kept, up to `max_bytes` of memory.

    The decorated function has `forget()`, which empties the cache, and `__wrapped__`, which does not use it. Arguments
    and results must consist of texts, numbers, None, tuples and dicts.

    Entries are kept in two generations of half the size each. A new entry, or one found in the older generation, goes
    to the younger one; when that is full, it becomes the older one and the older one is dropped.
    """

    def decorate(function: Callable) -> Callable:
        younger: dict[tuple, Any] = {}
        older: dict[tuple, Any] = {}
        younger_bytes = 0
        lock = Lock()

        @wraps(function)
        def look_up(*arguments: Any) -> Any:
            result = younger.get(arguments, _MISSING)
            return compute(arguments) if result is _MISSING else result

        def compute(arguments: tuple) -> Any:
            nonlocal younger, older, younger_bytes
            result = older.get(arguments, _MISSING)
            if result is _MISSING:
                result = function(*arguments)
            size = _ENTRY_BYTES + _size(arguments) + _size(result)
            if size * _LARGEST_SHARE <= max_bytes:
                with lock:
                    if younger_bytes + size > max_bytes // 2:
                        younger, older, younger_bytes = {}, younger, 0
                    if arguments not in younger:
                        younger[arguments] = result
                        younger_bytes += size
            return result

        def forget() -> None:
            nonlocal younger, older, younger_bytes
            with lock:
                younger, older, younger_bytes = {}, {}, 0

        look_up.forget = forget
        CACHES.append((look_up, max_bytes))
        return look_up

    return decorate


def _size(value: Any) -> int:
    """Return the bytes of a value and all that it holds. What several values share is counted for each."""
    if isinstance(value, tuple):
        return getsizeof(value) + sum(map(_size, value))
    if isinstance(value, dict):
        return getsizeof(value) + sum(map(_size, value)) + sum(map(_size, value.values()))
    return getsizeof(value)
