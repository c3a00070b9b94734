"""Parse the kernel's list of mounts, /proc/PID/mountinfo; see proc_pid_mountinfo(5)."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

import msgspec

#: A space, tab, newline or backslash of a path; the kernel's fs/proc_namespace.c.
_ESCAPED = re.compile(r"\\([0-7]{3})")


class MountLine(msgspec.Struct, frozen=True):
    """A line of mountinfo.

    Attributes:
        device: Device number of the file system, as `major:minor`.
        root: Path of the mount's root directory in the file system.
        point: Where it is mounted.
        options: Options of the mount.
        filesystem: Type of the file system.
        source: What is mounted, for example a device.
        super_options: Options of the file system, as the kernel prints them: with escapes.

    """

    device: str
    root: str
    point: str
    options: str
    filesystem: str
    source: str
    super_options: str


def parse_mounts(text: bytes) -> Iterator[MountLine]:
    """Yield the mounts in their order; lines of another form are left out."""
    for line in os.fsdecode(text).splitlines():
        before, _, after = line.partition(" - ")
        match before.split(" "), after.split(" "):
            case [_, _, device, root, point, options, *_], [filesystem, source, super_options, *_]:
                yield MountLine(
                    device, unescape(root), unescape(point), options, filesystem, unescape(source), super_options
                )


def unescape(text: str) -> str:
    r"""Replace the kernel's escapes: `\040` is a space."""
    return _ESCAPED.sub(lambda found: chr(int(found[1], 8)), text)
