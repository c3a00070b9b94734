"""A system booted in namespaces: systemd is its first process, and nothing outside is changed."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.dist.trees import PATH
from tests.lab.kit.process import rooted

#: Services of a console or of hardware.
MASKED: Final = (
    "systemd-udevd.service",
    "systemd-udev-trigger.service",
    "systemd-udevd-control.socket",
    "systemd-udevd-kernel.socket",
    "getty.target",
    "console-getty.service",
    "systemd-timesyncd.service",
    "systemd-networkd.service",
    "systemd-logind.service",
)
#: Runs as the first process of new mount, PID, cgroup, UTS, IPC and network namespaces; $1 is the system's folder.
BOOT: Final = r"""
set -e
mount --make-rprivate /
mount --bind "$1" "$1"
cd "$1"
mount -t proc proc proc
mount -t sysfs sysfs sys
mount -t tmpfs tmpfs sys/fs/cgroup
umount sys/fs/cgroup
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t tmpfs -o mode=755 tmpfs run
mount -t tmpfs tmpfs tmp
mount -t tmpfs -o mode=755 tmpfs dev
mknod -m 666 dev/null c 1 3; mknod -m 666 dev/zero c 1 5; mknod -m 666 dev/full c 1 7
mknod -m 666 dev/random c 1 8; mknod -m 666 dev/urandom c 1 9; mknod -m 666 dev/tty c 5 0
mknod -m 600 dev/kmsg c 1 11
mkdir -p dev/pts dev/shm .outside
mount -t devpts -o newinstance,ptmxmode=0666 devpts dev/pts
ln -s pts/ptmx dev/ptmx
mount -t tmpfs tmpfs dev/shm
pivot_root . .outside
cd /
umount -l .outside
exec env -i container=lab PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd \
    --log-target=journal --show-status=no </dev/null >/dev/null 2>&1
"""


@dataclass(frozen=True)
class Machine:
    """A running system.

    Attributes:
        root: Its folder.
        leader: The process id of its systemd, as seen from outside.

    """

    root: Path
    leader: int

    def run(self, *words: str, status: int | None = 0) -> str:
        """Run a program in the system; return what it printed; `status` None takes any exit status."""
        done = subprocess.run(
            ["nsenter", "--target", str(self.leader), "--all", "--root", "--wd", *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            env={"PATH": PATH, "LANG": "C.UTF-8", "HOME": "/root", "SYSTEMD_PAGER": "", "SYSTEMD_COLORS": "0"},
            timeout=180,
        )
        assert status is None or done.returncode == status, f"{' '.join(words)}: exit {done.returncode}\n{done.stdout}"
        return done.stdout

    def state(self, unit: str, name: str) -> str:
        """Return one property of a unit."""
        return self.run("systemctl", "show", "--value", "--property", name, unit).strip()


@contextmanager
def boot(root: Path) -> Iterator[Machine]:
    """Boot a copy of a system and wait until systemd has started everything; kill all of it at the end."""
    for unit in MASKED:
        target = root / "etc/systemd/system" / unit
        target.unlink(missing_ok=True)
        target.symlink_to("/dev/null")
    (root / "etc/machine-id").write_text("")
    spaces = ["--mount", "--pid", "--fork", "--kill-child", "--cgroup", "--uts", "--ipc", "--net"]
    line = [*rooted(root.parent / "tree"), "unshare", *spaces, "sh", "-c", BOOT, "boot", str(root)]
    with subprocess.Popen(line, stderr=subprocess.PIPE) as started:
        try:
            machine = Machine(root, _leader(started))
            # Until the bus answers, systemctl fails and does not wait.
            _until(lambda: "running" in machine.run("systemctl", "is-system-running", "--wait", status=None), started)
            yield machine
        finally:
            for process in reversed(_descent(started.pid)):
                with suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)


def _leader(started: subprocess.Popen[bytes]) -> int:
    _until(lambda: _name(_descent(started.pid)[-1]) == "systemd", started)
    return _descent(started.pid)[-1]


def _descent(process: int) -> list[int]:
    """Return a process, its first child, that one's first child and so on; systemd and its children count as one."""
    found = [process]
    while _name(found[-1]) != "systemd" and (children := _read(f"{found[-1]}/task/{found[-1]}/children").split()):
        found.append(int(children[0]))
    return found


def _name(process: int) -> str:
    return _read(f"{process}/comm").strip()


def _read(name: str) -> str:
    """Read a file of a process; empty where the process has ended."""
    try:
        return Path("/proc", name).read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def _until(holds: object, started: subprocess.Popen[bytes]) -> None:
    """Wait until a condition holds, for a minute at most; a boot that ended raises with what it printed."""
    assert callable(holds)
    end = time.monotonic() + 60
    while not holds():
        if started.poll() is not None:
            message = started.stderr.read().decode() if started.stderr else ""
            raise RuntimeError(f"the boot ended with {started.returncode}: {message}")
        if time.monotonic() > end:
            raise TimeoutError("the system has not started within a minute")
        os.sched_yield()
        time.sleep(0.05)
