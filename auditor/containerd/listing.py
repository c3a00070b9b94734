"""List the records of a namespace: one list call for each kind, in parallel; no call for single blobs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from itertools import chain
from typing import Any, TypeVar

from auditor.concurrency import workers
from auditor.containerd import convert
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
from auditor.errors import AuditorError, InvalidDigest, StoreTimeout, StoreUnreachable
from auditor.model.store import Blob, Container, Image, Ingest, Inventory, Labels, Lease, Resource, Snapshot

_Message = TypeVar("_Message")
_Noun = TypeVar("_Noun")
#: Records of a listing, and its gaps, one sentence each.
_Listed = tuple[_Noun, tuple[str, ...]]
#: Parallel calls for one namespace.
_WORKERS = 6


def namespaces(connection: Connection) -> dict[str, Labels]:
    """Return the labels of all namespaces, by name.

    Raises:
        StoreError: They cannot be listed.

    """
    with translated("list the namespaces"):
        request = namespaces_pb2.ListNamespacesRequest()
        answer = connection.namespaces.List(request, timeout=connection.timeout)
    return {n.name: convert.labels_of(n.labels) for n in sorted(answer.namespaces, key=lambda n: n.name)}


def inventory(connection: Connection, namespace: str, *, snapshotters: Sequence[str]) -> Inventory:
    """List the records of a namespace. Kinds that cannot be listed are gaps, except images and content.

    Args:
        connection: The daemon.
        namespace: Name of the namespace.
        snapshotters: Names of the snapshotters to list.

    Raises:
        StoreError: Images or content cannot be listed.

    """
    with workers(_WORKERS, name="list") as pool:
        content = pool.submit(_content, connection, namespace)
        chains = {name: pool.submit(_or_gap, connection, _snapshots, namespace, name) for name in snapshotters}
        images = pool.submit(_images, connection, namespace)
        leases = pool.submit(_or_gap, connection, _leases, namespace)
        ingests = pool.submit(_or_gap, connection, _ingests, namespace)
        containers = pool.submit(_or_gap, connection, _containers, namespace)
        labels = pool.submit(_or_gap, connection, _labels, namespace)
    listings: tuple[Future[Any], ...] = (images, content, leases, ingests, containers, labels, *chains.values())
    return Inventory(
        namespace=namespace,
        images=images.result()[0],
        blobs={blob.digest: blob for blob in content.result()[0]},
        snapshots=_by_name(chains),
        leases=leases.result()[0],
        ingests=ingests.result()[0],
        containers=containers.result()[0],
        labels=next(iter(labels.result()[0]), {}),
        gaps=tuple(chain.from_iterable(listing.result()[1] for listing in listings)),
    )


def _by_name(chains: Mapping[str, Future[_Listed[tuple[Snapshot, ...]]]]) -> dict[str, dict[str, Snapshot]]:
    """Group snapshots by snapshotter and name; a snapshotter with gaps is left out: unknown, not empty."""
    listed = {name: listing.result() for name, listing in chains.items()}
    return {name: {s.name: s for s in found} for name, (found, gaps) in listed.items() if not gaps}


def resources(connection: Connection, namespace: str, lease: str) -> tuple[Resource, ...]:
    """Return the resources of a lease, sorted.

    Raises:
        NoRecord: There is no such lease.
        StoreError: The daemon failed.

    """
    request = leases_pb2.ListResourcesRequest(id=lease)
    with translated(f"list what lease {lease!r} holds"):
        answer = connection.leases.ListResources(request, timeout=connection.timeout, metadata=namespaced(namespace))
    return tuple(sorted(Resource(r.type, r.id) for r in answer.resources))


def guards(connection: Connection, namespace: str) -> tuple[tuple[Lease, ...], tuple[Ingest, ...]]:
    """Return the leases and ingests of a namespace.

    Raises:
        StoreError: They cannot be listed.

    """
    return _leases(connection, namespace)[0], _ingests(connection, namespace)[0]


def _or_gap(
    connection: Connection, listing: Callable[..., _Listed[tuple[_Noun, ...]]], namespace: str, *more: str
) -> _Listed[tuple[_Noun, ...]]:
    """Run an optional listing; its failure is a gap, unless the daemon itself does not answer.

    A proxy snapshotter is a process of its own: it can fail while the daemon works.
    """
    try:
        return listing(connection, namespace, *more)
    except (StoreUnreachable, StoreTimeout) as error:
        if not connection.answers():
            raise
        return (), (error.message,)
    except AuditorError as error:
        return (), (error.message,)


def _images(connection: Connection, namespace: str) -> _Listed[tuple[Image, ...]]:
    with translated(f"list the images of {namespace}"):
        request = images_pb2.ListImagesRequest()
        answer = connection.images.List(request, timeout=connection.timeout, metadata=namespaced(namespace))
    return _taken(
        answer.images,
        lambda record: convert.image(namespace, record),
        lambda record: f"image {record.name!r} of {namespace} points to {record.target.digest!r}",
    )


def _content(connection: Connection, namespace: str) -> _Listed[tuple[Blob, ...]]:
    doing = f"list the content of {namespace}"
    with translated(doing):
        call = connection.content.List(content_pb2.ListContentRequest(), metadata=namespaced(namespace))
        batches = connection.watch.messages(call, doing)
        return _taken(
            (info for batch in batches for info in batch.info),
            lambda info: convert.blob(namespace, info),
            lambda info: f"a content record of {namespace} is named {info.digest!r}",
        )


def _snapshots(connection: Connection, namespace: str, snapshotter: str) -> _Listed[tuple[Snapshot, ...]]:
    doing = f"list the snapshots of {snapshotter} in {namespace}"
    with translated(doing):
        request = snapshots_pb2.ListSnapshotsRequest(snapshotter=snapshotter)
        call = connection.snapshots.List(request, metadata=namespaced(namespace))
        batches = connection.watch.messages(call, doing)
        return tuple(convert.snapshot(namespace, snapshotter, info) for batch in batches for info in batch.info), ()


def _leases(connection: Connection, namespace: str) -> _Listed[tuple[Lease, ...]]:
    with translated(f"list the leases of {namespace}"):
        request = leases_pb2.ListRequest()
        answer = connection.leases.List(request, timeout=connection.timeout, metadata=namespaced(namespace))
    return tuple(convert.lease(namespace, record) for record in answer.leases), ()


def _ingests(connection: Connection, namespace: str) -> _Listed[tuple[Ingest, ...]]:
    with translated(f"list the ingests of {namespace}"):
        request = content_pb2.ListStatusesRequest()
        answer = connection.content.ListStatuses(request, timeout=connection.timeout, metadata=namespaced(namespace))
    return tuple(convert.ingest(namespace, status) for status in answer.statuses), ()


def _containers(connection: Connection, namespace: str) -> _Listed[tuple[Container, ...]]:
    with translated(f"list the containers of {namespace}"):
        request = containers_pb2.ListContainersRequest()
        answer = connection.containers.List(request, timeout=connection.timeout, metadata=namespaced(namespace))
    return tuple(convert.container(namespace, record) for record in answer.containers), ()


def _labels(connection: Connection, namespace: str) -> _Listed[tuple[Labels, ...]]:
    return (namespaces(connection).get(namespace, {}),), ()


def _taken(
    messages: Iterable[_Message], convert_one: Callable[[_Message], _Noun], named: Callable[[_Message], str]
) -> _Listed[tuple[_Noun, ...]]:
    """Convert records; those with an invalid digest are left out, and reported as a gap with one example."""
    bad: list[_Message] = []
    items = tuple(_converted(messages, convert_one, bad))
    if not bad:
        return items, ()
    others = f", and {len(bad) - 1} more like it" if len(bad) > 1 else ""
    return items, (f"{named(bad[0])}, which is not a digest{others}: not audited",)


def _converted(
    messages: Iterable[_Message], convert_one: Callable[[_Message], _Noun], bad: list[_Message]
) -> Iterator[_Noun]:
    for message in messages:
        try:
            yield convert_one(message)
        except InvalidDigest:
            bad.append(message)
