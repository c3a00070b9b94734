"""Write recovered images into a running containerd: content under a lease, with its labels, then the image records."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Final

import msgspec

from auditor.containerd.writable_store import WritableContainerdStore
from auditor.errors import AlreadyThere
from auditor.export.model import ExportPlan, PlannedBlob, Role
from auditor.model.blob_source import verified
from auditor.model.digest import Digest
from auditor.model.image_graph import Group
from auditor.model.oci import MAX_DOCUMENT
from auditor.model.store import Image, Inventory, Labels, Store
from auditor.model.writable_store import LeaseHandle
from auditor.recover.blob_documents import BlobDocuments
from auditor.repair.gc_labels import document_labels

#: Seconds after which the lease expires if the process is killed.
_LEASE: Final = 6 * 3600
#: The same for the lease that creates a namespace.
_CREATING: Final = 60
#: Name of the lock that allows one run at a time.
_LOCK: Final = "recover"
#: Children before parents: a parent's labels protect its children once the lease is gone.
_ORDER: Final = (Role.LAYER, Role.CONTENT, Role.CONFIG, Role.MANIFEST, Role.INDEX)


#: Label on each lease.
_LABEL: Final = "containerd-auditor/recover"


class LoadedImages(msgspec.Struct, frozen=True):
    """What was written: the names of new image records, and those that lead to another image there already."""

    created: tuple[str, ...] = ()
    taken: tuple[str, ...] = ()


def load(
    plan: ExportPlan,
    groups: Iterable[Group],
    source: Store,
    target: WritableContainerdStore,
    *,
    namespace: str,
    documents: BlobDocuments,
    on_bytes: Callable[[int], None],
) -> LoadedImages:
    """Write the blobs of a plan and the records of its images.

    Args:
        plan: The blobs of the images.
        groups: The images, with their records.
        source: Where the blobs are.
        target: The daemon.
        namespace: The namespace to write to; it is created with the first lease where it does not exist.
        documents: The indexes and manifests among the blobs.
        on_bytes: Progress callback: bytes since the last call.

    Raises:
        BadBytes: A blob does not match its digest.
        StoreError: The daemon failed.

    """
    with target.lease(namespace, seconds=_LEASE, labels={_LABEL: "run"}) as lease:
        for blob in sorted(plan.blobs, key=lambda blob: _ORDER.index(blob.role)):
            _write(blob, source, target, lease, media_type=documents.media_type(blob.digest))
            on_bytes(blob.size)
        return _records((image for group in groups for image in group.records), target, lease)


def _write(
    blob: PlannedBlob, source: Store, target: WritableContainerdStore, lease: LeaseHandle, *, media_type: str
) -> None:
    labels = _labels(blob, source, lease.namespace, media_type)
    place = "the disk"
    try:
        with source.stream(lease.namespace, blob.digest) as chunks:
            data: Iterator[bytes] = verified(chunks, digest=blob.digest, size=blob.size, place=place)
            ref = f"auditor-recover-{blob.digest}"
            target.ingest(lease, ref, data, size=blob.size, expected=blob.digest, labels=labels)
    except AlreadyThere:
        target.label(lease.namespace, blob.digest, labels)


def _labels(blob: PlannedBlob, source: Store, namespace: str, media_type: str) -> Labels:
    if blob.role not in (Role.INDEX, Role.MANIFEST):
        return {}
    raw = source.read(namespace, blob.digest, limit=MAX_DOCUMENT)
    return document_labels(raw, media_type, Inventory(namespace), discards=False)


def _records(images: Iterable[Image], target: WritableContainerdStore, lease: LeaseHandle) -> LoadedImages:
    there = _targets(target, lease.namespace)
    created, taken = [], []
    for image in images:
        if image.name not in there:
            try:
                target.create_image(lease, image)
            except AlreadyThere:  # pulled meanwhile
                there = _targets(target, lease.namespace)
            else:
                created.append(image.name)
                continue
        if there.get(image.name) != image.target.digest:
            taken.append(image.name)
    return LoadedImages(tuple(created), tuple(taken))


def _targets(target: WritableContainerdStore, namespace: str) -> Mapping[str, Digest]:
    return {image.name: image.target.digest for image in target.inventory(namespace, snapshotters=()).images}


@contextmanager
def alone(target: WritableContainerdStore, namespaces: Iterable[str]) -> Iterator[None]:
    """Keep other runs out of a daemon; release the leases of killed ones at the end, when nothing needs them any more.

    Args:
        target: The daemon.
        namespaces: Those that are written to; containerd creates them where they do not exist.

    Raises:
        Busy: Another run writes into the daemon.

    """
    for name in namespaces:
        with target.lease(name, seconds=_CREATING):
            pass
    with target.exclusive(_LOCK):
        yield
        for name in target.namespaces():
            for lease in target.inventory(name, snapshotters=()).leases:
                if _LABEL in lease.labels:
                    target.release(LeaseHandle(name, lease.id))
