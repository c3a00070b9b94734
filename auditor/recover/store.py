"""The images found on a disk as a `Store`: the files are the content, and every file counts as recorded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from auditor.containerd.content_root import Absent
from auditor.errors import NoFile
from auditor.model.digest import Digest
from auditor.model.store import Blob, FileKind, FileState, Inventory, Resource, SourceKind, StoreInfo, Verification
from auditor.offline.store import OfflineStore
from auditor.recover.match import RecoveredImage


class RecoveredStore:
    """Implements `auditor.model.store.Store` and `FileBacked`.

    Args:
        disk: The disk of the stopped daemon.
        images: The images found on it.

    """

    def __init__(self, disk: OfflineStore, images: Sequence[RecoveredImage]) -> None:
        self._content = disk.content
        self._states = disk.files()
        self._images: dict[str, list[RecoveredImage]] = {}
        for image in images:
            self._images.setdefault(image.namespace, []).append(image)
        self._info = StoreInfo(
            kind=SourceKind.OFFLINE,
            address=str(disk.root),
            id=disk.info().id,
            platform=disk.info().platform,
            content_root=disk.content.path,
        )

    def info(self) -> StoreInfo:
        """Return the store's properties."""
        return self._info

    def namespaces(self) -> Sequence[str]:
        """Return the namespaces of the images, sorted."""
        return tuple(sorted(self._images))

    def inventory(self, namespace: str, *, snapshotters: Sequence[str] | None = None) -> Inventory:
        """Return the images of a namespace, and all files as its blobs."""
        del snapshotters
        blobs = {
            digest: Blob(namespace, digest, state.size or 0)
            for digest, state in self._states.items()
            if state.kind is FileKind.REGULAR
        }
        records = tuple(image.record for image in self._images.get(namespace, ()))
        return Inventory(namespace=namespace, images=records, blobs=blobs)

    def resources(self, namespace: str, lease: str) -> tuple[Resource, ...]:
        """Return nothing: there are no leases."""
        del namespace, lease
        return ()

    def read(self, namespace: str, digest: Digest, *, limit: int) -> bytes:
        """Return a small blob, unverified."""
        del namespace
        try:
            return self._content.read(digest, limit=limit)
        except Absent:
            raise _no_file(digest) from None

    @contextmanager
    def stream(self, namespace: str, digest: Digest, *, fresh: bool = False) -> Iterator[Iterator[bytes]]:
        """Open a blob as chunks, unverified; `fresh` bypasses the page cache."""
        del namespace
        try:
            with self._content.opened(digest) as descriptor:
                yield self._content.pieces(descriptor, digest, fresh=fresh)
        except Absent:
            raise _no_file(digest) from None

    def open_file(self, namespace: str, digest: Digest) -> int | None:
        """Open the blob's file; the caller closes the descriptor."""
        del namespace
        try:
            return self._content.open(digest)
        except Absent:
            raise _no_file(digest) from None

    def files(self) -> Mapping[Digest, FileState]:
        """Return kind and size of every blob's file."""
        return self._states

    def probe(self, namespace: str, digest: Digest, size: int) -> FileState:
        """Return the state of one blob's file."""
        del namespace, size
        return self._states.get(digest, FileState(FileKind.MISSING))

    def verifications(self) -> Mapping[Digest, Verification]:
        """Return nothing: no content was verified."""
        return {}


def _no_file(digest: Digest) -> NoFile:
    return NoFile(f"cannot read {digest}: there is no file")
