"""How blobs hang together in the namespaces audited: their descriptors, their parents, and who should protect them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property

import msgspec

from auditor.checks.evidence import Evidence, NamespaceView
from auditor.errors import MalformedDocument
from auditor.model import oci, reference
from auditor.model.blob_source import SOURCE_LABEL, Hints, origins
from auditor.model.digest import Digest
from auditor.model.image_graph import Family, children
from auditor.model.oci import Descriptor, ImageConfig, Index, Manifest, chain_ids
from auditor.model.store import Inventory, Labels


class Parent(msgspec.Struct, frozen=True, order=True):
    """A document of a namespace that names a blob, and the label by which it would keep it."""

    namespace: str
    digest: Digest
    label: str


class Kin:
    """What the evidence says of each blob's relations; computed once."""

    def __init__(self, evidence: Evidence) -> None:
        self._evidence = evidence

    @cached_property
    def descriptors(self) -> Mapping[Digest, Descriptor]:
        """The first descriptor of each blob that an image leads to."""
        found: dict[Digest, Descriptor] = {}
        for view in self._evidence.views:
            for descriptor in _descriptors(view):
                found.setdefault(descriptor.digest, descriptor)
        return found

    @cached_property
    def parents(self) -> Mapping[Digest, tuple[Parent, ...]]:
        """The documents that name a blob, in all namespaces that have a record of them."""
        found: dict[Digest, dict[Parent, None]] = {}
        for view in self._evidence.views:
            for document, digest in _documents(view):
                for label, child in child_labels(children(document)).items():
                    found.setdefault(child, {})[Parent(view.name, digest, label)] = None
        return {digest: tuple(parents) for digest, parents in found.items()}

    def hints(self, digest: Digest) -> Hints:
        """The names of the images that use a blob, tags first, and where its own and its parents' labels lead."""
        users = self._evidence.users.get(digest, ())
        names = dict.fromkeys(name for user in users for name in (user.name, *user.names))
        labels = [view.labels(digest) for view in self._evidence.views]
        labels += [self._labels(parent) for parent in self.parents.get(digest, ())]
        return Hints(names=tuple(names), origins=origins(labels))

    def source_labels(self, namespace: str, digest: Digest) -> Labels:
        """The `distribution.source` labels that a pull would have given: its parents', or by its image's name."""
        found = dict(self._named(namespace, digest))
        for parent in self.parents.get(digest, ()):
            if parent.namespace == namespace:
                labels = self._labels(parent)
                found |= {key: value for key, value in labels.items() if key.startswith(SOURCE_LABEL)}
        return found

    def tie(self, namespace: str, digest: Digest) -> Parent | None:
        """The parent whose label should be added so that the blob stays; None where one has it, or there is no parent.

        An image's own target needs none.
        """
        here = [parent for parent in self.parents.get(digest, ()) if parent.namespace == namespace]
        if not here or any(digest in self._labels(parent).values() for parent in here):
            return None
        return None if self._is_target(namespace, digest) else min(here)

    def _is_target(self, namespace: str, digest: Digest) -> bool:
        views = (view for view in self._evidence.views if view.name == namespace)
        return any(graph.group.target.digest == digest for view in views for graph in view.graphs)

    def _named(self, namespace: str, digest: Digest) -> Iterator[tuple[str, str]]:
        for view in self._evidence.views:
            for graph in view.graphs if view.name == namespace else ():
                for name in graph.group.names if graph.group.target.digest == digest else ():
                    if (known := reference.find(name)) is not None:
                        yield f"{SOURCE_LABEL}{known.hostname}", known.repository

    def _labels(self, parent: Parent) -> Mapping[str, str]:
        return next((v.labels(parent.digest) for v in self._evidence.views if v.name == parent.namespace), {})


def _descriptors(view: NamespaceView) -> Iterator[Descriptor]:
    for graph in view.graphs:
        yield graph.group.target
        yield from (*graph.indexes, *graph.others)
    for _, node in view.manifests():
        yield node.descriptor
        inside = view.content(node.digest)
        if inside is not None:
            yield from children(inside.manifest)


def _documents(view: NamespaceView) -> Iterator[tuple[Index | Manifest, Digest]]:
    for graph in view.graphs:
        for index in graph.indexes:
            document = view.documents.get((index.digest, Family.INDEX))
            if isinstance(document, Index) and view.has(index.digest):
                yield document, index.digest
    for _, node in view.manifests():
        inside = view.content(node.digest)
        if inside is not None:
            yield inside.manifest, node.digest


REFERENCE = "containerd.io/gc.ref.content."
UNPACKED = "containerd.io/gc.ref.snapshot."


def _stem(descriptor: Descriptor) -> str:
    """The label's name less its number; containerd core/images/mediatypes.go `ChildGCLabels`."""
    if descriptor.media_type in oci.CONFIG_TYPES:
        return f"{REFERENCE}config"
    if descriptor.media_type in oci.MANIFEST_TYPES:
        return f"{REFERENCE}m."
    return f"{REFERENCE}l." if oci.is_layer(descriptor.media_type) else REFERENCE


def child_labels(named: Iterable[Descriptor]) -> dict[str, Digest]:
    """A label for each child of a document, in its order; core/images/handlers.go `SetChildrenMappedLabels`."""
    seen: Counter[str] = Counter()
    found = {}
    for child in named:
        stem = _stem(child)
        number = seen[stem]
        seen[stem] += 1
        found[f"{stem}{number}" if number or stem.endswith(".") else stem] = child.digest
    return found


def free_label(wanted: str, taken: Mapping[str, str]) -> str:
    """`wanted`, or the same with the first number that no other label has."""
    if wanted not in taken:
        return wanted
    stem = wanted.rstrip("0123456789")
    return next(key for number in range(len(taken) + 1) if (key := f"{stem}{number}") not in taken)


def document_labels(raw: bytes, media_type: str, inventory: Inventory, *, discards: bool) -> dict[str, str]:
    """What a pull would have left on an index, a manifest or a config, as far as this namespace has what it names.

    On a node that discards layers, absent ones are not referenced, so that they stay what they are: discarded. Bytes
    that are no such document have no labels.
    """
    try:
        document = oci.parse(raw, media_type)
    except MalformedDocument:
        return {}
    if isinstance(document, ImageConfig):
        return _unpacked(document, inventory)
    labels = child_labels(children(document))
    return {
        label: str(digest)
        for label, digest in labels.items()
        if not (discards and label.startswith(f"{REFERENCE}l.") and digest not in inventory.blobs)
    }


def _unpacked(config: ImageConfig, inventory: Inventory) -> dict[str, str]:
    chain = chain_ids(config.diff_ids)
    return {
        f"{UNPACKED}{snapshotter}": str(chain[-1])
        for snapshotter, held in inventory.snapshots.items()
        if chain and chain[-1] in held
    }
