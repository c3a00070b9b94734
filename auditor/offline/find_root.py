"""Find containerd's root: the given folder, or a usual path on a mounted disk."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from auditor.errors import UsageError

#: Relative to a file system's root: containerd, k3s and rke2, k0s, microk8s, and the daemon that dockerd starts.
USUAL_ROOTS: Final = (
    "var/lib/containerd",
    "var/lib/rancher/k3s/agent/containerd",
    "var/lib/rancher/rke2/agent/containerd",
    "var/lib/k0s/containerd",
    "var/snap/microk8s/common/var/lib/containerd",
    "var/lib/docker/containerd/daemon",
)
CONTENT: Final = "io.containerd.content.v1.content"
METADATA: Final = "io.containerd.metadata.v1.bolt"


def find_root(folder: Path) -> Path:
    """Return the root in `folder`, which is one or is a mounted disk.

    Raises:
        UsageError: There is none, or more than one.

    """
    found = [path for path in (folder, *(folder / usual for usual in USUAL_ROOTS)) if is_root(path)]
    if not found:
        raise UsageError(
            f"{folder} is no root of a containerd, and has none at a usual path",
            hint=f"give the folder that holds {CONTENT}, usually /var/lib/containerd, or the mount point of its disk",
        )
    if len(found) > 1:
        names = " and ".join(map(str, found))
        raise UsageError(f"{folder} has more than one root of a containerd: {names}", hint=f"give --root {found[0]}")
    return found[0].absolute()


def is_root(path: Path) -> bool:
    """Whether a folder holds a content store or a metadata database."""
    return (path / CONTENT).is_dir() or (path / METADATA).is_dir()
