"""The blobs to verify, each digest once, with all namespaces that have a record of it; the snapshots to compare."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping

import msgspec

from auditor.checks.evidence import Evidence, NamespaceView
from auditor.layers import verifiable
from auditor.model import oci
from auditor.model.digest import Digest
from auditor.model.snapshot_files import SnapshotFiles, SnapshotKey
from auditor.model.store import Inventory
from auditor.snapshots.presence import Needed


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

    @property
    def bytes(self) -> int:
        """Bytes to read."""
        return self.size


class SnapshotTarget(msgspec.Struct, frozen=True, gc=False):
    """A snapshot to compare with its layer: its record, and its directory as it was looked at.

    `directory` changes when the snapshot is made again, or its files are exchanged by a repair.
    """

    needed: Needed
    files: SnapshotFiles
    directory: str

    @property
    def key(self) -> SnapshotKey:
        """The snapshot's identity."""
        return self.needed.key

    @property
    def layer(self) -> Digest:
        """The blob that it was unpacked from."""
        return self.needed.layer.descriptor.digest

    @property
    def bytes(self) -> int:
        """Bytes to read, about: the layer's blob, and the space of the files."""
        return self.needed.layer.descriptor.size + (self.files.recorded.size if self.files.recorded else 0)


def snapshot_targets(
    wanted: Mapping[SnapshotKey, Needed], looked: Mapping[SnapshotKey, SnapshotFiles]
) -> Iterator[SnapshotTarget]:
    """Yield the snapshots that can be compared.

    Args:
        wanted: The snapshots that images need.
        looked: The directories that were looked at.

    """
    for key, files in looked.items():
        if not files.missing and not files.reason:
            try:
                inode = os.lstat(files.path).st_ino
            except OSError:
                continue  # it was removed meanwhile
            yield SnapshotTarget(wanted[key], files, f"{files.id} {inode}")


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

    Artifacts have no layers, whatever their media types: some tools push any file as a layer. Nor is it a layer where
    an image lists content of another type among its layers: containerd passes it over, and the config has no diffID.
    """
    found: dict[Digest, str | None] = {}
    for view in evidence.views:
        for _, node in view.manifests():
            inside = view.content(node.digest)
            for layer in inside.layers if inside is not None and inside.container else ():
                if not oci.is_image_layer(layer.descriptor.media_type):
                    continue
                reason = verifiable(layer.descriptor.media_type)
                if reason is None or layer.descriptor.digest not in found:
                    found[layer.descriptor.digest] = reason
    return found
