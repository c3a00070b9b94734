"""Snapshots of a chain, and what keeps each of them; pure."""

from __future__ import annotations

from collections.abc import Iterator

from auditor.checks.evidence import NamespaceView
from auditor.diagnose.evidence_index import EvidenceIndex, LayerUse
from auditor.diagnose.model import Member
from auditor.model.digest import Digest
from auditor.model.plural import plural

_REMOTE = "containerd.io/snapshot/remote"
#: Maximum of holders of one kind that are listed.
_MOST = 5


def members(index: EvidenceIndex, place: LayerUse) -> Iterator[Member]:
    """Yield the chain up to a layer, the lowest first, for each snapshotter and namespace that has a part of it."""
    inside = place.view.content(place.node.digest)
    if inside is None or place.layer.chain_id is None:
        return
    chain = [layer.chain_id for layer in inside.layers[: place.layer.index + 1] if layer.chain_id is not None]
    for view in index.evidence.views:
        for snapshotter, held in sorted(view.inventory.snapshots.items()):
            if (view is place.view and held) or any(chain_id in held for chain_id in chain):
                for layer, chain_id in enumerate(chain):
                    yield _member(index, view, snapshotter, chain_id=chain_id, layer=layer)


def lone(index: EvidenceIndex, name: Digest) -> Iterator[Member]:
    """Yield a snapshot that belongs to no image, for each snapshotter that has it."""
    for view in index.evidence.views:
        for snapshotter, held in sorted(view.inventory.snapshots.items()):
            if name in held:
                yield _member(index, view, snapshotter, chain_id=name, layer=0)


def _member(index: EvidenceIndex, view: NamespaceView, snapshotter: str, *, chain_id: Digest, layer: int) -> Member:
    held = view.inventory.snapshots[snapshotter]
    snapshot = held.get(chain_id)
    return Member(
        namespace=view.name,
        snapshotter=snapshotter,
        chain_id=str(chain_id),
        layer=layer,
        present=snapshot is not None,
        parent=snapshot.parent if snapshot is not None else "",
        remote=snapshot is not None and _REMOTE in snapshot.labels,
        holders=tuple(_holders(index, view, snapshotter, chain_id)) if snapshot is not None else (),
    )


def _holders(index: EvidenceIndex, view: NamespaceView, snapshotter: str, chain_id: Digest) -> Iterator[str]:
    held = view.inventory.snapshots[snapshotter]
    active = {c.snapshot_key: c.id for c in view.inventory.containers if c.snapshotter == snapshotter}
    made = sorted(snapshot.name for snapshot in held.values() if snapshot.parent == chain_id)
    yield from (f"container {active[name]}" for name in made if name in active)
    others = [name for name in made if name not in active]
    yield from (f"snapshot {name[:19]} on it" for name in others[:_MOST])
    if len(others) > _MOST:
        yield f"{plural(len(others) - _MOST, 'more snapshot')} on it"
    images = dict.fromkeys(
        graph.group.name
        for graph, node in view.manifests()
        if (inside := view.content(node.digest)) is not None
        and view.claims(inside.manifest.config.digest).get(snapshotter) == chain_id
    )
    yield from (f"image {name}" for name in list(images)[:_MOST])
    for lease in index.leases.get(view.name, view.inventory.leases):
        if any(r.id == chain_id and r.type == f"snapshots/{snapshotter}" for r in lease.resources or ()):
            yield f"lease {lease.id}"
