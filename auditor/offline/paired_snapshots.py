"""The snapshots of a snapshotter: a record in meta.db and one in the snapshotter's metadata.db make a snapshot."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec

from auditor.model.snapshot_files import Row
from auditor.model.snapshot_files import SnapshotKey as RowKey
from auditor.model.store import Snapshot
from auditor.offline.schema import Backend, Records, SnapshotKey


class PairedSnapshots(msgspec.Struct, frozen=True):
    """The snapshots by namespace and name, the rows of the committed ones, and the names of records without partner."""

    held: dict[str, dict[str, Snapshot]] = {}
    rows: dict[RowKey, Row] = {}
    lone: list[str] = []

    def recorded(self, namespace: str) -> bool:
        """Whether meta.db has snapshots in a namespace."""
        return namespace in self.held


def pair(snapshotter: str, records: Iterable[Records], known: dict[str, Backend]) -> PairedSnapshots:
    """Pair the records of a snapshotter; they are taken out of `records` and `known`, so that memory holds them once.

    Args:
        snapshotter: Its name.
        records: The records of meta.db.
        known: The records of the snapshotter's metadata.db by backend key.

    """
    found = PairedSnapshots()
    for each in records:
        keys = each.snapshots.pop(snapshotter, [])
        if keys:
            found.held[each.namespace] = dict(_paired(each.namespace, snapshotter, keys, known, found))
    return found


def _paired(
    namespace: str, snapshotter: str, keys: list[SnapshotKey], known: dict[str, Backend], found: PairedSnapshots
) -> Iterator[tuple[str, Snapshot]]:
    keys.reverse()
    while keys:
        key = keys.pop()
        backend = known.pop(key.backend, None)
        if backend is None:
            found.lone.append(key.name)
            continue
        if backend.kind == "committed":
            found.rows[namespace, snapshotter, key.name] = backend.row()
        yield key.name, Snapshot(namespace, snapshotter, key.name, key.parent, backend.kind, key.labels)
