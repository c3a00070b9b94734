"""All that was read of a store: the only input of the rules, collected by `audit.collect`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING

import msgspec

from auditor.model.digest import Digest
from auditor.model.findings import ImageRef, Verify
from auditor.model.gc_reachability import Reach, reachable
from auditor.model.image_graph import Content, Documents, Group, ImageGraph, Layer, ManifestNode, content
from auditor.model.oci import Descriptor
from auditor.model.platforms import Matcher
from auditor.model.snapshot_files import SnapshotFiles, SnapshotKey
from auditor.model.store import (
    Blob,
    FileState,
    Inventory,
    Leftovers,
    Snapshot,
    SourceKind,
    StoreInfo,
    Verification,
)

if TYPE_CHECKING:
    from auditor.checks.layer_state import LayerState

UNPACKED_LABEL = "containerd.io/gc.ref.snapshot."


class NamespaceView(msgspec.Struct, frozen=True, eq=False, dict=True):
    """One namespace: its records, the graphs of the audited images, and what follows from both.

    `selected`: only some images are audited, so rules about the whole namespace do not run. `others` are the images
    that are not audited; they are evidence of causes. `before`: the records at an earlier look. `layer_states` has the
    layers' states by target and manifest, kept by `layer_state.states`.
    """

    inventory: Inventory
    graphs: tuple[ImageGraph, ...]
    documents: Documents
    selected: bool
    now: datetime
    others: tuple[ImageGraph, ...] = ()
    before: Inventory | None = None
    layer_states: dict[tuple[Digest, Digest], tuple[LayerState, ...]] = {}
    _contents: dict[Digest, Content | None] = {}

    @property
    def name(self) -> str:
        """The namespace's name."""
        return self.inventory.namespace

    def has(self, digest: Digest) -> bool:
        """Whether the namespace has a record of the blob."""
        return digest in self.inventory.blobs

    def blob(self, digest: Digest) -> Blob | None:
        """Return the record of a blob; None where there is none."""
        return self.inventory.blobs.get(digest)

    def labels(self, digest: Digest) -> Mapping[str, str]:
        """Return the labels of a blob; empty where there is no record."""
        blob = self.inventory.blobs.get(digest)
        return blob.labels if blob is not None else {}

    def content(self, manifest: Digest) -> Content | None:
        """Return what a manifest names; None where this namespace has no record of it or it cannot be read."""
        try:
            return self._contents[manifest]
        except KeyError:
            found = self._contents[manifest] = content(manifest, self.documents) if self.has(manifest) else None
            return found

    def manifests(self) -> Iterator[tuple[ImageGraph, ManifestNode]]:
        """Yield each manifest of each audited image."""
        for graph in self.graphs:
            for node in graph.manifests:
                yield graph, node

    def all_manifests(self) -> Iterator[tuple[ImageGraph, ManifestNode]]:
        """Yield each manifest of each image, audited or not."""
        for graph in (*self.graphs, *self.others):
            for node in graph.manifests:
                yield graph, node

    @cached_property
    def readable(self) -> tuple[tuple[ImageGraph, ManifestNode, Content], ...]:
        """The manifests of the audited images that can be read, each with what it names."""
        found = ((graph, node, self.content(node.digest)) for graph, node in self.manifests())
        return tuple((graph, node, inside) for graph, node, inside in found if inside is not None)

    def naming(self, digests: AbstractSet[Digest]) -> Iterator[tuple[ImageGraph, ManifestNode]]:
        """Yield the manifests that have one of these digests: their own, an index's above, their config's, a layer's.

        On most nodes a rule asks for few digests or none, and looks at no other manifest.
        """
        for graph, node in self.manifests() if digests else ():
            inside = self.content(node.digest)
            named = () if inside is None else (inside.manifest.config, *inside.manifest.layers)
            if not digests.isdisjoint([node.digest, *node.path, *[descriptor.digest for descriptor in named]]):
                yield graph, node

    @cached_property
    def not_whole(self) -> tuple[tuple[ImageGraph, ManifestNode], ...]:
        """The manifests that cannot be read, or of which the config or a layer has no record."""
        found = ((graph, node, self.content(node.digest)) for graph, node in self.manifests())
        return tuple(
            (graph, node) for graph, node, inside in found if inside is None or (self.absent and not self.whole(inside))
        )

    def whole(self, inside: Content | None) -> bool:
        """Whether a manifest's config and layers all have records."""
        if inside is None:
            return False
        manifest = inside.manifest
        return self.inventory.blobs.keys() >= {manifest.config.digest, *[layer.digest for layer in manifest.layers]}

    def snapshot(self, snapshotter: str, chain_id: Digest | None) -> Snapshot | None:
        """Return the record of a layer's snapshot; None where there is none, or the chainID is not known."""
        return self.inventory.snapshots.get(snapshotter, {}).get(chain_id) if chain_id is not None else None

    def unpacked_on(self, chain_id: Digest | None) -> tuple[str, ...]:
        """Return the snapshotters that have a committed snapshot of this chainID, sorted."""
        if chain_id is None:
            return ()
        return tuple(sorted(s for s, held in self.inventory.snapshots.items() if chain_id in held))

    @cached_property
    def snapshotters(self) -> tuple[tuple[str, Mapping[str, Snapshot]], ...]:
        """The snapshotters that have snapshots, sorted, each with them."""
        return tuple((name, held) for name, held in sorted(self.inventory.snapshots.items()) if held)

    @cached_property
    def snapshot_names(self) -> frozenset[str]:
        """The names of the snapshots of all snapshotters."""
        return frozenset().union(*self.inventory.snapshots.values())

    def claims(self, config: Digest) -> Mapping[str, str]:
        """Return, by snapshotter, the chainID that the config's labels mark as unpacked.

        core/unpack/unpacker.go sets the label `containerd.io/gc.ref.snapshot.<snapshotter>` on the config.
        """
        return {
            label.removeprefix(UNPACKED_LABEL).partition("/")[0]: value
            for label, value in self.labels(config).items()
            if label.startswith(UNPACKED_LABEL)
        }

    @cached_property
    def reach(self) -> Reach:
        """The objects that garbage collection would keep."""
        return reachable(self.inventory, now=self.now)

    @cached_property
    def named(self) -> frozenset[Digest]:
        """All digests that the audited images reference, present or not."""
        return frozenset([descriptor.digest for descriptor in self.described])

    @cached_property
    def absent(self) -> frozenset[Digest]:
        """The digests that the audited images reference, and of which there is no record."""
        return self.named - self.inventory.blobs.keys()

    @cached_property
    def described(self) -> tuple[Descriptor, ...]:
        """Every descriptor of the audited images, repeated once per use."""
        found: list[Descriptor] = []
        for graph in self.graphs:
            found += (graph.group.target, *graph.indexes, *graph.others)
            found += [node.descriptor for node in graph.manifests]
        for _, _, inside in self.readable:
            found += (inside.manifest.config, *inside.manifest.layers)
        return tuple(found)


class Evidence(msgspec.Struct, frozen=True, kw_only=True, eq=False, dict=True):
    """The input of the rules.

    `files` has an entry for each blob whose file was looked at. `unrecorded` has the files of a live store that no
    record names, where all records were listed. `verifications` has an entry for each blob that was read to its
    end. `snapshot_files` has what was found of snapshots' directories; at the levels below `snapshots-quick`, of
    missing ones only. `unpaired` are containerd's records of snapshots that the snapshotter's own database does not
    have. `leftovers` are files that no record leads to, where the whole store is audited. `undeletable` has the
    bytes, by path, of files without record that are immutable or append-only. `incomplete` has a sentence for each
    thing that could not be examined. `bytes_read` counts the bytes of the documents. `platforms_asked_for`: the
    wanted platforms were named by the user.
    """

    info: StoreInfo
    verify: Verify
    matcher: Matcher
    views: tuple[NamespaceView, ...]
    documents: Documents
    files: Mapping[Digest, FileState]
    unrecorded: Mapping[Digest, FileState] = {}
    verifications: Mapping[Digest, Verification] = {}
    snapshot_files: Mapping[SnapshotKey, SnapshotFiles] = {}
    unpaired: frozenset[SnapshotKey] = frozenset()
    leftovers: tuple[Leftovers, ...] = ()
    undeletable: Mapping[str, int] = {}
    now: datetime
    incomplete: tuple[str, ...] = ()
    bytes_read: int = 0
    platforms_asked_for: bool = False
    #: Absent blobs of the archive are absent on purpose.
    sparse: bool = False
    #: Layers of an image of which only the documents were fetched are wanted.
    layers_wanted: bool = False

    @property
    def archive(self) -> bool:
        """Whether the store is an archive: no records, no snapshots, no repair."""
        return self.info.kind is SourceKind.ARCHIVE

    @cached_property
    def users(self) -> Mapping[Digest, tuple[ImageRef, ...]]:
        """By blob, the images that reference it and its role in each, over all namespaces."""
        found: dict[Digest, list[ImageRef]] = {}
        for view in self.views:
            for graph in view.graphs:
                for descriptor, use in uses(view, graph):
                    found.setdefault(descriptor.digest, []).append(use)
        return {digest: tuple(sorted(set(uses), key=ref_order)) for digest, uses in found.items()}

    @cached_property
    def holders(self) -> Mapping[Digest, frozenset[tuple[str, Digest]]]:
        """By layer, the images (namespace and target) that have it, audited or not."""
        found: dict[Digest, set[tuple[str, Digest]]] = {}
        for view in self.views:
            for graph, node in view.all_manifests():
                inside = view.content(node.digest)
                for layer in inside.layers if inside is not None else ():
                    found.setdefault(layer.descriptor.digest, set()).add((view.name, graph.group.target.digest))
        return {digest: frozenset(images) for digest, images in found.items()}

    @cached_property
    def layers_by_diff_id(self) -> Mapping[Digest, tuple[Digest, ...]]:
        """By diffID, the present blobs that decompress to it according to configs, or labels where no config does."""
        found: dict[Digest, set[Digest]] = {}
        for view in self.views:
            for _, node in view.all_manifests():
                inside = view.content(node.digest)
                for layer in inside.layers if inside is not None else ():
                    if layer.diff_id is not None and view.has(layer.descriptor.digest):
                        found.setdefault(layer.diff_id, set()).add(layer.descriptor.digest)
        stated = set().union(*found.values())
        for view in self.views:
            for blob in view.inventory.blobs.values():
                label = blob.labels.get("containerd.io/uncompressed")
                if label and blob.digest not in stated:
                    found.setdefault(Digest(label), set()).add(blob.digest)
        return {diff_id: tuple(sorted(digests)) for diff_id, digests in found.items()}

    def twins(self, layer: Layer) -> tuple[Digest, ...]:
        """Return the present blobs, in any namespace, that hold the same layer in another compression."""
        if layer.diff_id is None:
            return ()
        found = self.layers_by_diff_id.get(layer.diff_id, ())
        return tuple(digest for digest in found if digest != layer.descriptor.digest)


def ref_order(ref: ImageRef) -> tuple[str, str, str, str, str, int]:
    """Return a sort key of image references; optional parts may be absent."""
    return (ref.namespace, ref.name, ref.platform, ref.manifest, ref.role, -1 if ref.layer is None else ref.layer)


def image_ref(image: Group, role: str, *, node: ManifestNode | None = None, layer: int | None = None) -> ImageRef:
    """Return a reference to an image and to the role of an object in it, for a finding."""
    return ImageRef(
        namespace=image.namespace,
        name=image.name,
        names=image.names,
        target=str(image.target.digest),
        platform=str(node.platform) if node is not None and node.platform is not None else "",
        manifest=str(node.digest) if node is not None else "",
        role=role,
        layer=layer,
        layer_number=None if layer is None else layer + 1,
    )


def uses(view: NamespaceView, graph: ImageGraph) -> Iterator[tuple[Descriptor, ImageRef]]:
    """Yield the descriptors of an image, each with the role of its content in it."""
    for index in graph.indexes:
        yield index, image_ref(graph.group, "index")
    for other in graph.others:
        yield other, image_ref(graph.group, "content")
    for node in graph.manifests:
        yield node.descriptor, image_ref(graph.group, "attestation" if node.attestation else "manifest", node=node)
        inside = view.content(node.digest)
        if inside is None:
            continue
        yield inside.manifest.config, image_ref(graph.group, "config", node=node)
        for layer in inside.layers:
            yield layer.descriptor, image_ref(graph.group, "layer", node=node, layer=layer.index)
