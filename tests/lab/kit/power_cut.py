"""Disks of their own for daemons, and power cuts: what an ext4 in a file had on its disk at one instant.

The daemon's root is an ext4 in a file on an xfs. A clone of that file (`cp --reflink`) is one instant of the disk: what
the ext4 still holds in memory is not in it. Mounting the clone replays the journal, as a boot does.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tests.lab.kit.daemon import Containerd

#: Tables that are made later would be written at some time during the test.
_MAKE_EXT4: Final = ("mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0")


class Disk:
    """A disk that is mounted as the root of a daemon."""

    def __init__(self, image: Path, root: Path) -> None:
        self._image = image
        self._root = root

    def make(self, *, mebibytes: int) -> None:
        """Make the file system."""
        with self._image.open("wb") as file:
            file.truncate(mebibytes << 20)
        _run(*_MAKE_EXT4, self._image)

    def mount(self) -> None:
        """Mount it; a journal is replayed."""
        self._root.mkdir(parents=True, exist_ok=True)
        _run("mount", "-o", "loop", self._image, self._root)

    def unmount(self) -> None:
        """Unmount it."""
        unmount(self._root)

    def clone(self, name: str) -> Disk:
        """Return a copy of what is on the disk at this instant."""
        copy = Disk(self._image.with_name(name), self._root)
        _run("cp", "--reflink=always", self._image, copy._image)
        return copy

    def delete(self) -> None:
        """Delete the file."""
        self._image.unlink()


@contextmanager
def small_disk(base: Path, daemon_base: Path, *, mebibytes: int) -> Iterator[Disk]:
    """Mount a disk of its own under the root of a daemon, which is to be started and stopped inside."""
    disk = Disk(base / "small.img", daemon_base / "root")
    disk.make(mebibytes=mebibytes)
    disk.mount()
    try:
        yield disk
    finally:
        disk.unmount()


class Node:
    """A daemon on a disk whose power can be cut."""

    def __init__(self, daemon: Containerd, disk: Disk) -> None:
        self.daemon = daemon
        self._disk = disk

    def sync(self) -> None:
        """Write what is in memory to the disk."""
        _run("sync", "--file-system", self.daemon.root)

    def cut(self) -> Disk:
        """Return the disk as a power cut at this instant leaves it."""
        return self._disk.clone("cut.img")

    def change(self, disk: Disk) -> None:
        """Take the daemon down, and mount another disk at the same paths, without what was in /run."""
        self.daemon.kill()
        self._disk.unmount()
        self._disk = disk
        shutil.rmtree(self.daemon.state, ignore_errors=True)
        self._disk.mount()

    def boot(self, disk: Disk) -> None:
        """Take the daemon down, and start it on another disk."""
        self.change(disk)
        self.daemon.start()

    def stop(self) -> None:
        """Take the daemon down and unmount its disk."""
        self.daemon.kill()
        self._disk.unmount()


@contextmanager
def node(version: str, base: Path, *, mebibytes: int = 256) -> Iterator[Node]:
    """Start a daemon on a disk whose power can be cut."""
    outer, folder = base / "outer", base / "node"
    outer.mkdir()
    folder.mkdir()
    with (base / "outer.img").open("wb") as file:
        file.truncate(max(4 * mebibytes, 512) << 20)
    _run("mkfs.xfs", "-q", "-m", "reflink=1", base / "outer.img")
    _run("mount", "-o", "loop", base / "outer.img", outer)
    try:
        disk = Disk(outer / "store.img", folder / "root")
        disk.make(mebibytes=mebibytes)
        disk.mount()
        found = Node(Containerd(version, folder), disk)
        try:
            found.daemon.start()
            yield found
        finally:
            found.stop()
    finally:
        unmount(outer)


def unmount(point: Path) -> None:
    """Unmount here at once; daemons that were started meanwhile have copies of all mounts, until they end."""
    _run("umount", "--lazy", point)


def _run(*command: str | Path) -> None:
    subprocess.run([str(part) for part in command], check=True, capture_output=True, timeout=120)
