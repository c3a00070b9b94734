"""What each built-in snapshotter needs besides its name: file systems on loop devices, programs, configuration."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Final

from tests.lab.kit.binaries import program

BUILT_IN: Final = {
    "1.6": ("overlayfs", "native", "btrfs"),
    "1.7": ("overlayfs", "native", "btrfs", "blockfile"),
    "2.1": ("overlayfs", "native", "btrfs", "blockfile", "erofs"),
}
"""The snapshotters of each release that run without a storage pool."""

_BLOCKFILE: Final = """
[plugins."io.containerd.snapshotter.v1.blockfile"]
scratch_file = "{scratch}"
fs_type = "ext4"
mount_options = ["loop"]
"""
_BTRFS: Final = """
[plugins."io.containerd.snapshotter.v1.btrfs"]
root_path = "{mount}"
"""
#: From 2.0 on pulls go through the transfer service, which unpacks only for snapshotters that its configuration names.
_UNPACK: Final = """
[[plugins.'io.containerd.transfer.v1.local'.unpack_config]]
platform = "linux/amd64"
snapshotter = "{snapshotter}"
"""


def options(snapshotter: str, version: str, base: Path) -> dict[str, str]:
    """Return options of Containerd for a snapshotter, and make what it needs in a folder."""
    makers = {"blockfile": _blockfile, "btrfs": _btrfs, "erofs": _erofs}
    made = makers[snapshotter](base) if snapshotter in makers else {}
    config = made.get("extra_config", "") + unpack_config(snapshotter, version)
    return {"snapshotter": snapshotter, **made, "extra_config": config}


def unpack_config(snapshotter: str, version: str) -> str:
    """Return what a release's configuration needs for pulls to a snapshotter."""
    return "" if version.startswith("1.") else _UNPACK.format(snapshotter=snapshotter)


def _blockfile(base: Path) -> dict[str, str]:
    scratch = base / "scratch.img"
    _run("mkfs.ext4", "-q", "-O", "^has_journal", scratch, "4M")
    return {"extra_config": _BLOCKFILE.format(scratch=scratch)}


def _btrfs(base: Path) -> dict[str, str]:
    image, mount = base / "btrfs.img", base / "btrfs"
    mount.mkdir()
    _run("truncate", "--size", "128M", image)
    _run("mkfs.btrfs", "-q", image)
    _run("mount", "-o", "loop", image, mount)
    return {"extra_config": _BTRFS.format(mount=mount)}


def _erofs(_base: Path) -> dict[str, str]:
    return {"path": str(program("erofs-utils", "usr/bin/mkfs.erofs").parent)}


def _run(*command: str | Path) -> None:
    subprocess.run(command, check=True, capture_output=True)
