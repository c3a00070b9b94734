"""Everything an audit knows after its only I/O step; the rules are functions of this and of nothing else."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from functools import cached_property

from auditor.model.digest import Digest
from auditor.model.findings import ImageRef, Verify
from auditor.model.gc_reachability import Reach, reachable
from auditor.model.image_graph import Content, Documents, Group, ImageGraph, Layer, ManifestNode, children, content
from auditor.model.platforms import Matcher
from auditor.model.store import Blob, FileState, Inventory, Proof, Snapshot, Snapshotter, StoreInfo

UNPACKED_LABEL = "containerd.io/gc.ref.snapshot."


class NamespaceView:
    """One namespace: its records, the graphs of the images that are audited, and what follows from both.

    `selected` says that only some images are audited; then rules about the whole namespace do not run.
    """

    def __init__(
        self,
        inventory: Inventory,
        graphs: tuple[ImageGraph, ...],
        documents: Documents,
        *,
        selected: bool,
        now: datetime,
    ) -> None:
        self.inventory = inventory
        self.graphs = graphs
        self.documents = documents
        self.selected = selected
        self.now = now
        self._contents: dict[Digest, Content | None] = {}

    @property
    def name(self) -> str:
        """The namespace."""
        return self.inventory.namespace

    def has(self, digest: Digest) -> bool:
        """Whether the namespace has a record of the blob."""
        return digest in self.inventory.blobs

    def blob(self, digest: Digest) -> Blob | None:
        """The record of a blob."""
        return self.inventory.blobs.get(digest)

    def labels(self, digest: Digest) -> Mapping[str, str]:
        """The labels of a blob; none where there is no record."""
        blob = self.inventory.blobs.get(digest)
        return blob.labels if blob is not None else {}

    def content(self, manifest: Digest) -> Content | None:
        """What a manifest names; None where this namespace has no record of it or it cannot be read."""
        if manifest not in self._contents:
            self._contents[manifest] = content(manifest, self.documents) if self.has(manifest) else None
        return self._contents[manifest]

    def manifests(self) -> Iterator[tuple[ImageGraph, ManifestNode]]:
        """Each manifest of each image audited."""
        for graph in self.graphs:
            for node in graph.manifests:
                yield graph, node

    def snapshot(self, snapshotter: str, name: str) -> Snapshot | None:
        """A snapshot record."""
        return self.inventory.snapshots.get(snapshotter, {}).get(name)

    def unpacked_on(self, chain_id: Digest | None) -> tuple[str, ...]:
        """The snapshotters that have a committed snapshot of this chainID, sorted."""
        if chain_id is None:
            return ()
        return tuple(sorted(s for s, held in self.inventory.snapshots.items() if chain_id in held))

    def claims(self, config: Digest) -> Mapping[str, str]:
        """By snapshotter, the chainID that the config's labels say was unpacked."""
        found = {}
        for label, value in self.labels(config).items():
            if label.startswith(UNPACKED_LABEL):
                found[label.removeprefix(UNPACKED_LABEL).partition("/")[0]] = value
        return found

    @cached_property
    def reach(self) -> Reach:
        """What garbage collection would keep."""
        return reachable(self.inventory, now=self.now)

    @cached_property
    def named(self) -> frozenset[Digest]:
        """All digests that the audited images lead to, present or not."""
        found: set[Digest] = set()
        for graph in self.graphs:
            found.update(d.digest for d in graph.indexes)
            found.update(d.digest for d in graph.others)
            for node in graph.manifests:
                found.add(node.digest)
                inside = self.content(node.digest)
                if inside is not None:
                    found.update(child.digest for child in children(inside.manifest))
        return frozenset(found)


class Evidence:
    """What the rules judge.

    `files` has an entry for each blob looked at; `incomplete` has a sentence for each thing that could not be examined;
    `bytes_read` counts what was read for it. `platforms_asked_for`: the wanted platforms were named and are not merely
    the node's. `proofs` come last, since what is to be read follows from the rest: they
    are set before the rules run.
    """

    def __init__(
        self,
        *,
        info: StoreInfo,
        verify: Verify,
        matcher: Matcher,
        views: tuple[NamespaceView, ...],
        documents: Documents,
        files: Mapping[Digest, FileState],
        proofs: Mapping[Digest, Proof] | None = None,
        now: datetime,
        incomplete: tuple[str, ...] = (),
        bytes_read: int = 0,
        platforms_asked_for: bool = False,
    ) -> None:
        self.info = info
        self.verify = verify
        self.matcher = matcher
        self.views = views
        self.documents = documents
        self.files = files
        self.proofs: Mapping[Digest, Proof] = proofs or {}
        self.now = now
        self.incomplete = incomplete
        self.bytes_read = bytes_read
        self.platforms_asked_for = platforms_asked_for

    def snapshotter(self, name: str) -> Snapshotter | None:
        """What the store says of a snapshotter."""
        return next((s for s in self.info.snapshotters if s.name == name), None)

    @cached_property
    def users(self) -> Mapping[Digest, tuple[ImageRef, ...]]:
        """Who uses a blob and as what, over all namespaces that have a record of it or should have."""
        found: dict[Digest, list[ImageRef]] = {}
        for view in self.views:
            for graph in view.graphs:
                for digest, use in _uses(view, graph):
                    found.setdefault(digest, []).append(use)
        return {digest: tuple(sorted(set(uses), key=ref_order)) for digest, uses in found.items()}

    @cached_property
    def layers_by_diff_id(self) -> Mapping[Digest, tuple[Digest, ...]]:
        """The present blobs that decompress to a diffID, by what configs and labels say."""
        found: dict[Digest, set[Digest]] = {}
        for view in self.views:
            for blob in view.inventory.blobs.values():
                label = blob.labels.get("containerd.io/uncompressed")
                if label:
                    found.setdefault(Digest(label), set()).add(blob.digest)
        for view in self.views:
            for _, node in view.manifests():
                inside = view.content(node.digest)
                for layer in inside.layers if inside is not None else ():
                    if layer.diff_id is not None and view.has(layer.descriptor.digest):
                        found.setdefault(layer.diff_id, set()).add(layer.descriptor.digest)
        return {diff_id: tuple(sorted(digests)) for diff_id, digests in found.items()}

    def twins(self, layer: Layer) -> tuple[Digest, ...]:
        """The present blobs that hold the same layer compressed otherwise; in any namespace."""
        if layer.diff_id is None:
            return ()
        found = self.layers_by_diff_id.get(layer.diff_id, ())
        return tuple(digest for digest in found if digest != layer.descriptor.digest)


def ref_order(ref: ImageRef) -> tuple[str, str, str, str, str, int]:
    """One order of image references, whatever optional parts they have."""
    return (ref.namespace, ref.name, ref.platform, ref.manifest, ref.role, -1 if ref.layer is None else ref.layer)


def image_ref(image: Group, role: str, *, node: ManifestNode | None = None, layer: int | None = None) -> ImageRef:
    """How an image uses something, for a finding."""
    return ImageRef(
        namespace=image.namespace,
        name=image.name,
        names=image.names,
        target=str(image.target.digest),
        platform=str(node.platform) if node is not None and node.platform is not None else "",
        manifest=str(node.digest) if node is not None else "",
        role=role,
        layer=layer,
    )


def _uses(view: NamespaceView, graph: ImageGraph) -> Iterator[tuple[Digest, ImageRef]]:
    for index in graph.indexes:
        yield index.digest, image_ref(graph.group, "index")
    for other in graph.others:
        yield other.digest, image_ref(graph.group, "content")
    for node in graph.manifests:
        yield node.digest, image_ref(graph.group, "attestation" if node.attestation else "manifest", node=node)
        inside = view.content(node.digest)
        if inside is None:
            continue
        yield inside.manifest.config.digest, image_ref(graph.group, "config", node=node)
        for layer in inside.layers:
            yield layer.descriptor.digest, image_ref(graph.group, "layer", node=node, layer=layer.index)
