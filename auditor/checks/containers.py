"""Containers: those whose snapshot does not exist."""

from __future__ import annotations

from collections.abc import Iterator

from auditor.checks.evidence import Evidence, NamespaceView
from auditor.checks.rule import Hit, Rule
from auditor.model.findings import Severity, Subject

CONTAINER_ORPHANED = Rule(
    code="container-orphaned",
    severity=Severity.WARNING,
    means="A container's record names a snapshot that does not exist.",
    impact="The container cannot be started again: `snapshot … does not exist`. What it wrote is gone.",
    remedy="Delete the container with the client that created it, and create it again from its image.",
)
RULES = (CONTAINER_ORPHANED,)


def check(evidence: Evidence) -> Iterator[Hit]:
    """Check the containers of each namespace that is audited as a whole."""
    for view in evidence.views:
        if not view.selected:
            yield from _orphaned(view)


def _orphaned(view: NamespaceView) -> Iterator[Hit]:
    for container in view.inventory.containers:
        # A snapshotter that was not listed is unknown, not empty.
        held = view.inventory.snapshots.get(container.snapshotter)
        if not container.snapshot_key or held is None or container.snapshot_key in held:
            continue
        text = f"container {container.id}: snapshot {container.snapshot_key} on {container.snapshotter} does not exist"
        facts = {"image": container.image or None, "snapshotter": container.snapshotter}
        subject = Subject(kind="container", name=container.id)
        yield CONTAINER_ORPHANED.hit(view.name, subject, text, facts=facts)
