"""Unpacked files of the native snapshotter, whose directories have the files of all layers up to their own.

containerd 1.6 does not report where these directories are: there the disk is read after the daemon has stopped.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests import images
from tests.lab.checked import auditor_here, check, loud, quiet
from tests.lab.conftest import StartDaemon
from tests.lab.kit import snapshotters
from tests.lab.kit.binaries import VERSIONS
from tests.lab.kit.registry import Registry
from tests.lab.odd_layers import LINK, entry, folder, layer, link
from tests.lab.test_snapshot_files import DAMAGED, ODD, Damage, directory, nothing, replace_by, write

#: Entries on files of lower layers: deleted, replaced, linked, and below a symbolic link.
OVER = layer(
    folder("usr", mode=0o711),
    entry("implicit/.wh..wh..opq"),
    entry("lib/over", b"in the directory that lib links"),
    link("linked", "again", LINK, mode=0o600, uid=3),
    entry(".wh.twice"),
    folder("swap"),
    entry("swap/now", b"in a directory in place of a file"),
    entry("long" * 60, b"replaced"),
    entry("usr/.wh.absent"),
)
UNVERIFIABLE = "snapshot-unverifiable"
IMAGE = images.image([*ODD.layers, OVER, layer()])
#: Layer, damage, code. The file of layer 1 that layer 2 hides is damaged in one snapshot only.
DAMAGES: tuple[tuple[int, Damage, str], ...] = (
    (3, write("usr/data", b""), DAMAGED),
    (3, write("again", b"9"), DAMAGED),
    (3, replace_by("lib", nothing), DAMAGED),
    (3, lambda root: (root / "twice").touch(), "snapshot-extra-files"),
    (3, lambda root: (root / "linked").chmod(0o644), "snapshot-attributes"),
    (0, write("usr/tool", bytes(9000)), DAMAGED),
    (0, replace_by("usr", nothing), DAMAGED),
    (1, shutil.rmtree, "snapshot-directory-missing"),
)


@pytest.mark.parametrize("version", VERSIONS)
def test_no_false_alarm_then_each_damage(
    start_daemon: StartDaemon, base: Path, registry: Registry, version: str
) -> None:
    daemon = start_daemon(version, **snapshotters.options("native", version, base))
    for image, name in ((ODD, "lower"), (IMAGE, "over")):
        daemon.cri_pull(registry.push(image, f"lab/native:{name}"))
    where: tuple[str | Path, ...] = ("--address", daemon.socket)
    if version == "1.6":
        report = check(daemon, "--verify", "snapshots").report
        assert (loud(report), quiet(report)) == (set(), {(UNVERIFIABLE, f"native/{name}") for name in IMAGE.chain_ids})
        daemon.stop()
        where = ("--root", daemon.root)
    for level in ("snapshots-quick", "snapshots"):
        run = auditor_here("check", "--format", "json", *where, "--verify", level)
        assert (run.status, loud(run.report)) == (0, set()), [finding.message for finding in run.report.findings]
        assert not [each.message for each in run.report.findings if each.code == UNVERIFIABLE]
    for index, damage, code in DAMAGES:
        target = directory(daemon, IMAGE, index, snapshotter="native")
        subprocess.run(["cp", "-a", target, base / "saved"], check=True)
        damage(target)
        run = auditor_here("check", "--format", "json", *where, "--verify", "snapshots")
        assert loud(run.report) == {(code, f"native/{IMAGE.chain_ids[index]}")}
        shutil.rmtree(target, ignore_errors=True)
        shutil.move(base / "saved", target)


def test_without_the_label_of_an_unpacked_snapshot(start_daemon: StartDaemon, base: Path, registry: Registry) -> None:
    daemon = start_daemon("1.7", **snapshotters.options("native", "1.7", base))
    daemon.ctr("images", "pull", "--plain-http", "--snapshotter", "native", registry.push(IMAGE, "lab/native:ctr"))
    report = check(daemon, "--verify", "snapshots").report
    assert (loud(report), quiet(report)) == (set(), {(UNVERIFIABLE, f"native/{name}") for name in IMAGE.chain_ids})
    target = directory(daemon, IMAGE, 3, snapshotter="native")
    (target / "linked").chmod(0o644)
    write("usr/data", b"")(target)
    assert loud(check(daemon, "--verify", "snapshots").report) == {(DAMAGED, f"native/{IMAGE.chain_ids[3]}")}
