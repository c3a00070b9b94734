"""A live containerd as a `Store`: records over gRPC, bytes from files where they are visible, else over gRPC too."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from itertools import islice
from types import TracebackType
from typing import Self

from auditor.containerd import api_read, find_content_root, listing, plugins
from auditor.containerd.channel import Connection
from auditor.containerd.content_root import Absent, ContentRoot
from auditor.containerd.find_content_root import ContentRootOption
from auditor.errors import NoFile, NoRecord
from auditor.model.digest import Digest
from auditor.model.store import Blob, FileState, Inventory, Proof, Resource, SourceKind, StoreInfo


class ContainerdStore:
    """Implements `auditor.model.store.Store` and `FileBacked`; may be shared by threads.

    `content_root` is "auto" for the daemon's own where this process sees it, None for the API alone, or where it is
    mounted here. The files of all namespaces are the same files: where they are visible, a blob is read by its digest
    alone, and the namespace decides only what its absence means.
    """

    def __init__(self, connection: Connection, *, content_root: ContentRootOption = "auto") -> None:
        self._connection = connection
        self._option = content_root
        self._lock = threading.Lock()
        self._known: tuple[StoreInfo, ContentRoot | None] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def info(self) -> StoreInfo:
        """What the daemon says of itself; asked for once."""
        return self._knowledge()[0]

    def namespaces(self) -> Sequence[str]:
        """All namespaces, sorted."""
        return tuple(listing.namespaces(self._connection))

    def inventory(self, namespace: str, *, snapshotters: Sequence[str] | None = None) -> Inventory:
        """All records, from a handful of list calls side by side.

        Without `snapshotters`, of all that started; one that is named and that the daemon does not have is a gap.
        """
        names = tuple(s.name for s in self.info().snapshotters) if snapshotters is None else tuple(snapshotters)
        return listing.inventory(self._connection, namespace, snapshotters=names)

    def resources(self, namespace: str, lease: str) -> tuple[Resource, ...]:
        """What a lease holds; empty where the lease is gone."""
        try:
            return listing.resources(self._connection, namespace, lease)
        except NoRecord:
            return ()

    def read(self, namespace: str, digest: Digest, *, limit: int) -> bytes:
        """A small blob, whole and unverified."""
        root = self._root
        if root is None:
            return api_read.read(self._connection, namespace, digest, limit=limit)
        try:
            return root.read(digest, limit=limit)
        except Absent:
            raise self._no_file(namespace, digest) from None

    @contextmanager
    def stream(self, namespace: str, digest: Digest, *, fresh: bool = False) -> Iterator[Iterator[bytes]]:
        """A blob in pieces, unverified; with `fresh`, past the page cache, which only files allow."""
        root = self._root
        if root is None:
            with closing(api_read.stream(self._connection, namespace, digest)) as pieces:
                yield pieces
            return
        try:
            with root.opened(digest) as descriptor:
                yield root.pieces(descriptor, digest, fresh=fresh)
        except Absent:
            raise self._no_file(namespace, digest) from None

    def open_file(self, namespace: str, digest: Digest) -> int | None:
        """A descriptor of the blob's file, the caller's to close; None where the files are not visible to us."""
        root = self._root
        if root is None:
            return None
        try:
            return root.open(digest)
        except Absent:
            raise self._no_file(namespace, digest) from None

    def files(self) -> Mapping[Digest, FileState] | None:
        """Kind and size of every file, from one pass over the folders; None where they are not visible."""
        root = self._root
        return None if root is None else root.states()

    def probe(self, namespace: str, digest: Digest, size: int) -> FileState:
        """Look at one blob's file as the daemon sees it, whether or not the files are visible to us."""
        return api_read.probe(self._connection, namespace, digest, size)

    def proofs(self) -> Mapping[Digest, Proof]:
        """Nothing: connecting to a daemon proves no bytes."""
        return {}

    @property
    def _root(self) -> ContentRoot | None:
        return self._knowledge()[1]

    def _no_file(self, namespace: str, digest: Digest) -> NoFile:
        """The file is gone: a fault only while the record is there. Raises NoRecord where it is not."""
        api_read.record(self._connection, namespace, digest)
        return NoFile(
            f"cannot read {digest}: {namespace} has its record, and there is no file",
            hint="the database has the blob, the disk has not",
        )

    def _knowledge(self) -> tuple[StoreInfo, ContentRoot | None]:
        with self._lock:
            if self._known is None:
                self._known = self._find_out()
            return self._known

    def _find_out(self) -> tuple[StoreInfo, ContentRoot | None]:
        said = plugins.describe(self._connection)
        root = self._see(said)
        unseen = () if root is not None or self._option is None else (find_content_root.explain(said.content_root),)
        return StoreInfo(
            kind=SourceKind.CONTAINERD,
            address=str(self._connection.address),
            version=self._connection.version,
            id=said.uuid,
            platform=said.platform,
            content_root=root.path if root is not None else None,
            snapshotters=said.snapshotters,
            policy=said.policy,
            discards_layers=said.discards_layers,
            notes=(*said.notes, *unseen),
        ), root

    def _see(self, said: plugins.SelfDescription) -> ContentRoot | None:
        if self._option is None:
            return None
        if self._option != "auto":
            return find_content_root.given(self._option, uuid=said.uuid)
        if said.content_root is None:
            return None
        return find_content_root.exported(said.content_root, uuid=said.uuid, sample=self._sample())

    def _sample(self) -> Iterator[Blob]:
        """Some records, for as long as somebody asks."""
        for namespace in self.namespaces():
            blobs = listing.inventory(self._connection, namespace, snapshotters=()).blobs
            yield from islice(blobs.values(), find_content_root.SAMPLE)
