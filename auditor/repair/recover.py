"""Recover from a repair that was killed: finish its replacements over the API, remove its leases and ingests."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

import msgspec

from auditor.errors import AuditorError
from auditor.model.digest import Digest
from auditor.model.store import Inventory, Labels
from auditor.model.writable_store import LeaseHandle, WritableStore
from auditor.repair.context import Leases, RepairContext
from auditor.repair.own_state import LEASE_LABEL, RUN, is_own_blob_ingest, is_own_lease
from auditor.repair.replace_by_api import Journal, journals, resume


class Leftovers(msgspec.Struct, frozen=True):
    """What a killed run left.

    Attributes:
        notes: What was found or done, one sentence each.
        pending: The replacements that could not be finished.

    """

    notes: tuple[str, ...] = ()
    pending: tuple[Journal, ...] = ()

    @property
    def remembered(self) -> dict[tuple[str, Digest], Labels]:
        """The labels of the deleted records, by namespace and digest."""
        return {(e.namespace, j.digest): e.labels for j in self.pending for e in j.entries}


def find_leftovers(store: WritableStore) -> Leftovers:
    """List what a killed run left, without a change.

    Raises:
        StoreError: The store cannot be listed.

    """
    found = journals(_inventories(store))
    notes = (
        f"an earlier repair of {j.digest.short} was interrupted; the next run that writes continues it" for j in found
    )
    return Leftovers(tuple(notes), found)


def clear(store: WritableStore) -> Leftovers:
    """Finish what a killed run began, and remove its leases and ingests.

    Call it only while holding the repair lock (`WritableStore.exclusive`): no live run then owns what is removed.

    Raises:
        StoreError: The store cannot be listed or written.

    """
    inventories = _inventories(store)
    notes, pending = [], []
    for journal in journals(inventories):
        try:
            if resume(_context(store, inventories), journal):
                notes.append(f"the interrupted repair of {journal.digest.short} has been finished")
        except AuditorError as error:
            notes.append(f"the interrupted repair of {journal.digest.short} is not finished: {error.message}")
            pending.append(journal)
    kept = {journal.home for journal in pending}
    for inventory in inventories:
        _tidy(store, inventory, writes=inventory.namespace not in kept)
    return Leftovers(tuple(notes), tuple(pending))


def release_finished(store: WritableStore, leftovers: Leftovers) -> None:
    """Release the leases of pending replacements whose records are back.

    Raises:
        StoreError: The store cannot be listed or written.

    """
    if not leftovers.pending:
        return
    inventories = {inventory.namespace: inventory for inventory in _inventories(store)}
    for journal in leftovers.pending:
        if all(journal.digest in inventories[e.namespace].blobs for e in journal.entries if e.namespace in inventories):
            for entry in journal.entries:
                store.release(entry.lease)


def _inventories(store: WritableStore) -> Sequence[Inventory]:
    return [store.inventory(name, snapshotters=()) for name in store.namespaces()]


def _context(store: WritableStore, inventories: Sequence[Inventory]) -> RepairContext:
    return RepairContext(
        store,
        {},
        leases=Leases(store),
        staging=None,
        inventories={inventory.namespace: inventory for inventory in inventories},
        on_bytes=lambda _digest, _count: None,
    )


def _tidy(store: WritableStore, inventory: Inventory, *, writes: bool) -> None:
    for lease in inventory.leases:
        if is_own_lease(lease) and lease.labels[LEASE_LABEL] == RUN:
            store.release(LeaseHandle(inventory.namespace, lease.id))
    for ingest in inventory.ingests:
        if writes and is_own_blob_ingest(ingest.ref):  # not the lock, which this run holds
            with suppress(AuditorError):
                store.abort(inventory.namespace, ingest.ref)
