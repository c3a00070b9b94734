"""A stopped containerd: its root, its log, and what the daemon listed before; tests damage copies of it."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests import images
from tests.lab.kit.containers import shell_layer
from tests.lab.kit.daemon import CRI_NAMESPACE, Containerd
from tests.lab.kit.registry import Registry

META: Final = Path("io.containerd.metadata.v1.bolt", "meta.db")
BLOBS: Final = Path("io.containerd.content.v1.content", "blobs", "sha256")
SNAPSHOTTER: Final = Path("io.containerd.snapshotter.v1.overlayfs", "metadata.db")
OTHER_NAMESPACE: Final = "other"
_IMAGES: Final = 6
_TAGS: Final = 40


@dataclass(frozen=True)
class StoppedNode:
    """What a daemon left: `tags` with digests, `other` (an image with a shell), and all names of both namespaces."""

    version: str
    root: Path
    log: Path
    tags: Mapping[str, str]
    other: str
    names: Mapping[tuple[str, str], str]
    blobs: frozenset[str]
    snapshots: int

    @property
    def other_digest(self) -> str:
        """The digest of the image in the other namespace."""
        return self.names[OTHER_NAMESPACE, self.other]

    def copy(self, target: Path) -> Path:
        """Copy the root."""
        shutil.copytree(self.root, target, symlinks=True)
        return target


def built(name: str) -> images.BuiltImage:
    """Return an image of two layers."""
    return images.image([images.layer(images.files(f"stopped-{name}-{n}", kilobytes=16)) for n in range(2)])


def stopped_node(version: str, folder: Path, registry: Registry) -> StoppedNode:
    """Pull images into two namespaces, remove and re-point some, and kill the daemon."""
    with Containerd(version, folder) as daemon:
        tags = {}
        for number in range(_IMAGES):
            name = registry.push(built(str(number)), f"lab/stopped-{number}:1")
            daemon.cri_pull(name)
            tags[name] = built(str(number)).digest
        removed = registry.push(built("removed"), "lab/stopped-removed:1")
        daemon.cri_pull(removed)
        daemon.cri_remove_image(removed)
        shell = images.image([shell_layer(), images.layer({"etc/motd": b"other"})])
        other = registry.push(shell, "lab/stopped-other:1")
        daemon.ctr("images", "pull", "--plain-http", other, namespace=OTHER_NAMESPACE)
        # Enough names that they fill several pages.
        daemon.ctr("images", "tag", min(tags), *(f"registry.example/team/service-{n}:1.0" for n in range(_TAGS)))
        daemon.force_gc()
        # The last commits touch no image, so that a tree of one transaction earlier has them all.
        for number in range(3):
            daemon.ctr("leases", "create", "--id", f"lab-{number}")
        names = {
            (namespace, name): digest
            for namespace in (CRI_NAMESPACE, OTHER_NAMESPACE)
            for name, digest in _listed(daemon, namespace)
        }
        blobs = daemon.blobs() | daemon.blobs(namespace=OTHER_NAMESPACE)
        snapshots = len(daemon.snapshots()) + len(daemon.snapshots(namespace=OTHER_NAMESPACE))
        daemon.kill()
    return StoppedNode(version, daemon.root, daemon.log, tags, other, names, blobs, snapshots)


def _listed(daemon: Containerd, namespace: str) -> list[tuple[str, str]]:
    lines = daemon.ctr("images", "list", namespace=namespace).stdout.splitlines()[1:]
    return [(words[0], words[2]) for words in map(str.split, lines)]
