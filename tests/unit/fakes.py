"""A store that lies in memory and works: the whole `Store` protocol. Damage is a wrapper round it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import msgspec

from auditor.errors import DocumentTooLarge, NoFile, NoRecord
from auditor.model.digest import Digest
from auditor.model.store import (
    Blob,
    FileKind,
    FileState,
    Inventory,
    Labels,
    Resource,
    SourceKind,
    Store,
    StoreInfo,
    Verification,
)

INFO = StoreInfo(kind=SourceKind.CONTAINERD, address="memory", version="v2.1.9", policy="shared")
#: What `stream` gives at a time; small, so that a blob of some hundred bytes is read in several pieces.
PIECE = 4096


class MemoryStore:
    """Namespaces with records, and one set of files that they share, as under containerd's shared policy."""

    def __init__(self, *, info: StoreInfo = INFO, piece: int = PIECE) -> None:
        self.description = info
        self._piece = piece
        self._inventories: dict[str, Inventory] = {}
        self._resources: dict[tuple[str, str], tuple[Resource, ...]] = {}
        #: The bytes behind each digest; change them to damage the store for good.
        self.content: dict[Digest, bytes] = {}
        #: What was streamed, in order: namespace, digest, whether past the cache.
        self.streamed: list[tuple[str, Digest, bool]] = []
        self._lock = threading.Lock()

    def add(
        self,
        data: bytes,
        *namespaces: str,
        labels: Labels | None = None,
        digest: Digest | None = None,
        size: int | None = None,
    ) -> Digest:
        """Commit a blob; `digest` and `size` say something else than the bytes do, where they are given."""
        name = digest or Digest.of(data)
        self.content[name] = data
        for namespace in namespaces or ("default",):
            recorded = len(data) if size is None else size
            held = self.inventory_of(namespace)
            blob = Blob(namespace=namespace, digest=name, size=recorded, labels=labels or {})
            self.put(msgspec.structs.replace(held, blobs={**held.blobs, name: blob}))
        return name

    def put(self, inventory: Inventory) -> None:
        """Replace all records of a namespace."""
        self._inventories[inventory.namespace] = inventory

    def hold(self, namespace: str, lease: str, *resources: Resource) -> None:
        """Let a lease hold these."""
        self._resources[namespace, lease] = resources

    def inventory_of(self, namespace: str) -> Inventory:
        """The records of a namespace, none where there is no such."""
        return self._inventories.get(namespace, Inventory(namespace))

    def drop_record(self, namespace: str, digest: Digest) -> None:
        """Delete a content record; the file goes with the last of them."""
        held = self.inventory_of(namespace)
        self.put(
            msgspec.structs.replace(held, blobs={name: blob for name, blob in held.blobs.items() if name != digest})
        )
        if not any(digest in inventory.blobs for inventory in self._inventories.values()):
            self.content.pop(digest, None)

    def info(self) -> StoreInfo:
        return self.description

    def namespaces(self) -> Sequence[str]:
        return tuple(sorted(self._inventories))

    def inventory(self, namespace: str, *, snapshotters: Sequence[str] | None = None) -> Inventory:
        held = self.inventory_of(namespace)
        if snapshotters is None:
            return held
        kept = {name: found for name, found in held.snapshots.items() if name in snapshotters}
        return msgspec.structs.replace(held, snapshots=kept)

    def resources(self, namespace: str, lease: str) -> Sequence[Resource]:
        return self._resources.get((namespace, lease), ())

    def read(self, namespace: str, digest: Digest, *, limit: int) -> bytes:
        data = self._bytes(namespace, digest)
        if len(data) > limit:
            raise DocumentTooLarge(f"{digest} has more than {limit} bytes")
        return data

    @contextmanager
    def stream(self, namespace: str, digest: Digest, *, fresh: bool = False) -> Iterator[Iterator[bytes]]:
        with self._lock:
            self.streamed.append((namespace, digest, fresh))
        data = self._bytes(namespace, digest)
        yield (data[at : at + self._piece] for at in range(0, len(data), self._piece))

    def files(self) -> Mapping[Digest, FileState] | None:
        return {digest: FileState(FileKind.REGULAR, len(data)) for digest, data in self.content.items()}

    def probe(self, namespace: str, digest: Digest, size: int) -> FileState:
        try:
            data = self._bytes(namespace, digest)
        except NoFile:
            return FileState(FileKind.MISSING)
        return FileState(FileKind.REGULAR, min(len(data), size), at_least=len(data) >= size)

    def verifications(self) -> Mapping[Digest, Verification]:
        return {}

    def _bytes(self, namespace: str, digest: Digest) -> bytes:
        if digest not in self.inventory_of(namespace).blobs:
            raise NoRecord(f"{namespace} has no record of {digest}")
        try:
            return self.content[digest]
        except KeyError:
            raise NoFile(f"cannot read {digest}: {namespace} has its record, and there is no file") from None


class FolderStore(MemoryStore):
    """The same with its content in a folder, read in large pieces without a buffer between."""

    def __init__(self, folder: Path, *, piece: int = 1 << 20) -> None:
        super().__init__()
        self._folder = folder
        self._read_size = piece

    def add_file(self, digest: Digest, namespace: str = "default") -> None:
        """Record a file that lies in the folder under the hex of its digest."""
        held = self.inventory_of(namespace)
        blob = Blob(namespace=namespace, digest=digest, size=(self._folder / digest.hex).stat().st_size)
        self.put(msgspec.structs.replace(held, blobs={**held.blobs, digest: blob}))

    @contextmanager
    def stream(self, namespace: str, digest: Digest, *, fresh: bool = False) -> Iterator[Iterator[bytes]]:
        self.streamed.append((namespace, digest, fresh))
        with (self._folder / digest.hex).open("rb", buffering=0) as file:
            yield iter(lambda: file.read(self._read_size), b"")


#: Changes a stream: takes how often the blob was opened before, the digest and its pieces; gives pieces or raises.
Damage = Callable[[int, Digest, Iterator[bytes]], Iterator[bytes]]


class Damaged:
    """Wraps a store; what `damage` makes of its streams is what readers get. Everything else passes through."""

    def __init__(self, store: Store, damage: Damage) -> None:
        self._store = store
        self._damage = damage
        self._opened: dict[Digest, int] = {}

    def info(self) -> StoreInfo:
        return self._store.info()

    def namespaces(self) -> Sequence[str]:
        return self._store.namespaces()

    def inventory(self, namespace: str, *, snapshotters: Sequence[str] | None = None) -> Inventory:
        return self._store.inventory(namespace, snapshotters=snapshotters)

    def resources(self, namespace: str, lease: str) -> Sequence[Resource]:
        return self._store.resources(namespace, lease)

    def read(self, namespace: str, digest: Digest, *, limit: int) -> bytes:
        return self._store.read(namespace, digest, limit=limit)

    def stream(self, namespace: str, digest: Digest, *, fresh: bool = False) -> AbstractContextManager[Iterator[bytes]]:
        return self._stream(namespace, digest, fresh=fresh)

    @contextmanager
    def _stream(self, namespace: str, digest: Digest, *, fresh: bool) -> Iterator[Iterator[bytes]]:
        before = self._opened.get(digest, 0)
        self._opened[digest] = before + 1
        with self._store.stream(namespace, digest, fresh=fresh) as pieces:
            yield self._damage(before, digest, pieces)

    def files(self) -> Mapping[Digest, FileState] | None:
        return self._store.files()

    def probe(self, namespace: str, digest: Digest, size: int) -> FileState:
        return self._store.probe(namespace, digest, size)

    def verifications(self) -> Mapping[Digest, Verification]:
        return self._store.verifications()
