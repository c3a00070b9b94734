"""Platforms in an index that importers do not find, or that are not those of the images' configs.

Measured on containerd 1.6, 1.7 and 2.1, docker 26 and 28, podman 4.3 and 5.8, skopeo 1.9 and 1.22.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from auditor.archive.problems import ArchiveProblem
from auditor.checks.archive_faults import PLATFORM
from auditor.model import image_graph
from auditor.model.findings import Severity
from auditor.model.image_graph import Documents, Group
from auditor.model.image_walk import walk
from auditor.model.oci import Descriptor
from auditor.model.platforms import EVERYTHING, Platform, normalise
from auditor.model.store import Inventory


def platform_mismatches(inventory: Inventory, documents: Documents) -> Iterator[ArchiveProblem]:
    """Yield a problem for each image whose platform importers do not find, or find differently.

    Variants are not compared with the config's, which often lacks one.
    """
    found: dict[str, ArchiveProblem] = {}
    for group in image_graph.group(inventory.images):
        for descriptor in _descriptors(group, documents):
            message, level = _judge(descriptor, documents, nested=descriptor != group.target)
            if message:
                problem = ArchiveProblem(
                    PLATFORM, f"{group.name}: {message}", member=str(descriptor.digest), level=level
                )
                found.setdefault(descriptor.digest, problem)
    yield from found.values()


def _descriptors(group: Group, documents: Documents) -> Iterator[Descriptor]:
    yield group.target
    for node in walk(group, documents, EVERYTHING).manifests:
        yield node.descriptor


def _judge(descriptor: Descriptor, documents: Documents, *, nested: bool) -> tuple[str, Severity | None]:
    """Return what is wrong with an image's platform, and how severe it is; an empty text if nothing is."""
    content = image_graph.content(descriptor.digest, documents)
    if content is None or content.config is None or not content.container:
        return "", None
    stated, own = descriptor.platform, content.config.platform
    if not _architecture(stated, own, nested=nested):
        what = f"the manifest {descriptor.digest.short} has no architecture in its index"
        return f"{what}: `ctr images import` finds no image for its platform", Severity.ERROR
    if stated is None:
        return "", None
    gives = f"its index gives the manifest {descriptor.digest.short} the platform"
    if _contradicts(stated, own):
        return f"{gives} {stated}, its config {own}", None
    written = descriptor.written_platform or ("" if stated.os else str(stated))
    wanted = normalise(msgspec.structs.replace(stated, os=stated.os or own.os))
    return (f"{gives} {written}; podman and skopeo look for {wanted}" if nested and written else "", None)


def _architecture(stated: Platform | None, own: Platform, *, nested: bool) -> str:
    """Return the architecture that containerd goes by; a root without a platform is taken for any."""
    if stated is not None:
        return stated.architecture
    return own.architecture if nested else "any"


def _contradicts(stated: Platform, own: Platform) -> bool:
    """Whether both give a system or an architecture, and not the same."""
    one, other = normalise(stated), normalise(own)
    pairs = ((one.os, other.os), (one.architecture, other.architecture))
    return any(left and right and left != right for left, right in pairs)
