"""Leases, ingests and the lock that a repair creates in a store; a view of the store without them."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import msgspec

from auditor.errors import AuditorError
from auditor.model.digest import Digest
from auditor.model.store import FileState, Inventory, Lease, Resource, Store, StoreInfo, Verification

#: Label on each lease of a repair: RUN, or the digest of a blob that is being replaced over the API.
LEASE_LABEL = "containerd-auditor/repair"
#: Value for the leases of a run.
RUN = "run"
#: Name of the lock that allows one repair at a time.
LOCK = "repair"
#: Prefix of the ingest references of a repair, the lock's included.
_REF = f"auditor-{LOCK}"


class Stopped(AuditorError):
    """The run was interrupted; unfinished steps were undone."""


def ref(digest: Digest) -> str:
    """Return the ingest reference for a blob.

    It contains only a part of the digest: the audit treats an ingest with a whole digest as a pull in progress.
    """
    return f"{_REF}-{digest.algorithm}-{digest.hex[:32]}"


def is_own_ingest(reference: str) -> bool:
    """Whether a repair created this ingest, for a blob or as its lock."""
    return reference.startswith(_REF)


def is_own_blob_ingest(reference: str) -> bool:
    """Whether a repair created this ingest for a blob."""
    return reference.startswith(f"{_REF}-")


def is_own_lease(lease: Lease) -> bool:
    """Whether a repair created this lease."""
    return LEASE_LABEL in lease.labels


class FilteredStore:
    """A store without the leases and ingests of a repair, which an audit would treat as a pull in progress.

    Verified blobs are remembered, so that a second audit reads only what was written since the first.

    Args:
        store: The store.
        stop: Event after which listing and reading raise Stopped.

    """

    def __init__(self, store: Store, *, stop: threading.Event | None = None) -> None:
        self._store = store
        self._stop = stop or threading.Event()
        self._verified: dict[Digest, Verification] = {}

    def remember(self, verifications: Mapping[Digest, Verification]) -> None:
        """Keep the verifications of an audit."""
        self._verified.update(verifications)

    def forget(self, digests: Iterable[Digest]) -> None:
        """Drop the verifications of blobs that were written since."""
        for digest in digests:
            self._verified.pop(digest, None)

    def info(self) -> StoreInfo:
        """Pass through."""
        return self._store.info()

    def namespaces(self) -> Sequence[str]:
        """Pass through."""
        return self._store.namespaces()

    def inventory(self, namespace: str, *, snapshotters: Sequence[str] | None = None) -> Inventory:
        """Return the inventory without the leases and ingests of a repair."""
        self._raise_if_stopped()
        found = self._store.inventory(namespace, snapshotters=snapshotters)
        return msgspec.structs.replace(
            found,
            leases=tuple(lease for lease in found.leases if not is_own_lease(lease)),
            ingests=tuple(ingest for ingest in found.ingests if not is_own_ingest(ingest.ref)),
        )

    def resources(self, namespace: str, lease: str) -> Sequence[Resource]:
        """Pass through."""
        return self._store.resources(namespace, lease)

    def read(self, namespace: str, digest: Digest, *, limit: int) -> bytes:
        """Pass through."""
        return self._store.read(namespace, digest, limit=limit)

    @contextmanager
    def stream(self, namespace: str, digest: Digest, *, fresh: bool = False) -> Iterator[Iterator[bytes]]:
        """Pass through."""
        with self._store.stream(namespace, digest, fresh=fresh) as pieces:
            yield self._stoppable(pieces)

    def _stoppable(self, pieces: Iterator[bytes]) -> Iterator[bytes]:
        for piece in pieces:
            self._raise_if_stopped()
            yield piece

    def _raise_if_stopped(self) -> None:
        if self._stop.is_set():
            raise Stopped("interrupted")

    def files(self) -> Mapping[Digest, FileState] | None:
        """Pass through."""
        return self._store.files()

    def probe(self, namespace: str, digest: Digest, size: int) -> FileState:
        """Pass through."""
        return self._store.probe(namespace, digest, size)

    def verifications(self) -> Mapping[Digest, Verification]:
        """Return the verifications of the store, and those of the audits since."""
        return {**self._store.verifications(), **self._verified}
