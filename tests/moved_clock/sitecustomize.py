"""Moves the wall clock of every Python process that finds this on its path, by the seconds in the file MOVED_CLOCK."""

import os
import time

_real, _monotonic = time.time_ns, time.monotonic
_offset, _read = 0, 0.0


def _moved():
    global _offset, _read
    if _monotonic() - _read > 0.02:
        with open(os.environ["MOVED_CLOCK"]) as file:
            _offset = int(float(file.read() or 0) * 1e9)
        _read = _monotonic()
    return _real() + _offset


time.time_ns = _moved
time.time = lambda: _moved() / 1e9
