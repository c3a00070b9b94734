"""Find the directory of each snapshot: join containerd's records with the snapshotter's own database."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final

import msgspec

from auditor.bbolt import bolt, database_file, go_time, varint
from auditor.bbolt.bolt import Bucket, Walk
from auditor.errors import AuditorError
from auditor.model.snapshot_files import Row, SnapshotKey, Usage

_COMMITTED: Final = b"\3"


class Folders(msgspec.Struct, frozen=True):
    """A snapshotter's database, without containerd's names: by key, which containerd's record has in `name`.

    `ids` has the names of the directories of all snapshots, containers' ones included, `writes` their times of creation
    in ns since 1970. `created` has those of the committed snapshots, `usage` their size and inodes as written.
    """

    ids: Mapping[bytes, str] = {}
    writes: tuple[int, ...] = ()
    created: Mapping[bytes, int] = {}
    usage: Mapping[bytes, tuple[bytes, bytes]] = {}

    def row(self, key: bytes) -> Row:
        """Return the row of a committed snapshot."""
        size, inodes = self.usage[key]
        return Row(self.ids[key], Usage(varint.signed(size), varint.signed(inodes)))


def read_folders(root: Path) -> Folders:
    """Return the snapshots of a snapshotter's own database.

    Args:
        root: The snapshotter's root directory, with metadata.db.

    Raises:
        ValueError: The database is damaged, or was written during each attempt to read it.
        OSError: The database cannot be read.

    """
    walk = _open(root / "metadata.db")
    ids, writes, created, usage = {}, [], {}, {}
    for key, held in _buckets(walk.top, b"v1", b"snapshots"):
        fields = held.values()
        at = go_time.nanoseconds(fields.get(b"createdat", b""))
        ids[key] = str(varint.unsigned(fields.get(b"id", b"")))
        writes.append(at)
        if fields.get(b"kind", b"")[:1] == _COMMITTED and fields.get(b"id"):
            created[key], usage[key] = at, (fields.get(b"size", b""), fields.get(b"inodes", b""))
    _refuse_damage(walk)
    return Folders(ids, tuple(writes), created, usage)


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
        row = rows.get(record.values().get(b"name", b""))
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
    folders = read_folders(root)
    return named(metadata, snapshotter, {key: folders.row(key) for key in folders.created})


def unpaired_records(metadata: Path, snapshotter: str, root: Path) -> frozenset[SnapshotKey]:
    """Return containerd's records of snapshots of which the snapshotter's database has no row; as `read_rows`."""
    known = read_folders(root).ids
    walk = _open(metadata)
    found = frozenset(
        key for key, record in _records(walk, snapshotter) if record.values().get(b"name", b"") not in known
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


def _buckets(bucket: Bucket, *path: bytes) -> Iterable[tuple[bytes, Bucket]]:
    """Return the buckets in the bucket that `path` leads to; none where there is no such bucket."""
    for name in path:
        inner = next((held for key, held in bucket.items() if key == name and isinstance(held, Bucket)), None)
        if inner is None:
            return ()
        bucket = inner
    return ((key, held) for key, held in bucket.items() if isinstance(held, Bucket))


def _records(walk: Walk, snapshotter: str) -> Iterator[tuple[SnapshotKey, Bucket]]:
    """Yield containerd's record of each snapshot of a snapshotter, by namespace, snapshotter and name."""
    for namespace, buckets in _buckets(walk.top, b"v1"):
        for name, record in _buckets(buckets, b"snapshots", snapshotter.encode()):
            yield (namespace.decode(), snapshotter, name.decode(errors="replace")), record
