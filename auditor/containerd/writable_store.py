"""A live containerd as a `WritableStore`: every write happens under a lease that expires."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import Any

from auditor.containerd import api_read, ingest, replace_file, rows, unpack
from auditor.containerd._proto import content_pb2, images_pb2, leases_pb2
from auditor.containerd.channel import Connection, namespaced
from auditor.containerd.find_content_root import ContentRootOption
from auditor.containerd.grpc_errors import translated
from auditor.containerd.grpc_import import grpc
from auditor.containerd.protobuf_import import FieldMask
from auditor.containerd.replace_file import Staging
from auditor.containerd.store import ContainerdStore
from auditor.errors import AlreadyThere, AuditorError, Busy, NoRecord, StoreTimeout
from auditor.model.digest import Digest
from auditor.model.oci import Descriptor
from auditor.model.store import Image, Labels, Resource
from auditor.model.writable_store import LeaseHandle, Mount

#: Label with the expiry of a lease in RFC 3339; containerd core/metadata/gc.go.
EXPIRE = "containerd.io/gc.expire"
#: Expiry in seconds of a lease that only starts a garbage collection.
_GC_LEASE = 3600
#: Difference of the clocks that a lease ignores; leases of a repair live for hours.
CLOCK_TOLERANCE = timedelta(seconds=60)
#: Size in bytes from which an ingest's file is written directly; below, the additional call costs more than it saves.
DIRECT = 1 << 20


def _now() -> datetime:
    return datetime.now(UTC)


def _token() -> str:
    return secrets.token_hex(8)


class WritableContainerdStore(ContainerdStore):
    """Implements `auditor.model.writable_store.WritableStore`.

    Args:
        connection: The daemon.
        content_root: As for ContainerdStore.
        now: Returns the time.
        token: Returns a unique name.

    """

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
        self._clock_offset = timedelta(0)

    @contextmanager
    def lease(self, namespace: str, *, seconds: int, labels: Labels | None = None) -> Iterator[LeaseHandle]:
        """Create a lease for the duration of a block.

        The namespace must exist: containerd creates a missing one with the lease, and keeps it.

        Args:
            namespace: Name of an existing namespace.
            seconds: Expiry.
            labels: Labels of the lease.

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
        """Add a resource to a lease; containerd accepts ids that do not exist.

        Raises:
            Unsupported: The type is `images` before 2.0; hold content and snapshots instead.

        """
        request = leases_pb2.AddResourceRequest(
            id=lease.id, resource=leases_pb2.Resource(id=resource.id, type=resource.type)
        )
        with translated(f"hold {resource.type} {resource.id}"):
            self._connection.leases.AddResource(
                request, timeout=self._connection.timeout, metadata=namespaced(lease.namespace)
            )

    def collect_garbage(self, namespace: str, *, labels: Labels | None = None) -> None:
        """Run a garbage collection and wait for its end, which may take minutes on a large node.

        Raises:
            StoreTimeout: The collection does not end, and the daemon does not answer other calls.

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
        """Write a blob and commit it; after a failure the ingest is aborted.

        Args:
            lease: The lease of the write.
            ref: Reference of the ingest.
            chunks: The bytes.
            size: Their number.
            expected: Their digest.
            labels: Labels of the record.
            deferred: Name the digest only in the commit, so that an existing file is not adopted.
            before_commit: Called when the daemon has all bytes, before the commit.

        Raises:
            AlreadyThere: There is a record.
            Conflict: Size or digest differ.
            Busy: Another client has the reference open.
            StoreError: The daemon failed.

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
        """Commit a blob that another namespace has; its content is not verified.

        Returns:
            False where the daemon does not share blobs between namespaces.

        Raises:
            AlreadyThere: This namespace has a record.
            Conflict: The file has not `size` bytes.

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
        """Write an ingest for `commit`; after a failure it is aborted.

        Raises:
            Conflict: The chunks have not `size` bytes.
            Busy: Another client has the reference open.
            StoreError: The daemon or the disk failed.

        """
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
        """Write the bytes to the ingest's file; False, with nothing written, where it is not writable."""
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
        """Commit the ingest of `fill`; after a failure the ingest stays.

        Raises:
            NoRecord: The ingest is empty.
            AlreadyThere: There is a record.
            Conflict: Size or digest differ.
            Busy: Another client has the reference open.
            StoreError: The daemon failed.

        """
        ingest.commit(self._connection, lease, ref, size=size, expected=expected, labels=labels or {})

    def abort(self, namespace: str, ref: str) -> None:
        """Abort an ingest, if there is one."""
        self._abort(namespace, ref)

    def grant(self, namespace: str, *, seconds: int, labels: Labels | None = None) -> LeaseHandle:
        """Create a lease that stays until it is released or expires; the namespace must exist."""
        return self._create_lease(namespace, seconds=seconds, labels=labels or {})

    def release(self, lease: LeaseHandle) -> None:
        """Delete a lease, if there is one."""
        self._delete_lease(lease)

    @contextmanager
    def exclusive(self, name: str) -> Iterator[None]:
        """Hold the lock `name` in every namespace; the daemon frees it when the process ends.

        Raises:
            Busy: Another process holds it.

        """
        ref = f"auditor-{name}"
        with ExitStack() as claims:
            for namespace in self.namespaces():
                claims.enter_context(self._claimed(namespace, ref))
            yield

    @contextmanager
    def _claimed(self, namespace: str, ref: str) -> Iterator[None]:
        """Hold the lock in one namespace; its ingest is aborted before it is closed and another process may open it."""
        with ingest.claimed(self._connection, namespace, ref):
            try:
                yield
            finally:
                self._drop(namespace, ref)

    def _drop(self, namespace: str, ref: str) -> None:
        with suppress(AuditorError):
            self._abort(namespace, ref)

    def _abort(self, namespace: str, ref: str, *, lease: str = "") -> None:
        """Abort an ingest; with its lease, the lease drops it, too."""
        headers = namespaced(namespace, lease=lease)
        with suppress(NoRecord), translated(f"abort the ingest {ref!r}"):
            request = content_pb2.AbortRequest(ref=ref)
            self._connection.content.Abort(request, timeout=self._connection.timeout, metadata=headers)

    def has_record(self, namespace: str, digest: Digest) -> bool:
        """Whether there is a content record now; the file is not examined."""
        try:
            api_read.record(self._connection, namespace, digest)
        except NoRecord:
            return False
        return True

    def delete_record(self, namespace: str, digest: Digest) -> None:
        """Delete a content record.

        Raises:
            NoRecord: There is none.

        """
        request = content_pb2.DeleteContentRequest(digest=digest)
        with translated(f"delete the record of {digest}"):
            self._connection.content.Delete(request, timeout=self._connection.timeout, metadata=namespaced(namespace))

    def label(self, namespace: str, digest: Digest, labels: Labels) -> None:
        """Set labels of a blob; other labels stay, an empty value removes a label.

        A path of the mask is `labels.` and the key, dots included (containerd core/metadata/content.go `Update`).

        Raises:
            NoRecord: There is no record.

        """
        if not labels:
            return
        request = content_pb2.UpdateRequest(
            info=content_pb2.Info(digest=digest, labels=dict(labels)),
            update_mask=FieldMask(paths=[f"labels.{key}" for key in labels]),
        )
        with translated(f"label {digest}"):
            self._connection.content.Update(request, timeout=self._connection.timeout, metadata=namespaced(namespace))

    def create_image(self, lease: LeaseHandle, image: Image) -> None:
        """Create an image record in the lease's namespace, whose content must be recorded there.

        Raises:
            AlreadyThere: There is an image of this name; its target is not compared.

        """
        request = images_pb2.CreateImageRequest(image=rows.image_message(image))
        with translated(f"create the image {image.name!r}"):
            self._connection.images.Create(
                request, timeout=self._connection.timeout, metadata=namespaced(lease.namespace, lease=lease.id)
            )

    def prepare_snapshot(
        self, lease: LeaseHandle, snapshotter: str, key: str, *, parent: str, labels: Labels | None = None
    ) -> tuple[Mount, ...]:
        """Create an active snapshot; errors as of `unpack.prepare`."""
        return unpack.prepare(self._connection, lease, snapshotter, key, parent=parent, labels=labels or {})

    def view_snapshot(self, lease: LeaseHandle, snapshotter: str, key: str, *, parent: str) -> tuple[Mount, ...]:
        """Create a read-only view; errors as of `unpack.prepare`."""
        return unpack.view(self._connection, lease, snapshotter, key, parent=parent)

    def unpack(self, lease: LeaseHandle, layer: Descriptor, mounts: Iterable[Mount]) -> Digest:
        """Unpack a layer and return the digest of its decompressed content; errors as of `unpack.apply`."""
        return unpack.apply(self._connection, lease, layer, mounts)

    def commit_snapshot(self, lease: LeaseHandle, snapshotter: str, name: str, key: str, *, labels: Labels) -> None:
        """Commit an active snapshot under a name; errors as of `unpack.commit`."""
        unpack.commit(self._connection, lease, snapshotter, name, key, labels=labels)

    def remove_snapshot(self, namespace: str, snapshotter: str, key: str) -> None:
        """Remove a snapshot, if there is one; errors as of `unpack.remove`."""
        unpack.remove(self._connection, namespace, snapshotter, key)

    def staging(self) -> AbstractContextManager[Staging] | None:
        """Return a staging folder in the content root; None where it is not writable."""
        root = self._root
        if root is None or not replace_file.writable(root):
            return None
        return replace_file.staging(root, token=self._token)

    def _create_lease(self, namespace: str, *, seconds: int, labels: Labels) -> LeaseHandle:
        """Create a lease that expires by the daemon's clock; where the clocks differ, create it a second time."""
        now = self._now()
        assumed = now + self._clock_offset
        handle, created = self._lease_until(namespace, assumed + timedelta(seconds=seconds), labels)
        if created is None or abs(created - assumed) <= CLOCK_TOLERANCE:
            return handle
        self._clock_offset = created - now
        self._delete_lease(handle)
        again, _ = self._lease_until(namespace, created + timedelta(seconds=seconds), labels)
        return again

    def _lease_until(self, namespace: str, expires: datetime, labels: Labels) -> tuple[LeaseHandle, datetime | None]:
        """Create a lease; return it with its time of creation by the daemon's clock, where the daemon says it."""
        until = expires.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        request = leases_pb2.CreateRequest(id=f"auditor-{self._token()}", labels={**labels, EXPIRE: until})
        with translated(f"create a lease in {namespace}"):
            answer = self._connection.leases.Create(
                request, timeout=self._connection.timeout, metadata=namespaced(namespace)
            )
        said = answer.lease.HasField("created_at")
        created = answer.lease.created_at.ToDatetime(tzinfo=UTC) if said else None
        return LeaseHandle(namespace, answer.lease.id), created

    def _delete_lease(self, lease: LeaseHandle, *, sync: bool = False) -> None:
        request = leases_pb2.DeleteRequest(id=lease.id, sync=sync)
        with suppress(NoRecord), translated(f"delete the lease {lease.id}"):
            call = self._connection.leases.Delete.future(request, metadata=namespaced(lease.namespace))
            self._wait(call)

    def _wait(self, call: grpc.Future[Any]) -> None:
        """Wait for a long call while the daemon answers other calls."""
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
