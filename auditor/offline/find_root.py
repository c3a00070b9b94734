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

_MAX_LINKS: Final = 40
_HINT: Final = f"give the folder that holds {CONTENT}, usually /var/lib/containerd, or the mount point of its disk"


def find_root(folder: Path) -> Path:
    """Return the root in `folder`, which is one or is a mounted disk.

    Raises:
        UsageError: There is none, or more than one.

    """
    found = [path for path in (folder, *(_on_disk(folder, usual) for usual in USUAL_ROOTS)) if is_root(path)]
    if not found:
        raise UsageError(
            f"{folder} is no root of a containerd, and has none at a usual path", hint=_near(folder) or _HINT
        )
    if len(found) > 1:
        names = " and ".join(map(str, found))
        raise UsageError(f"{folder} has more than one root of a containerd: {names}", hint=f"give --root {found[0]}")
    return found[0].absolute()


def is_root(path: Path) -> bool:
    """Whether a folder holds a content store or a metadata database."""
    return (path / CONTENT).is_dir() or (path / METADATA).is_dir()


def _on_disk(disk: Path, usual: str) -> Path:
    """Return a usual path of a disk; an absolute link on it means the disk, not this machine."""
    path = disk
    for part in Path(usual).parts:
        path /= part
        for _ in range(_MAX_LINKS):
            if not path.is_symlink():
                break
            target = path.readlink()
            path = disk / target.relative_to("/") if target.is_absolute() else path.parent / target
    return path


def _near(folder: Path) -> str:
    """Return a hint that names a root above the folder, or up to two levels below it; empty where there is none."""
    whole = folder.absolute()
    below = (path for pattern in ("*", "*/containerd") for path in sorted(whole.glob(pattern)))
    try:
        near = next((path for path in (*whole.parents, *below) if is_root(path)), None)
    except OSError:
        return ""
    return "" if near is None else f"{near} is one"
