"""List the records of a namespace: one list call for each kind, all at once; no call for single blobs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from functools import partial
from typing import TypeVar

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
#: Waits for the answer to a request that was sent.
_Answer = Callable[[], _Listed[_Noun]]
#: Snapshotters that are waited for at a time.
_WORKERS = 6


def namespaces(connection: Connection) -> dict[str, Labels]:
    """Return the labels of all namespaces, by name.

    Raises:
        StoreError: They cannot be listed.

    """
    return _namespaces(connection)()


def inventory(connection: Connection, namespace: str, *, snapshotters: Sequence[str]) -> Inventory:
    """List the records of a namespace. Kinds that cannot be listed are gaps, except images and content.

    All requests are sent before the first answer is read.

    Args:
        connection: The daemon.
        namespace: Name of the namespace.
        snapshotters: Names of the snapshotters to list.

    Raises:
        StoreError: Images or content cannot be listed.

    """
    with workers(_WORKERS, name="list") as pool:
        content = _content(connection, namespace)
        # Each in a thread, since a snapshotter that hangs is waited for.
        chains = {
            name: pool.submit(_or_gap, connection, _snapshots(connection, namespace, name)) for name in snapshotters
        }
        images = _images(connection, namespace)
        leases = _leases(connection, namespace)
        ingests = _ingests(connection, namespace)
        containers = _containers(connection, namespace)
        labels = _labels(connection, namespace)
        try:
            blobs, odd_blobs = content()
        except AuditorError:
            images()  # where both fail, the error is that of the images
            raise
        images_found, odd_images = images()
        leases_found, no_leases = _or_gap(connection, leases)
        ingests_found, no_ingests = _or_gap(connection, ingests)
        containers_found, no_containers = _or_gap(connection, containers)
        labels_found, no_labels = _or_gap(connection, labels)
    no_snapshots = (gap for found in chains.values() for gap in found.result()[1])
    return Inventory(
        namespace=namespace,
        images=images_found,
        blobs={blob.digest: blob for blob in blobs},
        snapshots=_by_name(chains),
        leases=leases_found,
        ingests=ingests_found,
        containers=containers_found,
        labels=next(iter(labels_found), {}),
        gaps=(*odd_images, *odd_blobs, *no_leases, *no_ingests, *no_containers, *no_labels, *no_snapshots),
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
    leases, ingests = _leases(connection, namespace), _ingests(connection, namespace)
    return leases()[0], ingests()[0]


def _or_gap(connection: Connection, answer: _Answer[tuple[_Noun, ...]]) -> _Listed[tuple[_Noun, ...]]:
    """Wait for an optional listing; its failure is a gap, unless the daemon itself does not answer.

    A proxy snapshotter is a process of its own: it can fail while the daemon works.
    """
    try:
        return answer()
    except (StoreUnreachable, StoreTimeout) as error:
        if not connection.answers():
            raise
        return (), (error.message,)
    except AuditorError as error:
        return (), (error.message,)


# Each function below sends a request and returns a function that waits for the answer.


def _namespaces(connection: Connection) -> Callable[[], dict[str, Labels]]:
    call = connection.namespaces.List.future(namespaces_pb2.ListNamespacesRequest(), timeout=connection.timeout)

    def answer() -> dict[str, Labels]:
        with translated("list the namespaces"):
            found = call.result().namespaces
        return {n.name: convert.labels_of(n.labels) for n in sorted(found, key=lambda n: n.name)}

    return answer


def _labels(connection: Connection, namespace: str) -> _Answer[tuple[Labels, ...]]:
    listed = _namespaces(connection)
    return lambda: ((listed().get(namespace, {}),), ())


def _images(connection: Connection, namespace: str) -> _Answer[tuple[Image, ...]]:
    request = images_pb2.ListImagesRequest()
    call = connection.images.List.future(request, timeout=connection.timeout, metadata=namespaced(namespace))

    def answer() -> _Listed[tuple[Image, ...]]:
        bad: list[images_pb2.Image] = []
        with translated(f"list the images of {namespace}"):
            records = call.result().images
        images = _well_formed(records, lambda some: convert.images(namespace, some), bad)
        return tuple(images), _gap(bad, lambda r: f"image {r.name!r} of {namespace} points to {r.target.digest!r}")

    return answer


def _content(connection: Connection, namespace: str) -> _Answer[tuple[Blob, ...]]:
    doing = f"list the content of {namespace}"
    call = connection.content.List(content_pb2.ListContentRequest(), metadata=namespaced(namespace))

    def answer() -> _Listed[tuple[Blob, ...]]:
        blobs: list[Blob] = []
        bad: list[content_pb2.Info] = []
        with translated(doing):
            for batch in connection.watch.messages(call, doing):
                blobs += _well_formed(batch.info, lambda some: convert.blobs(namespace, some), bad)
        return tuple(blobs), _gap(bad, lambda info: f"a content record of {namespace} is named {info.digest!r}")

    return answer


def _snapshots(connection: Connection, namespace: str, snapshotter: str) -> _Answer[tuple[Snapshot, ...]]:
    doing = f"list the snapshots of {snapshotter} in {namespace}"
    request = snapshots_pb2.ListSnapshotsRequest(snapshotter=snapshotter)
    call = connection.snapshots.List(request, metadata=namespaced(namespace))

    def answer() -> _Listed[tuple[Snapshot, ...]]:
        with translated(doing):
            batches = connection.watch.messages(call, doing)
            return tuple(convert.snapshot(namespace, snapshotter, info) for batch in batches for info in batch.info), ()

    return answer


def _converted(
    doing: str, records: Callable[[], Iterable[_Message]], convert_one: Callable[[_Message], _Noun]
) -> _Answer[tuple[_Noun, ...]]:
    """Return a function that waits for records and converts them, all or none."""

    def answer() -> _Listed[tuple[_Noun, ...]]:
        with translated(doing):
            return tuple(map(convert_one, records())), ()

    return answer


def _leases(connection: Connection, namespace: str) -> _Answer[tuple[Lease, ...]]:
    request = leases_pb2.ListRequest()
    call = connection.leases.List.future(request, timeout=connection.timeout, metadata=namespaced(namespace))
    return _converted(
        f"list the leases of {namespace}", lambda: call.result().leases, partial(convert.lease, namespace)
    )


def _ingests(connection: Connection, namespace: str) -> _Answer[tuple[Ingest, ...]]:
    request = content_pb2.ListStatusesRequest()
    call = connection.content.ListStatuses.future(request, timeout=connection.timeout, metadata=namespaced(namespace))
    return _converted(
        f"list the ingests of {namespace}", lambda: call.result().statuses, partial(convert.ingest, namespace)
    )


def _containers(connection: Connection, namespace: str) -> _Answer[tuple[Container, ...]]:
    request = containers_pb2.ListContainersRequest()
    call = connection.containers.List.future(request, timeout=connection.timeout, metadata=namespaced(namespace))
    return _converted(
        f"list the containers of {namespace}", lambda: call.result().containers, partial(convert.container, namespace)
    )


def _well_formed(
    messages: Sequence[_Message], converted: Callable[[Sequence[_Message]], list[_Noun]], bad: list[_Message]
) -> list[_Noun]:
    """Convert records; those with an invalid digest are left out, and appended to `bad`."""
    try:
        return converted(messages)
    except InvalidDigest:
        found = []
        for message in messages:
            try:
                found += converted([message])
            except InvalidDigest:
                bad.append(message)
        return found


def _gap(bad: Sequence[_Message], named: Callable[[_Message], str]) -> tuple[str, ...]:
    """Return the gap of records that were left out, with one example."""
    if not bad:
        return ()
    others = f", and {len(bad) - 1} more like it" if len(bad) > 1 else ""
    return (f"{named(bad[0])}, which is not a digest{others}: not audited",)
