"""What `make dist` wrote, used as its users do; `make dist-test` runs this.

pytest collects no folder named `dist` by itself, so `make test` builds nothing.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import images
from tests.lab.checked import ROOT
from tests.lab.kit.binaries import VERSIONS
from tests.lab.kit.daemon import Containerd
from tests.lab.kit.process import scratch
from tests.lab.kit.registry import Registry
from tools.dist import recipe

DIST = ROOT / "dist"
STEM = f"{recipe.NAME}-{recipe.version()}"


@pytest.fixture
def base() -> Iterator[Path]:
    with scratch() as folder:
        yield folder


def test_the_same_commit_gives_the_same_bytes(base: Path) -> None:
    line = [sys.executable, "-m", "tools.dist", "--output", str(base / "again"), "--work", str(base / "work")]
    subprocess.run(line, check=True, cwd=ROOT, stdout=subprocess.DEVNULL)
    assert (base / "again/SHA256SUMS").read_text() == (DIST / "SHA256SUMS").read_text()


def test_the_checksums_are_those_of_the_files() -> None:
    subprocess.run(["sha256sum", "--check", "--quiet", "SHA256SUMS"], check=True, cwd=DIST)


def test_the_bundle_runs_in_a_chroot_without_anything_else(base: Path) -> None:
    with tarfile.open(DIST / f"{STEM}-linux-amd64.tar.xz") as tar:
        tar.extractall(base, filter="tar")
    program = f"/{STEM}/bin/auditor"
    told = subprocess.run(["chroot", base, program, "--version"], capture_output=True, text=True, check=True)
    assert told.stdout == f"auditor {recipe.version()}\n"
    done = subprocess.run(["chroot", base, program, "check"], capture_output=True, text=True, check=False)
    assert done.returncode == 3
    assert "hint: " in done.stderr


@pytest.mark.parametrize("version", VERSIONS)
def test_the_image_audits_the_daemon_that_runs_it(version: str, base: Path) -> None:
    """With the mounts of docs/install.md, a read-only root and no network."""
    out = base / "out"
    out.mkdir()
    (base / "node").mkdir()
    with Registry(base / "registry") as registry, Containerd(version, base / "node") as daemon:
        daemon.cri_pull(registry.push(images.image([images.layer(images.files("dist"))]), "lab/dist:1"))
        daemon.ctr("images", "import", DIST / f"{STEM}-linux-amd64.oci.tar", namespace="tools")
        (name,) = daemon.images(namespace="tools")
        run = daemon.socket.parent
        mounts = [f"type=bind,src={run},dst={run},options=rbind:ro", f"type=bind,src={out},dst=/out,options=rbind:rw"]
        daemon.ctr(
            *("run", "--rm", "--null-io", "--read-only", "--mount", mounts[0], "--mount", mounts[1]),
            *(name, "auditor", "/usr/bin/auditor", "check", "--address", daemon.socket),
            *("--format", "json", "--output", "/out/report.json"),
            namespace="tools",
        )
    report = json.loads((out / "report.json").read_text())
    assert report["summary"]["images"]["total"] == 2
    assert report["summary"]["images"]["damaged"] == 0
