"""Which blobs of an opened archive are layers: only of those does anybody want to know what they decompress to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor

from auditor.audit.document_loader import load_documents
from auditor.layers import verifiable
from auditor.model import image_graph
from auditor.model.digest import Digest
from auditor.model.image_graph import Documents, Key, Loaded
from auditor.model.platforms import EVERYTHING, Platform
from auditor.model.store import Inventory, Store


def layers_of(store: Store, inventory: Inventory) -> dict[Digest, str | None]:
    """The layers that configs give diffIDs for, each with why it is unverifiable, or None, by all its media types."""
    found: dict[Digest, str | None] = {}
    for digest, media_type in _layers(store, inventory):
        reason = verifiable(media_type)
        if reason is None or digest not in found:
            found[digest] = reason
    return found


def platforms_held(store: Store, inventory: Inventory) -> Mapping[Digest, tuple[Platform, ...]]:
    """By target, the platforms of which an archive has more than the manifest: what an audit of it should want.

    A layout may be sparse (OCI image-layout.md, "Blobs"): an index stays whole though one platform alone was exported,
    and exporters that skip what is missing leave manifests behind without what they name (containerd
    core/images/archive/exporter.go `WithSkipMissing`). Which it is may differ from image to image. None for an image
    that has nothing of any: then all is wanted, and missed.
    """
    groups = image_graph.group(inventory.images)
    documents = documents_of(store, inventory, groups)
    return {group.target.digest: tuple(sorted(_held(group, inventory, documents))) for group in groups}


def _held(group: image_graph.Group, inventory: Inventory, documents: Documents) -> set[Platform]:
    nodes = image_graph.walk(group, documents, EVERYTHING).manifests
    images = (node for node in nodes if not node.attestation and node.platform is not None)
    return {node.platform for node in images if node.platform and _has_content(node.digest, inventory, documents)}


def _has_content(manifest: Digest, inventory: Inventory, documents: Documents) -> bool:
    content = image_graph.content(manifest, documents) if manifest in inventory.blobs else None
    return content is not None and any(
        child.digest in inventory.blobs for child in image_graph.children(content.manifest)
    )


def _layers(store: Store, inventory: Inventory) -> Iterator[tuple[Digest, str]]:
    groups = image_graph.group(inventory.images)
    documents = documents_of(store, inventory, groups)
    for group in groups:
        for node in image_graph.walk(group, documents, EVERYTHING).manifests:
            content = image_graph.content(node.digest, documents)
            for layer in content.layers if content is not None else ():
                if layer.diff_id is not None:
                    yield layer.descriptor.digest, layer.descriptor.media_type


def documents_of(store: Store, inventory: Inventory, groups: tuple[image_graph.Group, ...]) -> Documents:
    """All documents that the images of a namespace lead to, as far as it has them."""
    known: dict[Key, Loaded] = {}
    with ThreadPoolExecutor(1) as pool:
        load_documents(store, [inventory], groups, known=known, pool=pool, on_progress=lambda *_: None)
    return known
