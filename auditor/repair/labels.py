"""The labels that keep content from garbage collection, as a pull sets them; pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from auditor import oci
from auditor.digest import Digest
from auditor.errors import MalformedDocument
from auditor.graph import children
from auditor.oci import Descriptor, ImageConfig, chain_ids
from auditor.store import Inventory

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
