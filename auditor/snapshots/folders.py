"""Find the directory of each snapshot: join containerd's records with the snapshotter's own database."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec

from auditor.model.snapshot_files import SnapshotKey, Usage
from auditor.snapshots.bolt import open_database

_COMMITTED: Final = 3


class Row(msgspec.Struct, frozen=True):
    """A committed snapshot in the snapshotter's database: the directory's id, and the usage at commit time."""

    id: str
    usage: Usage


def read_rows(metadata: Path, snapshotter: str, root: Path) -> Mapping[SnapshotKey, Row]:
    """Return the row of each committed snapshot of a snapshotter, by namespace, snapshotter and name.

    A chainID occurs once for each namespace, and again for removed snapshots until the garbage collection: containerd's
    record has the key of the right one in `name`.

    Args:
        metadata: containerd's meta.db.
        snapshotter: Name of the snapshotter.
        root: Its root directory, with metadata.db.

    Raises:
        ValueError: A database is damaged.
        OSError: A database cannot be read.

    """
    own = dict(open_database(root / "metadata.db").buckets(b"v1", b"snapshots"))
    store = open_database(metadata)
    found = {}
    for namespace, _ in store.buckets(b"v1"):
        for name, fields in store.buckets(b"v1", namespace, b"snapshots", snapshotter.encode()):
            row = _row(own.get(fields.get(b"name", b""), {}))
            if row is not None:
                found[namespace.decode(), snapshotter, name.decode(errors="replace")] = row
    return found


def _row(fields: Mapping[bytes, bytes]) -> Row | None:
    kind, number = fields.get(b"kind"), fields.get(b"id")
    if not kind or kind[0] != _COMMITTED or not number:
        return None
    usage = Usage(_signed(fields.get(b"size") or b"\0"), _signed(fields.get(b"inodes") or b"\0"))
    return Row(str(_unsigned(number)), usage)


def _unsigned(data: bytes) -> int:
    """Decode a number of Go's `binary.PutUvarint`."""
    value = 0
    for index, byte in enumerate(data):
        value |= (byte & 0x7F) << 7 * index
        if byte < 0x80:  # noqa: PLR2004 - the last byte has no high bit
            break
    return value


def _signed(data: bytes) -> int:
    """Decode a number of Go's `binary.PutVarint`."""
    value = _unsigned(data)
    return value >> 1 ^ -(value & 1)
