"""The same store, with what a repair may do to it: every write under a lease of ours that ends by itself."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
from google.protobuf.field_mask_pb2 import FieldMask

from auditor.containerd import api_read, ingest, replace_file
from auditor.containerd._proto import content_pb2, leases_pb2
from auditor.containerd.channel import Connection, namespaced
from auditor.containerd.find_content_root import ContentRootOption
from auditor.containerd.grpc_errors import translated
from auditor.containerd.replace_file import Staging
from auditor.containerd.store import ContainerdStore
from auditor.errors import AlreadyThere, AuditorError, Busy, NoRecord, StoreTimeout
from auditor.model.digest import Digest
from auditor.model.store import Labels, Resource
from auditor.model.writable_store import LeaseHandle

#: containerd core/metadata/gc.go: a lease with this label ends by itself at that time, RFC 3339.
EXPIRE = "containerd.io/gc.expire"
#: Seconds after which a lease made only to start a collection would go by itself.
_GC_LEASE = 3600
#: Bytes from which on a write goes through its file where that can be; below, one more call costs more than it saves.
DIRECT = 1 << 20


def _now() -> datetime:
    return datetime.now(UTC)


def _token() -> str:
    return secrets.token_hex(8)


class WritableContainerdStore(ContainerdStore):
    """Implements the protocol `WritableStore`. `now` and `token` give the time and names that nobody else uses."""

    def __init__(
        self,
        connection: Connection,
        *,
        content_root: ContentRootOption = "auto",
        now: Callable[[], datetime] = _now,
        token: Callable[[], str] = _token,
    ) -> None:
        super().__init__(connection, content_root=content_root)
        self._now = now
        self._token = token

    @contextmanager
    def lease(self, namespace: str, *, seconds: int, labels: Labels | None = None) -> Iterator[LeaseHandle]:
        """A lease of ours. Deleted on leaving; where that fails after an error, the error is what is told.

        containerd makes a namespace that does not exist when a lease is asked for in it, and keeps it: never ask in one
        that `namespaces` does not list.
        """
        handle = self._create_lease(namespace, seconds=seconds, labels=labels or {})
        try:
            yield handle
        except BaseException:
            with suppress(AuditorError):
                self._delete_lease(handle)
            raise
        self._delete_lease(handle)

    def hold(self, lease: LeaseHandle, resource: Resource) -> None:
        """Add a resource to the lease; containerd takes ids that do not exist as well.

        Raises Unsupported for `images` before 2.0: hold the content and the snapshots instead.
        """
        request = leases_pb2.AddResourceRequest(
            id=lease.id, resource=leases_pb2.Resource(id=resource.id, type=resource.type)
        )
        with translated(f"hold {resource.type} {resource.id}"):
            self._connection.leases.AddResource(
                request, timeout=self._connection.timeout, metadata=namespaced(lease.namespace)
            )

    def collect_garbage(self, namespace: str, *, labels: Labels | None = None) -> None:
        """Run a collection and wait for its end, which may take minutes on a large node; in a namespace that exists.

        Raises StoreTimeout only where the daemon does not answer other calls either.
        """
        handle = self._create_lease(namespace, seconds=_GC_LEASE, labels=labels or {})
        self._delete_lease(handle, sync=True)

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
        """Write `chunks` and commit them as `expected`; what fails leaves nothing behind.

        `before_commit` runs when the daemon has all bytes and none is committed: the moment to delete a bad record and
        collect its file. Raises AlreadyThere, Conflict, Busy, StoreError and its kinds.
        """
        try:
            if before_commit is None and self._filled(lease, ref, chunks, size=size):
                ingest.commit(self._connection, lease, ref, size=size, expected=expected, labels=labels or {})
                return
            ingest.write(
                self._connection,
                lease,
                ref,
                chunks,
                size=size,
                expected=expected,
                labels=labels or {},
                deferred=deferred,
                before_commit=before_commit,
            )
        except (Busy, AlreadyThere):
            raise
        except BaseException:
            with suppress(AuditorError):
                self._abort(lease.namespace, ref, lease=lease.id)
            raise

    def adopt(self, lease: LeaseHandle, digest: Digest, *, size: int, labels: Labels | None = None) -> bool:
        """Commit a blob that another namespace holds; whatever bytes are there are taken, good or bad.

        Raises AlreadyThere where this namespace has a record, Conflict where the file has not `size` bytes.
        """
        ref = f"auditor-adopt-{self._token()}"
        adopted = False
        try:
            adopted = ingest.adopt(self._connection, lease, ref, digest, size=size, labels=labels or {})
        finally:
            if not adopted:
                with suppress(AuditorError):
                    self._abort(lease.namespace, ref, lease=lease.id)
        return adopted

    def fill(self, lease: LeaseHandle, ref: str, chunks: Iterable[bytes], *, size: int) -> None:
        """Write `chunks` and leave them for `commit`; what fails leaves nothing. Raises Conflict, Busy, StoreError."""
        try:
            if not self._filled(lease, ref, chunks, size=size):
                ingest.fill(self._connection, lease, ref, chunks, size=size)
        except Busy:
            raise
        except BaseException:
            with suppress(AuditorError):
                self._abort(lease.namespace, ref, lease=lease.id)
            raise

    def _filled(self, lease: LeaseHandle, ref: str, chunks: Iterable[bytes], *, size: int) -> bool:
        """Write the bytes to the file of the write, if that is ours to open; False where nothing was written."""
        root = self._root
        if root is None or size < DIRECT or not replace_file.writable(root):
            return False
        ingest.begin(self._connection, lease, ref, size=size)
        path = ingest.data_file(root, lease.namespace, ref)
        if path is None:
            return False
        ingest.fill_file(path, chunks, size=size)
        return True

    def commit(
        self, lease: LeaseHandle, ref: str, *, size: int, expected: Digest, labels: Labels | None = None
    ) -> None:
        """Commit what `fill` left; what fails leaves it where it is, for another try.

        Raises NoRecord where nothing was staged, AlreadyThere, Conflict, Busy, StoreError.
        """
        ingest.commit(self._connection, lease, ref, size=size, expected=expected, labels=labels or {})

    def abort(self, namespace: str, ref: str) -> None:
        """Drop an ingest; none is fine."""
        self._abort(namespace, ref)

    def grant(self, namespace: str, *, seconds: int, labels: Labels | None = None) -> LeaseHandle:
        """A lease that stays until it is released or expires; in a namespace that exists."""
        return self._create_lease(namespace, seconds=seconds, labels=labels or {})

    def release(self, lease: LeaseHandle) -> None:
        """Delete a lease of ours; none is fine."""
        self._delete_lease(lease)

    @contextmanager
    def exclusive(self, name: str) -> Iterator[None]:
        """Claim `name` in every namespace, in one order; what is claimed goes with the process, whatever ends it.

        Raises Busy.
        """
        ref = f"auditor-{name}"
        with ExitStack() as claims:
            for namespace in self.namespaces():
                claims.enter_context(self._claimed(namespace, ref))
            yield

    @contextmanager
    def _claimed(self, namespace: str, ref: str) -> Iterator[None]:
        """Dropped before it is closed: afterwards it may be somebody else's."""
        with ingest.claimed(self._connection, namespace, ref):
            try:
                yield
            finally:
                self._drop(namespace, ref)

    def _drop(self, namespace: str, ref: str) -> None:
        with suppress(AuditorError):
            self._abort(namespace, ref)

    def _abort(self, namespace: str, ref: str, *, lease: str = "") -> None:
        """Under the lease that the ingest was made under, the lease forgets it too."""
        headers = namespaced(namespace, lease=lease)
        with suppress(NoRecord), translated(f"drop the unfinished write {ref!r}"):
            request = content_pb2.AbortRequest(ref=ref)
            self._connection.content.Abort(request, timeout=self._connection.timeout, metadata=headers)

    def has_record(self, namespace: str, digest: Digest) -> bool:
        """Whether there is a content record now; asks the database alone."""
        try:
            api_read.record(self._connection, namespace, digest)
        except NoRecord:
            return False
        return True

    def delete_record(self, namespace: str, digest: Digest) -> None:
        """Delete a content record. Raises NoRecord."""
        request = content_pb2.DeleteContentRequest(digest=digest)
        with translated(f"delete the record of {digest}"):
            self._connection.content.Delete(request, timeout=self._connection.timeout, metadata=namespaced(namespace))

    def label(self, namespace: str, digest: Digest, labels: Labels) -> None:
        """Set labels of a blob, leaving its others as they are; an empty value removes one. Raises NoRecord.

        The mask's path is `labels.` and the key as it is: containerd cuts the prefix and takes the rest, dots and all
        (core/metadata/content.go `Update`).
        """
        if not labels:
            return
        request = content_pb2.UpdateRequest(
            info=content_pb2.Info(digest=digest, labels=dict(labels)),
            update_mask=FieldMask(paths=[f"labels.{key}" for key in labels]),
        )
        with translated(f"label {digest}"):
            self._connection.content.Update(request, timeout=self._connection.timeout, metadata=namespaced(namespace))

    def staging(self) -> AbstractContextManager[Staging] | None:
        """A folder in the content root for replacing files; None where we cannot write there."""
        root = self._root
        if root is None or not replace_file.writable(root):
            return None
        return replace_file.staging(root, token=self._token)

    def _create_lease(self, namespace: str, *, seconds: int, labels: Labels) -> LeaseHandle:
        expires = (self._now() + timedelta(seconds=seconds)).astimezone(UTC)
        request = leases_pb2.CreateRequest(
            id=f"auditor-{self._token()}", labels={**labels, EXPIRE: expires.strftime("%Y-%m-%dT%H:%M:%SZ")}
        )
        with translated(f"create a lease in {namespace}"):
            answer = self._connection.leases.Create(
                request, timeout=self._connection.timeout, metadata=namespaced(namespace)
            )
        return LeaseHandle(namespace, answer.lease.id)

    def _delete_lease(self, lease: LeaseHandle, *, sync: bool = False) -> None:
        request = leases_pb2.DeleteRequest(id=lease.id, sync=sync)
        with suppress(NoRecord), translated(f"delete the lease {lease.id}"):
            call = self._connection.leases.Delete.future(request, metadata=namespaced(lease.namespace))
            self._wait(call)

    def _wait(self, call: grpc.Future[Any]) -> None:
        """Wait for a call that may take long, for as long as the daemon answers others."""
        while True:
            try:
                call.result(timeout=self._connection.timeout)
            except grpc.FutureTimeoutError:
                if not self._connection.answers():
                    call.cancel()
                    raise StoreTimeout(
                        "a garbage collection does not end, and the daemon answers nothing else",
                        hint="the lease that started it expires by itself",
                    ) from None
            else:
                return
