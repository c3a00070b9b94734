"""What `make dist` wrote, used as its users do; `make dist-test` runs this.

pytest collects no folder named `dist` by itself, so `make test` builds nothing.
"""

from __future__ import annotations

import http.client
import json
import re
import socket
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest

from tests import images
from tests.dist import image_run
from tests.program import ROOT
from tests.lab.kit.binaries import VERSIONS
from tests.lab.kit.daemon import Containerd
from tests.lab.kit.process import Process, scratch
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
    shutil.unpack_archive(DIST / f"{STEM}-linux-amd64.tar.xz", base)
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


def test_the_image_audits_a_node_whose_folders_are_below_host(base: Path) -> None:
    """The command of docs/install.md for `kubectl debug node`, which mounts the node's root at /host."""
    (base / "node").mkdir()
    with Containerd("2.1", base / "node") as daemon:
        daemon.ctr("images", "import", DIST / f"{STEM}-linux-amd64.oci.tar", namespace="tools")
        (name,) = daemon.images(namespace="tools")
        daemon.ctr(
            *("run", "--rm", "--null-io", "--mount", "type=bind,src=/,dst=/host,options=rbind:rw"),
            *(name, "debug", "/usr/bin/auditor", "check", "--address", f"/host{daemon.socket}"),
            *("--content-root", f"/host{daemon.content_root}"),
            *("--format", "json", "--output", f"/host{base}/report.json"),
            namespace="tools",
        )
    report = json.loads((base / "report.json").read_text())
    assert report["summary"]["images"]["total"] == 1
    assert report["summary"]["images"]["damaged"] == 0


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def scraped(port: int, path: str) -> str:
    """Return what an address serves, or nothing while nobody listens."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    with suppress(OSError), closing(connection):
        connection.request("GET", path)
        return connection.getresponse().read().decode()
    return ""


@pytest.mark.parametrize("manifest", ["daemonset.yaml", "scrub.yaml"])
@pytest.mark.parametrize("version", VERSIONS)
def test_the_image_serves_metrics_with_the_rights_of_the_manifest(version: str, manifest: str, base: Path) -> None:
    """The pod's arguments, mounts and capabilities, in the daemon that it audits."""
    spec = image_run.pod(manifest)
    settings = {"EVERY": "1h", "JITTER": "0s", "VERIFY": "presence", "LIMIT_RATE": "50MiB"}
    settings |= {"SCRUB_EVERY": "1h", "SCRUB_JITTER": "0s", "SCRUB_MAX_AGE": "7d", "SCRUB_MAX_DURATION": "30m"}
    port = free_port()
    arguments = [re.sub(r"\$\((\w+)\)", lambda each: settings[each[1]], word) for word in spec["containers"][0]["args"]]
    arguments = [word.replace("--listen=:9469", f"--listen=127.0.0.1:{port}") for word in arguments]
    for name in ("node", "reports", "textfiles"):
        (base / name).mkdir()
    with Containerd(version, base / "node") as daemon:
        daemon.ctr("images", "import", DIST / f"{STEM}-linux-amd64.oci.tar", namespace="tools")
        (name,) = daemon.images(namespace="tools")
        folders = {"socket": daemon.socket.parent, "content": daemon.content_root}
        folders |= {each: base / each for each in ("reports", "textfiles")}
        options = [
            "run",
            "--rm",
            "--net-host",
            "--null-io",
            "--env",
            "AUDITOR_HOST=node-1",
            *image_run.words(spec, folders),
        ]
        command = [name, "auditor", "/usr/bin/auditor", *arguments, "--address", str(daemon.socket)]
        run = Process(daemon.ctr_command(*options, *command, namespace="tools"), log=base / "run.log")
        try:
            run.wait_until(lambda: "containerd_auditor_" in scraped(port, "/metrics"))
            assert scraped(port, "/healthz")
            (pid,) = (row.split()[1] for row in daemon.ctr("tasks", "list", namespace="tools").stdout.splitlines()[1:])
            status = Path("/proc", pid, "status").read_text()
        finally:
            run.stop()
    (report,) = (base / "reports").glob("*.json")
    assert json.loads(report.read_text())["summary"]["images"]["total"] == 1
    (metrics,) = (base / "textfiles").iterdir()
    assert "containerd_auditor_" in metrics.read_text()
    assert re.search(r"(?m)^CapEff:\s+0000000000000004$", status)
    assert re.search(r"(?m)^NoNewPrivs:\s+1$", status)
    assert re.search(r"(?m)^Seccomp:\s+2$", status)
