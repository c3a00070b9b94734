"""A live containerd as a `Store`: records over gRPC, content from files where they are visible, else over gRPC."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from itertools import islice
from types import TracebackType
from typing import Self

from auditor.containerd import api_read, find_content_root, list_calls, listing, plugins
from auditor.containerd.channel import Connection
from auditor.containerd.content_root import Absent, ContentRoot
from auditor.containerd.find_content_root import ContentRootOption
from auditor.containerd.introspection import Introspection
from auditor.errors import NoFile, NoRecord
from auditor.model.digest import Digest
from auditor.model.store import Blob, FileState, Inventory, Resource, StoreInfo, Verification


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
        (found,) = list_calls.namespaces(self._connection)()
        return tuple(sorted(name for name, _ in found))

    def inventory(self, namespace: str, *, snapshotters: Sequence[str] | None = None) -> Inventory:
        """List all records of a namespace with a few parallel calls.

        Args:
            namespace: Name of the namespace.
            snapshotters: Snapshotters to list, by default all that started; an unknown one is a gap.

        """
        names = tuple(s.name for s in self.info().snapshotters) if snapshotters is None else tuple(snapshotters)
        return self._listed(namespace, names)

    def _listed(self, namespace: str, snapshotters: Sequence[str]) -> Inventory:
        with list_calls.list_calls(self._connection, namespace, snapshotters=snapshotters) as calls:
            return listing.inventory(namespace, calls)

    def resources(self, namespace: str, lease: str) -> tuple[Resource, ...]:
        """Return the resources of a lease; empty where the lease is gone."""
        try:
            found = list_calls.resources(self._connection, namespace, lease)
        except NoRecord:
            return ()
        return tuple(sorted(Resource(resource.type, resource.id) for resource in found))

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
        asked = Introspection(self._connection)
        description = plugins.read_plugins(asked.plugins(), uuid=asked.uuid())
        root = find_content_root.find(
            self._option, description.content_root, uuid=description.uuid, sample=self.sample()
        )
        address, version = str(self._connection.address), self._connection.version
        return plugins.store_info(description, address, version=version, root=root, option=self._option), root

    def sample(self) -> Iterator[Blob]:
        """Yield some content records of each namespace."""
        for namespace in self.namespaces():
            blobs = self._listed(namespace, ()).blobs
            yield from islice(blobs.values(), find_content_root.SAMPLE)
