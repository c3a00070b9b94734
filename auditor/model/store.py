"""The records of a store and the protocol that reads them; adapters implement it.

Times are aware datetimes in UTC, sizes are bytes.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, Protocol, runtime_checkable

import msgspec

from auditor.model.digest import Digest
from auditor.model.oci import Descriptor
from auditor.model.platforms import Platform
from auditor.model.snapshot_files import Row, SnapshotKey

Labels = Mapping[str, str]

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
#: Seconds of Go's zero time, which some releases of containerd send for an unset time.
_GO_ZERO: Final = -62_135_596_800


def utc(nanoseconds: int) -> datetime | None:
    """Convert a time in ns since 1970, truncated to microseconds; None where it is unset or out of range."""
    seconds, rest = divmod(nanoseconds, 10**9)
    if seconds in (0, _GO_ZERO):
        return None
    try:
        return _EPOCH + timedelta(0, seconds, rest // 1000)
    except OverflowError:
        return None


class Image(msgspec.Struct, frozen=True, gc=False):
    """An image record: a name in a namespace, and the descriptor of its target."""

    namespace: str
    name: str
    target: Descriptor
    labels: Labels = {}


class Blob(msgspec.Struct, frozen=True, gc=False):
    """A content record; its file may be missing. Times are in ns since 1970, 0 where they are unset."""

    namespace: str
    digest: Digest
    size: int
    labels: Labels = {}
    created: int = 0
    updated: int = 0

    @property
    def created_at(self) -> datetime | None:
        """When the record was made."""
        return utc(self.created)

    @property
    def updated_at(self) -> datetime | None:
        """When the record was changed."""
        return utc(self.updated)


class Snapshot(msgspec.Struct, frozen=True, gc=False):
    """A snapshot record; `name` is the chainID for the layers of an image."""

    namespace: str
    snapshotter: str
    name: str
    parent: str = ""
    kind: str = "committed"
    labels: Labels = {}


class Resource(msgspec.Struct, frozen=True, order=True, gc=False):
    """A resource of a lease: type `content`, `ingests`, `images` or `snapshots/<snapshotter>`, and the object's id."""

    type: str
    id: str


class Lease(msgspec.Struct, frozen=True, gc=False):
    """A lease; `resources` is None where they were not listed."""

    namespace: str
    id: str
    labels: Labels = {}
    created_at: datetime | None = None
    resources: Sequence[Resource] | None = None


class Ingest(msgspec.Struct, frozen=True, gc=False):
    """An uncommitted write; `offset` is the number of bytes received."""

    namespace: str
    ref: str
    offset: int = 0
    total: int = 0
    expected: str = ""
    started_at: datetime | None = None
    updated_at: datetime | None = None


class Container(msgspec.Struct, frozen=True, gc=False):
    """A container record, which protects its snapshot; `pod` is `namespace/name` of a container of Kubernetes."""

    namespace: str
    id: str
    image: str = ""
    snapshotter: str = ""
    snapshot_key: str = ""
    pod: str = ""


class Snapshotter(msgspec.Struct, frozen=True):
    """A snapshotter of the daemon; `rows` are its committed snapshots, where the store read its database anyway.

    `lazy`: its exports enable remote snapshot annotations. `proxy`: it is a process of its own (its exports have an
    address), which may fetch layers by itself and leave no trace of them in containerd.
    """

    name: str
    root: str = ""
    lazy: bool = False
    proxy: bool = False
    rows: Mapping[SnapshotKey, Row] | None = None


class Inventory(msgspec.Struct, frozen=True):
    """All records of one namespace, from a few list calls."""

    namespace: str
    images: tuple[Image, ...] = ()
    blobs: Mapping[Digest, Blob] = {}
    #: By snapshotter, then by name.
    snapshots: Mapping[str, Mapping[str, Snapshot]] = {}
    leases: Sequence[Lease] = ()
    ingests: tuple[Ingest, ...] = ()
    containers: tuple[Container, ...] = ()
    labels: Labels = {}
    #: Objects that could not be listed, as sentences; they make the run incomplete.
    gaps: tuple[str, ...] = ()


class SourceKind(enum.StrEnum):
    """The kind of a store."""

    CONTAINERD = "containerd"
    ARCHIVE = "archive"
    OFFLINE = "offline"


class DamageKind(enum.StrEnum):
    """What is wrong with the databases of a store that is read from its disk."""

    #: A part of a database cannot be read.
    DAMAGED = "metadata-damaged"
    #: Most blob files have no record: the database was lost or replaced.
    LOST = "metadata-lost"
    #: Some blob files have no record.
    UNRECORDED = "file-without-record"
    #: Snapshot records have no partner in the snapshotter's database.
    UNPAIRED = "snapshot-without-backend"


class StoreDamage(msgspec.Struct, frozen=True):
    """One fault of a database: its file or the folder concerned, what is wrong in one sentence, and numbers."""

    kind: DamageKind
    subject: str
    message: str
    facts: Mapping[str, int | str] = {}


class LeftoverKind(enum.StrEnum):
    """Where leftover files are: in blobs/, in ingest/, or in a snapshotter's snapshots/."""

    STRAY = "stray name"
    INGEST = "ingest"
    SNAPSHOT = "snapshot"


class Leftovers(msgspec.Struct, frozen=True):
    """Entries of a folder that no record leads to: their number, their bytes, and the first name.

    `at_least`: a folder has more files than were counted. `owner` is the snapshotter.
    """

    kind: LeftoverKind
    folder: str
    count: int
    size: int
    first: str
    at_least: bool = False
    owner: str = ""


class StoreInfo(msgspec.Struct, frozen=True):
    """The properties of a store."""

    kind: SourceKind
    address: str
    version: str = ""
    #: The store's identity independent of its address: the daemon's uuid; empty where it has none.
    id: str = ""
    platform: Platform | None = None
    #: The directory of the blobs, if this process can read it; None: all content is read over the API.
    content_root: Path | None = None
    snapshotters: tuple[Snapshotter, ...] = ()
    #: The differs that run, such as `walking` and `erofs`; empty where unknown.
    differs: tuple[str, ...] = ()
    #: The content sharing policy: `shared` or `isolated`; empty where unknown.
    policy: str = ""
    #: Whether CRI discards layers after unpacking (discard_unpacked_layers); None where unknown.
    discards_layers: bool | None = None
    #: Limits of this store, as sentences for --verbose.
    notes: tuple[str, ...] = ()
    #: Faults of the databases, for a store that is read from its disk.
    damage: tuple[StoreDamage, ...] = ()
    #: Parts of the databases that were not read, as sentences; they make the run incomplete.
    gaps: tuple[str, ...] = ()
    #: The namespaces in which some records are lost: nothing follows there from the absence of a record.
    partial: frozenset[str] = frozenset()

    def snapshotter(self, name: str) -> Snapshotter | None:
        """Return the record of a snapshotter; None where the store does not list it."""
        return next((each for each in self.snapshotters if each.name == name), None)

    @property
    def containerd_1(self) -> bool:
        """Whether the daemon is a containerd 1.x."""
        return self.version.removeprefix("v").startswith("1.")


class FileKind(enum.StrEnum):
    """The kind of the file at a blob's path."""

    REGULAR = "regular file"
    MISSING = "missing"
    DIRECTORY = "directory"
    LINK = "symbolic link"
    SPECIAL = "special file"
    UNREADABLE = "unreadable"


class FileState(msgspec.Struct, frozen=True, gc=False):
    """The state of a blob's file.

    `size` is None where it is unknown. `at_least`: the size is a lower bound, because the API clamps it to the
    recorded size, which hides a longer file. `error` is the system's error message.
    """

    kind: FileKind
    size: int | None = None
    at_least: bool = False
    error: str = ""


class VerificationKind(enum.StrEnum):
    """The result of reading a blob to its end."""

    SOUND = "sound"
    #: The first read failed or did not match, the second matched: the disk or the memory is unreliable.
    UNSTEADY = "unsteady"
    CORRUPT = "corrupt"
    UNREADABLE = "unreadable"
    #: The record exists, the file does not.
    MISSING = "missing"
    #: The record disappeared during the read: collected or deleted, no fault.
    GONE = "gone"


class LayerVerificationKind(enum.StrEnum):
    """The result of decompressing a layer."""

    SOUND = "sound"
    DIFFERS = "differs"
    UNDECODABLE = "undecodable"
    UNVERIFIABLE = "unverifiable"


#: Why an encrypted layer cannot be checked, as `LayerVerification.detail`.
ENCRYPTED: Final = "its bytes are encrypted"


class LayerVerification(msgspec.Struct, frozen=True, gc=False):
    """The result of decompressing a layer: the digest and size of the decompressed content, and the fault found."""

    kind: LayerVerificationKind
    diff_id: Digest | None = None
    size: int = 0
    detail: str = ""
    #: The compression by content: "gzip", "zstd", "none"; empty where it was not determined.
    compression: str = ""


class Verification(msgspec.Struct, frozen=True, gc=False):
    """The result of reading one blob to its end: the bytes read, the digest found, and the damage."""

    digest: Digest
    kind: VerificationKind
    size: int = 0
    actual: Digest | None = None
    #: The damage, where it is known: "empty", "zero-filled from byte 4096", "one bit differs".
    detail: str = ""
    #: The decompressed content; which diffID is expected depends on the image.
    layer: LayerVerification | None = None
    #: Whether the blob was read in this run; false for a result of an earlier scrub.
    fresh: bool = True
    #: The time of the read, for a result of an earlier scrub.
    read_at: datetime | None = None


@runtime_checkable
class Store(Protocol):
    """A store, read-only.

    Methods raise StoreError where the store as a whole fails, ObjectError where one object does.
    """

    def info(self) -> StoreInfo:
        """Return the store's properties; cheap after the first call."""

    def namespaces(self) -> Sequence[str]:
        """Return all namespaces, sorted."""

    def inventory(self, namespace: str, *, snapshotters: Sequence[str] | None = None) -> Inventory:
        """List all records of a namespace; snapshots only of the named snapshotters, where any are named."""

    def resources(self, namespace: str, lease: str) -> Sequence[Resource]:
        """Return the resources of a lease; empty where the lease does not exist."""

    def read(self, namespace: str, digest: Digest, *, limit: int) -> bytes:
        """Read a whole blob of at most `limit` bytes, without verification.

        Raises:
            NoRecord: The namespace has no record of the blob.
            NoFile: The blob has no file.
            ReadFailed: The read failed.
            DocumentTooLarge: The blob has more than `limit` bytes.

        """

    def stream(self, namespace: str, digest: Digest, *, fresh: bool = False) -> AbstractContextManager[Iterator[bytes]]:
        """Read a blob in chunks, without verification; `fresh` bypasses the page cache where possible.

        Errors may be raised in the middle of the stream.

        Raises:
            NoRecord: The namespace has no record of the blob.
            NoFile: The blob has no file.
            ReadFailed: The read failed.

        """

    def files(self) -> Mapping[Digest, FileState] | None:
        """Return the files of all blobs from one listing of the content root; None where it is not visible."""

    def probe(self, namespace: str, digest: Digest, size: int) -> FileState:
        """Return the state of a blob's file through the store's API; `size` is the recorded size in bytes."""

    def verifications(self) -> Mapping[Digest, Verification]:
        """Return the blobs that were verified while the store was opened: all for an archive, none for a daemon."""


@runtime_checkable
class FileBacked(Protocol):
    """A store that can open its blobs' files, so that the kernel can copy them."""

    def open_file(self, namespace: str, digest: Digest) -> int | None:
        """Return a file descriptor of the blob's file, which the caller closes; None where files are not accessible.

        The file is not checked: it may be of any kind, size and content.

        Raises:
            NoFile: The blob has no file.
            ReadFailed: The file cannot be opened.

        """
