"""Index over the evidence of an audit: lookup by digest, prefix or image name; pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from functools import cached_property

import msgspec

from auditor.audit.selection import matches
from auditor.checks.evidence import Evidence, NamespaceView
from auditor.checks.layer_state import LayerState, State, states
from auditor.model.digest import Digest
from auditor.model.findings import Finding, Severity
from auditor.model.image_graph import ImageGraph, Layer, ManifestNode
from auditor.model.oci import Descriptor
from auditor.model.store import Lease


class LayerUse(msgspec.Struct, frozen=True):
    """One use of a layer: its manifest, image and namespace; `total` is the number of layers of the manifest."""

    view: NamespaceView
    graph: ImageGraph
    node: ManifestNode
    layer: Layer
    total: int


class EvidenceIndex:
    """The evidence of an audit and its findings, by digest and by name.

    Args:
        evidence: The evidence.
        findings: The findings, the most severe first.
        leases: The leases of each namespace, with their resources.
        unread: Blobs that were not read within the time limit.

    """

    def __init__(
        self,
        evidence: Evidence,
        findings: tuple[Finding, ...],
        *,
        leases: Mapping[str, tuple[Lease, ...]] | None = None,
        unread: frozenset[Digest] = frozenset(),
    ) -> None:
        self.evidence = evidence
        self.findings = findings
        self.leases = leases or {}
        self.unread = unread
        self.layers: dict[Digest, list[LayerUse]] = {}
        self.diff_ids: dict[Digest, list[LayerUse]] = {}
        self.chain_ids: dict[Digest, list[LayerUse]] = {}
        for place in _layer_uses(evidence):
            self.layers.setdefault(place.layer.descriptor.digest, []).append(place)
            if place.layer.diff_id is not None and place.layer.chain_id is not None:
                self.diff_ids.setdefault(place.layer.diff_id, []).append(place)
                self.chain_ids.setdefault(place.layer.chain_id, []).append(place)

    @cached_property
    def descriptors(self) -> Mapping[Digest, Descriptor]:
        """The first descriptor of each digest, without layers."""
        found: dict[Digest, Descriptor] = {}
        for view in self.evidence.views:
            for walked in view.graphs:
                for descriptor in _descriptors(view, walked):
                    found.setdefault(descriptor.digest, descriptor)
        return found

    @cached_property
    def digests(self) -> frozenset[str]:
        """Every digest of a record, descriptor, diffID, chainID or snapshot."""
        recorded = {digest for view in self.evidence.views for digest in view.inventory.blobs}
        snapshots = {
            name
            for view in self.evidence.views
            for held in view.inventory.snapshots.values()
            for name in held
            if name.startswith("sha256:")
        }
        return frozenset({*recorded, *snapshots, *self.descriptors, *self.layers, *self.diff_ids, *self.chain_ids})

    def complete(self, prefix: str) -> tuple[Digest, ...]:
        """Return the digests whose hex part begins with `prefix`, sorted."""
        return tuple(sorted(Digest(d) for d in self.digests if d.partition(":")[2].startswith(prefix)))

    def recorded(self, digest: Digest) -> bool:
        """Whether any namespace has a record of the digest."""
        return any(view.has(digest) for view in self.evidence.views)

    def snapshot(self, name: str) -> bool:
        """Whether any snapshotter has a snapshot of this name."""
        return any(name in held for view in self.evidence.views for held in view.inventory.snapshots.values())

    def image(self, name: str) -> tuple[tuple[NamespaceView, ImageGraph], ...]:
        """Return the images that a name matches."""
        return tuple((v, g) for v in self.evidence.views for g in v.graphs if matches(g.group, name))

    def state(self, place: LayerUse) -> LayerState:
        """Return the state of a layer in the namespace that uses it."""
        return states(self.evidence, place.view, place.graph, place.node)[place.layer.index]

    def about(self, digest: str) -> tuple[Finding, ...]:
        """Return the findings about a digest or its snapshot, the most severe first.

        `layers-not-fetched` of a manifest is about its absent layers too.
        """
        places = self.layers.get(Digest(digest), ())
        above = {str(p.node.digest) for p in places if self.state(p).state is State.NOT_FETCHED}
        return tuple(f for f in self.findings if _is_about(f, digest, above))

    def about_image(self, namespace: str, target: Digest) -> tuple[Finding, ...]:
        """Return the findings that affect an image, the most severe first."""
        return tuple(f for f in self.findings if any(i.namespace == namespace and i.target == target for i in f.images))

    def config_type(self, finding: Finding) -> str:
        """Return the media type of the config of the first image that a finding affects; empty where it is unknown."""
        manifests = {(image.namespace, image.manifest) for image in finding.images}
        for view in self.evidence.views:
            for _, node in view.manifests():
                inside = view.content(node.digest)
                if inside is not None and (view.name, str(node.digest)) in manifests:
                    return inside.manifest.config.media_type
        return ""

    @cached_property
    def faults(self) -> tuple[Finding, ...]:
        """The findings above severity info, the most severe first; then those that explain certain messages only."""
        return tuple(f for f in self.findings if f.severity is not Severity.INFO or f.code == "no-matching-platform")


def _is_about(finding: Finding, digest: str, above: AbstractSet[str]) -> bool:
    subject = finding.subject
    unfetched = finding.code == "layers-not-fetched" and subject.digest in above
    return unfetched or digest in (subject.digest, subject.name.rpartition("/")[2])


def codes(findings: tuple[Finding, ...]) -> tuple[str, ...]:
    """Return the codes of findings, each once."""
    return tuple(dict.fromkeys(finding.code for finding in findings))


def _descriptors(view: NamespaceView, walked: ImageGraph) -> Iterator[Descriptor]:
    yield walked.group.target
    yield from walked.indexes
    yield from walked.others
    for node in walked.manifests:
        yield node.descriptor
        inside = view.content(node.digest)
        if inside is not None:
            yield inside.manifest.config


def _layer_uses(evidence: Evidence) -> Iterator[LayerUse]:
    for view in evidence.views:
        for walked, node in view.manifests():
            inside = view.content(node.digest)
            for layer in inside.layers if inside is not None else ():
                yield LayerUse(view, walked, node, layer, len(inside.layers) if inside is not None else 0)
