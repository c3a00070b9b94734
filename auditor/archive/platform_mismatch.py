"""Images whose index gives them another platform than their config does: importers go by the one or by the other."""

from __future__ import annotations

from collections.abc import Iterator

from auditor.archive.problems import ArchiveProblem
from auditor.checks.archive_faults import PLATFORM
from auditor.model import image_graph
from auditor.model.image_graph import Documents, Group
from auditor.model.image_walk import walk
from auditor.model.oci import Descriptor
from auditor.model.platforms import EVERYTHING, Platform, normalise
from auditor.model.store import Inventory


def platform_mismatches(inventory: Inventory, documents: Documents) -> Iterator[ArchiveProblem]:
    """Yield a warning for each manifest whose descriptor gives another system or architecture than its config.

    The variant is not compared: configs often lack it.
    """
    found: dict[str, ArchiveProblem] = {}
    for group in image_graph.group(inventory.images):
        for descriptor in _descriptors(group, documents):
            message = _mismatch(descriptor, documents)
            if message:
                problem = ArchiveProblem(PLATFORM, f"{group.name}: {message}", member=str(descriptor.digest))
                found.setdefault(descriptor.digest, problem)
    yield from found.values()


def _descriptors(group: Group, documents: Documents) -> Iterator[Descriptor]:
    yield group.target
    for node in walk(group, documents, EVERYTHING).manifests:
        yield node.descriptor


def _mismatch(descriptor: Descriptor, documents: Documents) -> str:
    content = image_graph.content(descriptor.digest, documents)
    if descriptor.platform is None or content is None or content.config is None or not content.container:
        return ""
    stated, own = descriptor.platform, content.config.platform
    if own is None or _key(stated) == _key(own):
        return ""
    return f"its index gives the manifest {descriptor.digest.short} the platform {stated}, its config {own}"


def _key(platform: Platform) -> tuple[str, str]:
    known = normalise(platform)
    return known.os, known.architecture
