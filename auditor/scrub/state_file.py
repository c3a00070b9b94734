"""The database file of a state: whether this program made it, how it is created, how a damaged one is kept."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import stat
from pathlib import Path
from typing import Final

from auditor.atomic_write import write_whole
from auditor.errors import StateError

VERSION: Final = 1
COLUMNS: Final = ["store", "digest", "tried_at", "read_at", "bad_since", "proof"]
SNAPSHOT_COLUMNS: Final = [
    "store",
    "namespace",
    "snapshotter",
    "name",
    "directory",
    "tried_at",
    "read_at",
    "bad_since",
    "found",
]
#: Marks the file as a state of this program; bytes 68 to 71 of the header (sqlite.org/fileformat.html, 1.3).
APPLICATION_ID: Final = int.from_bytes(b"ctda")
_MAGIC: Final = b"SQLite format 3\0"
_HEADER: Final = 100
_SCHEMA: Final = """
CREATE TABLE proofs (
    store TEXT NOT NULL,
    digest TEXT NOT NULL,
    tried_at REAL,
    read_at REAL,
    bad_since REAL,
    proof BLOB,
    PRIMARY KEY (store, digest)
) WITHOUT ROWID
"""
#: Added to files that lack it. Programs without it ignore the table, so the version of the file stays.
_SNAPSHOTS: Final = """
CREATE TABLE snapshots (
    store TEXT NOT NULL,
    namespace TEXT NOT NULL,
    snapshotter TEXT NOT NULL,
    name TEXT NOT NULL,
    directory TEXT NOT NULL,
    tried_at REAL,
    read_at REAL,
    bad_since REAL,
    found BLOB,
    PRIMARY KEY (store, namespace, snapshotter, name)
) WITHOUT ROWID
"""
#: Files that SQLite keeps beside a database; they hold committed rows.
_COMPANIONS: Final = ("-wal", "-shm", "-journal")


def require_own(path: Path) -> bool:
    """Check that a file is a state of this program, without writing to it or opening it for writing.

    Args:
        path: the file; links are not followed.

    Returns:
        Whether the file is absent or empty, so that it is to be created.

    Raises:
        StateError: it is not a regular file, or another program made it.
        OSError: it cannot be read.

    """
    if not path.name:
        raise _refused(path, "is a folder")
    sizes = {place: _size(place) for place in _with_companions(path)}
    if sizes[path]:
        if not _is_own(path):
            raise _refused(path, "was not made by auditor and is left unchanged")
        return False
    orphans = [place for place, size in sizes.items() if size]
    if orphans:
        raise _refused(orphans[0], f"belongs to a database that is missing or empty ({path})")
    return True


def create(path: Path) -> None:
    """Create an empty state atomically. Raises OutputError."""
    with contextlib.closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(_SCHEMA)
        connection.execute(_SNAPSHOTS)
        connection.execute(f"PRAGMA user_version = {VERSION}")
        write_whole(path, connection.serialize())


def add_snapshots(connection: sqlite3.Connection) -> None:
    """Add the table of snapshots to a file that lacks it, and the mark of this program, in one transaction.

    Raises:
        sqlite3.DatabaseError: the table has other columns.

    """
    columns = [row[1] for row in connection.execute("PRAGMA table_info(snapshots)")]
    if not columns:
        with connection:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute(_SNAPSHOTS)
    elif columns != SNAPSHOT_COLUMNS:
        raise sqlite3.DatabaseError("its table of snapshots has other columns")


def quarantine(path: Path) -> Path:
    """Rename a damaged state and its companions to a free name `<path>.corrupt-N`; return it."""
    number = 1
    while any(map(os.path.lexists, _with_companions(place := path.with_name(f"{path.name}.corrupt-{number}")))):
        number += 1
    for old, new in zip(_with_companions(path), _with_companions(place), strict=True):
        if os.path.lexists(old):
            old.rename(new)
    return place


def _with_companions(path: Path) -> list[Path]:
    return [path, *(path.with_name(path.name + ending) for ending in _COMPANIONS)]


def _size(path: Path) -> int:
    """The size in bytes; 0 for an absent file."""
    try:
        status = path.lstat()
    except FileNotFoundError:
        return 0
    if not stat.S_ISREG(status.st_mode):
        raise _refused(path, "is not a regular file")
    return status.st_size


def _is_own(path: Path) -> bool:
    with path.open("rb") as file:
        header = file.read(_HEADER)
    if not header.startswith(_MAGIC):
        return False
    return int.from_bytes(header[68:72]) == APPLICATION_ID or _has_own_table(path)


def _has_own_table(path: Path) -> bool:
    """Whether it is a state of version 0.1.0, which set no application id.

    `immutable` reads the file without locks, without its companions, and without creating them.
    """
    try:
        with contextlib.closing(sqlite3.connect(f"{path.absolute().as_uri()}?immutable=1", uri=True)) as connection:
            tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
            columns = [row[1] for row in connection.execute("PRAGMA table_info(proofs)")]
    except sqlite3.Error:
        return False
    return tables == ["proofs"] and columns == COLUMNS


def _refused(path: Path, why: str) -> StateError:
    return StateError(f"the state file {path} cannot be used: it {why}", hint="--state FILE names another place")
