"""Send the list calls of a namespace: one for each kind of record, all at once; no call for single blobs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from typing import TypeVar

from auditor.concurrency import read_ahead
from auditor.containerd import rows
from auditor.containerd._proto import (
    containers_pb2,
    content_pb2,
    images_pb2,
    leases_pb2,
    namespaces_pb2,
    snapshots_pb2,
)
from auditor.containerd.channel import Connection, namespaced
from auditor.containerd.grpc_errors import translated
from auditor.containerd.relay import Answer, ListCalls
from auditor.containerd.rows import BlobRow, ContainerRow, ImageRow, IngestRow, LeaseRow, NamespaceRow, SnapshotRow

_Row = TypeVar("_Row")
#: Batches of the snapshots of a snapshotter that wait to be taken.
_BATCHES = 1 << 16


@contextmanager
def list_calls(connection: Connection, namespace: str, *, snapshotters: Sequence[str]) -> Iterator[ListCalls]:
    """Send all list calls of a namespace; their answers are waited for in the block.

    Args:
        connection: The daemon.
        namespace: Name of the namespace.
        snapshotters: Names of the snapshotters to list.

    """
    content, images = _content(connection, namespace), _images(connection, namespace)  # first: they take longest
    with ExitStack() as stack:
        # Each in a thread, since a snapshotter that hangs is waited for.
        chains = {name: stack.enter_context(_ahead(_snapshots(connection, namespace, name))) for name in snapshotters}
        yield ListCalls(
            images=images,
            content=content,
            leases=leases(connection, namespace),
            ingests=ingests(connection, namespace),
            containers=_containers(connection, namespace),
            namespaces=namespaces(connection),
            snapshots={name: partial(iter, chain) for name, chain in chains.items()},
            daemon_answers=connection.answers,
        )


def resources(connection: Connection, namespace: str, lease: str) -> tuple[leases_pb2.Resource, ...]:
    """Return the resources of a lease.

    Raises:
        NoRecord: There is no such lease.
        StoreError: The daemon failed.

    """
    request = leases_pb2.ListResourcesRequest(id=lease)
    with translated(f"list what lease {lease!r} holds"):
        answer = connection.leases.ListResources(request, timeout=connection.timeout, metadata=namespaced(namespace))
    return tuple(answer.resources)


# Each function below sends a request and returns a function that waits for the answer.


def namespaces(connection: Connection) -> Answer[NamespaceRow]:
    """Ask for the names and labels of all namespaces."""
    request = namespaces_pb2.ListNamespacesRequest()
    call = connection.namespaces.List.future(request, timeout=connection.timeout)
    return _once("list the namespaces", lambda: rows.namespaces(call.result().namespaces))


def leases(connection: Connection, namespace: str) -> Answer[LeaseRow]:
    """Ask for the leases of a namespace."""
    request = leases_pb2.ListRequest()
    call = connection.leases.List.future(request, timeout=connection.timeout, metadata=namespaced(namespace))
    return _once(f"list the leases of {namespace}", lambda: rows.leases(call.result().leases))


def ingests(connection: Connection, namespace: str) -> Answer[IngestRow]:
    """Ask for the ingests of a namespace."""
    request = content_pb2.ListStatusesRequest()
    call = connection.content.ListStatuses.future(request, timeout=connection.timeout, metadata=namespaced(namespace))
    return _once(f"list the ingests of {namespace}", lambda: rows.ingests(call.result().statuses))


def _images(connection: Connection, namespace: str) -> Answer[ImageRow]:
    request = images_pb2.ListImagesRequest()
    call = connection.images.List.future(request, timeout=connection.timeout, metadata=namespaced(namespace))
    return _once(f"list the images of {namespace}", lambda: rows.images(call.result().images))


def _containers(connection: Connection, namespace: str) -> Answer[ContainerRow]:
    request = containers_pb2.ListContainersRequest()
    call = connection.containers.List.future(request, timeout=connection.timeout, metadata=namespaced(namespace))
    return _once(f"list the containers of {namespace}", lambda: rows.containers(call.result().containers))


def _content(connection: Connection, namespace: str) -> Answer[BlobRow]:
    doing = f"list the content of {namespace}"
    call = connection.content.List(content_pb2.ListContentRequest(), metadata=namespaced(namespace))

    def answer() -> Iterator[list[BlobRow]]:
        with translated(doing):
            for message in connection.watch.messages(call, doing):
                yield rows.blobs(message.info)

    return answer


def _snapshots(connection: Connection, namespace: str, snapshotter: str) -> Answer[SnapshotRow]:
    doing = f"list the snapshots of {snapshotter} in {namespace}"
    request = snapshots_pb2.ListSnapshotsRequest(snapshotter=snapshotter)
    call = connection.snapshots.List(request, metadata=namespaced(namespace))

    def answer() -> Iterator[list[SnapshotRow]]:
        with translated(doing):
            for message in connection.watch.messages(call, doing):
                yield rows.snapshots(message.info)

    return answer


def _once(doing: str, result: Callable[[], list[_Row]]) -> Answer[_Row]:
    """Return a function that waits for the one batch of an answer."""

    def answer() -> tuple[list[_Row]]:
        with translated(doing):
            return (result(),)

    return answer


def _ahead(answer: Answer[_Row]) -> AbstractContextManager[Iterator[list[_Row]]]:
    """Wait for an answer in a thread of its own; leaving does not wait for it."""
    return read_ahead(answer(), limit=_BATCHES, patience=0, name="list")
