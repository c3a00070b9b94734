"""Relations between blobs, and the garbage-collection labels that follow from them; pure."""

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
    """A document that names a blob, and the label on its record that protects the blob from collection."""

    namespace: str
    digest: Digest
    label: str


class BlobRelations:
    """Descriptors and parents of each blob in the audited namespaces; computed once."""

    def __init__(self, evidence: Evidence) -> None:
        self._evidence = evidence

    @cached_property
    def descriptors(self) -> Mapping[Digest, Descriptor]:
        """The first descriptor of each blob that an image refers to."""
        found: dict[Digest, Descriptor] = {}
        for view in self._evidence.views:
            for descriptor in _descriptors(view):
                found.setdefault(descriptor.digest, descriptor)
        return found

    @cached_property
    def parents(self) -> Mapping[Digest, tuple[Parent, ...]]:
        """The documents that name a blob, in every namespace that has a record of them."""
        found: dict[Digest, dict[Parent, None]] = {}
        for view in self._evidence.views:
            for document, digest in _documents(view):
                for label, child in child_labels(children(document)).items():
                    found.setdefault(child, {})[Parent(view.name, digest, label)] = None
        return {digest: tuple(parents) for digest, parents in found.items()}

    @cached_property
    def _hosts(self) -> tuple[str, ...]:
        """The registry hosts with a port in the names of all images; labels have lost theirs."""
        names = (image.name for view in self._evidence.views for image in view.inventory.images)
        found = {known.host for name in names if (known := reference.find(name)) and known.host != known.hostname}
        return tuple(sorted(found))

    def hints(self, digest: Digest) -> Hints:
        """Return where a blob can be fetched.

        From the names of its images, tags first, and the `distribution.source` labels of it and its parents.
        """
        users = self._evidence.users.get(digest, ())
        names = dict.fromkeys(name for user in users for name in (user.name, *user.names))
        labels = [view.labels(digest) for view in self._evidence.views]
        labels += [self._labels(parent) for parent in self.parents.get(digest, ())]
        return Hints(names=tuple(names), origins=origins(labels), hosts=self._hosts)

    def source_labels(self, namespace: str, digest: Digest) -> Labels:
        """Return the `distribution.source` labels that a pull sets; from its parents, or from its image's name."""
        found = dict(self._named(namespace, digest))
        for parent in self.parents.get(digest, ()):
            if parent.namespace == namespace:
                labels = self._labels(parent)
                found |= {key: value for key, value in labels.items() if key.startswith(SOURCE_LABEL)}
        return found

    def gc_parent(self, namespace: str, digest: Digest) -> Parent | None:
        """Return the parent that must get a label so that the blob is not collected.

        None where a parent has the label, where there is no parent, and for the target of an image record.
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
    """Return a label's name without its number; containerd core/images/mediatypes.go `ChildGCLabels`."""
    if descriptor.media_type in oci.CONFIG_TYPES:
        return f"{REFERENCE}config"
    if descriptor.media_type in oci.MANIFEST_TYPES:
        return f"{REFERENCE}m."
    return f"{REFERENCE}l." if oci.is_layer(descriptor.media_type) else REFERENCE


def child_labels(named: Iterable[Descriptor]) -> dict[str, Digest]:
    """Return the label of each child of a document, in order.

    Source: containerd core/images/handlers.go `SetChildrenMappedLabels`.
    """
    seen: Counter[str] = Counter()
    found = {}
    for child in named:
        stem = _stem(child)
        number = seen[stem]
        seen[stem] += 1
        found[f"{stem}{number}" if number or stem.endswith(".") else stem] = child.digest
    return found


def free_label(wanted: str, taken: Mapping[str, str]) -> str:
    """Return `wanted`, or the same label with the first free number."""
    if wanted not in taken:
        return wanted
    stem = wanted.rstrip("0123456789")
    return next(key for number in range(len(taken) + 1) if (key := f"{stem}{number}") not in taken)


def document_labels(raw: bytes, media_type: str, inventory: Inventory, *, discards: bool) -> dict[str, str]:
    """Return the garbage-collection labels that a pull sets on an index, a manifest or a config.

    Args:
        raw: The document.
        media_type: Its media type.
        inventory: The namespace that gets the record.
        discards: Whether the node discards layers after unpacking; then absent layers are not referenced, so that a
            later audit still finds them discarded.

    Returns:
        The labels; none where `raw` is not such a document.

    """
    try:
        document = oci.parse(raw, media_type, malformed_children=True)
    except MalformedDocument:
        return {}
    if isinstance(document, ImageConfig):
        return _snapshot_labels(document, inventory)
    labels = child_labels(children(document))
    return {
        label: str(digest)
        for label, digest in labels.items()
        if not (discards and label.startswith(f"{REFERENCE}l.") and digest not in inventory.blobs)
    }


def _snapshot_labels(config: ImageConfig, inventory: Inventory) -> dict[str, str]:
    chain = chain_ids(config.diff_ids)
    return {
        f"{UNPACKED}{snapshotter}": str(chain[-1])
        for snapshotter, held in inventory.snapshots.items()
        if chain and chain[-1] in held
    }
