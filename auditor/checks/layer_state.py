"""The state of each layer: present, or the reason why its blob is absent."""

from __future__ import annotations

import enum
import re
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from functools import cached_property

import msgspec

from auditor.checks.evidence import Evidence, NamespaceView
from auditor.checks.pull_activity import in_progress
from auditor.checks.pulled_platforms import only_choice, pulled_instead, unpacked
from auditor.model import oci
from auditor.model.digest import Digest
from auditor.model.image_graph import Content, Family, ImageGraph, Layer, ManifestNode

_CONFIG_LABEL = "containerd.io/gc.ref.content.config"
_CONTENT_LABEL = "containerd.io/gc.ref.content"
_REMOTE_LABEL = "containerd.io/snapshot/remote"
#: Names the blob that a snapshot was built from; internal/cri/server/images/image_pull.go.
_BUILT_FROM_LABEL = "containerd.io/snapshot/cri.layer-digest"
#: On the image records that CRI manages; internal/cri/labels/labels.go.
_MANAGED_LABEL = "io.cri-containerd.image"
_FETCHED_LABEL = "containerd.io/distribution.source."
_DIGEST = r"sha256:[0-9a-f]{64}"
_LAZY_LABELS = ("containerd.io/snapshot/nydus", "containerd.io/snapshot/overlaybd")
#: containerd's own snapshotters, which unpack each layer.
_LOCAL = frozenset({"aufs", "blockfile", "btrfs", "devmapper", "native", "overlayfs", "windows", "zfs"})


class State(enum.StrEnum):
    """The state of a layer in a namespace, in the words that `auditor tree` prints."""

    PRESENT = "present"
    EMBEDDED = "embedded"
    FOREIGN = "foreign"
    NOT_PULLED = "not pulled"
    DISCARDED = "discarded"
    LAZY = "lazy"
    #: A proxy snapshotter has it; whether containerd or that process fetched it is not recorded.
    UNTOLD = "absent on a proxy snapshotter"
    IN_PROGRESS = "pull in progress"
    #: Only the image's documents were fetched, as by `ctr content fetch --metadata-only`.
    NOT_FETCHED = "not fetched"
    SHARED_CONFIG = "lost to a shared config"
    SKIPPED = "skipped by the unpacker"
    INCOMPLETE = "missing"
    #: Absent for an unknown reason: the config or the snapshots cannot be read.
    UNKNOWN = "absent"

    @property
    def fault(self) -> bool:
        """Whether the blob should be present."""
        return self in (State.SHARED_CONFIG, State.SKIPPED, State.INCOMPLETE)


class LayerState(msgspec.Struct, frozen=True):
    """The state of one layer.

    `snapshotters` have its snapshot. `prefix`: the image has absent layers, and neither this layer nor one below it
    was fetched for this image, as the unpacker's bug leaves them; a present layer that another image references too
    does not count as fetched for this one. `labelled`: the manifest's gc labels name the blob. `twins`: present blobs
    with the same layer in another compression.
    """

    layer: Layer
    state: State
    snapshotters: tuple[str, ...] = ()
    prefix: bool = False
    labelled: bool = False
    twins: tuple[Digest, ...] = ()
    #: The blob that the snapshot was built from, where CRI recorded it.
    built_from: str = ""
    #: A sibling manifest with the same config whose layers are all present.
    sibling: Digest | None = None


def states(evidence: Evidence, view: NamespaceView, graph: ImageGraph, node: ManifestNode) -> tuple[LayerState, ...]:
    """Return the state of each layer of a manifest, lowest first; computed once per view and manifest.

    Args:
        evidence: The evidence that `view` belongs to.
        view: The image's namespace.
        graph: The image.
        node: A manifest of the image.

    Returns:
        One state per layer; empty where the manifest cannot be read.

    """
    inside = view.content(node.digest)
    if inside is None:
        return ()
    key = (graph.group.target.digest, node.digest)
    if key not in view.layer_states:
        view.layer_states[key] = _Classifier(evidence, view, graph, node, inside).classify()
    return view.layer_states[key]


def absences(evidence: Evidence, view: NamespaceView, graph: ImageGraph, node: ManifestNode) -> tuple[LayerState, ...]:
    """Return the states of the absent layers; on most nodes there are none, and nothing is classified."""
    inside = view.content(node.digest)
    if inside is None or all(map(view.has, [layer.descriptor.digest for layer in inside.layers])):
        return ()
    return tuple(state for state in states(evidence, view, graph, node) if state.state is not State.PRESENT)


class _Classifier:
    """Classifies the layers of one manifest of one image."""

    def __init__(
        self, evidence: Evidence, view: NamespaceView, graph: ImageGraph, node: ManifestNode, inside: Content
    ) -> None:
        self.evidence = evidence
        self.view = view
        self.graph = graph
        self.node = node
        self.inside = inside
        self.labels = view.labels(node.digest)
        self.labelled = {v for k, v in self.labels.items() if k.startswith(_CONTENT_LABEL)}

    def classify(self) -> tuple[LayerState, ...]:
        """Return the state of each layer, lowest first."""
        found = []
        prefix = not all(self.view.has(layer.descriptor.digest) for layer in self.inside.layers)
        for layer in self.inside.layers:
            digest = layer.descriptor.digest
            # A digest may occur twice in a manifest; the blob is then absent in both places.
            prefix = prefix and (not self.view.has(digest) or self._shared(digest))
            base = LayerState(
                layer=layer,
                state=State.PRESENT,
                snapshotters=self.view.unpacked_on(layer.chain_id),
                prefix=prefix,
                labelled=digest in self.labelled,
            )
            found.append(base if self.view.has(digest) else self._absent(base))
        return tuple(found)

    @cached_property
    def pulled(self) -> bool:
        """Whether this manifest's layers were pulled."""
        if not self.node.wanted:
            meant = only_choice(self.view, self.graph, self.inside)
        else:
            meant = not pulled_instead(self.evidence, self.view, self.graph, self.node)
        return meant or unpacked(self.view, self.inside)

    def _shared(self, digest: Digest) -> bool:
        image = (self.view.name, self.graph.group.target.digest)
        return bool(self.evidence.holders.get(digest, frozenset()) - {image})

    def _absent(self, base: LayerState) -> LayerState:
        if base.layer.descriptor.embedded:
            return _with(base, State.EMBEDDED)
        if self.sibling is not None and (base.labelled or self.node.wanted):
            return _with(base, State.SHARED_CONFIG, twins=self.evidence.twins(base.layer), sibling=self.sibling)
        by_design = self._by_design(base)
        if by_design is None and self._documents_only:
            by_design = State.NOT_FETCHED
        return self._fault(base) if by_design is None else _with(base, by_design)

    def _by_design(self, base: LayerState) -> State | None:
        """Return the state of a layer that is absent without a fault, else None; the order of the tests matters."""
        if oci.is_foreign(base.layer.descriptor.media_type) and not base.snapshotters:
            return State.FOREIGN
        if not self.pulled:
            return State.NOT_PULLED
        if base.snapshotters and not base.labelled and _CONFIG_LABEL in self.labels:
            return State.DISCARDED
        lazy = self._lazy(base)
        if lazy is not None:
            return lazy
        return State.IN_PROGRESS if in_progress(self.view, base.layer.descriptor.digest, self.node) else None

    @cached_property
    def _documents_only(self) -> bool:
        """Whether nothing in the store tells that the image ever had a layer.

        `ctr content fetch --metadata-only` of an index leaves the documents of its platforms and no layer of any. A
        record that CRI manages (kubelet takes it for an image to run), a container, a snapshot or a config's label
        of one, a layer, or documents that no fetch labelled tell of more. So does an index that lists a manifest for
        several platforms: a pull by containerd 2.1 fetches no layer of such an image, and succeeds.
        """
        if self.evidence.layers_wanted or self._listed_twice():
            return False
        manifests = [node for node in self.graph.manifests if not node.attestation and self.view.has(node.digest)]
        known = [self.view.content(node.digest) for node in manifests]
        return bool(self.graph.indexes) and not self._used() and all(map(self._without_layers, manifests, known))

    def _listed_twice(self) -> bool:
        """Whether an index lists a manifest more than once."""
        found = (self.view.documents.get((each.digest, Family.INDEX)) for each in self.graph.indexes)
        listed = [child.digest for index in found if isinstance(index, oci.Index) for child in index.manifests]
        return len(listed) > len(set(listed))

    def _used(self) -> bool:
        """Whether CRI manages the image, or a container has one of its names."""
        group = self.graph.group
        managed = any(_MANAGED_LABEL in record.labels for record in group.records)
        return managed or any(container.image in group.names for container in self.view.inventory.containers)

    def _without_layers(self, node: ManifestNode, inside: Content | None) -> bool:
        """Whether a manifest was fetched with its config, and has no layer and no snapshot."""
        if inside is None or inside.config is None:
            return False
        fetched = any(label.startswith(_FETCHED_LABEL) for label in self.view.labels(node.digest))
        present = any(self.view.has(layer.descriptor.digest) for layer in inside.layers)
        unpacked = any(self.view.unpacked_on(layer.chain_id) for layer in inside.layers)
        return fetched and not (present or unpacked or self.view.claims(inside.manifest.config.digest))

    def _fault(self, base: LayerState) -> LayerState:
        if self.inside.config is None and self.inside.container:
            return _with(base, State.UNKNOWN)
        twins = self.evidence.twins(base.layer)
        if base.snapshotters:
            return _with(base, State.SKIPPED, twins=twins, built_from=_built_from(self.view, base))
        return _with(base, State.UNKNOWN if self._snapshots_unknown() else State.INCOMPLETE, twins=twins)

    @cached_property
    def sibling(self) -> Digest | None:
        """Another manifest of the same index with the same config and all of its layers (containerd#14000)."""
        if not self.node.path or not (self.node.wanted or self.node.alike):
            return None
        for other in self.graph.manifests:
            its = self.view.content(other.digest) if other.path == self.node.path else None
            if its is None or its.manifest.config.digest != self.inside.manifest.config.digest:
                continue
            if its.layers != self.inside.layers and all(self.view.has(x.descriptor.digest) for x in its.layers):
                return other.digest
        return None

    def _snapshots_unknown(self) -> bool:
        """Whether a snapshotter could not be listed; it may have snapshots that are missing elsewhere."""
        held = self.view.inventory
        return bool(held.gaps) and any(s.name not in held.snapshots for s in self.evidence.info.snapshotters)

    @cached_property
    def used(self) -> tuple[str, ...]:
        """The snapshotters of this image: those that the config's labels name, else those that have its top."""
        listed = self.view.inventory.snapshots
        claimed = sorted(set(self.view.claims(self.inside.manifest.config.digest)) & listed.keys())
        return tuple(claimed) or self.view.unpacked_on(self.inside.chain[-1] if self.inside.chain else None)

    def _lazy(self, base: LayerState) -> State | None:
        """Whether a remote snapshotter serves the layer without its blob, judged by the layer's own snapshot."""
        chain_id = base.layer.chain_id
        held = {s: found for s in self.used if (found := self.view.snapshot(s, chain_id)) is not None}
        if any(_remote(snapshot.labels.keys() - self._inherited(base, s)) for s, snapshot in held.items()):
            return State.LAZY
        known = (self.evidence.info.snapshotter(s) for s in held)
        proxies = {s.name for s in known if s is not None and s.proxy}
        if not proxies or proxies != held.keys():
            return None
        sources = {held[s].labels.get(_BUILT_FROM_LABEL, "") for s in proxies} - {""}
        if base.layer.descriptor.digest in sources:
            return State.LAZY
        skipped = sources or (base.prefix and self._fetched_twin(base, proxies))
        return None if skipped else State.UNTOLD

    def _inherited(self, base: LayerState, snapshotter: str) -> AbstractSet[str]:
        """Return the labels of a local snapshot that only repeat what the image was published with.

        core/snapshots/snapshotter.go `FilterInheritedLabels` copies a layer's annotations to its snapshot.
        """
        known = self.evidence.info.snapshotter(snapshotter)
        local = snapshotter in _LOCAL and not (known is not None and known.proxy)
        return base.layer.descriptor.annotations.keys() if local else frozenset()

    def _fetched_twin(self, base: LayerState, snapshotters: AbstractSet[str]) -> bool:
        """Whether a present twin belongs to an image of the same snapshotter, which containerd thus fetched for it."""
        twins = set(self.evidence.twins(base.layer))
        for _, node in self.view.all_manifests() if twins else ():
            inside = self.view.content(node.digest)
            if inside is None or snapshotters.isdisjoint(self.view.claims(inside.manifest.config.digest)):
                continue
            if any(layer.descriptor.digest in twins for layer in inside.layers):
                return True
        return False


def _with(
    base: LayerState,
    state: State,
    *,
    twins: tuple[Digest, ...] = (),
    built_from: str = "",
    sibling: Digest | None = None,
) -> LayerState:
    return msgspec.structs.replace(base, state=state, twins=twins, built_from=built_from, sibling=sibling)


def _remote(labels: AbstractSet[str]) -> bool:
    return _REMOTE_LABEL in labels or any(label.startswith(_LAZY_LABELS) for label in labels)


def _built_from(view: NamespaceView, base: LayerState) -> str:
    """Return the blob that the snapshot was built from, by the first snapshotter that has it; empty where unknown."""
    snapshot = view.snapshot(base.snapshotters[0], base.layer.chain_id)
    named = snapshot.labels.get(_BUILT_FROM_LABEL, "") if snapshot is not None else ""
    return named if re.fullmatch(_DIGEST, named) else ""


def faults(found: Sequence[LayerState]) -> tuple[LayerState, ...]:
    """Return the absent layers whose blobs should be present."""
    return tuple(state for state in found if state.state.fault)
