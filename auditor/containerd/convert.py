"""Convert API messages to the records of auditor/model/store.py; optimised for tens of thousands of records."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
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
from auditor.model.store import Blob, Container, Image, Ingest, Labels, Lease, Snapshot, Snapshotter

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
#: Go's zero time, which some releases send for an unset time.
_GO_ZERO = -62_135_596_800
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
    """Convert a time to UTC, truncated to microseconds; None where it is unset or out of range."""
    seconds = timestamp.seconds
    if seconds in (0, _GO_ZERO):
        return None
    try:
        return _EPOCH + timedelta(0, seconds, timestamp.nanos // 1000)
    except OverflowError:
        return None


def labels_of(labels: Mapping[str, str]) -> Labels:
    """Copy labels; equal keys of different records share one string."""
    # The `items()` of a protobuf map is written in Python and takes half as long again.
    return {intern(key): labels[key] for key in labels} if labels else _NO_LABELS


def blob(namespace: str, info: content_pb2.Info) -> Blob:
    """Convert a content record.

    Raises:
        InvalidDigest: Its digest is invalid.

    """
    return Blob(
        namespace,
        Digest.parse(info.digest),
        info.size,
        labels_of(info.labels),
        moment(info.created_at),
        moment(info.updated_at),
    )


def to_image(record: Image) -> images_pb2.Image:
    """Return the message of an image record."""
    target = types_pb2.Descriptor(
        media_type=record.target.media_type,
        digest=record.target.digest,
        size=record.target.size,
        annotations=record.target.annotations,
    )
    return images_pb2.Image(name=record.name, labels=dict(record.labels), target=target)


def image(namespace: str, record: images_pb2.Image) -> Image:
    """Convert an image record.

    Raises:
        InvalidDigest: Its target's digest is invalid.

    """
    return Image(
        namespace,
        record.name,
        _target(record.target),
        labels_of(record.labels),
    )


def _target(target: types_pb2.Descriptor) -> Descriptor:
    annotations = dict(target.annotations) if target.annotations else {}
    return Descriptor(intern(target.media_type), Digest.parse(target.digest), target.size, annotations=annotations)


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
