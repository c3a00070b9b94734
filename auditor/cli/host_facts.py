"""Facts of the host for a report: kernel, and file system, mount options and disk of the content root."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from auditor.model.findings import Fact

_MOUNTS = Path("/proc/self/mountinfo")
_BLOCK = Path("/sys/class/block")
#: The kernel escapes space, tab, newline and backslash in mountinfo; proc_pid_mountinfo(5).
_ESCAPE = re.compile(r"\\([0-7]{3})")
_MOST = 200


class Mount(NamedTuple):
    """A line of mountinfo: mount point, options of the mount, file system, source, options of the file system."""

    point: str
    options: str
    filesystem: str
    source: str
    super_options: str


def host_facts(content_root: Path | None) -> dict[str, Fact]:
    """Return the facts of this host; what cannot be read is left out.

    Args:
        content_root: The folder of the blobs; None where it is not visible.

    """
    facts: dict[str, Fact] = {"kernel": os.uname().release}
    if content_root is None:
        return facts
    try:
        found = mount_of(content_root, _MOUNTS.read_text(errors="replace").splitlines())
    except OSError:
        return facts
    if found is not None:
        facts["filesystem"] = found.filesystem
        facts["mount_options"] = ",".join(dict.fromkeys(f"{found.options},{found.super_options}".split(",")))[:_MOST]
        if model := disk_model(found.source, _BLOCK):
            facts["disk_model"] = model
    return facts


def mount_of(path: Path, lines: Iterable[str]) -> Mount | None:
    """Return the mount that a path is on: the last one with the longest mount point above it."""
    wanted = os.path.realpath(path)
    best: Mount | None = None
    for line in lines:
        mount = _parse(line)
        inside = mount is not None and (wanted == mount.point or wanted.startswith(mount.point.rstrip("/") + "/"))
        if mount is not None and inside and (best is None or len(mount.point) >= len(best.point)):
            best = mount
    return best


def _parse(line: str) -> Mount | None:
    before, dash, after = line.partition(" - ")
    fields, rest = before.split(" "), after.split(" ")
    if not dash or len(fields) < 6 or len(rest) < 3:  # noqa: PLR2004 - proc_pid_mountinfo(5)
        return None
    return Mount(_unescaped(fields[4]), fields[5], rest[0], _unescaped(rest[1]), rest[2])


def _unescaped(text: str) -> str:
    return _ESCAPE.sub(lambda found: chr(int(found[1], 8)), text)


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
