"""Containers: those whose snapshot or image does not exist."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from auditor.checks.evidence import Evidence, NamespaceView
from auditor.checks.rule import Hit, Rule
from auditor.model.findings import Severity, Subject

CONTAINER_ORPHANED = Rule(
    code="container-orphaned",
    severity=Severity.WARNING,
    means="A container's record names a snapshot that does not exist; or, as info, an image that does not.",
    impact="Without its snapshot, the container cannot be started again: `snapshot … does not exist`. What it wrote is "
    "gone. Without its image, it runs and restarts; commit, checkpoint and a new container of it fail.",
    remedy="Delete the container with the client that created it, and create it again from its image.",
)
#: A container without image is normal where the image was removed by force (`docker rmi -f`).
_WITHOUT_IMAGE = msgspec.structs.replace(CONTAINER_ORPHANED, severity=Severity.INFO, remedy="Nothing.")
RULES = (CONTAINER_ORPHANED,)


def check(evidence: Evidence) -> Iterator[Hit]:
    """Check the containers of each namespace that is audited as a whole."""
    for view in evidence.views:
        if not view.selected:
            yield from _orphaned(view)


def _orphaned(view: NamespaceView) -> Iterator[Hit]:
    names = {image.name for image in view.inventory.images}
    for container in view.inventory.containers:
        facts = {"image": container.image or None, "snapshotter": container.snapshotter}
        subject = Subject(kind="container", name=container.id)
        # A snapshotter that was not listed is unknown, not empty.
        held = view.inventory.snapshots.get(container.snapshotter)
        if container.snapshot_key and held is not None and container.snapshot_key not in held:
            place = f"snapshot {container.snapshot_key} on {container.snapshotter}"
            text = f"container {container.id}: {place} does not exist"
            yield CONTAINER_ORPHANED.hit(view.name, subject, text, facts=facts)
        elif container.image and container.image not in names and not view.inventory.gaps:
            text = f"container {container.id}: image {container.image} does not exist"
            yield _WITHOUT_IMAGE.hit(view.name, subject, text, facts=facts)
