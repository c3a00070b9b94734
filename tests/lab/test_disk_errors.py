"""Errors of a disk in one place, injected by strace: told as what could not be read, never as damage or as no problem.

Places of which every read fails are enough: where a second read succeeds, the first one is not believed.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests import images
from tests.lab.checked import Run, auditor, auditor_here, loud
from tests.lab.conftest import StartDaemon
from tests.lab.kit.binaries import VERSIONS
from tests.lab.kit.daemon import Containerd
from tests.lab.kit.process import scratch
from tests.lab.kit.registry import Registry

LAYER = images.layer(images.files("disk-errors"))
IMAGE = images.image([LAYER])
_DATABASE = "/io.containerd.metadata.v1.bolt/meta.db"
READS, STATUS = "read,pread64", "newfstatat,fstat"


@pytest.fixture(scope="module")
def daemon(registry: Registry) -> Iterator[Containerd]:
    with scratch() as base, Containerd(VERSIONS[-1], base) as running:
        running.cri_pull(registry.push(IMAGE, "lab/disk-errors:1"))
        yield running


def failing(calls: str, path: Path, *more: str, error: str = "EIO") -> tuple[str, ...]:
    """Return the start of a command line in which calls on a path fail."""
    inject = f"inject={calls}:error={error}"
    return ("strace", "--follow-forks", "--quiet=all", "-o", "/dev/null", "-P", str(path), "-e", inject, *more)


@contextmanager
def failing_daemon(daemon: Containerd, path: Path, *, calls: str = READS, error: str = "EIO") -> Iterator[None]:
    """Let the daemon's calls on a file fail."""
    command = failing(calls, _seen(daemon, path), "--attach", str(daemon.pid), error=error)
    with subprocess.Popen(command) as tracer:
        try:
            while _tracer(daemon.pid) == 0:
                time.sleep(0.01)
            yield
        finally:
            tracer.terminate()


def _seen(daemon: Containerd, path: Path) -> Path:
    """Return how the links in /proc name a file below the daemon's root, which may have another root directory."""
    links = (str(link.readlink()) for link in Path(f"/proc/{daemon.pid}/fd").iterdir())
    (known,) = {link for link in links if link.endswith(_DATABASE)}
    return Path(known.removesuffix(_DATABASE) + f"/{path.relative_to(daemon.root)}")


def _tracer(pid: int) -> int:
    """Return the least tracer of the threads of a process; 0 where one has none."""
    threads = Path(f"/proc/{pid}/task").glob("*/status")
    lines = [line for thread in threads for line in thread.read_text().splitlines() if line.startswith("TracerPid:")]
    return min(int(line.split()[1]) for line in lines)


def unreadable(run: Run) -> None:
    assert loud(run.report) == {("blob-unreadable", LAYER.digest)}
    assert (run.status, run.report.complete) == (1, False)
    assert "nput/output error" in run.report.findings[0].message


@pytest.mark.parametrize("calls", [READS, STATUS, "openat"])
def test_a_blob_that_cannot_be_read_is_no_damage(daemon: Containerd, calls: str) -> None:
    through = failing(calls, daemon.blob_path(LAYER.digest))
    unreadable(auditor(*_check(daemon, "--verify", "digests"), through=through))


def test_a_blob_that_the_daemon_cannot_read_is_no_damage_and_is_left_alone(daemon: Containerd, tmp_path: Path) -> None:
    api = ("--verify", "digests", "--content-root", "none")
    archive = tmp_path / "image.tar"
    with failing_daemon(daemon, daemon.blob_path(LAYER.digest)):
        unreadable(auditor_here(*_check(daemon, *api)))
        repaired = auditor_here("repair", "--yes", "--address", daemon.socket, *api)
        exported = auditor_here("export", IMAGE.digest, "-o", archive, "--address", daemon.socket, *api[2:])
    assert (repaired.status, "check the disk first" in repaired.out) == (1, True)
    assert (exported.status, "look at the disk" in exported.err, archive.exists()) == (1, True, False)
    assert auditor_here(*_check(daemon, *api)).status == 0


@pytest.mark.parametrize("what", ["directory", "database", "attributes"])
def test_unpacked_files_out_of_reach_of_the_disk_make_a_check_incomplete(daemon: Containerd, what: str) -> None:
    root = daemon.root / "io.containerd.snapshotter.v1.overlayfs"
    path, calls = {
        "directory": (root / "snapshots/1/fs", STATUS),
        "database": (root / "metadata.db", READS),
        "attributes": (next((root / "snapshots/1/fs").iterdir()), "llistxattr"),
    }[what]
    more = ("--verify", "snapshots") if what == "attributes" else ()
    run = auditor(*_check(daemon, *more), through=failing(calls, path))
    assert (run.status, loud(run.report), run.report.complete) == (3, set(), False)
    assert "Input/output error" in run.report.incomplete[0]


def _check(daemon: Containerd, *more: str) -> tuple[str | Path, ...]:
    return ("check", "--format", "json", "--address", daemon.socket, *more)


def test_a_lock_that_a_full_disk_left_in_the_daemon_is_named(start_daemon: StartDaemon, registry: Registry) -> None:
    daemon = start_daemon(VERSIONS[-1])
    daemon.cri_pull(registry.push(IMAGE, "lab/disk-errors:1"))
    daemon.blob_path(LAYER.digest).unlink()
    repair = ("repair", "--yes", "--address", daemon.socket)
    database = Path(f"{daemon.root}{_DATABASE}")
    with failing_daemon(daemon, database, calls="pwrite64", error="ENOSPC"):
        full = auditor_here(*repair)
    assert (full.status, "no space left on device" in full.err) == (3, True)
    left = auditor_here(*repair)
    assert (left.status, "for no client" in left.err, "restart containerd" in left.err) == (3, True, True)
    daemon.restart()
    assert auditor_here(*repair).status == 0
