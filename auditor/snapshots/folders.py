"""Find the directory of each snapshot: join containerd's records with the snapshotter's own database."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from auditor.bbolt import bolt, database_file, varint
from auditor.bbolt.bolt import Bucket, Walk
from auditor.errors import AuditorError
from auditor.model.snapshot_files import Row, SnapshotKey, Usage

_COMMITTED: Final = 3


def read_rows(metadata: Path, snapshotter: str, root: Path) -> Mapping[SnapshotKey, Row]:
    """Return the row of each committed snapshot of a snapshotter, by namespace, snapshotter and name.

    A chainID occurs once for each namespace, and again for removed snapshots until the garbage collection: containerd's
    record has the key of the right one in `name`.

    Args:
        metadata: containerd's meta.db.
        snapshotter: Name of the snapshotter.
        root: Its root directory, with metadata.db.

    Raises:
        ValueError: A database is damaged, or was written during each attempt to read it.
        OSError: A database cannot be read.

    """
    own = _open(root / "metadata.db")
    rows = {name: _row(_values(held)) for name, held in _buckets(own.top, b"v1", b"snapshots")}
    store = _open(metadata)
    found = {}
    for namespace, buckets in _buckets(store.top, b"v1"):
        for name, record in _buckets(buckets, b"snapshots", snapshotter.encode()):
            row = rows.get(_values(record).get(b"name", b""))
            if row is not None:
                found[namespace.decode(), snapshotter, name.decode(errors="replace")] = row
    for walk in (own, store):
        if walk.lost:
            raise ValueError(f"a database is damaged: {walk.lost[0].reason}")
    return found


def _open(path: Path) -> Walk:
    try:
        found = bolt.open_newest(database_file.copy(path, while_running=True).data)
    except AuditorError as error:
        raise ValueError(error.message) from None
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


def _values(bucket: Bucket) -> dict[bytes, bytes]:
    return {key: value for key, value in bucket.items() if isinstance(value, bytes)}


def _row(fields: Mapping[bytes, bytes]) -> Row | None:
    kind, number = fields.get(b"kind"), fields.get(b"id")
    if not kind or kind[0] != _COMMITTED or not number:
        return None
    usage = Usage(varint.signed(fields.get(b"size", b"")), varint.signed(fields.get(b"inodes", b"")))
    return Row(str(varint.unsigned(number)), usage)
