"""The blobs to verify: each digest once, with all namespaces that have a record of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from auditor.checks.evidence import Evidence, NamespaceView
from auditor.layers import verifiable
from auditor.model.digest import Digest
from auditor.model.store import Inventory


class Target(msgspec.Struct, frozen=True, gc=False):
    """A blob to read.

    `size` is the recorded size in bytes. `layer`: it is a layer; `unverifiable`: why its media type rules decompression
    out, if it does.
    """

    digest: Digest
    size: int
    namespaces: tuple[str, ...]
    layer: bool = False
    unverifiable: str = ""


def targets_of(inventories: Iterable[Inventory], *, layers: Mapping[Digest, str | None] | None = None) -> list[Target]:
    """Return all blobs with a record, including orphans, sorted by digest.

    Args:
        inventories: the records of the namespaces.
        layers: the blobs that are layers, each with the reason why it is unverifiable or None; see `layers_of`.

    """
    found: dict[Digest, tuple[int, list[str]]] = {}
    for inventory in inventories:
        for digest, blob in inventory.blobs.items():
            size, namespaces = found.setdefault(digest, (blob.size, []))
            namespaces.append(inventory.namespace)
            found[digest] = max(size, blob.size), namespaces
    kinds = layers or {}
    return [
        Target(digest, size, tuple(sorted(namespaces)), layer=digest in kinds, unverifiable=kinds.get(digest) or "")
        for digest, (size, namespaces) in sorted(found.items())
    ]


def largest_first(targets: Iterable[Target]) -> list[Target]:
    """Sort by falling size, so that several threads end at about the same time."""
    return sorted(targets, key=lambda target: (-target.size, target.digest))


def wanted(evidence: Evidence) -> list[Target]:
    """Return what `check --verify` reads: the present blobs of the selected images, else all content."""
    chosen = targets_of((_chosen(view) for view in evidence.views), layers=layers_of(evidence))
    return largest_first(chosen)


def _chosen(view: NamespaceView) -> Inventory:
    if not view.selected:
        return view.inventory
    held = view.inventory.blobs
    return Inventory(namespace=view.name, blobs={digest: held[digest] for digest in view.named & held.keys()})


def layers_of(evidence: Evidence) -> dict[Digest, str | None]:
    """Return the layers of container images, each with the reason why all its media types are unverifiable, or None.

    Artifacts have no layers, whatever their media types: some tools push any file as a layer.
    """
    found: dict[Digest, str | None] = {}
    for view in evidence.views:
        for _, node in view.manifests():
            inside = view.content(node.digest)
            for layer in inside.layers if inside is not None and inside.container else ():
                reason = verifiable(layer.descriptor.media_type)
                if reason is None or layer.descriptor.digest not in found:
                    found[layer.descriptor.digest] = reason
    return found
