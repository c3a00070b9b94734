"""Runs of `auditor quarantine`: list the entries, delete those that are proven unused."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from auditor import containerd
from auditor.containerd.writable_store import WritableContainerdStore
from auditor.errors import Busy, UsageError
from auditor.formats.quarantine import EntryRow, QuarantineDocument
from auditor.model.store import Store
from auditor.repair import quarantine, quarantine_use
from auditor.repair.own_state import LOCK
from auditor.repair.quarantine import Entry
from auditor.repair.snapshot_session import roots
from auditor.snapshots.examine import usage


def listed(address: str | None, *, timeout: float) -> QuarantineDocument:
    """List all entries.

    Args:
        address: containerd's socket; None for the usual places.
        timeout: Time limit for one response of the daemon, in seconds.

    Raises:
        StoreError: The daemon or the quarantine cannot be read.

    """
    with _connected(address, timeout) as store:
        unreadable = (_unreadable(path) for root in roots(store) for path in quarantine.unreadable(root))
        return QuarantineDocument(action="list", entries=(*(row for _, row in _rows(store)), *unreadable))


def dropped(address: str | None, ids: Sequence[str], *, timeout: float, dry_run: bool) -> QuarantineDocument:
    """Delete entries that are proven unused.

    Args:
        address: containerd's socket; None for the usual places.
        ids: The entries; all where none is named.
        timeout: Time limit for one response of the daemon, in seconds.
        dry_run: Delete nothing.

    Raises:
        Busy: A repair is running.
        StoreError: The daemon or the quarantine cannot be read, or an entry cannot be deleted.
        UsageError: There is no such entry.

    """
    with _connected(address, timeout) as store:
        if dry_run:
            return QuarantineDocument(action="dry-run", entries=tuple(row for _, row in _chosen(store, ids)))
        try:
            with store.exclusive(LOCK):
                rows = tuple(_drop(entry, row) for entry, row in _chosen(store, ids))
        except Busy:
            raise Busy("a repair of this daemon is running", hint="wait for its end") from None
        return QuarantineDocument(action="drop", entries=rows)


def _connected(address: str | None, timeout: float) -> AbstractContextManager[WritableContainerdStore]:
    return containerd.connect_writable(
        containerd.discover(address, environ=os.environ), timeout=timeout, content_root=None
    )


def _chosen(store: Store, ids: Sequence[str]) -> tuple[tuple[Entry, EntryRow], ...]:
    found = _rows(store)
    if unknown := set(ids) - {row.id for _, row in found}:
        raise UsageError(f"there is no entry {min(unknown)}", hint="auditor quarantine list shows the ids")
    return tuple((entry, row) for entry, row in found if not ids or row.id in ids)


def _drop(entry: Entry, row: EntryRow) -> EntryRow:
    if row.reason:
        return row
    quarantine.discard(entry)
    return msgspec.structs.replace(row, dropped=True)


def _rows(store: Store) -> tuple[tuple[Entry, EntryRow], ...]:
    node = quarantine_use.look(Path(store.info().address))
    found = [entry for root in roots(store) for entry in quarantine.entries(root)]
    return tuple((entry, _row(entry, quarantine_use.why_kept(entry, node))) for entry in found)


def _row(entry: Entry, reason: str) -> EntryRow:
    record = entry.record
    return EntryRow(
        id=entry.id,
        namespace=record.namespace,
        snapshotter=record.snapshotter,
        chain_id=record.chain,
        layer=record.layer,
        path=str(entry.files),
        size=_size(entry.files),
        since=record.exchanged_at or record.started_at,
        containers=record.containers,
        reason=reason,
    )


def _unreadable(folder: Path) -> EntryRow:
    return EntryRow(
        id=folder.name,
        namespace="",
        snapshotter="",
        chain_id="",
        layer="",
        path=str(folder / "fs"),
        size=_size(folder),
        since=datetime.fromtimestamp(folder.lstat().st_mtime, UTC),
        reason="its record cannot be read: after a boot of the node, delete its folder by hand",
    )


def _size(files: Path) -> int:
    try:
        return usage(files).size
    except OSError:
        return 0
