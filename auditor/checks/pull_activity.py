"""Whether a pull is fetching a blob: its ingest moves, or something changes under a lease between two looks."""

from __future__ import annotations

from datetime import timedelta

from auditor.checks.evidence import NamespaceView
from auditor.model.digest import Digest
from auditor.model.gc_reachability import expired
from auditor.model.image_graph import ManifestNode
from auditor.model.store import Ingest, Lease, Resource

#: An ingest that received data within this time moves; longer than a registry's pauses between two packets.
MOVING = timedelta(seconds=30)
#: Prefix of the leases that `auditor export` and `auditor repair` create; they are no sign of a pull.
_OWN_LEASES = "auditor-"


def in_progress(view: NamespaceView, digest: Digest, node: ManifestNode | None = None) -> bool:
    """Whether a pull is fetching this blob: an ingest of it moves, or a lease that holds its manifest is at work."""
    if any((digest in i.ref or digest == i.expected) and moves(view, i) for i in view.inventory.ingests):
        return True
    if node is None:
        return False
    held = Resource(type="content", id=str(node.digest))
    return any(
        not lease.id.startswith(_OWN_LEASES)
        and not expired(lease, view.now)
        and held in (lease.resources or ())
        and _at_work(view, lease)
        for lease in view.inventory.leases
    )


def moves(view: NamespaceView, ingest: Ingest) -> bool:
    """Whether an ingest received data within MOVING or since the earlier look, or has no time of its last update."""
    if ingest.updated_at is None or view.now - ingest.updated_at < MOVING:
        return True
    before = () if view.before is None else view.before.ingests
    return any(other.ref == ingest.ref and other.offset != ingest.offset for other in before)


def _at_work(view: NamespaceView, lease: Lease) -> bool:
    """Whether something changed under a lease since the earlier look; True where there was no earlier look.

    Age is no sign of work: killed pulls leave leases of 24 hours, and BuildKit renews its own all the time.
    """
    resources = set(lease.resources or ())
    ingests = {resource.id for resource in resources if resource.type == "ingests"}
    if any(ingest.ref in ingests and moves(view, ingest) for ingest in view.inventory.ingests):
        return True
    before = () if view.before is None else view.before.leases
    earlier = next((other for other in before if other.id == lease.id), None)
    if earlier is None or earlier.resources is None:
        return True
    return set(earlier.resources) != resources
