"""What a killed run left in the store: finished where that is possible, taken away where it is not needed any more."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

import msgspec

from auditor.errors import AuditorError
from auditor.model.digest import Digest
from auditor.model.store import Inventory, Labels
from auditor.model.writable_store import LeaseHandle, WritableStore
from auditor.repair.context import Leases, Workbench
from auditor.repair.own_state import LEASE_LABEL, RUN, is_our_blob, is_ours
from auditor.repair.replace_by_api import Journal, journals, resume


class Leftovers(msgspec.Struct, frozen=True):
    """What was done about it, as sentences, and the swaps that could not be finished."""

    notes: tuple[str, ...] = ()
    pending: tuple[Journal, ...] = ()

    @property
    def remembered(self) -> dict[tuple[str, Digest], Labels]:
        """The labels of the records that are away."""
        return {(e.namespace, j.digest): e.labels for j in self.pending for e in j.entries}


def look(store: WritableStore) -> Leftovers:
    """Say what is there; nothing is changed."""
    found = journals(_inventories(store))
    notes = (
        f"an earlier repair of {j.digest.short} was cut off; the next run that writes goes on with it" for j in found
    )
    return Leftovers(tuple(notes), found)


def clear(store: WritableStore) -> Leftovers:
    """Finish what was begun, and take the rest away; only inside `exclusive`, where no live run can own it."""
    inventories = _inventories(store)
    notes, pending = [], []
    for journal in journals(inventories):
        try:
            if resume(_bench(store, inventories), journal):
                notes.append(f"the repair of {journal.digest.short} that was cut off has been finished")
        except AuditorError as error:
            notes.append(f"the repair of {journal.digest.short} that was cut off is not finished: {error.message}")
            pending.append(journal)
    kept = {journal.home for journal in pending}
    for inventory in inventories:
        _tidy(store, inventory, writes=inventory.namespace not in kept)
    return Leftovers(tuple(notes), tuple(pending))


def settle(store: WritableStore, left: Leftovers) -> None:
    """Release what remembers a record that is back. Raises StoreError."""
    if not left.pending:
        return
    inventories = {inventory.namespace: inventory for inventory in _inventories(store)}
    for journal in left.pending:
        if all(journal.digest in inventories[e.namespace].blobs for e in journal.entries if e.namespace in inventories):
            for entry in journal.entries:
                store.release(entry.lease)


def _inventories(store: WritableStore) -> Sequence[Inventory]:
    return [store.inventory(name, snapshotters=()) for name in store.namespaces()]


def _bench(store: WritableStore, inventories: Sequence[Inventory]) -> Workbench:
    return Workbench(
        store,
        {},
        leases=Leases(store),
        staging=None,
        inventories={inventory.namespace: inventory for inventory in inventories},
        on_bytes=lambda _digest, _count: None,
    )


def _tidy(store: WritableStore, inventory: Inventory, *, writes: bool) -> None:
    for lease in inventory.leases:
        if is_ours(lease) and lease.labels[LEASE_LABEL] == RUN:
            store.release(LeaseHandle(inventory.namespace, lease.id))
    for ingest in inventory.ingests:
        if writes and is_our_blob(ingest.ref):  # not the lock: it is ours, and open
            with suppress(AuditorError):
                store.abort(inventory.namespace, ingest.ref)
