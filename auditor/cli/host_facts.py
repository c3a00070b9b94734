"""Facts of the host for a report: kernel, and file system, mount options and disk of the content root."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from auditor.model.findings import Fact
from auditor.mountinfo import MountLine, parse_mounts

_MOUNTS = Path("/proc/self/mountinfo")
_BLOCK = Path("/sys/class/block")
_MOST = 200


def host_facts(content_root: Path | None) -> dict[str, Fact]:
    """Return the facts of this host; what cannot be read is left out.

    Args:
        content_root: The folder of the blobs; None where it is not visible.

    """
    facts: dict[str, Fact] = {"kernel": os.uname().release}
    if content_root is None:
        return facts
    try:
        found = mount_of(content_root, parse_mounts(_MOUNTS.read_bytes()))
    except OSError:
        return facts
    if found is not None:
        facts["filesystem"] = found.filesystem
        facts["mount_options"] = ",".join(dict.fromkeys(f"{found.options},{found.super_options}".split(",")))[:_MOST]
        if model := disk_model(found.source, _BLOCK):
            facts["disk_model"] = model
    return facts


def mount_of(path: Path, mounts: Iterable[MountLine]) -> MountLine | None:
    """Return the mount that a path is on: the last one with the longest mount point above it."""
    wanted = Path(os.path.realpath(path))
    above = [mount for mount in mounts if wanted.is_relative_to(mount.point)]
    return max(reversed(above), key=lambda mount: len(mount.point), default=None)


def disk_model(source: str, block: Path) -> str:
    """Return the model of the disk under a device; for LVM, RAID and encryption that of the first disk below.

    Args:
        source: The device, for example `/dev/sda1`.
        block: /sys/class/block.

    """
    if not source.startswith("/dev/"):
        return ""
    name = Path(os.path.realpath(source)).name
    for _ in range(8):  # deeper stacks of devices than that are not followed
        device = Path(os.path.realpath(block / name))
        below = sorted(path.name for path in (device / "slaves").glob("*"))
        if not below:
            return next(filter(None, map(_model, (device, device.parent))), "")
        name = below[0]
    return ""


def _model(device: Path) -> str:
    try:
        return (device / "device" / "model").read_text(errors="replace").strip()[:_MOST]
    except OSError:
        return ""
