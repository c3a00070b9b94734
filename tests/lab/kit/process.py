"""Running a server so that it cannot outlive the tests: it dies with its parent, and its mounts die with it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

# The kernel kills the server when the thread that started it ends.
MORTAL: Final = ("setpriv", "--pdeathsig", "KILL")
# A mount namespace of its own: whatever the server mounts is gone when its last process is. And in it an empty /run,
# where several servers make folders that no option moves.
APART: Final = (
    *("unshare", "--mount", "--propagation", "private"),
    *("sh", "-c", 'mount -t tmpfs lab /run && exec "$@"', "sh"),
)
PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# Where overlayfs works, and short enough for the name of a socket. Daemons make and delete thousands of small files:
# in memory, where there is enough, that costs a third less.
DISK: Final = Path("/var/tmp")
MEMORY: Final = Path("/dev/shm")
_ENOUGH: Final = 2 << 30
PREFIX: Final = "auditor-lab-"


class ServerError(Exception):
    """A server did not start, or ended; the end of its log is in the message."""


class Process:
    """One server process with a log."""

    def __init__(self, command: Sequence[str | Path], *, log: Path, env: Mapping[str, str] | None = None) -> None:
        self.name = Path(command[0]).name
        self.log = log
        with log.open("ab") as out:
            self._popen = subprocess.Popen(
                [*containment(), *map(str, command)],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                cwd="/",
                # Servers that live for a second need not collect garbage as those do that live for a year.
                env={"PATH": PATH, "HOME": str(log.parent), "TMPDIR": str(log.parent), "GOGC": "800", **(env or {})},
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self._popen.pid

    @property
    def running(self) -> bool:
        return self._popen.poll() is None

    def wait_until(self, ready: Callable[[], bool], *, seconds: float = 30) -> None:
        """Return once `ready` says so; raise ServerError when the process ends or the time is up."""
        deadline = time.monotonic() + seconds
        while not ready():
            if not self.running:
                raise ServerError(f"{self.name} ended with {self._popen.returncode}:\n{self.tail()}")
            if time.monotonic() > deadline:
                raise ServerError(f"{self.name} is not ready after {seconds} s:\n{self.tail()}")
            time.sleep(0.01)

    def stop(self, *, seconds: float = 10) -> None:
        """Ask the process to end, insist after `seconds`, and wait until it has."""
        self._end(signal.SIGTERM, seconds)
        self.kill()

    def kill(self) -> None:
        """End the process as a power cut would, and wait until it has."""
        self._end(signal.SIGKILL, 30)

    def _end(self, number: signal.Signals, seconds: float) -> None:
        if self.running:
            self._popen.send_signal(number)
        try:
            self._popen.wait(seconds)
        except subprocess.TimeoutExpired:
            if number == signal.SIGKILL:
                raise

    def tail(self, lines: int = 15) -> str:
        """Return the end of the log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])


def containment() -> tuple[str, ...]:
    """Return what a server is started through.

    In a chroot, whose root is no mount, runc starts no containers and mounts spread: there the server gets another
    root, the same tree bound to a folder.
    """
    if not chrooted():
        return (*MORTAL, *APART)
    folder = MEMORY / f"{PREFIX}{os.getpid()}-root"
    folder.mkdir(exist_ok=True)
    bound = 'mount --rbind / "$0" && exec chroot "$0" sh -c \'mount --make-rprivate / && exec "$@"\' sh "$@"'
    unshared = ("unshare", "--mount", "--propagation", "unchanged", "sh", "-c", bound, str(folder))
    return (*MORTAL, *unshared, *APART[-4:])


def chrooted() -> bool:
    """Whether `/` is no mount point: then this is a plain chroot, in which runc starts no containers."""
    mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    return not any(line.split()[4] == "/" for line in mounts)


def rooted(folder: Path) -> tuple[str, ...]:
    """What has to stand before a command that remounts `/`, as podman does; `folder` is empty and the command's own.

    In a chroot the command gets another one, into the same tree bound to `folder`, whose root then is a mount.
    """
    if not chrooted():
        return ()
    folder.mkdir(exist_ok=True)
    bound = 'mount --rbind / "$0" && chroot "$0" "$@"; status=$?; umount -l "$0"; exit $status'
    return ("unshare", "--mount", "--propagation", "unchanged", "sh", "-c", bound, str(folder))


@contextmanager
def scratch(*, on_disk: bool = False) -> Iterator[Path]:
    """Give a private folder on a file system where overlayfs works; remove it, and any mount left in it."""
    where = DISK if on_disk or not _roomy(MEMORY) else MEMORY
    base = Path(tempfile.mkdtemp(dir=where, prefix=f"{PREFIX}{os.getpid()}-"))
    try:
        yield base
    finally:
        remove(base)


def _roomy(folder: Path) -> bool:
    if not folder.is_dir() or os.statvfs(folder).f_flag & os.ST_NOEXEC:
        return False
    return shutil.disk_usage(folder).free > _ENOUGH


def remove(base: Path) -> None:
    """Unmount what is left under `base`, then delete it."""
    for line in reversed(Path("/proc/self/mounts").read_text().splitlines()):
        target = line.split()[1]
        if target.startswith(f"{base}/"):
            subprocess.run(["umount", "--lazy", target], check=False)
    shutil.rmtree(base)


def sweep() -> None:
    """Delete the folders of sessions that were killed before they could."""
    for left in (path for folder in (DISK, MEMORY) for path in folder.glob(f"{PREFIX}*")):
        owner = left.name.removeprefix(PREFIX).partition("-")[0]
        if owner.isdigit() and not Path("/proc", owner).exists():
            with suppress(OSError):  # another worker deletes it at the same time
                remove(left)
