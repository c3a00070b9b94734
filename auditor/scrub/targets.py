"""What there is to prove: each digest once, with all namespaces that have a record of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from auditor.checks.evidence import Evidence, NamespaceView
from auditor.layers import verifiable
from auditor.model.digest import Digest
from auditor.model.store import Inventory


class Target(msgspec.Struct, frozen=True, gc=False):
    """A blob to read.

    `size` is the recorded size in bytes. `layer` says that it is to be decompressed too; `unverifiable` why it cannot
    be, where its media type tells.
    """

    digest: Digest
    size: int
    namespaces: tuple[str, ...]
    layer: bool = False
    unverifiable: str = ""


def targets_of(inventories: Iterable[Inventory], *, layers: Mapping[Digest, str | None] | None = None) -> list[Target]:
    """Everything that has a record, orphans included, by digest.

    `layers` names the blobs that are layers, each with the reason why it is unverifiable or None, as `layers_of` gives.
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
    """The order in which several threads end at about the same time."""
    return sorted(targets, key=lambda target: (-target.size, target.digest))


def wanted(evidence: Evidence) -> list[Target]:
    """What `check --verify` reads: the present blobs of the images audited, all content where none were selected."""
    chosen = targets_of((_chosen(view) for view in evidence.views), layers=layers_of(evidence))
    return largest_first(chosen)


def _chosen(view: NamespaceView) -> Inventory:
    if not view.selected:
        return view.inventory
    held = view.inventory.blobs
    return Inventory(namespace=view.name, blobs={digest: held[digest] for digest in view.named & held.keys()})


def layers_of(evidence: Evidence) -> dict[Digest, str | None]:
    """The layers of what is to be unpacked, and why one is unverifiable if all its media types say so.

    Artifacts have none, whatever their media types are: some tools push any file as a layer.
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
