"""Unpack a layer into a temporary snapshot of its own, for a repair of the committed one."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from auditor.containerd._proto import diff_pb2, diff_pb2_grpc, snapshots_pb2, types_pb2
from auditor.containerd.channel import Connection, namespaced
from auditor.containerd.grpc_errors import translated
from auditor.containerd.grpc_import import grpc
from auditor.errors import NoRecord, StoreTimeout
from auditor.model.digest import Digest
from auditor.model.oci import Descriptor
from auditor.model.store import Labels
from auditor.model.writable_store import LeaseHandle, Mount


def prepare(
    connection: Connection, lease: LeaseHandle, snapshotter: str, key: str, *, parent: str, labels: Labels
) -> tuple[Mount, ...]:
    """Create an active snapshot.

    Raises:
        AlreadyThere: The key is in use.
        NoRecord: There is no such parent.
        StoreError: The daemon failed; for a parent whose folder is gone, too.

    """
    request = snapshots_pb2.PrepareSnapshotRequest(snapshotter=snapshotter, key=key, parent=parent, labels=dict(labels))
    with translated(f"prepare a snapshot on {parent or 'nothing'}"):
        answer = connection.snapshots.Prepare(
            request, timeout=connection.timeout, metadata=namespaced(lease.namespace, lease=lease.id)
        )
    return _mounts(answer.mounts)


def view(connection: Connection, lease: LeaseHandle, snapshotter: str, key: str, *, parent: str) -> tuple[Mount, ...]:
    """Create a read-only view of a committed snapshot; errors as for `prepare`."""
    request = snapshots_pb2.ViewSnapshotRequest(snapshotter=snapshotter, key=key, parent=parent)
    with translated(f"view the snapshot {parent}"):
        answer = connection.snapshots.View(
            request, timeout=connection.timeout, metadata=namespaced(lease.namespace, lease=lease.id)
        )
    return _mounts(answer.mounts)


def apply(connection: Connection, lease: LeaseHandle, layer: Descriptor, mounts: Iterable[Mount]) -> Digest:
    """Unpack a layer into mounts; wait while the daemon answers other calls.

    Returns:
        The digest of the decompressed layer.

    Raises:
        StoreError: The layer cannot be unpacked.
        StoreTimeout: The daemon does not end it, and does not answer other calls.

    """
    request = diff_pb2.ApplyRequest(
        diff=types_pb2.Descriptor(media_type=layer.media_type, digest=layer.digest, size=layer.size),
        mounts=[types_pb2.Mount(type=m.type, source=m.source, options=m.options) for m in mounts],
    )
    diff = diff_pb2_grpc.DiffStub(connection.channel)
    with translated(f"unpack {layer.digest}"):
        call = diff.Apply.future(request, metadata=namespaced(lease.namespace, lease=lease.id))
        return Digest.parse(_finished(connection, call, layer).applied.digest)


def commit(
    connection: Connection, lease: LeaseHandle, snapshotter: str, name: str, key: str, *, labels: Labels
) -> None:
    """Commit an active snapshot under a name.

    Raises:
        AlreadyThere: The name is in use.
        NoRecord: There is no such active snapshot.

    """
    request = snapshots_pb2.CommitSnapshotRequest(snapshotter=snapshotter, name=name, key=key, labels=dict(labels))
    with translated(f"commit the snapshot {name}"):
        connection.snapshots.Commit(
            request, timeout=connection.timeout, metadata=namespaced(lease.namespace, lease=lease.id)
        )


def remove(connection: Connection, namespace: str, snapshotter: str, key: str) -> None:
    """Remove a snapshot, if there is one.

    Raises:
        Conflict: It has children.

    """
    request = snapshots_pb2.RemoveSnapshotRequest(snapshotter=snapshotter, key=key)
    with suppress(NoRecord), translated(f"remove the snapshot {key}"):
        connection.snapshots.Remove(request, timeout=connection.timeout, metadata=namespaced(namespace))


def _finished(connection: Connection, call: grpc.Future[Any], layer: Descriptor) -> Any:  # noqa: ANN401 - a message
    while True:
        try:
            return call.result(timeout=connection.timeout)
        except grpc.FutureTimeoutError:
            if not connection.answers():
                call.cancel()
                raise StoreTimeout(
                    f"unpacking {layer.digest} does not end, and the daemon answers nothing else",
                    hint="its disk may be overloaded; nothing was exchanged",
                ) from None


def _mounts(mounts: Iterable[types_pb2.Mount]) -> tuple[Mount, ...]:
    return tuple(Mount(m.type, m.source, tuple(m.options)) for m in mounts)
