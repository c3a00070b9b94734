"""The units of the .deb, started in a booted system beside its containerd, with all their hardening."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.dist import machine, trees
from tests.dist.test_packages import DEB, DIST
from tests.lab.kit.process import scratch
from tools.dist import packages, recipe

IMAGE = DIST / f"{recipe.NAME}-{recipe.version()}-linux-amd64.oci.tar"
STATE = "var/lib/containerd-auditor"
TEXTFILES = "var/lib/prometheus/node-exporter"
CONTENT = "var/lib/containerd/io.containerd.content.v1.content/blobs/sha256"
TIMERS = ("containerd-auditor-check.timer", "containerd-auditor-scrub.timer")
SERVICES = tuple(f"containerd-auditor-{name}.service" for name in ("check", "scrub", "boot", "watch"))
READ_ONLY_RIGHTS = "0000000000000004"
"""CAP_DAC_READ_SEARCH alone."""


def place(package: Path, tree: Path) -> None:
    """Put a package and an image into a system that is not booted yet."""
    for file in (package, IMAGE):
        (tree / "opt" / file.name).write_bytes(file.read_bytes())


def install(system: machine.Machine, package: Path) -> None:
    system.run("dpkg", "-i", f"/opt/{package.name}")
    system.run("ctr", "-n", "k8s.io", "images", "import", f"/opt/{IMAGE.name}")


@contextmanager
def booted() -> Iterator[machine.Machine]:
    """Give a booted system with the package and one image."""
    with trees.copy("booted", trees.BOOTED) as root:
        place(DEB, root)
        with machine.boot(root) as system:
            install(system, DEB)
            yield system


@pytest.fixture(scope="module")
def node() -> Iterator[machine.Machine]:
    with booted() as system:
        yield system


@pytest.fixture
def worn() -> Iterator[machine.Machine]:
    """Give a system that the test may damage."""
    with booted() as system:
        yield system


def journal(node: machine.Machine, unit: str) -> str:
    return node.run("journalctl", "--no-pager", "--output", "cat", "--unit", unit)


def test_an_installation_starts_and_enables_nothing(node: machine.Machine) -> None:
    for unit in (*TIMERS, "containerd-auditor-watch.service", "containerd-auditor-boot.service"):
        assert node.state(unit, "UnitFileState") == "disabled"
    for unit in (*TIMERS, *SERVICES):
        assert node.state(unit, "ActiveState") == "inactive"


@pytest.mark.parametrize(
    ("unit", "report"),
    [("check", "report.json"), ("scrub", "scrub.json"), ("boot", "boot.json")],
)
def test_a_service_succeeds_and_writes_its_report(node: machine.Machine, unit: str, report: str) -> None:
    """There is no folder for textfiles on this system."""
    name = f"containerd-auditor-{unit}.service"
    node.run("systemctl", "start", name)
    assert node.state(name, "Result") == "success", journal(node, name)
    assert node.state(name, "ExecMainStatus") == "0"
    document = json.loads((node.root / STATE / report).read_text())
    assert document["summary"]["images"]["total"] == 1
    assert document["summary"]["images"]["damaged"] == 0
    assert "Traceback" not in journal(node, name)


def test_a_check_writes_metrics_where_node_exporter_has_its_folder(node: machine.Machine) -> None:
    folder = node.root / TEXTFILES
    folder.mkdir(parents=True)
    for unit in ("check", "scrub"):
        node.run("systemctl", "start", f"containerd-auditor-{unit}.service")
        assert "containerd_auditor_images" in (folder / f"containerd-auditor-{unit}.prom").read_text()


def test_the_watch_runs_with_one_right_and_ends_in_order(node: machine.Machine) -> None:
    name = "containerd-auditor-watch.service"
    node.run("systemctl", "start", name)
    assert node.state(name, "ActiveState") == "active", journal(node, name)
    status = node.run("cat", f"/proc/{node.state(name, 'MainPID')}/status")
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert (fields["CapEff"], fields["CapBnd"]) == (READ_ONLY_RIGHTS, READ_ONLY_RIGHTS)
    assert (fields["NoNewPrivs"], fields["Seccomp"]) == ("1", "2")
    node.run("systemctl", "stop", name)
    assert node.state(name, "Result") == "success", journal(node, name)
    assert "Traceback" not in journal(node, name)


def test_an_enabled_timer_waits_for_its_hour(node: machine.Machine) -> None:
    node.run("systemctl", "enable", "--now", *TIMERS)
    for timer in TIMERS:
        assert node.state(timer, "ActiveState") == "active"
        assert node.state(timer, "NextElapseUSecRealtime")
    node.run("systemctl", "disable", "--now", *TIMERS)


def test_a_finding_and_a_daemon_that_is_gone_make_the_unit_fail(worn: machine.Machine) -> None:
    largest = max((worn.root / CONTENT).iterdir(), key=lambda path: path.stat().st_size)
    largest.unlink()
    name = "containerd-auditor-check.service"
    worn.run("systemctl", "start", name, status=1)
    assert worn.state(name, "ExecMainStatus") == "1", journal(worn, name)
    assert name in worn.run("systemctl", "--failed", "--plain")
    worn.run("systemctl", "stop", "containerd.service")
    worn.run("systemctl", "start", name, status=1)
    assert worn.state(name, "ExecMainStatus") == "3", journal(worn, name)


def test_an_upgrade_keeps_what_runs_and_a_removal_stops_it() -> None:
    with scratch(on_disk=True) as folder, trees.copy("booted", trees.BOOTED) as root:
        packages.build(DIST.parent / "build/dist/bundle-amd64", folder, folder, "0.0.1", "gzip")
        (older,) = folder.glob("*.deb")
        place(older, root)
        (root / "opt" / DEB.name).write_bytes(DEB.read_bytes())
        with machine.boot(root) as system:
            install(system, older)
            watch = "containerd-auditor-watch.service"
            system.run("systemctl", "enable", "--now", *TIMERS, watch)
            first = system.state(watch, "MainPID")
            system.run("dpkg", "-i", f"/opt/{DEB.name}")
            for unit in (*TIMERS, watch):
                assert system.state(unit, "ActiveState") == "active"
                assert system.state(unit, "UnitFileState") == "enabled"
            assert system.state(watch, "MainPID") != first, "the old program's files are gone"
            system.run("dpkg", "-P", recipe.NAME)
            for unit in (*TIMERS, watch):
                assert system.state(unit, "ActiveState") == "inactive"
            assert not list((root / "etc/systemd/system").rglob("*auditor*"))
            assert not (root / STATE).exists()
