"""Every command that a finding prints is run, as printed, on a store with that fault, and removes it.

The rules that print a command are taken from the unit tests' faults, which cover each rule: a new one needs a fault
here. Before, every command that `diagnose` prints for the fault is run, too.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from auditor.checks.rule import at_address
from auditor.diagnose import commands
from auditor.diagnose.commands import CommandTarget
from auditor.diagnose.messages import MESSAGES
from auditor.model.command_line import command, is_command
from auditor.model.findings import Finding, ImageRef, Severity, Subject, Verify
from tests import images
from tests.images import BuiltImage
from tests.lab.checked import auditor_here
from tests.lab.diagnosed import ask
from tests.lab.kit import bug, faults
from tests.lab.kit.binaries import VERSIONS, binary
from tests.lab.kit.daemon import Containerd
from tests.lab.kit.process import rooted, scratch
from tests.lab.kit.registry import Registry
from tests.program import ROOT, environment
from tests.unit.build import World
from tests.unit.checks.test_rules import FAULTS

VERSION: Final = VERSIONS[-1]


@dataclass(frozen=True)
class Store:
    """A daemon with one image for each fault."""

    daemon: Containerd
    registry: Registry
    base: Path

    def image(self, name: str, *, layers: int = 2) -> tuple[BuiltImage, str]:
        """Pull a new image; return it with its reference."""
        kilobytes = 16
        built = images.image([images.layer(images.files(f"{name}-{n}", kilobytes=kilobytes)) for n in range(layers)])
        reference = self.registry.push(built, f"lab/printed-{name}:1")
        self.daemon.cri_pull(reference)
        return built, reference

    def run(self, command: str) -> subprocess.CompletedProcess[str]:
        """Run a command line as a shell does, with the programs of this version in its path."""
        path = f"{self.base}/bin:{os.environ['PATH']}"
        return subprocess.run(
            ["bash", "-c", command],
            capture_output=True,
            text=True,
            check=False,
            cwd=self.base,
            env=environment({"PATH": path}),
            stdin=subprocess.DEVNULL,
        )


@pytest.fixture(scope="module")
def store(registry: Registry) -> Iterator[Store]:
    with scratch() as base, ExitStack() as running:
        (base / "node").mkdir()
        (base / "bin").mkdir()
        daemon = running.enter_context(Containerd(VERSION, base / "node"))
        (base / "bin/ctr").symlink_to(binary(VERSION, "ctr"))
        (base / "bin/auditor").write_text(
            f'#!/bin/sh\nPYTHONPATH={shlex.quote(str(ROOT))} exec {shlex.quote(sys.executable)} -m auditor "$@"\n'
        )
        (base / "bin/auditor").chmod(0o755)
        yield Store(daemon, registry, base)


#: Plants a fault and returns the digest or name of its finding.
Plant = Callable[[Store], str]
PLANTS: dict[str, Plant] = {}
#: Rules whose fault no release of the lab makes as the rule words it; another rule prints the same command.
SAME_COMMAND: Final = {
    "snapshot-empty": "snapshot-damaged",
    "snapshot-whiteouts-lost": "snapshot-damaged",
    "snapshot-attributes": "snapshot-damaged",
    "snapshot-extra-files": "snapshot-damaged",
    "shared-config-layers": "snapshot-without-blob",
}


LEASE: Final = "lease-pins-content"
#: What ctr and auditor print of a command line that they do not understand.
MISUSE: Final = re.compile(
    r"flag provided but not defined|No help topic|incorrect usage|USAGE|No such option|unexpected"
)


def plant(code: str) -> Callable[[Plant], Plant]:
    def put(make: Plant) -> Plant:
        PLANTS[code] = make
        return make

    return put


@plant("snapshot-without-blob")
def _(store: Store) -> str:
    return bug.reproduce(
        store.daemon, store.registry, built=bug.pair(shared=1, name="printed"), name="printed"
    ).skipped[0]


@plant("incomplete-image")
def _(store: Store) -> str:
    built, _ = store.image("incomplete")
    faults.remove_snapshots_from(store.daemon, built.chain_ids, 0)
    faults.remove_record(store.daemon, built.layers[1].digest)
    return built.layers[1].digest


@plant("missing-manifest")
def _(store: Store) -> str:
    built, _ = store.image("manifest")
    faults.remove_record(store.daemon, built.digest)
    return built.digest


@plant("missing-config")
def _(store: Store) -> str:
    built, _ = store.image("config")
    faults.remove_record(store.daemon, built.config_digest)
    return built.config_digest


@plant("blob-file-missing")
def _(store: Store) -> str:
    built, _ = store.image("file")
    faults.delete_file(store.daemon, built.layers[0].digest)
    return built.layers[0].digest


@plant("size-mismatch")
def _(store: Store) -> str:
    built, _ = store.image("size")
    faults.shorten(store.daemon, built.layers[0].digest)
    return built.layers[0].digest


@plant("digest-mismatch")
def _(store: Store) -> str:
    built, _ = store.image("bytes")
    faults.flip(store.daemon, built.layers[0].digest)
    return built.layers[0].digest


@plant("snapshot-missing")
def _(store: Store) -> str:
    built, _ = store.image("unpacked")
    faults.remove_snapshots_from(store.daemon, built.chain_ids, 1)
    return f"overlayfs/{built.chain_ids[1]}"


@plant("snapshot-directory-missing")
def _(store: Store) -> str:
    built, _ = store.image("folder")
    shutil.rmtree(faults.snapshot_folder(store.daemon, built.chain_ids[0]).parent)
    return f"overlayfs/{built.chain_ids[0]}"


@plant("snapshot-damaged")
def _(store: Store) -> str:
    built, _ = store.image("unpacked-files")
    folder = faults.snapshot_folder(store.daemon, built.chain_ids[0])
    next(path for path in sorted(folder.rglob("*")) if path.is_file()).write_bytes(b"")
    return f"overlayfs/{built.chain_ids[0]}"


def commanding() -> Iterator[str]:
    """The rules that print a command, in the small stores of the unit tests."""
    for code, make in FAULTS.items():
        world = World()
        make(world)
        if any(found.code == code and is_command(found.hint) for found in world.findings(verify=Verify.LAYERS)):
            yield code


def test_each_rule_that_prints_a_command_has_its_fault_here() -> None:
    assert set(commanding()) == {*PLANTS, *SAME_COMMAND, LEASE}
    assert set(SAME_COMMAND.values()) <= PLANTS.keys()


@pytest.mark.parametrize("code", PLANTS)
def test_what_a_finding_prints_removes_the_fault(store: Store, code: str) -> None:
    subject = PLANTS[code](store)
    finding = found(store, code, subject)
    assert finding is not None
    assert is_command(finding.hint)
    if finding.subject.digest:
        try_diagnosis(store, finding.subject.digest)
    repairing = finding.hint.startswith("auditor repair ")
    ran = store.run(f"{finding.hint} --yes" if repairing else finding.hint)
    assert ran.returncode == 0, f"{finding.hint}\n{ran.stdout}\n{ran.stderr}"
    assert found(store, code, subject) is None


def found(store: Store, code: str, subject: str) -> Finding | None:
    """The finding of this rule about this subject, of all that there is."""
    ran = auditor_here(
        "check", "--verify", "snapshots", "--format", "json", "--no-progress", "--address", store.daemon.socket
    )
    return next((each for each in ran.report.findings if (each.code, each.subject.id) == (code, subject)), None)


def try_diagnosis(store: Store, digest: str) -> None:
    """Run what `diagnose` prints for a blob; repairs only with --dry-run, and no clients that the lab has not."""
    printed = [line for line in ask(store.daemon, digest)[0].verdict.commands if not line.startswith("#")]
    assert any(line.startswith("auditor repair ") for line in printed)
    for line in printed:
        if not line.startswith(("auditor ", "ctr ")) or (" repair " in line and "--dry-run" not in line):
            continue
        ran = store.run(line)
        assert not MISUSE.search(ran.stderr), f"{line}\n{ran.stderr}"
        assert ran.returncode in (0, 1), f"{line}\n{ran.stdout}\n{ran.stderr}"


@pytest.mark.parametrize("code", ["incomplete-image", "missing-manifest", "missing-config"])
def test_the_pull_that_diagnose_prints_removes_the_fault(store: Store, code: str) -> None:
    """No release of Debian has crictl: what it asks the daemon for is asked for here."""
    subject = PLANTS[code](store)
    (line,) = (line for line in ask(store.daemon, subject)[0].verdict.commands if line.startswith("crictl "))
    client, option, address, verb, name = shlex.split(line, comments=True)
    assert (client, option, address, verb) == ("crictl", "-r", f"unix://{store.daemon.socket}", "pull")
    store.daemon.cri_pull(name)
    assert found(store, code, subject) is None


def test_a_lease_whose_name_looks_like_an_option_is_removed_by_the_printed_command(store: Store) -> None:
    for name in ("-printed lease", "printed lease"):
        faults.add_lease(store.daemon, name)
    hint = at_address(
        command("ctr", "-n", "k8s.io", "leases", "rm", names=["-printed lease"]), str(store.daemon.socket)
    )
    assert store.run(hint).returncode == 0
    listed = store.daemon.ctr("leases", "ls", "-q", namespace="k8s.io").stdout.splitlines()
    assert "printed lease" in listed
    assert "-printed lease" not in listed


def known_lines(store: Store, name: str, digest: str) -> Iterator[str]:
    """The lines for known messages and for images that the lab's programs can run, for an image in `default`."""
    target = CommandTarget(address=str(store.daemon.socket))
    for step in dict.fromkeys(step for known in MESSAGES for step in known.steps):
        line = commands.filled(step, name=name, digest=digest, namespace="default", target=target)
        if line.startswith(("ctr ", "skopeo ")):
            yield line.replace("OS/ARCH", "linux/amd64").replace("NEW", store.registry.reference("lab/printed-new:1"))
    for by_design in ("the node discards layers", "of another platform"):
        lines = commands.for_design(target, "default", name, by_design, platforms=("linux/amd64",))
        yield from (line for line in lines if line.startswith("ctr "))
    image = ImageRef(namespace="default", name=name, target=digest)
    for code in ("broken-snapshot-chain", "incomplete-image", "snapshot-without-blob", "diffid-mismatch"):
        subject = Subject(kind="layer", digest=digest)
        found = Finding(
            code=code, severity=Severity.ERROR, namespace="default", subject=subject, message="", images=(image,)
        )
        yield from (line for line in commands.for_finding(found, target) if line.startswith(("ctr ", "skopeo ")))


def test_the_lines_for_known_messages_do_what_they_say(store: Store) -> None:
    built = images.image([images.layer(images.files("printed-known", kilobytes=16))])
    tagged = store.registry.push(built, "lab/printed-known:1")
    settings = store.base / ".config/containers"
    settings.mkdir(parents=True)
    host = tagged.partition("/")[0]
    (settings / "registries.conf").write_text(f'[[registry]]\nlocation = "{host}"\ninsecure = true\n')
    (settings / "policy.json").write_text('{"default": [{"type": "insecureAcceptAnything"}]}')
    for name in (tagged, f"{tagged}@{built.digest}"):
        store.daemon.ctr("images", "pull", "--plain-http", name, namespace="default")
        lines = list(dict.fromkeys(known_lines(store, name, built.digest)))
        assert {line.split()[0] for line in lines} == {"ctr", "skopeo"}
        for line in lines:
            within = shlex.join([*rooted(store.base / "tree"), "unshare", "-m", "bash", "-c", line])
            ran = store.run(f"HOME=$PWD exec {within}")
            assert not MISUSE.search(ran.stderr), f"{line}\n{ran.stderr}"
            assert ran.returncode == 0, f"{line}\n{ran.stdout}\n{ran.stderr}"
