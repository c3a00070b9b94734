"""Find the directory of each snapshot: join containerd's records with the snapshotter's own database."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import msgspec

from auditor.bbolt import bolt, database_file, go_time, varint
from auditor.bbolt.bolt import Bucket, Walk
from auditor.errors import AuditorError
from auditor.model.snapshot_files import Row, SnapshotKey, Usage

_COMMITTED: Final = 3


class Folders(msgspec.Struct, frozen=True):
    """A snapshotter's database, without containerd's names.

    `rows` has the committed snapshots by the key that containerd's record has in `name`. `created` has the time of
    creation of these in ns since 1970, `writes` that of all snapshots, containers' ones included. `keys` are those of
    all snapshots, `ids` the names of their directories.
    """

    rows: Mapping[bytes, Row]
    created: Mapping[bytes, int] = {}
    writes: tuple[int, ...] = ()
    keys: frozenset[bytes] = frozenset()
    ids: frozenset[str] = frozenset()


def read_folders(root: Path) -> Folders:
    """Return the snapshots of a snapshotter's own database.

    Args:
        root: The snapshotter's root directory, with metadata.db.

    Raises:
        ValueError: The database is damaged, or was written during each attempt to read it.
        OSError: The database cannot be read.

    """
    walk = _open(root / "metadata.db")
    rows, created, writes, keys, ids = {}, {}, [], [], set()
    for key, held in _buckets(walk.top, b"v1", b"snapshots"):
        fields = _values(held)
        at = go_time.nanoseconds(fields.get(b"createdat", b""))
        writes.append(at)
        keys.append(key)
        ids.add(str(varint.unsigned(fields.get(b"id", b""))))
        if (row := _row(fields)) is not None:
            rows[key], created[key] = row, at
    _refuse_damage(walk)
    return Folders(rows, created, tuple(writes), frozenset(keys), frozenset(ids))


def named(metadata: Path, snapshotter: str, rows: Mapping[bytes, Row]) -> Mapping[SnapshotKey, Row]:
    """Return rows by namespace, snapshotter and name.

    A chainID occurs once for each namespace, and again for removed snapshots until the garbage collection: containerd's
    record has the key of the right one in `name`.

    Args:
        metadata: containerd's meta.db.
        snapshotter: Name of the snapshotter.
        rows: Rows of its own database, by key.

    Raises:
        ValueError: The database is damaged, or was written during each attempt to read it.
        OSError: The database cannot be read.

    """
    walk = _open(metadata)
    found = {}
    for key, record in _records(walk, snapshotter):
        row = rows.get(_values(record).get(b"name", b""))
        if row is not None:
            found[key] = row
    _refuse_damage(walk)
    return found


def read_rows(metadata: Path, snapshotter: str, root: Path) -> Mapping[SnapshotKey, Row]:
    """Return the row of each committed snapshot of a snapshotter, by namespace, snapshotter and name.

    Args:
        metadata: containerd's meta.db.
        snapshotter: Name of the snapshotter.
        root: Its root directory, with metadata.db.

    Raises:
        ValueError: A database is damaged, or was written during each attempt to read it.
        OSError: A database cannot be read.

    """
    return named(metadata, snapshotter, read_folders(root).rows)


def unpaired_records(metadata: Path, snapshotter: str, root: Path) -> frozenset[SnapshotKey]:
    """Return containerd's records of snapshots of which the snapshotter's database has no row; as `read_rows`."""
    known = read_folders(root).keys
    walk = _open(metadata)
    found = frozenset(
        key for key, record in _records(walk, snapshotter) if _values(record).get(b"name", b"") not in known
    )
    _refuse_damage(walk)
    return found


def lost_children(metadata: Path, snapshotter: str) -> Mapping[SnapshotKey, str]:
    """Return the snapshots that list a child of which there is no record, each with the name of one such child.

    containerd's garbage collection removes a snapshot's record and leaves its name in the parent's list of children
    (core/metadata/gc.go `remove`); the parent is then refused as one "with child" when it is to be removed
    (core/metadata/snapshot.go `Remove`).

    Args:
        metadata: containerd's meta.db.
        snapshotter: Name of the snapshotter.

    Raises:
        ValueError: The database is damaged, or was written during each attempt to read it.
        OSError: The database cannot be read.

    """
    walk = _open(metadata)
    found = {}
    for namespace, buckets in _buckets(walk.top, b"v1"):
        listed = {name: _children(record) for name, record in _buckets(buckets, b"snapshots", snapshotter.encode())}
        for name, children in listed.items():
            lost = sorted(children - listed.keys())
            if lost:
                key = namespace.decode(), snapshotter, name.decode(errors="replace")
                found[key] = lost[0].decode(errors="replace")
    _refuse_damage(walk)
    return found


def _children(record: Bucket) -> frozenset[bytes]:
    listed = next((held for key, held in record.items() if key == b"children" and isinstance(held, Bucket)), None)
    return frozenset(key for key, _ in listed.items()) if listed is not None else frozenset()


def _refuse_damage(walk: Walk) -> None:
    if walk.lost:
        raise ValueError(f"a database is damaged: {walk.lost[0].reason}")


def _open(path: Path) -> Walk:
    try:
        copied = database_file.copy(path, while_running=True)
    except AuditorError as error:
        if isinstance(error.__cause__, OSError):
            raise error.__cause__ from None
        raise ValueError(error.message) from None
    if copied.holes:
        raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))
    found = bolt.open_newest(copied.data)
    if found is None:
        raise ValueError(f"{path.name} has no valid meta page")
    return found[1]


def _buckets(bucket: Bucket, *path: bytes) -> Iterator[tuple[bytes, Bucket]]:
    """Yield the buckets in the bucket that `path` leads to; none where there is no such bucket."""
    for key, held in bucket.items():
        if isinstance(held, Bucket) and (not path or key == path[0]):
            if path:
                yield from _buckets(held, *path[1:])
                return
            yield key, held


def _records(walk: Walk, snapshotter: str) -> Iterator[tuple[SnapshotKey, Bucket]]:
    """Yield containerd's record of each snapshot of a snapshotter, by namespace, snapshotter and name."""
    for namespace, buckets in _buckets(walk.top, b"v1"):
        for name, record in _buckets(buckets, b"snapshots", snapshotter.encode()):
            yield (namespace.decode(), snapshotter, name.decode(errors="replace")), record


def _values(bucket: Bucket) -> dict[bytes, bytes]:
    return {key: value for key, value in bucket.items() if isinstance(value, bytes)}


def _row(fields: Mapping[bytes, bytes]) -> Row | None:
    kind, number = fields.get(b"kind"), fields.get(b"id")
    if not kind or kind[0] != _COMMITTED or not number:
        return None
    usage = Usage(varint.signed(fields.get(b"size", b"")), varint.signed(fields.get(b"inodes", b"")))
    return Row(str(varint.unsigned(number)), usage)
