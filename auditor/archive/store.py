"""Reading one blob of an archive a second time: by seeking where it is plain, by unpacking up to it where not."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from functools import cached_property
from pathlib import Path

import msgspec

from auditor.archive import compression, image_layers, layout_folder
from auditor.archive.catalog import NAMESPACE, Catalog
from auditor.archive.docker_manifest import VIRTUAL
from auditor.archive.members import Seen
from auditor.archive.problems import ArchiveProblem, StopReading
from auditor.archive.tar_reader import Cursor
from auditor.concurrency import CHUNK, read_ahead
from auditor.errors import MalformedDocument, NoRecord, ReadFailed
from auditor.model.digest import Digest
from auditor.model.store import (
    Blob,
    FileKind,
    FileState,
    Inventory,
    LayerProof,
    LayerProofKind,
    Proof,
    ProofKind,
    Resource,
    SourceKind,
    StoreInfo,
)


def read_member(address: str, seen: Seen, *, packing: str, what: str) -> Generator[bytes]:
    """The bytes of a file of an archive; raises ReadFailed where they cannot be read or end early."""
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
    if packing == "none":
        return _at(path, seen.offset or 0, seen.size)
    return _unpacked(path, seen.offset or 0, seen.size)


def _at(path: Path, offset: int, size: int) -> Iterator[bytes]:
    with path.open("rb", buffering=0) as file:
        while size and (piece := os.pread(file.fileno(), min(size, CHUNK), offset)):
            offset += len(piece)
            size -= len(piece)
            yield piece


def _unpacked(path: Path, offset: int, size: int) -> Iterator[bytes]:
    with path.open("rb", buffering=0) as file, read_ahead(iter(lambda: file.read(CHUNK), b"")) as early:
        cursor = Cursor(compression.plain(early)[1])
        for _ in cursor.pieces(offset, "the part before the blob"):
            pass
        for piece in cursor.pieces(size, "the blob"):
            yield bytes(piece)


class Opened(msgspec.Struct, frozen=True):
    """How an archive was opened: where it lies, how it is packed, if it can be read again, if it has an end."""

    address: str
    packing: str
    seekable: bool
    complete: bool
    read: int


class ArchiveStore:
    """An archive or an OCI layout as a Store: everything in it is proven by the pass that opened it.

    `problems` are the faults of the archive itself; `complete` says that it was read to its end; `layout` is `oci`,
    `docker`, or empty where it is neither; `packing` is `gzip`, `zstd`, `none` or `folder`; `bytes_read` counts the
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

    def info(self) -> StoreInfo:
        """Say what this is; `version` is the kind of archive."""
        kind = " ".join(part for part in (self.layout, "" if self.packing == "none" else self.packing) if part)
        return StoreInfo(kind=SourceKind.ARCHIVE, address=self.address, version=kind)

    def namespaces(self) -> Sequence[str]:
        """The one that all is in."""
        return (NAMESPACE,)

    def inventory(self, namespace: str, *, snapshotters: Sequence[str] | None = None) -> Inventory:
        """Images and blobs; an archive has nothing else."""
        del snapshotters
        return Inventory(namespace=namespace, images=self._images, blobs=dict(self._blobs()))

    def _blobs(self) -> Iterator[tuple[Digest, Blob]]:
        for digest, seen in self._held.items():
            yield digest, Blob(namespace=NAMESPACE, digest=digest, size=seen.size)
        for digest, raw in self._made.items():
            yield digest, Blob(namespace=NAMESPACE, digest=digest, size=len(raw), labels={VIRTUAL: "manifest.json"})

    def resources(self, namespace: str, lease: str) -> tuple[Resource, ...]:
        """Nothing; an archive has no leases."""
        del namespace, lease
        return ()

    def read(self, namespace: str, digest: Digest, *, limit: int) -> bytes:
        """Read a small blob whole; as Store.read."""
        size = len(self._made[digest]) if digest in self._made else self._find(digest).size
        if size > limit:
            raise MalformedDocument(f"{digest.short} has {size} bytes; more than {limit} are not read")
        with self.stream(namespace, digest) as pieces:
            return b"".join(pieces)

    @contextmanager
    def stream(self, namespace: str, digest: Digest, *, fresh: bool = False) -> Iterator[Iterator[bytes]]:
        """Read a blob from its start in pieces: from memory, by seeking, or by unpacking again up to it.

        Raises NoRecord; ReadFailed for what came through a pipe and was not kept, and where reading fails or ends.
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
        """A descriptor of the blob's own file, to be closed by the caller; None where it has none."""
        del namespace
        seen = self._held.get(digest)
        if seen is None or seen.path is None:
            return None
        try:
            return os.open(seen.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError as error:
            raise ReadFailed(f"{digest.short} cannot be opened: {error.strerror}") from None

    def files(self) -> Mapping[Digest, FileState]:
        """What came of each blob."""
        return {blob: self.probe(NAMESPACE, blob, 0) for blob in (*self._held, *self._made)}

    def probe(self, namespace: str, digest: Digest, size: int) -> FileState:
        """What came of one blob."""
        del namespace, size
        if digest in self._made:
            return FileState(kind=FileKind.REGULAR, size=len(self._made[digest]))
        seen = self._held.get(digest)
        if seen is None:
            return FileState(kind=FileKind.MISSING)
        if seen.error:
            return FileState(kind=FileKind.UNREADABLE, error=seen.error)
        return FileState(kind=FileKind.REGULAR, size=seen.read)

    def proofs(self) -> Mapping[Digest, Proof]:
        """The proof of every blob; of layers, where they were looked into, also what they decompress to."""
        made = {d: Proof(digest=d, kind=ProofKind.SOUND, size=len(raw), actual=d) for d, raw in self._made.items()}
        return {digest: _proof(digest, seen, self._layer(digest, seen)) for digest, seen in self._held.items()} | made

    def _layer(self, digest: Digest, seen: Seen) -> LayerProof | None:
        """What the pass found, where the blob is a layer: the pass itself does not know which are."""
        if seen.layer is None or digest not in self._layers:
            return None
        reason = self._layers[digest]
        return seen.layer if reason is None else LayerProof(kind=LayerProofKind.UNVERIFIABLE, detail=reason)

    @cached_property
    def _layers(self) -> Mapping[Digest, str | None]:
        return image_layers.layers_of(self, self.inventory(NAMESPACE))

    def _find(self, digest: Digest) -> Seen:
        seen = self._held.get(digest)
        if seen is None:
            raise NoRecord(f"{digest.short} is not in the archive {self.address}")
        return seen


def _proof(digest: Digest, seen: Seen, layer: LayerProof | None) -> Proof:
    kind, detail = ProofKind.SOUND, ""
    if seen.error:
        kind, detail = ProofKind.UNREADABLE, seen.error
    elif not seen.whole:
        kind, detail = ProofKind.CORRUPT, f"cut off after {seen.read} of {seen.size} bytes"
    elif seen.digest != digest:
        kind, detail = ProofKind.CORRUPT, "empty" if not seen.size else ""
    return Proof(digest=digest, kind=kind, size=seen.read, actual=seen.digest, detail=detail, layer=layer)
