"""A live containerd that was listed by another process; this one connects only if an audit needs more than records.

An audit of a store without faults reads records once and content as files. It needs no connection.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from auditor import containerd
from auditor.containerd import find_content_root, listing, plugins, relay
from auditor.containerd.content_root import Absent, ContentRoot
from auditor.containerd.find_content_root import ContentRootOption
from auditor.containerd.listing_process import ListingProcess
from auditor.containerd.relay import Ended
from auditor.errors import AuditorError
from auditor.model.digest import Digest
from auditor.model.store import Blob, FileState, Inventory, Resource, StoreInfo, Verification

if TYPE_CHECKING:
    from auditor.containerd.documents_ahead import DocumentsAhead
    from auditor.containerd.relay import Answers
    from auditor.containerd.store import ContainerdStore


class ListedStore:
    """Implements `auditor.model.store.Store` and `FileBacked`; thread-safe.

    What the process sent is returned once; later calls, and all others, ask the daemon. So do all where the process
    ended early.

    Args:
        process: Lists the daemon's records.
        address: Path of containerd's socket.
        timeout: Seconds for a unary call, and for the next message of a stream.
        content_root: As for `ContainerdStore`.
        namespaces: The namespaces that the process was asked for.

    """

    def __init__(
        self,
        process: ListingProcess,
        address: Path,
        *,
        timeout: float,
        content_root: ContentRootOption,
        namespaces: Sequence[str],
    ) -> None:
        self._process = process
        self._answers: Answers | None = process.answers
        self._address = address
        self._timeout = timeout
        self._option = content_root
        self._wanted = namespaces
        self._lock = threading.RLock()
        self._known: tuple[StoreInfo, ContentRoot | None] | None = None
        self._connected: ContainerdStore | None = None
        #: What was sent and not yet asked for: names of all namespaces, those to be received, and records.
        self._present: tuple[str, ...] | None = None
        self._to_come: list[str] = []
        self._snapshotters: tuple[str, ...] = ()
        self._held: dict[str, Inventory] = {}
        self._documents: DocumentsAhead | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the process, and close the connection."""
        self._process.close()
        if self._connected is not None:
            self._connected.close()

    def info(self) -> StoreInfo:
        """Return the daemon's description."""
        return self._described()[0]

    def namespaces(self) -> Sequence[str]:
        """Return the names of all namespaces, sorted."""
        self._described()
        with self._lock:
            present, self._present = self._present, None
        return self._live().namespaces() if present is None else present

    def inventory(self, namespace: str, *, snapshotters: Sequence[str] | None = None) -> Inventory:
        """List all records of a namespace; arguments and errors as of `ContainerdStore`."""
        self._described()
        with self._lock:
            found = self._received(namespace) if snapshotters is None else None
        return self._live().inventory(namespace, snapshotters=snapshotters) if found is None else found

    def resources(self, namespace: str, lease: str) -> tuple[Resource, ...]:
        """Return the resources of a lease; empty where the lease is gone."""
        return self._live().resources(namespace, lease)

    def read(self, namespace: str, digest: Digest, *, limit: int) -> bytes:
        """Return a small blob, unverified."""
        root = self._described()[1]
        if root is not None:
            data = self._read_ahead(digest)
            if data is not None and len(data) <= limit:
                return data
            with suppress(Absent):
                return root.read(digest, limit=limit)
        return self._live().read(namespace, digest, limit=limit)

    def stream(self, namespace: str, digest: Digest, *, fresh: bool = False) -> AbstractContextManager[Iterator[bytes]]:
        """Open a blob as chunks, unverified; `fresh` bypasses the page cache, where the files are visible."""
        return self._live().stream(namespace, digest, fresh=fresh)

    def open_file(self, namespace: str, digest: Digest) -> int | None:
        """Open the blob's file; the caller closes the descriptor. None where the files are not visible."""
        return self._live().open_file(namespace, digest)

    def files(self) -> Mapping[Digest, FileState] | None:
        """Return kind and size of every blob's file; None where they are not visible."""
        root = self._described()[1]
        return None if root is None else root.states()

    def probe(self, namespace: str, digest: Digest, size: int) -> FileState:
        """Examine one blob's file over the API."""
        return self._live().probe(namespace, digest, size)

    def verifications(self) -> Mapping[Digest, Verification]:
        """Return nothing: listing verifies no content."""
        return {}

    def _read_ahead(self, digest: Digest) -> bytes | None:
        """Return a document that the process read; None where it read none, or still has records to send."""
        with self._lock:
            if self._documents is None or self._answers is None or self._to_come:
                return None
            with suppress(Ended):
                return self._documents.take(digest)
            self._answers = None
            return None

    def _live(self) -> ContainerdStore:
        with self._lock:
            if self._connected is None:
                self._connected = containerd.connect(self._address, timeout=self._timeout, content_root=self._option)
            return self._connected

    def _described(self) -> tuple[StoreInfo, ContentRoot | None]:
        known = self._known
        if known is None:
            with self._lock:
                known = self._known = self._known or self._describe()
        return known

    def _describe(self) -> tuple[StoreInfo, ContentRoot | None]:
        answers, self._answers = self._answers, None  # of no use after an error
        if answers is not None:
            with suppress(Ended):
                (listed,) = answers.next()
                ((version, uuid),) = answers.next()
                description = plugins.read_plugins(listed, uuid=uuid)
                reported = description.content_root
                root = find_content_root.find(self._option, reported, uuid=uuid, sample=self._sample())
                address = str(self._address)
                info = plugins.store_info(description, address, version=version, root=root, option=self._option)
                self._documents = self._process.read_documents(root.path if root is not None else None)
                with suppress(AuditorError):  # who asks for the namespaces meets it again
                    (present,) = answers.next()
                    self._present = tuple(sorted(name for name, _ in present))
                    self._to_come = list(relay.namespaces_to_list(present, self._wanted))
                    self._snapshotters = relay.snapshotters_to_list(listed)
                    self._answers = answers
                return info, root
        info = self._live().info()
        return info, ContentRoot(info.content_root) if info.content_root is not None else None

    def _sample(self) -> Iterator[Blob]:
        yield from self._live().sample()

    def _received(self, namespace: str) -> Inventory | None:
        """Return the records that the process sent of a namespace; None where it sends none, or ended."""
        while namespace not in self._held and self._to_come and self._answers is not None:
            answers, self._answers = self._answers, None  # of no use after an error
            name = self._to_come.pop(0)
            with suppress(Ended):
                self._held[name] = listing.inventory(name, answers.calls(snapshotters=self._snapshotters))
                self._answers = answers
        return self._held.pop(namespace, None)
