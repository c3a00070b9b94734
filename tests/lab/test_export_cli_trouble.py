"""Exports while things go wrong: killed, on a full disk, with the daemon gone, with garbage collected beside them."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests import images
from tests.lab.checked import Run, auditor, auditor_here
from tests.lab.kit.daemon import CRI_NAMESPACE, Containerd
from tests.lab.kit.registry import Registry
from tests.program import ROOT, command, environment

IMAGE = images.image([images.layer(images.files(f"trouble-{n}", kilobytes=4096), level=1) for n in range(4)])


@pytest.fixture
def name(daemon: Containerd, registry: Registry) -> str:
    reference = registry.push(IMAGE, "lab/trouble:1")
    daemon.cri_pull(reference)
    return reference


def export(daemon: Containerd, *arguments: str | Path) -> Run:
    return auditor("export", "--address", daemon.socket, *arguments)


def leases(daemon: Containerd) -> list[str]:
    """The leases in the namespace of the CRI, all of which are ours."""
    return [line.split()[0] for line in daemon.ctr("leases", "list").stdout.splitlines()[1:]]


def sound(path: Path) -> bool:
    return auditor_here("verify", "-q", path).status == 0


@contextmanager
def running(daemon: Containerd, *arguments: str | Path) -> Iterator[subprocess.Popen[bytes]]:
    """An export in the background; it does not outlive the block."""
    line = command("export", "--address", daemon.socket, *arguments)
    with subprocess.Popen(
        line, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, cwd=ROOT, env=environment()
    ) as child:
        try:
            yield child
        finally:
            child.kill()


def wait_for(what: Callable[[], bool], child: subprocess.Popen[bytes]) -> bool:
    """Whether it came true before the child ended."""
    while child.poll() is None:
        if what():
            return True
    return what()


def test_killed_at_any_moment(daemon: Containerd, name: str, base: Path) -> None:
    """From the moment that there is a temporary file on, later and later."""
    folder = base / "out"
    folder.mkdir()
    target = folder / "a.tar"
    outcomes = set()
    for number in range(8):
        target.write_text("the old one")
        with running(daemon, name, "-o", target, "-q") as child:
            wait_for(lambda: len(list(folder.iterdir())) > 1, child)
            time.sleep(number / 100)
            child.kill()
        old = target.read_bytes() == b"the old one"
        assert old or sound(target)
        outcomes.add(old)
    assert True in outcomes
    assert export(daemon, name, "-o", target, "-q").status == 0
    assert [path.name for path in folder.iterdir()] == ["a.tar"]


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_takes_the_lease_and_the_litter_away(
    daemon: Containerd, name: str, base: Path, number: int, status: int
) -> None:
    folder = base / "out"
    folder.mkdir()
    read_end, write_end = os.pipe()
    with (
        subprocess.Popen(
            command("export", "--address", daemon.socket, name, "-o", "-"),
            stdout=write_end,
            stderr=subprocess.DEVNULL,
            cwd=ROOT,
            env=environment(),
        ) as child,
        os.fdopen(read_end, "rb") as out,
    ):
        os.close(write_end)
        out.read(1)
        assert [lease.startswith("auditor-") for lease in leases(daemon)] == [True]
        child.send_signal(number)
        assert child.wait() == status
    assert leases(daemon) == []


@pytest.mark.in_turn
@pytest.mark.parametrize("kibibytes", [64, 9000, 17000])
def test_a_full_disk(daemon: Containerd, name: str, base: Path, kibibytes: int) -> None:
    small = base / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={kibibytes}k", "tmpfs", small], check=True)
    try:
        for options in (("-o", small / "a.tar"), ("--layout", small / "layout")):
            (small / "a.tar").write_text("the old one")
            ran = export(daemon, name, *options)
            if ran.status == 0:
                continue
            assert (ran.status, "No space left" in ran.err) == (3, True)
            assert [path.name for path in small.iterdir()] == ["a.tar"]
            assert (small / "a.tar").read_text() == "the old one"
    finally:
        subprocess.run(["umount", small], check=True)


@pytest.mark.parametrize("root", ["auto", "none"])
def test_the_daemon_goes_in_the_middle(daemon: Containerd, name: str, base: Path, root: str) -> None:
    """Files outlive the daemon, so that the archive may be whole all the same; a half one is never there."""
    folder = base / "out"
    folder.mkdir()
    target = folder / "a.tar"
    with running(daemon, name, "-o", target, "--content-root", root) as child:
        wait_for(lambda: bool(list(folder.iterdir())), child)
        daemon.kill()
        said = child.communicate()[1].decode()
    assert "Traceback" not in said
    assert "a bug in auditor" not in said
    if target.exists():
        assert sound(target)
    else:
        assert child.returncode == 3
        assert "auditor:" in said
    assert {path.name for path in folder.iterdir()} <= {"a.tar"}


def test_garbage_collection_beside_an_export_takes_nothing(daemon: Containerd, name: str, base: Path) -> None:
    """The image is removed and collected once the first byte is out; what our lease holds stays until the end."""
    read_end, write_end = os.pipe()
    line = command("export", "--address", daemon.socket, name, "-o", "-", "--content-root", "none")
    with (
        subprocess.Popen(line, stdout=write_end, stderr=subprocess.PIPE, cwd=ROOT, env=environment()) as child,
        os.fdopen(read_end, "rb") as out,
    ):
        os.close(write_end)
        first = out.read(1)
        daemon.cri_remove_image(name)
        daemon.force_gc()
        assert set(IMAGE.blobs) <= daemon.blobs()
        (base / "a.tar").write_bytes(first + out.read())
        assert child.wait() == 0
    assert sound(base / "a.tar")
    assert leases(daemon) == []
    daemon.force_gc(CRI_NAMESPACE)
    assert not set(IMAGE.blobs) & daemon.blobs()
