"""The protocol of a store that a repair writes to: leases, writes, labels, and replacement of blob files."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

import msgspec

from auditor.model.digest import Digest
from auditor.model.oci import Descriptor
from auditor.model.store import Labels, Resource, Store


class Replaced(Protocol):
    """A replaced blob file."""

    @property
    def quarantined(self) -> Path | None:
        """The copy that was there before, kept until the staging ends; None where there was none."""

    def undo(self) -> None:
        """Restore the previous file."""


class Staging(Protocol):
    """A folder of this run on the blobs' file system; removed at the end, or by the next run after a kill."""

    @property
    def folder(self) -> Path:
        """The folder of staged and quarantined files."""

    def stage(self, digest: Digest, chunks: Iterable[bytes], *, size: int) -> Path:
        """Write, verify and sync a replacement for a blob's file.

        Raises:
            BadBytes: The content does not match `digest` or `size`.

        """

    def replace(self, digest: Digest, staged: Path) -> Replaced:
        """Move a staged file to the blob's path atomically, and quarantine the previous file."""


class LeaseHandle(msgspec.Struct, frozen=True):
    """A lease of this program, passed with each write."""

    namespace: str
    id: str


class Mount(msgspec.Struct, frozen=True):
    """A mount that a snapshotter returns for a snapshot."""

    type: str
    source: str
    options: tuple[str, ...] = ()


class SnapshotWriter(Protocol):
    """Temporary snapshots of a repair, each protected by a lease."""

    def prepare_snapshot(
        self, lease: LeaseHandle, snapshotter: str, key: str, *, parent: str, labels: Labels | None = None
    ) -> tuple[Mount, ...]:
        """Create an active snapshot on a committed one, or on nothing."""

    def view_snapshot(self, lease: LeaseHandle, snapshotter: str, key: str, *, parent: str) -> tuple[Mount, ...]:
        """Create a read-only view of a committed snapshot; only its mounts are of use."""

    def unpack(self, lease: LeaseHandle, layer: Descriptor, mounts: Iterable[Mount]) -> Digest:
        """Unpack a layer into mounts and return the digest of the decompressed layer."""

    def commit_snapshot(self, lease: LeaseHandle, snapshotter: str, name: str, key: str, *, labels: Labels) -> None:
        """Commit an active snapshot under a name."""

    def remove_snapshot(self, namespace: str, snapshotter: str, key: str) -> None:
        """Remove a snapshot; does nothing where there is none."""


class WritableStore(Store, Protocol):
    """A store that a repair writes to. Each write is protected by a lease of this program, which expires."""

    def lease(
        self, namespace: str, *, seconds: int, labels: Labels | None = None
    ) -> AbstractContextManager[LeaseHandle]:
        """Create a lease that expires after `seconds`; it is deleted at the end of the block, also on an exception."""

    def hold(self, lease: LeaseHandle, resource: Resource) -> None:
        """Add a resource to a lease of this program.

        Raises:
            NoRecord: The store requires the resource to exist, and it does not.

        """

    def collect_garbage(self, namespace: str, *, labels: Labels | None = None) -> None:
        """Run a garbage collection and wait for its end, by deleting a new lease (with `labels`) synchronously."""

    def ingest(
        self,
        lease: LeaseHandle,
        ref: str,
        chunks: Iterator[bytes],
        *,
        size: int,
        expected: Digest,
        labels: Labels | None = None,
        deferred: bool = False,
        before_commit: Callable[[], None] | None = None,
    ) -> None:
        """Write `chunks` and commit them as `expected`.

        Args:
            lease: The lease that protects the blob.
            ref: The name of the ingest.
            chunks: The content.
            size: Its size, in bytes.
            expected: Its digest.
            labels: The labels of the new record.
            deferred: Whether to name the digest only at the commit, so that an existing file is not adopted.
            before_commit: Called when the store has all bytes, before the commit: a bad record can be deleted and its
                file collected at this point.

        Raises:
            AlreadyThere: The namespace has a record of the blob.
            Conflict: The content does not match, or the ingest is in use with other parameters.
            Busy: Another client writes this ingest.

        """

    def adopt(self, lease: LeaseHandle, digest: Digest, *, size: int, labels: Labels | None = None) -> bool:
        """Add a record of a blob that another namespace has, without sending content.

        Returns:
            False where the content sharing policy is `isolated`.

        """

    def fill(self, lease: LeaseHandle, ref: str, chunks: Iterable[bytes], *, size: int) -> None:
        """Write `chunks` to an ingest without a digest and without a commit; `commit`, even in a later run, ends it.

        Raises:
            Conflict: The content does not have `size` bytes.
            Busy: Another client writes this ingest.

        """

    def commit(
        self, lease: LeaseHandle, ref: str, *, size: int, expected: Digest, labels: Labels | None = None
    ) -> None:
        """Commit an ingest of `fill`; the store verifies its digest.

        Raises:
            NoRecord: There is no such ingest.
            AlreadyThere: The namespace has a record of the blob.
            Conflict: The content does not match.
            Busy: Another client writes this ingest.

        """

    def abort(self, namespace: str, ref: str) -> None:
        """Delete an ingest; does nothing where there is none."""

    def grant(self, namespace: str, *, seconds: int, labels: Labels | None = None) -> LeaseHandle:
        """Create a lease that outlives this process: until it is released, or expires after `seconds`."""

    def release(self, lease: LeaseHandle) -> None:
        """Delete a lease of this program; does nothing where there is none."""

    def exclusive(self, name: str) -> AbstractContextManager[None]:
        """Hold the lock `name` on this store; it is released at the end of the block or when the process dies.

        Raises:
            Busy: Another process holds the lock.

        """

    def has_record(self, namespace: str, digest: Digest) -> bool:
        """Whether there is a content record now; the file is not checked."""

    def delete_record(self, namespace: str, digest: Digest) -> None:
        """Delete a content record; the next garbage collection deletes the file."""

    def label(self, namespace: str, digest: Digest, labels: Labels) -> None:
        """Set some labels of a blob; an empty value removes a label."""

    def staging(self) -> AbstractContextManager[Staging] | None:
        """Return a folder for replacing files; None where this process cannot write to the content root."""
