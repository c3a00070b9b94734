"""The mounts of all mount namespaces, and the files that processes have open: who still uses a snapshot's old files."""

from __future__ import annotations

import os
import socket
import struct
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

import msgspec

from auditor.mountinfo import parse_mounts, unescape

_PROC = Path("/proc")
_LOWER = ("lowerdir", "lowerdir+")
#: Index of `starttime` after the name in proc_pid_stat(5).
_START = 19
_CREDENTIALS = struct.Struct("3i")


class Mount(msgspec.Struct, frozen=True):
    """A mount.

    Attributes:
        device: Device number of its file system, as `major:minor`.
        root: Path of its root directory in that file system.
        point: Where it is mounted, as its namespace sees it.
        lower: The lower directories of an overlay, by the paths that they were mounted by.
        work: Its work directory; empty where it has none.

    """

    device: str
    root: str
    point: str
    lower: tuple[str, ...] = ()
    work: str = ""


class Overlay(msgspec.Struct, frozen=True, order=True):
    """What tells an overlay from a later one with the same device number, which the kernel gives again at once.

    Attributes:
        device: Device number, as `major:minor`.
        work: Its work directory; empty where it has none.
        mounted: Time of change of the work directory, in ns: each mount makes the folder in it anew; the kernel's
            fs/overlayfs/super.c, `ovl_workdir_create`. None where it cannot be read.

    """

    device: str
    work: str = ""
    mounted: int | None = None


def overlay(mount: Mount) -> Overlay:
    """Return what identifies an overlay."""
    stamp = None
    with suppress(OSError):
        stamp = Path(mount.work).stat().st_mtime_ns if mount.work else None
    return Overlay(mount.device, mount.work, stamp)


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
    """Parse a `mountinfo` file."""
    for line in parse_mounts(text):
        overlay = line.filesystem == "overlay"
        given = [option.partition("=")[::2] for option in line.super_options.split(",")] if overlay else []
        lower = tuple(unescape(part) for name, value in given if name in _LOWER for part in value.split(":"))
        work = next((unescape(value) for name, value in given if name == "workdir"), "")
        yield Mount(line.device, line.root, line.point, lower, work)


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


def oldest(proc: Path = _PROC) -> dict[int, float]:
    """Return, by the device number of their root directory, when the oldest process started: seconds since the boot."""
    ticks = os.sysconf("SC_CLK_TCK")
    found: dict[int, float] = {}
    for process in _processes(proc):
        with suppress(OSError, ValueError, IndexError):
            device = (process / "root").stat().st_dev
            fields = (process / "stat").read_bytes().rpartition(b") ")[2].split()
            found[device] = min(found.get(device, float("inf")), int(fields[_START]) / ticks)
    return found


def uptime() -> float:
    """Return the seconds since the boot."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


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
