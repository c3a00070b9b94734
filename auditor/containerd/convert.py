"""Convert API messages to the records of auditor/model/store.py; optimised for tens of thousands of records."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from sys import intern

from google.protobuf.timestamp_pb2 import Timestamp

from auditor.containerd._proto import (
    containers_pb2,
    content_pb2,
    images_pb2,
    introspection_pb2,
    leases_pb2,
    snapshots_pb2,
    types_pb2,
)
from auditor.model.digest import Digest
from auditor.model.oci import Descriptor
from auditor.model.platforms import Platform, normalise
from auditor.model.store import Blob, Container, Image, Ingest, Labels, Lease, Snapshot, Snapshotter, utc

_SECOND = 10**9
_NO_LABELS: Labels = {}
_KINDS = {
    snapshots_pb2.UNKNOWN: "unknown",
    snapshots_pb2.VIEW: "view",
    snapshots_pb2.ACTIVE: "active",
    snapshots_pb2.COMMITTED: "committed",
}
#: Labels that the kubelet sets on containers; kubernetes pkg/kubelet/types/labels.go.
_POD = ("io.kubernetes.pod.namespace", "io.kubernetes.pod.name")
#: containerd core/transfer/local/pull.go reads this export of a (proxy) snapshotter.
_REMOTE = "enable_remote_snapshot_annotations"


def moment(timestamp: Timestamp) -> datetime | None:
    """Convert a time to UTC, as `utc`."""
    return utc(timestamp.seconds * _SECOND + timestamp.nanos)


def labels_of(labels: Mapping[str, str]) -> Labels:
    """Copy labels; equal keys of different records share one string."""
    # The `items()` of a protobuf map is written in Python and takes half as long again.
    return {intern(key): labels[key] for key in labels} if labels else _NO_LABELS


def blobs(namespace: str, infos: Iterable[content_pb2.Info]) -> list[Blob]:
    """Convert content records.

    Raises:
        InvalidDigest: The digest of one is invalid.

    """
    parse = Digest.parse
    return [
        Blob(
            namespace,
            parse(info.digest),
            info.size,
            labels_of(info.labels),
            (created := info.created_at).seconds * _SECOND + created.nanos,
            (updated := info.updated_at).seconds * _SECOND + updated.nanos,
        )
        for info in infos
    ]


def to_image(record: Image) -> images_pb2.Image:
    """Return the message of an image record."""
    target = types_pb2.Descriptor(
        media_type=record.target.media_type,
        digest=record.target.digest,
        size=record.target.size,
        annotations=record.target.annotations,
    )
    return images_pb2.Image(name=record.name, labels=dict(record.labels), target=target)


def images(namespace: str, records: Iterable[images_pb2.Image]) -> list[Image]:
    """Convert image records. CRI makes three of an image, with one target.

    Raises:
        InvalidDigest: The digest of a target is invalid.

    """
    targets: dict[bytes, Descriptor] = {}
    found = []
    for record in records:
        written = record.target.SerializeToString()
        target = targets.get(written) or targets.setdefault(written, _target(record.target))
        found.append(Image(namespace, record.name, target, labels_of(record.labels)))
    return found


def _target(target: types_pb2.Descriptor) -> Descriptor:
    annotations = target.annotations
    copied = {intern(key): annotations[key] for key in annotations}
    return Descriptor(intern(target.media_type), Digest.parse(target.digest), target.size, None, copied)


def snapshot(namespace: str, snapshotter: str, info: snapshots_pb2.Info) -> Snapshot:
    """Convert a snapshot record; a layer's name is a chainID, a container's is any text."""
    return Snapshot(
        namespace,
        snapshotter,
        info.name,
        info.parent,
        _KINDS.get(info.kind, "unknown"),
        labels_of(info.labels),
    )


def lease(namespace: str, record: leases_pb2.Lease) -> Lease:
    """Convert a lease record; without its resources."""
    return Lease(namespace, record.id, labels_of(record.labels), moment(record.created_at))


def ingest(namespace: str, status: content_pb2.Status) -> Ingest:
    """Convert the status of an ingest."""
    return Ingest(
        namespace,
        status.ref,
        status.offset,
        status.total,
        status.expected,
        moment(status.started_at),
        moment(status.updated_at),
    )


def container(namespace: str, record: containers_pb2.Container) -> Container:
    """Convert a container record."""
    pod = "/".join(record.labels[label] for label in _POD if label in record.labels)
    return Container(namespace, record.id, record.image, intern(record.snapshotter), record.snapshot_key, pod)


def snapshotter(plugin: introspection_pb2.Plugin) -> Snapshotter:
    """Convert a snapshotter plugin: lazy if its exports request remote annotations, proxy if they have an address."""
    lazy = plugin.exports.get(_REMOTE, "") == "true"
    return Snapshotter(plugin.id, plugin.exports.get("root", ""), lazy, proxy=bool(plugin.exports.get("address")))


def platform(message: types_pb2.Platform) -> Platform:
    """Convert a platform and normalise it."""
    return normalise(
        Platform(
            os=message.os,
            architecture=message.architecture,
            variant=message.variant,
            os_version=message.os_version,
        )
    )
