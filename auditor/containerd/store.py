"""A live containerd as a `Store`: records over gRPC, content from files where they are visible, else over gRPC."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
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
from auditor.model.store import Blob, FileState, Inventory, Resource, SourceKind, StoreInfo, Verification


class ContainerdStore:
    """Implements `auditor.model.store.Store` and `FileBacked`; thread-safe.

    Namespaces share the files of blobs. Where they are visible, a blob is read by its digest alone; its namespace
    matters only for an absent file.

    Args:
        connection: The daemon.
        content_root: "auto" uses the daemon's content root where it is visible, None the API alone, a path where it is
            mounted here.

    """

    def __init__(self, connection: Connection, *, content_root: ContentRootOption = "auto") -> None:
        self._connection = connection
        self._option = content_root
        self._lock = threading.Lock()
        self._known: tuple[StoreInfo, ContentRoot | None] | None = None
        self._ahead: Future[dict[str, Inventory]] | None = None

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
        """Return the daemon's description; requested once."""
        return self._described()[0]

    def namespaces(self) -> Sequence[str]:
        """Return the names of all namespaces, sorted."""
        return tuple(listing.namespaces(self._connection))

    def inventory(self, namespace: str, *, snapshotters: Sequence[str] | None = None) -> Inventory:
        """List all records of a namespace with a few parallel calls.

        Args:
            namespace: Name of the namespace.
            snapshotters: Snapshotters to list, by default all that started; an unknown one is a gap.

        """
        if snapshotters is None and self._ahead is not None and namespace in (ahead := self._ahead.result()):
            return ahead.pop(namespace)
        return self._inventory(namespace, snapshotters)

    def _inventory(self, namespace: str, snapshotters: Sequence[str] | None) -> Inventory:
        names = tuple(s.name for s in self.info().snapshotters) if snapshotters is None else tuple(snapshotters)
        return listing.inventory(self._connection, namespace, snapshotters=names)

    def list_ahead(self, namespaces: Sequence[str] = ()) -> None:
        """Begin to list namespaces, by default all; the next `inventory` of each takes what was listed, or the error.

        The daemon takes a while, in which the caller can do other work.
        """
        pool = ThreadPoolExecutor(1, thread_name_prefix="ahead")
        self._ahead = pool.submit(self._list_ahead, namespaces)
        pool.shutdown(wait=False)

    def _list_ahead(self, namespaces: Sequence[str]) -> dict[str, Inventory]:
        present = self.namespaces()
        return {name: self._inventory(name, None) for name in namespaces or present if name in present}

    def resources(self, namespace: str, lease: str) -> tuple[Resource, ...]:
        """Return the resources of a lease; empty where the lease is gone."""
        try:
            return listing.resources(self._connection, namespace, lease)
        except NoRecord:
            return ()

    def read(self, namespace: str, digest: Digest, *, limit: int) -> bytes:
        """Return a small blob, unverified."""
        root = self._root
        if root is None:
            return api_read.read(self._connection, namespace, digest, limit=limit)
        try:
            return root.read(digest, limit=limit)
        except Absent:
            raise self._no_file(namespace, digest) from None

    @contextmanager
    def stream(self, namespace: str, digest: Digest, *, fresh: bool = False) -> Iterator[Iterator[bytes]]:
        """Open a blob as chunks, unverified; `fresh` bypasses the page cache, where the files are visible."""
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
        """Open the blob's file; the caller closes the descriptor. None where the files are not visible."""
        root = self._root
        if root is None:
            return None
        try:
            return root.open(digest)
        except Absent:
            raise self._no_file(namespace, digest) from None

    def files(self) -> Mapping[Digest, FileState] | None:
        """Return kind and size of every blob's file; None where they are not visible."""
        root = self._root
        return None if root is None else root.states()

    def probe(self, namespace: str, digest: Digest, size: int) -> FileState:
        """Examine one blob's file over the API."""
        return api_read.probe(self._connection, namespace, digest, size)

    def verifications(self) -> Mapping[Digest, Verification]:
        """Return nothing: connecting verifies no content."""
        return {}

    @property
    def _root(self) -> ContentRoot | None:
        return self._described()[1]

    def _no_file(self, namespace: str, digest: Digest) -> NoFile:
        """Return the error for an absent file; raise NoRecord where the record is gone, too."""
        api_read.record(self._connection, namespace, digest)
        return NoFile(
            f"cannot read {digest}: {namespace} has its record, and there is no file",
            hint="the database has a record of the blob, the disk has no file",
        )

    def _described(self) -> tuple[StoreInfo, ContentRoot | None]:
        known = self._known
        if known is None:
            with self._lock:
                known = self._known = self._known or self._describe()
        return known

    def _describe(self) -> tuple[StoreInfo, ContentRoot | None]:
        description = plugins.describe(self._connection)
        root = self._find_root(description)
        unseen = (
            () if root is not None or self._option is None else (find_content_root.explain(description.content_root),)
        )
        return StoreInfo(
            kind=SourceKind.CONTAINERD,
            address=str(self._connection.address),
            version=self._connection.version,
            id=description.uuid,
            platform=description.platform,
            content_root=root.path if root is not None else None,
            snapshotters=description.snapshotters,
            differs=description.differs,
            policy=description.policy,
            discards_layers=description.discards_layers,
            notes=(*description.notes, *unseen),
            gaps=description.gaps,
        ), root

    def _find_root(self, description: plugins.SelfDescription) -> ContentRoot | None:
        if self._option is None:
            return None
        if self._option != "auto":
            return find_content_root.given(self._option, uuid=description.uuid)
        if description.content_root is None:
            return None
        return find_content_root.exported(description.content_root, uuid=description.uuid, sample=self._sample())

    def _sample(self) -> Iterator[Blob]:
        """Yield some records of each namespace."""
        for namespace in self.namespaces():
            blobs = listing.inventory(self._connection, namespace, snapshotters=()).blobs
            yield from islice(blobs.values(), find_content_root.SAMPLE)
