"""The layers of an archive's images, and the platforms that it holds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType

from auditor.audit.collect import no_progress
from auditor.audit.document_loader import load_documents
from auditor.layers import verifiable
from auditor.model import image_graph
from auditor.model.digest import Digest
from auditor.model.image_graph import Documents, Group
from auditor.model.image_walk import walk
from auditor.model.platforms import EVERYTHING, Platform
from auditor.model.store import Inventory, Store


def documents_of(
    store: Store, inventory: Inventory, groups: tuple[Group, ...], *, known: Documents = MappingProxyType({})
) -> Documents:
    """Read and parse every document that the images of a namespace lead to and the namespace has.

    Args:
        store: where to read them.
        inventory: the namespace's records.
        groups: the images.
        known: documents that are parsed already; they are not read again.

    Raises:
        StoreError: the store failed as a whole.

    """
    documents = dict(known)
    load_documents(store, [inventory], groups, known=documents, jobs=1, on_progress=no_progress)
    return documents


def layers_of(inventory: Inventory, documents: Documents) -> dict[Digest, str | None]:
    """Return the layers that configs give diffIDs for.

    Args:
        inventory: the archive's images and blobs.
        documents: the parsed documents of the images.

    Returns:
        By layer, why it is unverifiable by all of its media types; None where it is verifiable by one of them.

    """
    found: dict[Digest, str | None] = {}
    for digest, media_type in _layers(inventory, documents):
        reason = verifiable(media_type)
        if reason is None or digest not in found:
            found[digest] = reason
    return found


def platforms_held(inventory: Inventory, documents: Documents) -> Mapping[Digest, tuple[Platform, ...]]:
    """Return the platforms of which an archive has more than the manifest: those that an audit of it should want.

    A layout may be sparse (OCI image-layout.md, "Blobs"): the index of a single exported platform stays complete, and
    exporters that skip what is missing leave manifests without content (containerd core/images/archive/exporter.go
    `WithSkipMissing`). The platforms may differ from image to image.

    Args:
        inventory: the archive's images and blobs.
        documents: the parsed documents of the images.

    Returns:
        The platforms by target digest; none for an image of which no platform has content: all are then wanted.

    """
    groups = image_graph.group(inventory.images)
    return {group.target.digest: tuple(sorted(_held(group, inventory, documents))) for group in groups}


def _held(group: Group, inventory: Inventory, documents: Documents) -> set[Platform]:
    nodes = walk(group, documents, EVERYTHING).manifests
    images = (node for node in nodes if not node.attestation and node.platform is not None)
    return {node.platform for node in images if node.platform and _has_content(node.digest, inventory, documents)}


def _has_content(manifest: Digest, inventory: Inventory, documents: Documents) -> bool:
    content = image_graph.content(manifest, documents) if manifest in inventory.blobs else None
    return content is not None and any(
        child.digest in inventory.blobs for child in image_graph.children(content.manifest)
    )


def _layers(inventory: Inventory, documents: Documents) -> Iterator[tuple[Digest, str]]:
    for group in image_graph.group(inventory.images):
        for node in walk(group, documents, EVERYTHING).manifests:
            content = image_graph.content(node.digest, documents)
            for layer in content.layers if content is not None else ():
                if layer.diff_id is not None:
                    yield layer.descriptor.digest, layer.descriptor.media_type
