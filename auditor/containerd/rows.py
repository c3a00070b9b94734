"""Read the messages of the API into rows: tuples of what Python has built in, which another process can be sent.

The way back, from a record to a message, is needed for images alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from sys import intern
from typing import TYPE_CHECKING

from auditor.containerd._proto import (
    containers_pb2,
    content_pb2,
    images_pb2,
    introspection_pb2,
    leases_pb2,
    namespaces_pb2,
    snapshots_pb2,
    types_pb2,
)
from auditor.containerd.protobuf_import import Timestamp

if TYPE_CHECKING:
    from auditor.model.store import Image

_Labels = dict[str, str]
#: Media type, digest, size in bytes, annotations as pairs. Equal targets of a message are one object.
Target = tuple[str, str, int, tuple[tuple[str, str], ...]]
#: Digest, size in bytes, labels, times of creation and update in ns since 1970.
BlobRow = tuple[str, int, _Labels, int, int]
#: Name, labels, target.
ImageRow = tuple[str, _Labels, Target]
#: Id, labels, time of creation.
LeaseRow = tuple[str, _Labels, int]
#: Reference, offset and total in bytes, expected digest, times of start and update.
IngestRow = tuple[str, int, int, str, int, int]
#: Id, image name, snapshotter, snapshot's name, `<namespace>/<name>` of its pod.
ContainerRow = tuple[str, str, str, str, str]
#: Name, labels.
NamespaceRow = tuple[str, _Labels]
#: Name, parent's name, kind, labels.
SnapshotRow = tuple[str, str, str, _Labels]
#: Operating system, architecture, variant, version of the operating system.
PlatformRow = tuple[str, str, str, str]
#: Type, id, exports, error of its start, None where it started, platforms.
PluginRow = tuple[str, str, _Labels, str | None, tuple[PlatformRow, ...]]

_SECOND = 10**9
_KINDS = {
    snapshots_pb2.UNKNOWN: "unknown",
    snapshots_pb2.VIEW: "view",
    snapshots_pb2.ACTIVE: "active",
    snapshots_pb2.COMMITTED: "committed",
}
#: Labels that the kubelet sets on containers; kubernetes pkg/kubelet/types/labels.go.
_POD = ("io.kubernetes.pod.namespace", "io.kubernetes.pod.name")


def nanoseconds(timestamp: Timestamp) -> int:
    """Return a time in ns since 1970; 0 where none is set."""
    return timestamp.seconds * _SECOND + timestamp.nanos


def _labels(labels: Mapping[str, str]) -> _Labels:
    """Copy labels; equal keys of different records share one string."""
    # The `items()` of a protobuf map is written in Python and takes half as long again.
    return {intern(key): labels[key] for key in labels} if labels else {}


def blobs(infos: Iterable[content_pb2.Info]) -> list[BlobRow]:
    """Read content records."""
    return [
        (
            info.digest,
            info.size,
            _labels(info.labels),
            (created := info.created_at).seconds * _SECOND + created.nanos,
            (updated := info.updated_at).seconds * _SECOND + updated.nanos,
        )
        for info in infos
    ]


def images(records: Iterable[images_pb2.Image]) -> list[ImageRow]:
    """Read image records. CRI makes three of an image, with one target."""
    targets: dict[bytes, Target] = {}
    found = []
    for record in records:
        written = record.target.SerializeToString()
        target = targets.get(written) or targets.setdefault(written, _target(record.target))
        found.append((record.name, _labels(record.labels), target))
    return found


def _target(target: types_pb2.Descriptor) -> Target:
    annotations = target.annotations
    pairs = tuple((intern(key), annotations[key]) for key in annotations)
    return intern(target.media_type), target.digest, target.size, pairs


def leases(records: Iterable[leases_pb2.Lease]) -> list[LeaseRow]:
    """Read leases."""
    return [(record.id, _labels(record.labels), nanoseconds(record.created_at)) for record in records]


def ingests(statuses: Iterable[content_pb2.Status]) -> list[IngestRow]:
    """Read the statuses of ingests."""
    return [
        (s.ref, s.offset, s.total, s.expected, nanoseconds(s.started_at), nanoseconds(s.updated_at)) for s in statuses
    ]


def containers(records: Iterable[containers_pb2.Container]) -> list[ContainerRow]:
    """Read container records."""
    return [
        (
            record.id,
            record.image,
            intern(record.snapshotter),
            record.snapshot_key,
            "/".join(record.labels[label] for label in _POD if label in record.labels),
        )
        for record in records
    ]


def namespaces(records: Iterable[namespaces_pb2.Namespace]) -> list[NamespaceRow]:
    """Read namespaces."""
    return [(record.name, _labels(record.labels)) for record in records]


def snapshots(infos: Iterable[snapshots_pb2.Info]) -> list[SnapshotRow]:
    """Read snapshot records."""
    return [(info.name, info.parent, _KINDS.get(info.kind, "unknown"), _labels(info.labels)) for info in infos]


def plugins(records: Iterable[introspection_pb2.Plugin]) -> list[PluginRow]:
    """Read plugins, also those that did not start."""
    return [
        (
            record.type,
            record.id,
            dict(record.exports),
            record.init_err.message if record.HasField("init_err") else None,
            tuple((p.os, p.architecture, p.variant, p.os_version) for p in record.platforms),
        )
        for record in records
    ]


def image_message(record: Image) -> images_pb2.Image:
    """Return the message of an image record."""
    target = types_pb2.Descriptor(
        media_type=record.target.media_type,
        digest=record.target.digest,
        size=record.target.size,
        annotations=record.target.annotations,
    )
    return images_pb2.Image(name=record.name, labels=dict(record.labels), target=target)
