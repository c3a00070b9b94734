"""What a store can do for a repair besides being read: leases, writes, labels, and files put in each other's place."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

import msgspec

from auditor.model.digest import Digest
from auditor.model.store import Labels, Resource, Store


class Replaced(Protocol):
    """A blob whose file was put in place."""

    @property
    def quarantined(self) -> Path | None:
        """The copy that was there before, kept until the staging ends; None where there was none."""

    def undo(self) -> None:
        """Put back what was there."""


class Staging(Protocol):
    """A folder of this run on the blobs' file system; it goes with all that is in it, after a kill by the next run."""

    @property
    def folder(self) -> Path:
        """Where staged files and bad copies lie until the end."""

    def stage(self, digest: Digest, chunks: Iterable[bytes], *, size: int) -> Path:
        """Write, prove and sync a file that could be the blob's.

        Raises BadBytes where the bytes are not `digest` or not `size` long.
        """

    def replace(self, digest: Digest, staged: Path) -> Replaced:
        """Put a staged file where the blob's belongs, in one step, and set the old one aside."""


class LeaseHandle(msgspec.Struct, frozen=True):
    """A lease of ours, to be passed with each write."""

    namespace: str
    id: str


class WritableStore(Store, Protocol):
    """What a repair may hold besides. Every write is done under a lease of ours, which expires by itself."""

    def lease(
        self, namespace: str, *, seconds: int, labels: Labels | None = None
    ) -> AbstractContextManager[LeaseHandle]:
        """Create a lease that expires after `seconds`; it is deleted on leaving, also by an exception."""

    def hold(self, lease: LeaseHandle, resource: Resource) -> None:
        """Add a resource to a lease of ours. Raises NoRecord where the store insists that it exists."""

    def collect_garbage(self, namespace: str, *, labels: Labels | None = None) -> None:
        """Run a collection and wait for its end (create a lease, with `labels`, and delete it with `sync`)."""

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

        With `deferred`, the digest is not named until the commit, so that a file already in place is not adopted.
        `before_commit` runs when the store has all bytes and none is committed: the moment to delete a bad record and
        to collect its file.
        Raises AlreadyThere, Conflict, Busy.
        """

    def adopt(self, lease: LeaseHandle, digest: Digest, *, size: int, labels: Labels | None = None) -> bool:
        """Commit a blob that another namespace holds, without sending a byte; False where the policy isolates."""

    def fill(self, lease: LeaseHandle, ref: str, chunks: Iterable[bytes], *, size: int) -> None:
        """Write `chunks` and leave them uncommitted and unnamed, for `commit` to find, also in a later run.

        Raises Conflict where they are not `size` bytes, Busy.
        """

    def commit(
        self, lease: LeaseHandle, ref: str, *, size: int, expected: Digest, labels: Labels | None = None
    ) -> None:
        """Commit what `fill` left; the store hashes it. Raises NoRecord for nothing, AlreadyThere, Conflict, Busy."""

    def abort(self, namespace: str, ref: str) -> None:
        """Drop an ingest; none is fine."""

    def grant(self, namespace: str, *, seconds: int, labels: Labels | None = None) -> LeaseHandle:
        """Create a lease that stays until it is released or expires after `seconds`, whatever becomes of us."""

    def release(self, lease: LeaseHandle) -> None:
        """Delete a lease of ours; none is fine."""

    def exclusive(self, name: str) -> AbstractContextManager[None]:
        """Be the only client of this store inside a block called `name`; a killed one leaves it at once.

        Raises Busy where another is inside.
        """

    def has_record(self, namespace: str, digest: Digest) -> bool:
        """Whether there is a content record now; the file is not looked at."""

    def delete_record(self, namespace: str, digest: Digest) -> None:
        """Delete a content record; the file goes with the next collection."""

    def label(self, namespace: str, digest: Digest, labels: Labels) -> None:
        """Set labels of a blob, leaving its others as they are; an empty value removes one."""

    def staging(self) -> AbstractContextManager[Staging] | None:
        """A folder for replacing files; None where this process cannot write to the content root."""
