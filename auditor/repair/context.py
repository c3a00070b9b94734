"""State shared by all actions of a run, and the steps that several of them need."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from auditor.errors import AuditorError, NoFile, NoRecord, ObjectError
from auditor.model.blob_source import Offer, Source
from auditor.model.digest import Digest, Measured, measure
from auditor.model.store import Inventory, Labels
from auditor.model.writable_store import LeaseHandle, Staging, WritableStore
from auditor.repair.gc_labels import document_labels, free_label
from auditor.repair.needs import Need, Place
from auditor.repair.own_state import LEASE_LABEL, RUN, Stopped

#: Expiry of a run's lease in seconds; containerd expires its own ingests after the same time.
RUN_SECONDS = 24 * 3600


class StillDamaged(AuditorError):
    """The store has a record of the blob, and its content still does not match the digest."""


class RecordGone(AuditorError):
    """The blob's record disappeared in every namespace during the repair (image removed)."""


class Leases:
    """The leases of a run, one for each namespace, created before the first write; thread-safe."""

    def __init__(self, store: WritableStore) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._held: dict[str, LeaseHandle] = {}

    def get(self, namespace: str) -> LeaseHandle:
        """Return the run's lease in a namespace; the namespace must exist."""
        with self._lock:
            if namespace not in self._held:
                self._held[namespace] = self._store.grant(namespace, seconds=RUN_SECONDS, labels={LEASE_LABEL: RUN})
            return self._held[namespace]

    def release(self) -> None:
        """Delete all leases; one that cannot be deleted expires after RUN_SECONDS."""
        with self._lock:
            for lease in self._held.values():
                with suppress(AuditorError):
                    self._store.release(lease)
            self._held.clear()


class RepairContext:
    """State shared by the actions of a run; thread-safe.

    `records` is a lock for changes of existing records and labels: a replacement over the API must not lose a label
    that another action adds.

    Args:
        store: The store to repair.
        sources: The sources by name.
        leases: The leases of the run.
        staging: Folder for replacement files; None where the content root is not writable.
        inventories: The namespaces as the audit read them.
        discards: The namespaces that discard layers after unpacking.
        remembered: Labels of the records that an interrupted run deleted, by namespace and digest.
        quarantine: Folder of the user for copies of damaged files; None keeps none.
        before_delete: Called before a record is deleted.
        stop: Event that ends the run; no step begins after it is set.
        on_bytes: Progress callback: (digest, bytes received).

    """

    def __init__(
        self,
        store: WritableStore,
        sources: Mapping[str, Source],
        *,
        leases: Leases,
        staging: Staging | None,
        inventories: Mapping[str, Inventory],
        discards: frozenset[str] = frozenset(),
        remembered: Mapping[tuple[str, Digest], Labels] | None = None,
        quarantine: Path | None = None,
        before_delete: Callable[[], None] = lambda: None,
        stop: threading.Event | None = None,
        on_bytes: Callable[[Digest, int], None],
    ) -> None:
        self.store = store
        self.sources = sources
        self.leases = leases
        self.staging = staging
        self.inventories = inventories
        self.discards = discards
        self.remembered = remembered or {}
        self.quarantine = quarantine
        self.before_delete = before_delete
        self.records = threading.RLock()
        self.stop = stop or threading.Event()
        self._on_bytes = on_bytes

    @contextmanager
    def bytes_of(self, need: Need, offer: Offer) -> Iterator[Iterator[bytes]]:
        """Open the verified bytes of an offer.

        Raises:
            SourceError: The source failed.
            Stopped: The run was interrupted.

        """
        with self.sources[offer.source].open(offer) as chunks:
            yield self._counted(need.digest, chunks)

    def _counted(self, digest: Digest, chunks: Iterator[bytes]) -> Generator[bytes]:
        for chunk in chunks:
            if self.stop.is_set():
                raise Stopped("interrupted before its bytes were complete")
            self._on_bytes(digest, len(chunk))
            yield chunk

    def labels(self, need: Need, place: Place, raw: bytes | None) -> dict[str, str]:
        """Return the labels of a new record; `raw` is the content of a document, None for other blobs."""
        labels = {**place.labels, **self.remembered.get((place.namespace, need.digest), {})}
        inventory = self.inventories.get(place.namespace)
        if raw is None or inventory is None:
            return labels
        discards = place.namespace in self.discards
        return {**document_labels(raw, need.media_type, inventory, discards=discards), **labels}

    def read_back(self, namespace: str, need: Need) -> Measured | None:
        """Read a blob and measure it; None where it has no file.

        A blob that was damaged is read past the page cache, which may hold the old bytes.

        Raises:
            NoRecord: The namespace has no record of the blob.
            ReadFailed: The file cannot be read.
            StoreError: The store failed.

        """
        try:
            with self.store.stream(namespace, need.digest, fresh=need.damaged) as chunks:
                return measure(chunks, algorithm=need.digest.algorithm)
        except NoFile:
            return None

    def verify(self, namespace: str, need: Need) -> None:
        """Read a blob back and compare it with its digest and size.

        Raises:
            StillDamaged: The content is absent, unreadable or different.
            RecordGone: The namespace has no record of the blob any more.

        """
        try:
            found = self.read_back(namespace, need)
        except NoRecord:
            raise RecordGone(f"{namespace} has no record of {need.digest.short} any more") from None
        except ObjectError as error:
            raise StillDamaged(f"it was written and cannot be read back: {error.message}", hint=error.hint) from None
        if found is None:
            raise StillDamaged(f"{need.digest.short} has a record in {namespace} and still no file")
        if not found.matches(need.digest, need.size):
            raise StillDamaged(
                f"{need.digest.short} reads back as {found.size} bytes that hash to {found.digest.short}"
            )

    def add_gc_label(self, need: Need, place: Place) -> str:
        """Add the label of the parent that protects the blob from garbage collection, if one is needed.

        Returns:
            A sentence where the parent's record has gone, else an empty text.

        """
        parent = place.gc_parent
        if parent is None:
            return ""
        try:
            with self.records:
                inventory = self.store.inventory(place.namespace, snapshotters=())
                existing = inventory.blobs[parent.digest].labels if parent.digest in inventory.blobs else {}
                if need.digest not in existing.values():
                    label = free_label(parent.label, existing)
                    self.store.label(place.namespace, parent.digest, {label: str(need.digest)})
        except NoRecord:
            return (
                f"nothing protects it in {place.namespace}, since {parent.digest.short} has gone: it will be collected"
            )
        return ""

    def holders(self, need: Need) -> dict[str, Inventory]:
        """Return the inventories of all namespaces that have a record of the blob now."""
        found = {name: self.store.inventory(name, snapshotters=()) for name in self.store.namespaces()}
        return {name: inventory for name, inventory in found.items() if need.digest in inventory.blobs}

    def drop(self, namespace: str, reference: str) -> None:
        """Abort an ingest of this run; a failure is ignored."""
        with suppress(AuditorError):
            self.store.abort(namespace, reference)
