"""The engine process, and the lock that keeps a second server out of an instance folder."""

import fcntl
import os
import signal
import sys
from pathlib import Path

from gunicorn.dirty import DirtyApp

from pixel.extensions import warehouse
from pixel.warehouse.engine import die_with_parent


def hold(instance: Path) -> None:
    """Lock an instance folder until this process ends. Exit with a sentence if another server holds the lock."""
    fd = os.open(instance / "server.lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        sys.exit(f"Another server runs on {instance}. Stop it, or give this one a folder of its own: PIXEL_INSTANCE.")
    # The master alone holds the lock: a worker that outlives it must not keep the next master out.
    os.register_at_fork(after_in_child=lambda: os.close(fd))


class EngineProcess(DirtyApp):
    """The engine under gunicorn's watch. gunicorn keeps it alive; requests reach it through its own socket."""

    # A reload must not start a second one beside the first.
    workers = 1

    def init(self) -> None:
        die_with_parent()
        # Until the engine is open there is nothing to finish, and gunicorn's handler would only run afterwards.
        orderly = signal.signal(signal.SIGTERM, signal.SIG_DFL)
        warehouse.become_engine()
        signal.signal(signal.SIGTERM, orderly)

    def close(self) -> None:
        warehouse.stop()
