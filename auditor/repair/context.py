"""The workbench of a repair: what all actions of a run share, and the few things that each of them does."""

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

#: Seconds after which a lease of a run that was killed goes by itself: containerd gives its own uploads as long.
RUN_SECONDS = 24 * 3600


class NotRight(AuditorError):
    """The store has the blob, and its bytes are still not what the digest names."""


class Gone(AuditorError):
    """Nobody has a record of the blob any more: its image was removed while we worked."""


class Leases:
    """A lease for each namespace of a run, made when the first write needs it; safe for several threads."""

    def __init__(self, store: WritableStore) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._held: dict[str, LeaseHandle] = {}

    def get(self, namespace: str) -> LeaseHandle:
        """The run's lease in a namespace that exists."""
        with self._lock:
            if namespace not in self._held:
                self._held[namespace] = self._store.grant(namespace, seconds=RUN_SECONDS, labels={LEASE_LABEL: RUN})
            return self._held[namespace]

    def release(self) -> None:
        """Delete them all; one that cannot be deleted, since the daemon is gone, expires by itself."""
        with self._lock:
            for lease in self._held.values():
                with suppress(AuditorError):
                    self._store.release(lease)
            self._held.clear()


class Workbench:
    """What the actions of a run share.

    `records` is held while labels or records that exist are changed: a swap must not lose a label that another action
    adds meanwhile. `inventories` are the namespaces as the audit saw them, `discards` those that discard layers.
    `remembered` are labels of records that an interrupted run took away. `keep` is a folder for bad copies.
    `guard` is called before a record is deleted; once `stop` is set, nothing new is begun.
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
        keep: Path | None = None,
        guard: Callable[[], None] = lambda: None,
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
        self.keep = keep
        self.guard = guard
        self.records = threading.RLock()
        self.stop = stop or threading.Event()
        self._on_bytes = on_bytes

    @contextmanager
    def bytes_of(self, need: Need, offer: Offer) -> Iterator[Iterator[bytes]]:
        """The proven bytes of an offer. Raises SourceError, and Stopped when the run is interrupted."""
        with self.sources[offer.source].open(offer) as chunks:
            yield self._watched(need.digest, chunks)

    def _watched(self, digest: Digest, chunks: Iterator[bytes]) -> Generator[bytes]:
        for chunk in chunks:
            if self.stop.is_set():
                raise Stopped("interrupted before its bytes were complete")
            self._on_bytes(digest, len(chunk))
            yield chunk

    def labels(self, need: Need, place: Place, raw: bytes | None) -> dict[str, str]:
        """The labels of a new record; `raw` is the content of a document."""
        labels = {**place.labels, **self.remembered.get((place.namespace, need.digest), {})}
        inventory = self.inventories.get(place.namespace)
        if raw is None or inventory is None:
            return labels
        discards = place.namespace in self.discards
        return {**document_labels(raw, need.media_type, inventory, discards=discards), **labels}

    def look(self, namespace: str, need: Need) -> Measured | None:
        """Read a blob back; None where it has no file. Raises NoRecord, ReadFailed, StoreError.

        What was damaged is read from the medium, past the kernel's copy: it was wrong there before.
        """
        try:
            with self.store.stream(namespace, need.digest, fresh=need.damaged) as chunks:
                return measure(chunks, algorithm=need.digest.algorithm)
        except NoFile:
            return None

    def prove(self, namespace: str, need: Need) -> None:
        """Raise NotRight where what the store gives is not the blob; Gone where the record went."""
        try:
            found = self.look(namespace, need)
        except NoRecord:
            raise Gone(f"{namespace} has no record of {need.digest.short} any more") from None
        except ObjectError as error:
            raise NotRight(f"it was written and cannot be read back: {error.message}", hint=error.hint) from None
        if found is None:
            raise NotRight(f"{need.digest.short} has a record in {namespace} and still no file")
        if not found.matches(need.digest, need.size):
            raise NotRight(f"{need.digest.short} reads back as {found.size} bytes that hash to {found.digest.short}")

    def bind(self, need: Need, place: Place) -> str:
        """Add the label that keeps the blob, where a parent has to; gives a sentence where the parent has gone."""
        tie = place.tie
        if tie is None:
            return ""
        try:
            with self.records:
                inventory = self.store.inventory(place.namespace, snapshotters=())
                taken = inventory.blobs[tie.digest].labels if tie.digest in inventory.blobs else {}
                if need.digest not in taken.values():
                    self.store.label(place.namespace, tie.digest, {free_label(tie.label, taken): str(need.digest)})
        except NoRecord:
            return f"nothing protects it in {place.namespace}, since {tie.digest.short} has gone: it will be collected"
        return ""

    def holders(self, need: Need) -> dict[str, Inventory]:
        """The namespaces that have a record now, of all that there are."""
        found = {name: self.store.inventory(name, snapshotters=()) for name in self.store.namespaces()}
        return {name: inventory for name, inventory in found.items() if need.digest in inventory.blobs}

    def drop(self, namespace: str, reference: str) -> None:
        """Drop an unfinished write of ours, if that can be done."""
        with suppress(AuditorError):
            self.store.abort(namespace, reference)
