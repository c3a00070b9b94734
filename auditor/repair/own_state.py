"""What a repair leaves in a store while it works, and the store as it looks without that."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import msgspec

from auditor.errors import AuditorError
from auditor.model.digest import Digest
from auditor.model.store import FileState, Inventory, Lease, Proof, Resource, Store, StoreInfo

#: On each lease of a repair; the value says what it is for.
LEASE_LABEL = "containerd-auditor/repair"
#: The value for the leases of a run; a swap's leases have the digest.
RUN = "run"
#: The name under which one repair keeps others out of a store.
LOCK = "repair"
#: How the references of our writes begin, that of the lock included.
_REF = f"auditor-{LOCK}"


class Stopped(AuditorError):
    """The run was interrupted; what was half done is undone."""


def ref(digest: Digest) -> str:
    """The reference of our write of a blob.

    It holds only a part of the digest: the audit takes a write that names a whole one for a pull at work.
    """
    return f"{_REF}-{digest.algorithm}-{digest.hex[:32]}"


def is_our_write(reference: str) -> bool:
    """Whether a repair began this write, of a blob or to keep others out."""
    return reference.startswith(_REF)


def is_our_blob(reference: str) -> bool:
    """Whether a repair began this write of a blob."""
    return reference.startswith(f"{_REF}-")


def is_ours(lease: Lease) -> bool:
    """Whether a repair made this lease."""
    return LEASE_LABEL in lease.labels


class WithoutOurs:
    """A store less our own leases and writes: an audit would take them for a pull that is under way.

    It remembers what was proven, so that a second look reads only what was written since the first. Once `stop` is set,
    it lists and reads nothing more, and raises Stopped instead.
    """

    def __init__(self, store: Store, *, stop: threading.Event | None = None) -> None:
        self._store = store
        self._stop = stop or threading.Event()
        self._proven: dict[Digest, Proof] = {}

    def remember(self, proofs: Mapping[Digest, Proof]) -> None:
        """Keep what a look proved."""
        self._proven.update(proofs)

    def forget(self, digests: Iterable[Digest]) -> None:
        """Drop what is known of blobs that were written since."""
        for digest in digests:
            self._proven.pop(digest, None)

    def info(self) -> StoreInfo:
        """As the store says."""
        return self._store.info()

    def namespaces(self) -> Sequence[str]:
        """As the store says."""
        return self._store.namespaces()

    def inventory(self, namespace: str, *, snapshotters: Sequence[str] | None = None) -> Inventory:
        """All records but ours."""
        self._go_on()
        found = self._store.inventory(namespace, snapshotters=snapshotters)
        return msgspec.structs.replace(
            found,
            leases=tuple(lease for lease in found.leases if not is_ours(lease)),
            ingests=tuple(ingest for ingest in found.ingests if not is_our_write(ingest.ref)),
        )

    def resources(self, namespace: str, lease: str) -> tuple[Resource, ...]:
        """As the store says."""
        return self._store.resources(namespace, lease)

    def read(self, namespace: str, digest: Digest, *, limit: int) -> bytes:
        """As the store gives it."""
        return self._store.read(namespace, digest, limit=limit)

    @contextmanager
    def stream(self, namespace: str, digest: Digest, *, fresh: bool = False) -> Iterator[Iterator[bytes]]:
        """As the store gives it."""
        with self._store.stream(namespace, digest, fresh=fresh) as pieces:
            yield self._watched(pieces)

    def _watched(self, pieces: Iterator[bytes]) -> Iterator[bytes]:
        for piece in pieces:
            self._go_on()
            yield piece

    def _go_on(self) -> None:
        if self._stop.is_set():
            raise Stopped("interrupted")

    def files(self) -> Mapping[Digest, FileState] | None:
        """As the store says."""
        return self._store.files()

    def probe(self, namespace: str, digest: Digest, size: int) -> FileState:
        """As the store says."""
        return self._store.probe(namespace, digest, size)

    def proofs(self) -> Mapping[Digest, Proof]:
        """What opening the store proved, and what looks at it have since."""
        return {**self._store.proofs(), **self._proven}
