"""The warehouse as it is at one moment, for a backup: its parts, linked aside, and what the loader knows then.

For the engine, between two loads. A part is never changed, so a link to it is a copy of it.
"""

import shutil
import sqlite3
from pathlib import Path

from pixel import journal
from pixel.warehouse.embedded import parsed

#: On a server's disk, so no name that somebody may give to what they freeze.
NAME = "pixel_backup"


def take(warehouse, folder, index_path):
    """Set all parts of all tables aside, and a copy of the loader's index: where they are, and how many rows.

    The loader must have loaded what there is. `{"tables": {table: {"rows", "parts": folder}}, "index": file}`.
    """
    leave(warehouse, folder)
    tables = {}
    for table in journal.TABLES:
        warehouse.command(f"ALTER TABLE {table} FREEZE WITH NAME '{NAME}'")
        tables[table] = {"rows": _count(warehouse, table), "parts": str(_aside(warehouse, folder, table))}
    index = Path(folder) / "loader.backup"
    _copy_index(index_path, index)
    return {"tables": tables, "index": str(index)}


def leave(warehouse, folder):
    """Remove what a snapshot has set aside, or left behind when it was broken off."""
    for table in journal.TABLES:
        warehouse.command(f"ALTER TABLE {table} UNFREEZE WITH NAME '{NAME}'")
    shutil.rmtree(Path(folder) / "data/shadow" / NAME, ignore_errors=True)
    (Path(folder) / "loader.backup").unlink(missing_ok=True)


def attach(warehouse, parts):
    """Take in parts, as {table: [name]}, that lie in the tables' folders for detached ones."""
    for table, names in parts.items():
        for name in names:
            warehouse.command(f"ALTER TABLE {table} ATTACH PART '{name}'")


def detached(warehouse, table):
    """The folder of a table's detached parts."""
    return _data(warehouse, table) / "detached"


def _aside(warehouse, folder, table):
    data = Path(folder).resolve() / "data"
    return data / "shadow" / NAME / _data(warehouse, table).resolve().relative_to(data)


def _data(warehouse, table):
    found = warehouse.query(
        "SELECT data_paths[1] AS path FROM system.tables WHERE database = currentDatabase() AND name = {table:String}",
        {"table": table},
    )
    return Path(parsed(found)["data"][0]["path"])


def _count(warehouse, table):
    return parsed(warehouse.query(f"SELECT count() AS n FROM {table}", {}))["data"][0]["n"]


def _copy_index(source, target):
    """The loader's index without its places in journal files, which are loaded and stay behind."""
    target.unlink(missing_ok=True)
    with sqlite3.connect(source) as original, sqlite3.connect(target) as copy:
        original.backup(copy)
        copy.execute("DELETE FROM files")
    original.close()
    copy.close()
