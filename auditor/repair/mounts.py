"""The mounts of all mount namespaces, and the files that processes have open: who still uses a snapshot's old files."""

from __future__ import annotations

import os
import re
import socket
import struct
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

import msgspec

_PROC = Path("/proc")
_CREDENTIALS = struct.Struct("3i")
#: A space, tab, newline or backslash of a path; the kernel's fs/proc_namespace.c.
_ESCAPED = re.compile(r"\\([0-7]{3})")


class Mount(msgspec.Struct, frozen=True):
    """A mount.

    Attributes:
        device: Device number of its file system, as `major:minor`.
        root: Path of its root directory in that file system.
        point: Where it is mounted, as its namespace sees it.
        lower: The lower directories of an overlay, by the paths that they were mounted by.

    """

    device: str
    root: str
    point: str
    lower: tuple[str, ...] = ()


def all_mounts(proc: Path = _PROC) -> tuple[Mount, ...]:
    """Return the mounts of all mount namespaces that a process is in, each once.

    Raises:
        OSError: The list of processes cannot be read.

    """
    found: dict[Mount, None] = {}
    seen = set()
    for process in _processes(proc):
        with suppress(OSError):  # the process has ended
            namespace = (process / "ns/mnt").readlink()
            if namespace not in seen:
                text = (process / "mountinfo").read_bytes()
                seen.add(namespace)
                found.update(dict.fromkeys(parse(text)))
    return tuple(found)


def parse(text: bytes) -> Iterator[Mount]:
    """Parse a `mountinfo` file; see proc_pid_mountinfo(5)."""
    for line in os.fsdecode(text).splitlines():
        before, _, after = line.partition(" - ")
        match before.split(" "), after.split(" "):
            case [_, _, device, root, point, *_], [kind, _, options, *_]:
                lower = tuple(_lower(options)) if kind == "overlay" else ()
                yield Mount(device, _plain(root), _plain(point), lower)


def naming(mounts: Iterable[Mount], folder: Path) -> tuple[Mount, ...]:
    """Return the overlays that were mounted with `folder`/fs as a lower directory.

    containerd mounts long lists of directories by paths relative to `snapshots/`; core/mount/mount_linux.go.
    """
    names = {f"{folder}/fs", f"{folder.name}/fs"}
    return tuple(mount for mount in mounts if names & set(mount.lower))


def open_devices(proc: Path = _PROC) -> frozenset[int]:
    """Return the device numbers of all files and directories that processes have open, as `st_dev`.

    An overlay that was unmounted lazily is in no mount namespace, and lives on under these.
    """
    found = set()
    for process in _processes(proc):
        for link in (process / "cwd", process / "root", process / "exe", *_descriptors(process)):
            with suppress(OSError):
                found.add(link.stat().st_dev)
    return frozenset(found)


def device_number(text: str) -> int:
    """Return `major:minor` as `st_dev`."""
    major, _, minor = text.partition(":")
    return os.makedev(int(major), int(minor))


def sees_daemon(address: Path, proc: Path = _PROC) -> bool:
    """Whether the process that listens at a socket, and so its containers' processes, are visible here."""
    with suppress(OSError), socket.socket(socket.AF_UNIX) as client:
        client.connect(str(address))
        pid, _, _ = _CREDENTIALS.unpack(client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
        return pid > 0 and (proc / str(pid)).is_dir()
    return False


def boot() -> str:
    """Return the identifier of this boot; empty where the kernel gives none."""
    try:
        return (_PROC / "sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def _processes(proc: Path) -> Iterator[Path]:
    return (proc / name for name in os.listdir(proc) if name.isdecimal())  # noqa: PTH208 - a scandir of Path is slower


def _descriptors(process: Path) -> tuple[Path, ...]:
    with suppress(OSError):
        return tuple((process / "fd").iterdir())
    return ()


def _lower(options: str) -> Iterator[str]:
    for option in options.split(","):
        name, _, value = option.partition("=")
        if name in ("lowerdir", "lowerdir+"):
            yield from (_plain(part) for part in value.split(":"))


def _plain(text: str) -> str:
    return _ESCAPED.sub(lambda found: chr(int(found[1], 8)), text)
