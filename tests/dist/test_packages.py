"""The .deb and the .rpm: their life in a bare system, and what the distributions' checkers print."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.dist import trees
from tests.program import ROOT
from tests.lab.kit.process import scratch
from tools.dist import packages, recipe

DIST = ROOT / "dist"
OLDER = "0.0.1"
DEB = DIST / f"{recipe.NAME}_{recipe.version()}_amd64.deb"
RPM = DIST / f"{recipe.NAME}-{recipe.version()}-1.x86_64.rpm"
WANTS = "etc/systemd/system/timers.target.wants/containerd-auditor-check.timer"
STATE = "var/lib/containerd-auditor"


@pytest.fixture(scope="module")
def older() -> Iterator[Path]:
    """Give packages of the same bundle with an older version."""
    with scratch(on_disk=True) as folder:
        packages.build(ROOT / "build/dist/bundle-amd64", folder, folder, OLDER, "gzip")
        yield folder


@pytest.fixture
def system() -> Iterator[Path]:
    with trees.copy("bare", trees.BARE) as root:
        yield root


def offer(root: Path, package: Path) -> str:
    """Put a package into a system; return its path there."""
    (root / "tmp" / package.name).write_bytes(package.read_bytes())
    return f"/tmp/{package.name}"


def ours(root: Path) -> set[str]:
    """Return the files of a system that have the program's name, less the package itself and dpkg's records."""
    found = {path.relative_to(root).as_posix() for path in root.rglob("*auditor*")}
    return {name for name in found if not name.startswith(("tmp/", "var/lib/dpkg/", "usr/lib/containerd-auditor/"))}


def enable(root: Path) -> None:
    """Enable a timer and leave a report, as an operator and a service do."""
    (root / WANTS).symlink_to("/lib/systemd/system/containerd-auditor-check.timer")
    (root / STATE).mkdir()
    for name in ("report.json", "state.db", "state.db-wal", "of-the-operator"):
        (root / STATE / name).write_text("{}")


def assert_installed(root: Path) -> None:
    """Assert that the program runs, that its files are where they belong, and that no timer is enabled."""
    assert trees.run(root, "auditor", "--version") == f"auditor {recipe.version()}\n"
    for name in (
        "lib/systemd/system/containerd-auditor-check.timer",
        "usr/share/man/man1/auditor-check.1.gz",
        "usr/share/bash-completion/completions/auditor",
        "usr/share/doc/containerd-auditor/copyright",
        "usr/share/doc/containerd-auditor/examples/cron",
    ):
        assert (root / name).is_file(), name
    unit = (root / "lib/systemd/system/containerd-auditor-check.service").read_text()
    assert "/usr/bin/auditor check" in unit
    assert "/usr/local/bin" not in unit
    assert not list((root / "etc/systemd/system").rglob("*auditor*")), "nothing is enabled by an installation"


def test_a_deb_is_installed_upgraded_removed_and_purged(system: Path, older: Path) -> None:
    before = ours(system)
    trees.run(system, "dpkg", "-i", offer(system, older / f"{recipe.NAME}_{OLDER}_amd64.deb"))
    assert_installed(system)
    enable(system)
    trees.run(system, "dpkg", "-i", offer(system, DEB))
    assert f"Version: {recipe.version()}-1\n" in trees.run(system, "dpkg", "-s", recipe.NAME)
    assert (system / WANTS).is_symlink(), "an upgrade keeps what was enabled"
    trees.run(system, "dpkg", "-r", recipe.NAME)
    assert ours(system) - before == {STATE}, "a removal keeps the reports"
    trees.run(system, "dpkg", "-P", recipe.NAME)
    assert [path.name for path in (system / STATE).iterdir()] == ["of-the-operator"]
    assert recipe.NAME not in trees.run(system, "dpkg-query", "-l")


def rpm(root: Path, *words: str) -> str:
    """Run this machine's rpm on a system; its scripts run in that system. /bin/sh is there, but not as an rpm."""
    line = ["rpm", "--root", str(root), "--dbpath", "/var/lib/rpm", *words]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "scriptlet failed" not in done.stderr
    return done.stdout


def test_an_rpm_is_installed_upgraded_and_erased(system: Path, older: Path) -> None:
    before = ours(system)
    rpm(system, "-i", "--nodeps", str(older / f"{recipe.NAME}-{OLDER}-1.x86_64.rpm"))
    assert_installed(system)
    enable(system)
    rpm(system, "-U", "--nodeps", str(RPM))
    assert rpm(system, "-q", recipe.NAME) == f"{recipe.NAME}-{recipe.version()}-1.x86_64\n"
    assert rpm(system, "-V", "--nodeps", recipe.NAME) == "", "every file is as packaged"
    assert (system / WANTS).is_symlink(), "an upgrade keeps what was enabled"
    rpm(system, "-e", recipe.NAME)
    assert ours(system) - before == {STATE}, "an erasure keeps the reports"
    assert len(list((system / STATE).iterdir())) == 4


def test_lintian_has_nothing_to_say() -> None:
    """Exceptions are in tools/dist/lintian-overrides, each with its reason."""
    done = subprocess.run(
        ["lintian", "--allow-root", "--fail-on=error,warning", "--tag-display-limit=0", DEB],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_rpmlint_has_nothing_to_say() -> None:
    """Exceptions are in rpmlint.toml, each with its reason."""
    config = Path(__file__).with_name("rpmlint.toml")
    done = subprocess.run(["rpmlint", "--config", config, RPM], capture_output=True, text=True, check=False)
    assert "0 errors, 0 warnings" in done.stdout, done.stdout + done.stderr
