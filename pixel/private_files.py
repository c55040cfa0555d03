"""Files and folders that only this installation's user can read: 0600 and 0700.

Each entry point sets UMASK, which covers the files that SQLite and ClickHouse create. Folders get their mode
explicitly, so that the instance folder protects its content under any umask.
"""

import os
import stat
from pathlib import Path

UMASK = 0o077
_OTHERS = stat.S_IRWXG | stat.S_IRWXO
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


class UnsafeFolder(OSError):
    """A folder in a shared place belongs to another user, or other users have access to it."""


def create_folder(path: str | Path) -> None:
    """Create a folder and its missing parents with mode 0700. An existing folder keeps its mode."""
    path = Path(path)
    missing = [parent for parent in path.parents if not parent.exists()]
    for folder in [*reversed(missing), path]:
        folder.mkdir(mode=0o700, exist_ok=True)


def claim_folder(path: str | Path) -> None:
    """Create a folder with mode 0700, or restrict the existing one to its owner."""
    create_folder(path)
    _restrict(path, os.stat(path))


def restrict_tree(folder: str | Path, large: str | Path = "") -> None:
    """Restrict a folder and everything in it to its owner. Links and files of other users are left alone.

    `large` is a folder of so many files that the search takes a second. Its own mode is changed last and then marks its
    content as restricted: it is not searched again.
    """
    status = os.stat(folder)
    _restrict(folder, status)
    _restrict_content(folder, {status.st_uid, os.geteuid()}, os.fspath(large))


def require_own_folder(path: str | Path) -> None:
    """Create a folder in a place that other users can write to, such as /tmp, or check the existing one.

    Raises UnsafeFolder unless it is a folder, not a link, that belongs to this process's user and that no other user
    can open.
    """
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        pass
    status = os.lstat(path)
    if not stat.S_ISDIR(status.st_mode):
        raise UnsafeFolder(f"{path} is not a folder. Remove it, or give the instance folder a shorter path.")
    if status.st_uid != os.geteuid():
        raise UnsafeFolder(f"{path} belongs to another user. Remove it, or give the instance folder a shorter path.")
    if status.st_mode & _OTHERS:
        raise UnsafeFolder(f"Other users can open {path}. Remove it, or give the instance folder a shorter path.")


def exposure(folder: str | Path) -> str:
    """Return how other users can open or replace a folder, in one sentence, or nothing."""
    folder = Path(folder)
    status = folder.stat()
    if status.st_mode & _OTHERS:
        return f"Other users can open {folder}. Run: chmod 700 {folder}"
    # The owner of the program could change the program itself.
    trusted = {0, os.geteuid(), status.st_uid, Path(__file__).stat().st_uid}
    for parent in folder.parents:
        status = parent.stat()
        if status.st_uid not in trusted:
            return f"{parent} belongs to another user, who can replace {folder}. Move the instance folder."
        if status.st_mode & _OTHERS_WRITE and not status.st_mode & stat.S_ISVTX:
            return f"Other users can write to {parent} and replace {folder}. Run: chmod go-w {parent}"
    return ""


def _restrict_content(folder: str | Path, owners: set[int], large: str) -> None:
    with os.scandir(folder) as entries:
        for entry in entries:
            try:
                status = entry.stat(follow_symlinks=False)
                if entry.is_symlink() or status.st_uid not in owners:
                    continue
                if entry.path != large:
                    _restrict(entry.path, status)
                    if entry.is_dir():
                        _restrict_content(entry.path, owners, large)
                elif status.st_mode & _OTHERS:
                    _restrict_content(entry.path, owners, large)
                    _restrict(entry.path, status)
            except FileNotFoundError:
                # The engine removes what it has merged.
                continue


def _restrict(path: str | Path, status: os.stat_result) -> None:
    # A folder with the sticky bit, such as /tmp, is shared on purpose.
    if status.st_mode & _OTHERS and not status.st_mode & stat.S_ISVTX:
        try:
            os.chmod(path, stat.S_IMODE(status.st_mode) & ~_OTHERS)
        except OSError:
            # Another user owns it, or the disk is read-only. `doctor` reports the instance folder.
            pass
