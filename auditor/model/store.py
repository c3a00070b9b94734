"""The nouns of a store, and what a store can do; adapters produce these, everything else works on them.

Times are aware datetimes in UTC, sizes are bytes.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from pathlib import Path
from typing import Protocol, runtime_checkable

import msgspec

from auditor.model.digest import Digest
from auditor.model.oci import Descriptor
from auditor.model.platforms import Platform

Labels = Mapping[str, str]


class Image(msgspec.Struct, frozen=True):
    """An image record: a name in a namespace that points to a descriptor."""

    namespace: str
    name: str
    target: Descriptor
    labels: Labels = {}


class Blob(msgspec.Struct, frozen=True):
    """A content record. That it exists says nothing about the file."""

    namespace: str
    digest: Digest
    size: int
    labels: Labels = {}
    created_at: datetime | None = None
    updated_at: datetime | None = None


class Snapshot(msgspec.Struct, frozen=True):
    """A snapshot record; `name` is the chainID for the layers of an image."""

    namespace: str
    snapshotter: str
    name: str
    parent: str = ""
    kind: str = "committed"
    labels: Labels = {}


class Resource(msgspec.Struct, frozen=True, order=True):
    """Something a lease holds: `content`, `ingests`, `images` or `snapshots/<snapshotter>`, and its id."""

    type: str
    id: str


class Lease(msgspec.Struct, frozen=True):
    """A lease; `resources` is None where nobody asked for them."""

    namespace: str
    id: str
    labels: Labels = {}
    created_at: datetime | None = None
    resources: tuple[Resource, ...] | None = None


class Ingest(msgspec.Struct, frozen=True):
    """A write that has not been committed; `offset` bytes have arrived."""

    namespace: str
    ref: str
    offset: int = 0
    total: int = 0
    expected: str = ""
    started_at: datetime | None = None
    updated_at: datetime | None = None


class Container(msgspec.Struct, frozen=True):
    """A container record: what keeps a snapshot alive."""

    namespace: str
    id: str
    image: str = ""
    snapshotter: str = ""
    snapshot_key: str = ""


class Snapshotter(msgspec.Struct, frozen=True):
    """A snapshotter that the daemon offers.

    `lazy` says that it may serve layers whose blobs are absent by design: its exports ask for remote snapshot
    annotations, or it is erofs.
    """

    name: str
    root: str = ""
    lazy: bool = False


class Inventory(msgspec.Struct, frozen=True):
    """All records of one namespace, as a handful of list calls gives them."""

    namespace: str
    images: tuple[Image, ...] = ()
    blobs: Mapping[Digest, Blob] = {}
    #: By snapshotter, then by name.
    snapshots: Mapping[str, Mapping[str, Snapshot]] = {}
    leases: tuple[Lease, ...] = ()
    ingests: tuple[Ingest, ...] = ()
    containers: tuple[Container, ...] = ()
    labels: Labels = {}
    #: What could not be listed, as sentences; makes the run incomplete.
    gaps: tuple[str, ...] = ()


class SourceKind(enum.StrEnum):
    """What kind of store a report is about."""

    CONTAINERD = "containerd"
    ARCHIVE = "archive"
    OFFLINE = "offline"


class StoreInfo(msgspec.Struct, frozen=True):
    """What a store says of itself."""

    kind: SourceKind
    address: str
    version: str = ""
    #: What tells this store from any other, whatever it is reached by: the daemon's uuid; empty where it has none.
    id: str = ""
    platform: Platform | None = None
    #: Where the blobs lie, when this process can see them; None means that every byte comes over the API.
    content_root: Path | None = None
    snapshotters: tuple[Snapshotter, ...] = ()
    #: The content sharing policy: `shared` or `isolated`; empty where unknown.
    policy: str = ""
    #: Whether CRI throws layers away after unpacking; None where the daemon does not say.
    discards_layers: bool | None = None
    #: What this store cannot tell, as sentences for --verbose.
    notes: tuple[str, ...] = ()


class FileKind(enum.StrEnum):
    """What lies where a blob's file should be."""

    REGULAR = "regular file"
    MISSING = "missing"
    DIRECTORY = "directory"
    LINK = "symbolic link"
    SPECIAL = "special file"
    UNREADABLE = "unreadable"


class FileState(msgspec.Struct, frozen=True):
    """What one look at a blob's file gave.

    `size` is None where it cannot be known. `at_least` marks a size that is only a lower bound: the API clamps to the
    recorded size, so a longer file looks right through it. `error` has the system's words.
    """

    kind: FileKind
    size: int | None = None
    at_least: bool = False
    error: str = ""


class ProofKind(enum.StrEnum):
    """How reading a blob to its end came out."""

    SOUND = "sound"
    #: Wrong at the first reading, right at the second: the medium or the memory is not to be trusted.
    UNSTEADY = "unsteady"
    CORRUPT = "corrupt"
    UNREADABLE = "unreadable"
    #: The record is there, the file is not.
    MISSING = "missing"
    #: The record went while we read: collected or deleted, no fault.
    GONE = "gone"


class LayerProofKind(enum.StrEnum):
    """How decompressing a layer came out."""

    SOUND = "sound"
    DIFFERS = "differs"
    UNDECODABLE = "undecodable"
    UNVERIFIABLE = "unverifiable"


class LayerProof(msgspec.Struct, frozen=True):
    """A layer as a stream: the diffID that its bytes decompress to, and what was wrong with it on the way."""

    kind: LayerProofKind
    diff_id: Digest | None = None
    size: int = 0
    detail: str = ""
    #: What the bytes are compressed with, told by content: "gzip", "zstd", "none"; empty where nobody looked.
    compression: str = ""


class Proof(msgspec.Struct, frozen=True):
    """The outcome of reading one blob to its end: the bytes read, the digest found, and how they are wrong."""

    digest: Digest
    kind: ProofKind
    size: int = 0
    actual: Digest | None = None
    #: How the bytes are wrong, where that can be told: "empty", "zero-filled from byte 4096", "one bit differs".
    detail: str = ""
    #: By diffID wanted is a matter of the graph; a layer has one content whoever names it.
    layer: LayerProof | None = None
    #: Whether the bytes were read in this run, not remembered from an earlier one.
    fresh: bool = True
    #: When they were read, of what is remembered.
    read_at: datetime | None = None


@runtime_checkable
class Store(Protocol):
    """What an audit may hold: everything here only reads.

    Methods raise StoreError where the store as a whole fails, ObjectError where one object does.
    """

    def info(self) -> StoreInfo:
        """Say what this store is; cheap after the first call."""

    def namespaces(self) -> Sequence[str]:
        """All namespaces, sorted."""

    def inventory(self, namespace: str, *, snapshotters: Sequence[str] | None = None) -> Inventory:
        """List all records of a namespace; of the named snapshotters only, where any are named."""

    def resources(self, namespace: str, lease: str) -> tuple[Resource, ...]:
        """What a lease holds; empty where the lease is gone."""

    def read(self, namespace: str, digest: Digest, *, limit: int) -> bytes:
        """Read a small blob whole.

        Raises NoRecord, NoFile, ReadFailed; MalformedDocument where the blob has more than `limit` bytes.
        The bytes are not verified.
        """

    def stream(self, namespace: str, digest: Digest, *, fresh: bool = False) -> AbstractContextManager[Iterator[bytes]]:
        """Read a blob from its start in pieces; with `fresh`, past the page cache where that can be done.

        Raises NoRecord, NoFile, ReadFailed, also in the middle of the stream. The bytes are not verified.
        """

    def files(self) -> Mapping[Digest, FileState] | None:
        """The files of all blobs, one pass over the content root; None where it is not visible."""

    def probe(self, namespace: str, digest: Digest, size: int) -> FileState:
        """Look at one blob's file through the store itself; `size` is the recorded size in bytes."""

    def proofs(self) -> Mapping[Digest, Proof]:
        """What opening this store has proven already: everything for an archive, nothing for a daemon."""


@runtime_checkable
class FileBacked(Protocol):
    """A store that can hand out the files of its blobs, so that the kernel copies them."""

    def open_file(self, namespace: str, digest: Digest) -> int | None:
        """A descriptor of the blob's own file, open for reading, the caller's to close; None where it has none to give.

        Nothing says that the file is regular, of the recorded size or sound. Raises NoFile, ReadFailed.
        """
