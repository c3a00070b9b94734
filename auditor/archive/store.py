"""An opened archive or layout folder as a Store; blobs are read again by seeking, or by decompressing up to them."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from functools import cached_property
from pathlib import Path

import msgspec

from auditor.archive import compression, image_layers, layout_folder, sparse
from auditor.archive.catalog import NAMESPACE, Catalog
from auditor.archive.docker_manifest import VIRTUAL
from auditor.archive.problems import ArchiveProblem, StopReading
from auditor.archive.seen import Seen
from auditor.archive.tar_reader import Cursor
from auditor.archive.unreferenced import Unreferenced
from auditor.concurrency import CHUNK, read_ahead
from auditor.errors import DocumentTooLarge, NoRecord, ReadFailed
from auditor.model.digest import Digest
from auditor.model.image_graph import Documents, group
from auditor.model.store import (
    Blob,
    FileKind,
    FileState,
    Inventory,
    LayerVerification,
    LayerVerificationKind,
    Resource,
    SourceKind,
    StoreInfo,
    Verification,
    VerificationKind,
)


def read_member(address: str, seen: Seen, *, packing: str, what: str) -> Generator[bytes]:
    """Read one file of an archive again.

    Args:
        address: path of the archive.
        seen: the file.
        packing: compression of the archive, as by `compression.compression`.
        what: the file in messages.

    Raises:
        ReadFailed: the bytes cannot be read, or are more or fewer than before.

    """
    source = _of_file(seen.path) if seen.path is not None else _of_tar(Path(address), seen, packing)
    left = seen.size
    try:
        for piece in source:
            left -= len(piece)
            yield piece
    except (OSError, StopReading) as error:
        raise ReadFailed(f"{what} cannot be read from {address}: {error}") from None
    if left:
        raise ReadFailed(f"{what} in {address} has another size than when it was opened")


def _of_file(path: Path) -> Iterator[bytes]:
    for piece in layout_folder.read(path):
        yield bytes(piece)


def _of_tar(path: Path, seen: Seen, packing: str) -> Iterator[bytes]:
    stored = seen.size if seen.extents is None else sum(length for _, length in seen.extents)
    read = _at if packing == "none" else _unpacked
    pieces = read(path, seen.offset or 0, stored)
    if seen.extents is None:
        return pieces
    return map(bytes, sparse.expand(map(memoryview, pieces), seen.extents, seen.size))


def _at(path: Path, offset: int, size: int) -> Iterator[bytes]:
    with path.open("rb", buffering=0) as file:
        while size and (piece := os.pread(file.fileno(), min(size, CHUNK), offset)):
            offset += len(piece)
            size -= len(piece)
            yield piece


def _unpacked(path: Path, offset: int, size: int) -> Iterator[bytes]:
    with path.open("rb", buffering=0) as file, read_ahead(iter(lambda: file.read(CHUNK), b"")) as early:
        cursor = Cursor(compression.decompress(early)[1])
        for _ in cursor.pieces(offset, "the part before the blob"):
            pass
        for piece in cursor.pieces(size, "the blob"):
            yield bytes(piece)


class Opened(msgspec.Struct, frozen=True):
    """How an archive was opened.

    `address` is its path; `packing` is that of `compression.compression`, or `folder`; `seekable`: it can be read
    again; `complete`: it was read to its end; `read` counts the unpacked bytes of all files; `unreferenced` are blobs
    that the store does not list.
    """

    address: str
    packing: str
    seekable: bool
    complete: bool
    read: int
    unreferenced: Unreferenced = Unreferenced()


class ArchiveStore:
    """An archive or an OCI layout folder as a Store; opening it has verified every blob.

    `problems` are the faults of the archive itself; `complete`: it was read to its end; `layout` is `oci`, `docker`, or
    `dir`, or
    empty where it is none of them; `packing` is that of `compression.compression`, or `folder`; `bytes_read` counts the
    unpacked bytes of all files.
    """

    def __init__(self, catalog: Catalog, *, opened: Opened) -> None:
        self.problems: tuple[ArchiveProblem, ...] = tuple(catalog.problems)
        self.layout = catalog.layout
        self.complete = opened.complete
        self.packing = opened.packing
        self.bytes_read = opened.read
        self.address = opened.address
        self.seekable = opened.seekable
        self._images = catalog.images
        self._held = catalog.held
        self._made = catalog.made
        self.unreferenced = opened.unreferenced
        self._parsed = catalog.documents

    def info(self) -> StoreInfo:
        """Describe the archive; `version` is its layout and packing."""
        kind = " ".join(part for part in (self.layout, "" if self.packing == "none" else self.packing) if part)
        return StoreInfo(kind=SourceKind.ARCHIVE, address=self.address, version=kind)

    def namespaces(self) -> Sequence[str]:
        """Return the only namespace, the empty name."""
        return (NAMESPACE,)

    def inventory(self, namespace: str, *, snapshotters: Sequence[str] | None = None) -> Inventory:
        """Return images and blobs; an archive has no other records."""
        del snapshotters
        return self._inventory if namespace == NAMESPACE else Inventory(namespace=namespace)

    @cached_property
    def _inventory(self) -> Inventory:
        return Inventory(namespace=NAMESPACE, images=self._images, blobs=dict(self._blobs()))

    def _blobs(self) -> Iterator[tuple[Digest, Blob]]:
        for digest, seen in self._held.items():
            yield digest, Blob(namespace=NAMESPACE, digest=digest, size=seen.size)
        for digest, raw in self._made.items():
            yield digest, Blob(namespace=NAMESPACE, digest=digest, size=len(raw), labels={VIRTUAL: "manifest.json"})

    def resources(self, namespace: str, lease: str) -> tuple[Resource, ...]:
        """Return nothing: an archive has no leases."""
        del namespace, lease
        return ()

    def read(self, namespace: str, digest: Digest, *, limit: int) -> bytes:
        """Read a small blob; as Store.read.

        Raises:
            DocumentTooLarge: the blob is larger than `limit` bytes.
            NoRecord: the archive has no such blob.
            ReadFailed: the blob cannot be read again.

        """
        size = len(self._made[digest]) if digest in self._made else self._find(digest).size
        if size > limit:
            raise DocumentTooLarge(f"{digest.short} has {size} bytes; more than {limit} are not read")
        with self.stream(namespace, digest) as pieces:
            return b"".join(pieces)

    @contextmanager
    def stream(self, namespace: str, digest: Digest, *, fresh: bool = False) -> Iterator[Iterator[bytes]]:
        """Read a blob in pieces: from memory, by seeking, or by decompressing the archive up to it.

        Raises:
            NoRecord: the archive has no such blob.
            ReadFailed: the blob came through a pipe and was not kept, or cannot be read.

        """
        del namespace, fresh
        if digest in self._made:
            yield iter((self._made[digest],))
            return
        seen = self._find(digest)
        if seen.kept is not None and seen.whole:
            yield iter((seen.kept,))
            return
        if not self.seekable:
            raise ReadFailed(f"{digest.short} came through a pipe and is gone", hint="store the archive in a file")
        with closing(read_member(self.address, seen, packing=self.packing, what=digest.short)) as pieces:
            yield pieces

    def open_file(self, namespace: str, digest: Digest) -> int | None:
        """Open the blob's file in a layout folder; the caller must close the descriptor.

        Returns:
            The descriptor; None where the blob is a member of an archive.

        Raises:
            ReadFailed: the file cannot be opened.

        """
        del namespace
        seen = self._held.get(digest)
        if seen is None or seen.path is None:
            return None
        try:
            return os.open(seen.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError as error:
            raise ReadFailed(f"{digest.short} cannot be opened: {error.strerror}") from None

    def files(self) -> Mapping[Digest, FileState]:
        """Return the state of each blob's bytes."""
        return {blob: self.probe(NAMESPACE, blob, 0) for blob in (*self._held, *self._made)}

    def probe(self, namespace: str, digest: Digest, size: int) -> FileState:
        """Return the state of one blob's bytes."""
        del namespace, size
        if digest in self._made:
            return FileState(kind=FileKind.REGULAR, size=len(self._made[digest]))
        seen = self._held.get(digest)
        if seen is None:
            return FileState(kind=FileKind.MISSING)
        if seen.error:
            return FileState(kind=FileKind.UNREADABLE, error=seen.error)
        return FileState(kind=FileKind.REGULAR, size=seen.read)

    @cached_property
    def documents(self) -> Documents:
        """Every document that the images lead to and the archive holds, parsed once."""
        inventory = self.inventory(NAMESPACE)
        return image_layers.documents_of(self, inventory, group(inventory.images), known=self._parsed)

    def verifications(self) -> Mapping[Digest, Verification]:
        """Return the verification of every blob; for layers that were decompressed, with the result."""
        return self._verifications

    @cached_property
    def _verifications(self) -> Mapping[Digest, Verification]:
        made = {
            d: Verification(digest=d, kind=VerificationKind.SOUND, size=len(raw), actual=d)
            for d, raw in self._made.items()
        }
        return {
            digest: _verification(digest, seen, self._layer(digest, seen)) for digest, seen in self._held.items()
        } | made

    def _layer(self, digest: Digest, seen: Seen) -> LayerVerification | None:
        """Return what the blob decompressed to where it is a layer; which blobs are is known after reading only."""
        if seen.layer is None or digest not in self._layers:
            return None
        reason = self._layers[digest]
        return (
            seen.layer if reason is None else LayerVerification(kind=LayerVerificationKind.UNVERIFIABLE, detail=reason)
        )

    @cached_property
    def _layers(self) -> Mapping[Digest, str | None]:
        return image_layers.layers_of(self.inventory(NAMESPACE), self.documents)

    def _find(self, digest: Digest) -> Seen:
        seen = self._held.get(digest)
        if seen is None:
            raise NoRecord(f"{digest.short} is not in the archive {self.address}")
        return seen


def _verification(digest: Digest, seen: Seen, layer: LayerVerification | None) -> Verification:
    kind, detail = VerificationKind.SOUND, ""
    if seen.error:
        kind, detail = VerificationKind.UNREADABLE, seen.error
    elif not seen.whole:
        kind, detail = VerificationKind.CORRUPT, f"cut off after {seen.read} of {seen.size} bytes"
    elif seen.digest != digest:
        kind, detail = VerificationKind.CORRUPT, "empty" if not seen.size else ""
    return Verification(digest=digest, kind=kind, size=seen.read, actual=seen.digest, detail=detail, layer=layer)
