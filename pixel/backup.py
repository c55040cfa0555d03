"""Backups: all that an installation keeps, at one moment, in a folder that proves itself, and back again."""

import fcntl
import hashlib
import os
import shutil
import sqlite3
import tempfile
from contextlib import contextmanager
from pathlib import Path

import orjson
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from flask import current_app
from sqlalchemy import select

from pixel import access, clock, demo, journal, metrics, pipes, private_files, workspaces
from pixel.database import db
from pixel.errors import PixelError
from pixel.extensions import answers, warehouse

FORMAT = 1
MANIFEST = "manifest.json"
#: What an installation holds once it has been used.
_USED = ("pixel.sqlite", "warehouse/data", "warehouse/loader.sqlite", "journal/*.journal", "journal/*.damaged")
#: What could not be loaded.
_BLOCK = 1 << 20


class BackupFailed(PixelError):
    """A backup could not be written, or is not one that can be restored. Its message says why."""


def write(folder):
    """Write a backup into `folder`, which is made or empty, beside a running server. Returns its manifest.

    Every event that was acknowledged before the call is in it, once. Raises BackupFailed or AnalyticsError; then
    nothing is left of it.
    """
    _refuse_unless_alone()
    folder = Path(folder).resolve()
    _make_empty(folder)
    try:
        with _alone():
            return _write(folder)
    except OSError as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise BackupFailed(f"The backup could not be written: {error.strerror or error}.") from error
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def restore(folder):
    """Bring a backup into this installation, which must hold nothing, and look at it. Returns the manifest.

    Raises BackupFailed when the backup is incomplete or damaged, before anything is written, or when what was restored
    is not what was kept.
    """
    _refuse_unless_alone()
    folder, instance = Path(folder).resolve(), Path(current_app.instance_path)
    manifest = _checked(folder)
    if warehouse.folder is None:
        raise BackupFailed("This installation has no warehouse: its analytics settings are missing.")
    if found := [path for pattern in _USED for path in instance.glob(pattern)]:
        raise BackupFailed(f"{instance} is in use: it has {found[0].relative_to(instance)}. Restore into an empty one.")
    try:
        _restore(folder, instance, manifest)
    except OSError as error:
        raise BackupFailed(f"Not restored: {error.strerror or error}. Empty {instance} and try again.") from error
    return manifest


def _refuse_unless_alone():
    if db.engine.dialect.name != "sqlite":
        raise BackupFailed(
            "This is for an installation that stands alone. Back up PostgreSQL with pg_dump and ClickHouse with BACKUP."
        )


def fingerprint():
    """What tells whether two installations have the same SECRET_KEY, without telling it."""
    return hashlib.sha256(b"fingerprint\0" + current_app.config["SECRET_KEY"].encode()).hexdigest()[:16]


# -- writing


def _write(folder):
    instance = Path(current_app.instance_path)
    try:
        taken = warehouse.snapshot()
        _refuse_without_room(folder, taken, instance)
        for table, aside in taken["tables"].items():
            _copy_tree(Path(aside["parts"]), folder / "warehouse" / table)
        _copy(Path(taken["index"]), folder / "warehouse/loader.sqlite")
    finally:
        warehouse.leave_snapshot()
    for path in journal.set_aside(instance / "journal"):
        _copy(path, folder / "journal" / path.name)
    # After the events: a website or key must be there when anything of it is.
    _copy_database(folder / "pixel.sqlite")
    if _has_its_own_secret(instance):
        _copy(instance / "secret_key", folder / "secret_key")
    manifest = {
        "format": FORMAT,
        "version": current_app.config["VERSION"],
        "made_at": clock.rfc3339(clock.now()),
        "database": _revision(),
        "secret_key": fingerprint(),
        "rows": {table: aside["rows"] for table, aside in taken["tables"].items()},
        "files": {str(path.relative_to(folder)): _facts(path) for path in sorted(folder.rglob("*")) if path.is_file()},
    }
    _seal(folder, manifest)
    return manifest


def _make_empty(folder: Path) -> None:
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise BackupFailed(f"{folder} is not an empty folder.")
    try:
        private_files.create_folder(folder)
        folder.chmod(0o700)
    except OSError as error:
        raise BackupFailed(f"{folder} cannot be made: {error.strerror}.") from error


@contextmanager
def _alone():
    """One backup at a time: they set parts aside under one name."""
    with open(Path(current_app.instance_path) / "backup.lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BackupFailed("Another backup is being written just now.") from None
        yield


def _refuse_without_room(folder, taken, instance):
    sources = [Path(aside["parts"]) for aside in taken["tables"].values()]
    files = [path for source in sources for path in source.rglob("*") if path.is_file()]
    needed = sum(path.stat().st_size for path in [*files, Path(taken["index"]), *instance.glob("pixel.sqlite*")])
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise BackupFailed(f"The backup needs {needed >> 20} MiB, and {free >> 20} MiB are free for {folder}.")


def _copy_tree(source, target):
    for path in sorted(source.rglob("*")):
        if path.is_file():
            _copy(path, target / path.relative_to(source))


def _copy(source: Path, target: Path) -> None:
    """Copy a file, readable for its owner alone, and sync it."""
    private_files.create_folder(target.parent)
    with (
        open(source, "rb") as original,
        open(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb") as copy,
    ):
        shutil.copyfileobj(original, copy, _BLOCK)
        copy.flush()
        os.fsync(copy.fileno())


def _copy_database(target):
    """The control database as it is at this moment, by SQLite's own means."""
    os.close(os.open(target, os.O_CREAT | os.O_EXCL, 0o600))
    source, copy = sqlite3.connect(db.engine.url.database), sqlite3.connect(target)
    try:
        source.backup(copy)
    except sqlite3.Error as error:
        raise OSError(f"the control database: {error}") from error
    finally:
        source.close()
        copy.close()


def _has_its_own_secret(instance):
    """Whether the secret in force is the one in the instance folder, and not SECRET_KEY of the environment."""
    kept = instance / "secret_key"
    return kept.exists() and kept.read_text() == current_app.config["SECRET_KEY"]


def _revision():
    with db.engine.connect() as connection:
        return MigrationContext.configure(connection).get_current_revision()


def _seal(folder: Path, manifest: dict) -> None:
    """Write the manifest, last and durably: without it a backup is incomplete."""
    fresh = folder / (MANIFEST + ".part")
    with open(os.open(fresh, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb") as file:
        file.write(orjson.dumps(manifest, option=orjson.OPT_INDENT_2))
        file.flush()
        os.fsync(file.fileno())
    for path in [folder, *(path for path in folder.rglob("*") if path.is_dir())]:
        _sync_folder(path)
    fresh.rename(folder / MANIFEST)
    _sync_folder(folder)


def _sync_folder(path):
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _facts(path):
    with open(path, "rb") as file:
        return {"bytes": path.stat().st_size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}


# -- reading


def _checked(folder):
    """The manifest of a backup whose files are all there, as they were written."""
    try:
        manifest = orjson.loads((folder / MANIFEST).read_bytes())
        known, revision = manifest["format"] == FORMAT, manifest["database"]
        files = {folder / name: facts for name, facts in manifest["files"].items()}
    except FileNotFoundError:
        raise BackupFailed(f"{folder} is no complete backup: it has no {MANIFEST}.") from None
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError, OSError):
        raise BackupFailed(f"{folder / MANIFEST} is damaged.") from None
    if not known:
        raise BackupFailed(f"This backup is of another format ({manifest['format']}) than this version reads.")
    if revision not in _known_revisions():
        raise BackupFailed(
            f"This backup is of a newer version ({manifest['version']}, tables of {revision}). Use that."
        )
    for path, facts in files.items():
        _refuse_unless_as_written(path, facts, folder)
    return manifest


def _known_revisions():
    script = ScriptDirectory(os.path.join(current_app.root_path, "pixel", "migrations"))
    return {each.revision for each in script.walk_revisions()}


def _refuse_unless_as_written(path, facts, folder):
    inside = path.resolve().is_relative_to(folder)
    if not inside or not path.is_file():
        raise BackupFailed(f"The backup is incomplete: {path.relative_to(folder)} is missing.")
    if _facts(path) != facts:
        raise BackupFailed(f"The backup is damaged: {path.relative_to(folder)} is not as it was written.")


def _restore(folder, instance, manifest):
    _place(folder / "warehouse/loader.sqlite", warehouse.folder / "loader.sqlite")
    for path in (folder / "journal").glob("*"):
        _place(path, instance / "journal" / path.name)
    if (folder / "secret_key").exists() and _has_its_own_secret(instance):
        _place(folder / "secret_key", instance / "secret_key")
        current_app.config["SECRET_KEY"] = (instance / "secret_key").read_text()
    _place(folder / "pixel.sqlite", Path(db.engine.url.database))
    warehouse.take_in({table: str(folder / "warehouse" / table) for table in journal.TABLES})
    os.sync()
    _refuse_unless_whole(manifest)


def _place(source: Path, target: Path) -> None:
    """Put a file where it belongs, whole or not at all."""
    private_files.create_folder(target.parent)
    with tempfile.TemporaryDirectory(dir=target.parent) as near:
        _copy(source, Path(near) / target.name)
        (Path(near) / target.name).replace(target)


def _refuse_unless_whole(manifest):
    """Look at what was restored: as many rows as were kept, and an answer from every report."""
    rows = {table: warehouse.query(f"SELECT count() AS n FROM {table}")["data"][0]["n"] for table in manifest["rows"]}
    if rows != manifest["rows"]:
        raise BackupFailed(f"Restored were {rows}, and kept were {manifest['rows']}. Do not use this installation.")
    workspace_id = db.session.scalar(select(workspaces.Workspace.id).limit(1))
    if workspace_id is not None:
        caller = access.Caller(None, workspace_id, None)
        for pipe in pipes.all().values():
            someone = {"visitor_id": ["nobody"]} if "linked" in pipe.places else {}
            metrics.run(pipe, caller, demo.ASKED.get(pipe.name, someone))
        # They were asked to see that they answer, not to be given later in place of an engine that does not.
        answers.clear()
