"""Parts that importers need and that an audit of a node does not ask for: inline data, attestations."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from auditor.archive.problems import ArchiveProblem
from auditor.checks.archive_faults import INCOMPLETE
from auditor.model import image_graph, oci
from auditor.model.image_graph import Documents, Group, ManifestNode
from auditor.model.image_walk import walk
from auditor.model.oci import Descriptor
from auditor.model.platforms import EVERYTHING
from auditor.model.store import Inventory


def parts_missing(inventory: Inventory, documents: Documents, *, everything: bool) -> Iterator[ArchiveProblem]:
    """Yield a problem for each absent blob that has inline data, and for each attestation that is there in part.

    Args:
        inventory: the images and blobs of the archive.
        documents: the parsed documents of the images.
        everything: all platforms were asked for, and with them the attestations that the indexes list.

    """
    found: dict[str, ArchiveProblem] = {}
    for group in image_graph.group(inventory.images):
        for digest, message in _of_image(group, inventory, documents, everything=everything):
            found.setdefault(digest, ArchiveProblem(INCOMPLETE, message, member=str(digest)))
    yield from found.values()


def _of_image(
    group: Group, inventory: Inventory, documents: Documents, *, everything: bool
) -> Iterator[tuple[str, str]]:
    walked = walk(group, documents, EVERYTHING)
    yield from _inline(group, (group.target, *(node.descriptor for node in walked.manifests)), inventory)
    for node in walked.manifests:
        held = node.digest in inventory.blobs
        content = image_graph.content(node.digest, documents) if held else None
        children = list(image_graph.children(content.manifest)) if content is not None else []
        yield from _inline(group, children, inventory)
        if node.attestation:
            absent = [child for child in children if _lacks(child, inventory)]
            yield from _attestation(group, node, absent, listed=everything and not held)


def _inline(group: Group, descriptors: Sequence[Descriptor], inventory: Inventory) -> Iterator[tuple[str, str]]:
    for child in descriptors:
        if child.embedded and child.digest not in inventory.blobs:
            what = f"{group.name}: {child.digest} is only inline in its descriptor; skopeo and oras need it as a blob"
            yield child.digest, what


def _attestation(
    group: Group, node: ManifestNode, absent: list[Descriptor], *, listed: bool
) -> Iterator[tuple[str, str]]:
    if listed:
        yield node.digest, f"{group.name}: the attestation {node.digest} is listed in the index and not in the archive"
    for child in absent:
        yield child.digest, f"{group.name}: a part of the attestation {node.digest.short} is absent: {child.digest}"


def _lacks(child: Descriptor, inventory: Inventory) -> bool:
    return child.digest not in inventory.blobs and not child.embedded and not oci.is_foreign(child.media_type)
