"""Opening an archive as a Store: one pass proves every byte, afterwards it answers from what it saw."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from functools import cached_property
from pathlib import Path
from typing import BinaryIO, Final, Protocol

import msgspec

from auditor.archive import again, folder, outer, tar, uses
from auditor.archive.aside import MakeInspector
from auditor.archive.catalog import NAMESPACE, Catalog
from auditor.archive.docker import VIRTUAL
from auditor.archive.members import Collector, Seen
from auditor.archive.outer import CHUNK
from auditor.archive.problems import TRAILING, ArchiveProblem, PassError
from auditor.archive.tar import Cursor
from auditor.digest import Digest
from auditor.errors import MalformedDocument, NoRecord, ReadFailed, StoreUnreachable
from auditor.layers import LayerInspector
from auditor.store import (
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

#: The name that stands for standard input.
PIPE: Final = "-"
FOLDER: Final = "folder"


def open_archive(
    path: Path | str,
    *,
    stdin: BinaryIO | None = None,
    layers: bool | Container[Digest] = True,
    inspect: MakeInspector = LayerInspector,
    on_bytes: Callable[[int], None] | None = None,
    on_file: Callable[[Seen], None] | None = None,
    tap: Tap | None = None,
) -> ArchiveStore:
    """Read an archive or an OCI layout folder once, from start to end, in constant memory, and give it as a store.

    `-` reads `stdin`. With `layers`, every blob is looked into as a layer too, or those whose digests are given; layers
    of docker's old archives always are, as they have no digest of their own. `on_bytes` hears of bytes as they pass,
    for progress, `on_file` of each file when all of it has passed; `tap` stands between the file and us.
    What is wrong with the archive is in `problems` of the store, also where it ends early. Raises StoreUnreachable
    where it cannot be read at all, Unsupported for a compression that is not read.
    """
    looks = (lambda _: layers) if isinstance(layers, bool) else layers.__contains__
    collector = Collector(inspect=inspect, looks=looks, on_bytes=on_bytes, on_file=on_file)
    try:
        if str(path) == PIPE:
            chunks = _chunks(stdin, "from the pipe", tap) if stdin else iter(())
            return _from_tar(collector, path, chunks, seekable=False)
        if Path(path).is_dir():
            return _from_folder(collector, Path(path))
        with Path(path).open("rb", buffering=0) as file:
            seekable = stat.S_ISREG(os.fstat(file.fileno()).st_mode)
            return _from_tar(collector, path, _chunks(file, path, tap), seekable=seekable)
    except OSError as error:
        why = error.strerror or str(error)
        raise StoreUnreachable(
            f"the archive {path} cannot be read: {why}", hint="check the path and its mode"
        ) from None


class Tap(Protocol):
    """What stands between a file and its reader, in the thread that reads."""

    def wait(self, position: int) -> None:
        """Return when there is something to be read behind `position`, or the end."""

    def update(self, chunk: bytes) -> None:
        """Hear of the next bytes, packed as they are."""


def _chunks(file: BinaryIO, name: Path | str, tap: Tap | None) -> Iterator[bytes]:
    """All of a file. A fault of the medium is not one of the archive: it ends the run."""
    try:
        if tap is None:
            yield from iter(lambda: file.read(CHUNK), b"")
        else:
            yield from _tapped(file, tap)
    except OSError as error:
        raise StoreUnreachable(f"the archive {name} cannot be read: {error.strerror or error}") from None


def _tapped(file: BinaryIO, tap: Tap) -> Iterator[bytes]:
    position = 0
    while True:
        tap.wait(position)
        chunk = file.read(CHUNK)
        if not chunk:
            return
        position += len(chunk)
        tap.update(chunk)
        yield chunk


def _from_tar(collector: Collector, path: Path | str, chunks: Iterator[bytes], *, seekable: bool) -> ArchiveStore:
    complete = True
    with closing(outer.Ahead(chunks, endless=not seekable)) as early:
        packing, unpacked = outer.plain(early)
        try:
            if packing == "none":
                _walk(collector, unpacked)
            else:
                with closing(outer.Ahead(unpacked, endless=not seekable)) as inflated:
                    _walk(collector, inflated)
        except PassError as stop:
            collector.problems.append(stop.problem)
            complete = stop.problem.fault is TRAILING
    return _opened(collector, path, packing=packing, seekable=seekable, complete=complete)


def _walk(collector: Collector, unpacked: Iterator[bytes]) -> None:
    for header, body in tar.walk(Cursor(unpacked), collector.problems.append):
        collector.take(header, body)


def _from_folder(collector: Collector, path: Path) -> ArchiveStore:
    if folder.is_image(path):
        for header, body, where in folder.walk(path):
            collector.take(header, body, path=where)
    return _opened(collector, path, packing=FOLDER, seekable=True, complete=True)


def _opened(collector: Collector, path: Path | str, *, packing: str, seekable: bool, complete: bool) -> ArchiveStore:
    catalog = Catalog(collector, complete=complete)
    opened = Opened(address=str(path), packing=packing, seekable=seekable, complete=complete, read=collector.bytes)
    return ArchiveStore(catalog, opened=opened)


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
        with closing(again.pieces(self.address, seen, packing=self.packing, what=digest.short)) as pieces:
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
        return uses.layers_of(self, self.inventory(NAMESPACE))

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
