"""Convert rows to the records of auditor/model/store.py; optimised for tens of thousands of records."""

from __future__ import annotations

from collections.abc import Iterable
from sys import intern
from typing import TYPE_CHECKING

from auditor.model.digest import Digest
from auditor.model.oci import Descriptor
from auditor.model.platforms import Platform, normalise
from auditor.model.store import Blob, Container, Image, Ingest, Labels, Lease, Snapshot, utc

if TYPE_CHECKING:
    from auditor.containerd.rows import (
        BlobRow,
        ContainerRow,
        ImageRow,
        IngestRow,
        LeaseRow,
        PlatformRow,
        SnapshotRow,
        Target,
    )

_NO_LABELS: Labels = {}


def blobs(namespace: str, rows: Iterable[BlobRow]) -> list[Blob]:
    """Convert content records.

    Raises:
        InvalidDigest: The digest of one is invalid.

    """
    parse = Digest.parse
    return [
        Blob(namespace, parse(digest), size, labels or _NO_LABELS, created, updated)
        for digest, size, labels, created, updated in rows
    ]


def images(namespace: str, rows: Iterable[ImageRow]) -> list[Image]:
    """Convert image records; equal targets are one object.

    Raises:
        InvalidDigest: The digest of a target is invalid.

    """
    targets: dict[Target, Descriptor] = {}
    return [
        Image(
            namespace,
            name,
            targets.get(target) or targets.setdefault(target, _descriptor(target)),
            labels or _NO_LABELS,
        )
        for name, labels, target in rows
    ]


def _descriptor(target: Target) -> Descriptor:
    media_type, digest, size, annotations = target
    return Descriptor(intern(media_type), Digest.parse(digest), size, None, dict(annotations))


def snapshots(namespace: str, snapshotter: str, rows: Iterable[SnapshotRow]) -> list[Snapshot]:
    """Convert snapshot records; a layer's name is a chainID, a container's is any text."""
    return [
        Snapshot(namespace, snapshotter, name, parent, kind, labels or _NO_LABELS)
        for name, parent, kind, labels in rows
    ]


def leases(namespace: str, rows: Iterable[LeaseRow]) -> list[Lease]:
    """Convert lease records; without their resources."""
    return [Lease(namespace, name, labels, utc(created)) for name, labels, created in rows]


def ingests(namespace: str, rows: Iterable[IngestRow]) -> list[Ingest]:
    """Convert the statuses of ingests."""
    return [
        Ingest(namespace, ref, offset, total, expected, utc(started), utc(updated))
        for ref, offset, total, expected, started, updated in rows
    ]


def containers(namespace: str, rows: Iterable[ContainerRow]) -> list[Container]:
    """Convert container records."""
    return [
        Container(namespace, name, image, intern(snapshotter), key, pod) for name, image, snapshotter, key, pod in rows
    ]


def platform(row: PlatformRow) -> Platform:
    """Convert a platform and normalise it."""
    system, architecture, variant, version = row
    return normalise(Platform(os=system, architecture=architecture, variant=variant, os_version=version))
