"""Finding objects in the evidence: digests and their beginnings, chainIDs, diffIDs, image names; pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import msgspec

from auditor.checks.absence import LayerState, State, states
from auditor.diagnose.knowledge import Known, Member, Use, Where
from auditor.digest import Digest
from auditor.evidence import Evidence, NamespaceView, image_ref
from auditor.findings import Finding
from auditor.graph import ImageGraph, Layer, ManifestNode
from auditor.oci import Descriptor
from auditor.reach import expired
from auditor.selection import matches
from auditor.store import FileKind, ProofKind

_SHOWN_LABELS = ("containerd.io/distribution.source.", "containerd.io/uncompressed", "containerd.io/gc.")
_BY_DESIGN = {
    State.NOT_PULLED: "it belongs to a platform that was not pulled",
    State.DISCARDED: "the node discards layers after unpacking them, or they were pruned",
    State.LAZY: "its snapshotter reads it from the registry when needed",
    State.IN_PROGRESS: "a pull is working on it",
    State.FOREIGN: "registries do not carry layers of its type",
    State.EMBEDDED: "its descriptor carries the data itself",
}
#: Layers of images that are walked for one diagnosis before only the first are told.
_MOST_USES = 20


class Place(msgspec.Struct, frozen=True):
    """Where a layer is named: with all that is around it."""

    view: NamespaceView
    graph: ImageGraph
    node: ManifestNode
    layer: Layer
    total: int


class Catalogue:
    """Everything that has a digest in the evidence, by digest."""

    def __init__(self, evidence: Evidence, findings: tuple[Finding, ...]) -> None:
        self.evidence = evidence
        self.findings = findings
        self.layers: dict[Digest, list[Place]] = {}
        self.diff_ids: dict[Digest, list[Place]] = {}
        self.chain_ids: dict[Digest, list[Place]] = {}
        self.descriptors: dict[Digest, Descriptor] = {}
        for place in _places(evidence):
            self.layers.setdefault(place.layer.descriptor.digest, []).append(place)
            if place.layer.diff_id is not None and place.layer.chain_id is not None:
                self.diff_ids.setdefault(place.layer.diff_id, []).append(place)
                self.chain_ids.setdefault(place.layer.chain_id, []).append(place)
        for view in evidence.views:
            for walked in view.graphs:
                for descriptor in _descriptors(view, walked):
                    self.descriptors.setdefault(descriptor.digest, descriptor)

    def all_digests(self) -> set[str]:
        """Every digest that anything here has or names."""
        recorded = {digest for view in self.evidence.views for digest in view.inventory.blobs}
        return {*recorded, *self.descriptors, *self.layers, *self.diff_ids, *self.chain_ids}

    def complete(self, prefix: str) -> tuple[Digest, ...]:
        """The digests that begin with these hex digits, sorted."""
        return tuple(sorted(Digest(d) for d in self.all_digests() if d.partition(":")[2].startswith(prefix)))

    def image(self, name: str) -> tuple[tuple[NamespaceView, ImageGraph], ...]:
        """The images that a name means."""
        return tuple((v, g) for v in self.evidence.views for g in v.graphs if matches(g.group, name))

    def codes(self, digest: str) -> tuple[str, ...]:
        """The codes of the findings about a digest, the worst first."""
        return tuple(dict.fromkeys(f.code for f in self.findings if f.subject.digest == digest))


def _descriptors(view: NamespaceView, walked: ImageGraph) -> Iterator[Descriptor]:
    yield walked.group.target
    yield from walked.indexes
    yield from walked.others
    for node in walked.manifests:
        yield node.descriptor
        inside = view.content(node.digest)
        if inside is not None:
            yield inside.manifest.config


def _places(evidence: Evidence) -> Iterator[Place]:
    for view in evidence.views:
        for walked, node in view.manifests():
            inside = view.content(node.digest)
            for layer in inside.layers if inside is not None else ():
                yield Place(view, walked, node, layer, len(inside.layers) if inside is not None else 0)


def known(catalogue: Catalogue, digest: Digest, *, asked: str = "") -> Known | None:
    """All that is known of a digest; None where nobody has or names it."""
    if digest in catalogue.layers:
        return _layer(catalogue, digest, asked)
    recorded = any(view.has(digest) for view in catalogue.evidence.views)
    if digest in catalogue.descriptors or recorded:
        return _blob(catalogue, digest, asked)
    if digest in catalogue.chain_ids:
        return _chain(catalogue, digest, asked)
    if digest in catalogue.diff_ids:
        return _diff(catalogue, digest, asked)
    return None


def _blob(catalogue: Catalogue, digest: Digest, asked: str) -> Known:
    users = catalogue.evidence.users.get(digest, ())
    descriptor = catalogue.descriptors.get(digest)
    uses = tuple(
        Use(image=user, media_type=descriptor.media_type, size=descriptor.size) if descriptor else Use(image=user)
        for user in users[:_MOST_USES]
    )
    return Known(
        kind=users[0].role if users else "blob",
        id=str(digest),
        asked=asked,
        where=tuple(_where(catalogue, digest)),
        file=_file(catalogue.evidence, digest),
        bytes=_bytes(catalogue.evidence, digest),
        uses=uses,
        by_design=_unwanted(catalogue, digest),
        findings=catalogue.codes(digest),
    )


def _unwanted(catalogue: Catalogue, digest: Digest) -> str:
    """Why an index's child that is absent need not be here."""
    for view in catalogue.evidence.views:
        for _, node in view.manifests():
            if node.digest != digest or view.has(digest):
                continue
            if node.attestation:
                return "it is an attestation, and pulls leave those behind"
            if not node.wanted:
                return "it belongs to a platform that was not pulled"
    return ""


def _layer(catalogue: Catalogue, digest: Digest, asked: str) -> Known:
    places = catalogue.layers[digest]
    found = [(place, _state(catalogue, place)) for place in places[:_MOST_USES]]
    worst = next((state for _, state in found if state.state.fault), found[0][1])
    first = found[0][0].layer
    return Known(
        kind="layer",
        id=str(digest),
        asked=asked,
        where=tuple(_where(catalogue, digest)),
        file=_file(catalogue.evidence, digest),
        bytes=_bytes(catalogue.evidence, digest),
        uses=tuple(_use(place, state) for place, state in found),
        twins=tuple(map(str, catalogue.evidence.twins(first))),
        snapshots=tuple(_members(catalogue, first.chain_id)) if first.chain_id is not None else (),
        by_design="" if worst.state.fault else _BY_DESIGN.get(worst.state, ""),
        findings=catalogue.codes(digest),
        diff_id=str(first.diff_id or ""),
        chain_id=str(first.chain_id or ""),
    )


def _state(catalogue: Catalogue, place: Place) -> LayerState:
    judged = states(catalogue.evidence, place.view, place.graph, place.node)
    return judged[place.layer.index]


def _use(place: Place, state: LayerState | None = None) -> Use:
    return Use(
        image=image_ref(place.graph.group, "layer", node=place.node, layer=place.layer.index),
        layers=place.total,
        state=str(state.state) if state is not None else "",
        media_type=place.layer.descriptor.media_type,
        size=place.layer.descriptor.size,
    )


def _chain(catalogue: Catalogue, chain_id: Digest, asked: str) -> Known:
    places = catalogue.chain_ids[chain_id]
    return Known(
        kind="chainID",
        id=str(chain_id),
        asked=asked,
        uses=tuple(_use(place, _state(catalogue, place)) for place in places[:_MOST_USES]),
        snapshots=tuple(_members(catalogue, chain_id)),
        diff_id=str(places[0].layer.diff_id or ""),
        chain_id=str(chain_id),
    )


def _diff(catalogue: Catalogue, diff_id: Digest, asked: str) -> Known:
    places = catalogue.diff_ids[diff_id]
    held = catalogue.evidence.layers_by_diff_id.get(diff_id, ())
    return Known(
        kind="diffID",
        id=str(diff_id),
        asked=asked,
        uses=tuple(_use(place, _state(catalogue, place)) for place in places[:_MOST_USES]),
        twins=tuple(map(str, held)),
        diff_id=str(diff_id),
    )


def _members(catalogue: Catalogue, chain_id: Digest) -> Iterator[Member]:
    """The snapshot of a chainID on each snapshotter that holds any, and who keeps it."""
    for view in catalogue.evidence.views:
        for snapshotter, held in sorted(view.inventory.snapshots.items()):
            if not held:
                continue
            snapshot = held.get(chain_id)
            made = [s.name for s in held.values() if s.parent == chain_id]
            active = {c.snapshot_key: c.id for c in view.inventory.containers if c.snapshotter == snapshotter}
            yield Member(
                namespace=view.name,
                snapshotter=snapshotter,
                chain_id=str(chain_id),
                present=snapshot is not None,
                parent=snapshot.parent if snapshot is not None else "",
                holders=tuple(f"container {active[n]}" if n in active else f"snapshot {n[:19]}" for n in made[:5]),
            )


def _where(catalogue: Catalogue, digest: Digest) -> Iterator[Where]:
    for view in catalogue.evidence.views:
        blob = view.blob(digest)
        ingests = tuple(
            f"{i.ref}: {i.offset} bytes" + (f", moved {i.updated_at:%Y-%m-%d %H:%M}" if i.updated_at else "")
            for i in view.inventory.ingests
            if digest in i.ref or i.expected == digest
        )
        if blob is None and not ingests and digest not in view.named:
            continue
        yield Where(
            namespace=view.name,
            recorded=blob is not None,
            size=blob.size if blob is not None else None,
            created_at=blob.created_at.isoformat() if blob is not None and blob.created_at else "",
            labels=_shown(blob.labels) if blob is not None else {},
            protected=view.reach.blob(digest) if blob is not None else None,
            leases=tuple(_leases(view, digest)),
            ingests=ingests,
        )


def _shown(labels: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in sorted(labels.items()) if name.startswith(_SHOWN_LABELS)}


def _leases(view: NamespaceView, digest: Digest) -> Iterator[str]:
    for lease in view.inventory.leases:
        if any(resource.id == digest for resource in lease.resources or ()):
            yield f"{lease.id} (expired)" if expired(lease, view.now) else lease.id


def _file(evidence: Evidence, digest: Digest) -> str:
    state = evidence.files.get(digest)
    if state is None:
        return ""
    if state.kind is not FileKind.REGULAR:
        return str(state.kind)
    return f"{state.size} bytes" + (" or more" if state.at_least else "") if state.size is not None else "there"


def _bytes(evidence: Evidence, digest: Digest) -> str:
    proof = evidence.proofs.get(digest)
    if proof is None:
        return ""
    match proof.kind:
        case ProofKind.SOUND:
            return "right: read to the end, they hash to the digest"
        case ProofKind.CORRUPT:
            return "wrong: " + (proof.detail or f"they hash to {proof.actual}")
        case ProofKind.UNSTEADY:
            return "right at the second reading, not at the first"
        case ProofKind.GONE:
            return "the record went while they were read"
        case _:
            return f"not readable: {proof.detail}" if proof.detail else "not readable"
