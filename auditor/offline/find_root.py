"""Find containerd's root: the given folder, or on a mounted disk a usual path, or the one in its configuration."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Final

from auditor.errors import UsageError
from auditor.regular_file import read_regular

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

#: containerd's configuration, which may name another root.
_CONFIG: Final = "etc/containerd/config.toml"
_CONFIG_BYTES: Final = 1 << 20
_MAX_LINKS: Final = 40
_HINT: Final = f"give the folder that holds {CONTENT}, usually /var/lib/containerd, or the mount point of its disk"


def find_root(folder: Path) -> Path:
    """Return the root in `folder`, which is one or is a mounted disk.

    Raises:
        UsageError: There is none, or more than one.

    """
    usual = (_on_disk(folder, path) for path in (*USUAL_ROOTS, *_configured(folder)))
    found = [path for path in dict.fromkeys((folder, *usual)) if is_root(path)]
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


def _configured(disk: Path) -> tuple[str, ...]:
    """Return the root that the configuration on a disk names, relative to the disk; none where it names none."""
    try:
        text = read_regular(_on_disk(disk, _CONFIG), limit=_CONFIG_BYTES).decode()
        root = tomllib.loads(text).get("root")
    except (OSError, ValueError, RecursionError):
        return ()
    if not isinstance(root, str) or not root.startswith("/") or "\0" in root:
        return ()
    return (root,)


def _on_disk(disk: Path, path: str) -> Path:
    """Return a path of a disk, without links; an absolute link means the disk, and no link leads out of it."""
    place, parts, links = disk, _parts(path), 0
    while parts:
        name = parts.pop()
        if name == "..":
            place = place.parent if place != disk else disk
            continue
        below = place / name
        if links > _MAX_LINKS or not below.is_symlink():
            place = below
            continue
        links += 1
        target = os.fspath(below.readlink())
        place = disk if target.startswith("/") else place
        parts += _parts(target)
    return place


def _parts(path: str) -> list[str]:
    return [part for part in reversed(path.split("/")) if part not in {"", "."}]


def _near(folder: Path) -> str:
    """Return a hint that names a root above the folder, or up to two levels below it; empty where there is none."""
    whole = folder.absolute()
    below = (path for pattern in ("*", "*/containerd") for path in sorted(whole.glob(pattern)))
    try:
        near = next((path for path in (*whole.parents, *below) if is_root(path)), None)
    except OSError:
        return ""
    return "" if near is None else f"{near} is one"
