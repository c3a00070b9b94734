"""The disk of a stopped containerd: the same report as from the daemon, damaged databases, archives."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from auditor import containerd
from auditor.bbolt import pages
from auditor.model.findings import Report
from auditor.offline.store import OfflineStore
from tests import images
from tests.lab import interrupted
from tests.lab.checked import Run
from tests.lab.checked import auditor_here as auditor
from tests.lab.interrupted import inventories
from tests.lab.kit.daemon import Containerd
from tests.lab.kit.registry import Registry

META = Path("io.containerd.metadata.v1.bolt", "meta.db")
NAMES = 6


def built(name: str) -> images.BuiltImage:
    return images.image([images.layer(images.files(f"offline-{name}-{n}", kilobytes=16)) for n in range(2)])


@pytest.fixture
def node(daemon: Containerd, registry: Registry) -> Containerd:
    """Start a daemon with images in two namespaces, one of them without a blob's record."""
    for number in range(NAMES):
        daemon.cri_pull(registry.push(built(str(number)), f"lab/offline-{number}:1"))
    daemon.ctr("images", "pull", "--plain-http", registry.push(built("other"), "lab/other:1"), namespace="other")
    daemon.ctr("leases", "create", "--id", "kept", namespace="other")
    lost = built("0").layers[1].digest
    daemon.ctr("content", "rm", lost, namespace="k8s.io")
    return daemon


def faults(report: Report) -> tuple[object, ...]:
    """Return what is compared: findings about images, what was counted, and whether everything was read."""
    found = tuple(
        (f.code, f.severity, f.namespace, f.subject, f.message, f.images)
        for f in report.findings
        if f.subject.kind != "store"
    )
    return found, report.summary.images, report.summary.blobs, report.summary.bytes, report.complete


def codes(report: Report) -> set[str]:
    return {finding.code for finding in report.findings}


def offline(node: Containerd, *arguments: str | Path) -> Run:
    return auditor("check", "--root", node.root, "--format", "json", *arguments)


def test_a_stopped_daemon_reads_as_the_running_one(node: Containerd, base: Path) -> None:
    live = auditor("check", "--address", node.socket, "--format", "json")
    with containerd.connect(node.socket) as store:
        expected, uuid = inventories(store), store.info().id
    busy = offline(node)
    assert (busy.status, busy.out) == (3, "")
    assert "--address" in busy.err
    shared = offline(node, "--while-running")
    assert faults(shared.report) == faults(live.report)
    node.stop()
    before = listing(node.root)
    stopped = OfflineStore(node.root)
    assert inventories(stopped) == expected
    assert stopped.info().id == uuid
    found = offline(node)
    assert [f.code for f in found.report.findings if f.subject.kind == "store"] == ["file-without-record"]
    assert found.status == live.status
    assert faults(found.report) == faults(live.report)
    assert found.report.source.kind == "offline"
    name = f"lab/offline-{NAMES - 1}:1"
    full = next(n for i in found.report.images for n in i.names if n.endswith(name))
    archive = base / "image.tar"
    written = auditor("export", "--root", node.root, full, "-n", "k8s.io", "-o", archive)
    assert written.status == 0, written.err
    assert auditor("verify", archive, "--verify", "layers").status == 0
    drawn = auditor("tree", "--root", node.root, full)
    assert drawn.status == 0, drawn.err
    compared = offline(node, "--verify", "snapshots")
    assert codes(compared.report) - {"snapshot-unverifiable"} == codes(live.report) | {"file-without-record"}
    folder = next((node.root / "io.containerd.snapshotter.v1.overlayfs/snapshots").glob("*/fs/etc"))
    kept = folder.rename(node.root / "kept")
    damaged = offline(node, "--verify", "snapshots")
    assert codes(damaged.report) - codes(compared.report) == {"snapshot-damaged"}
    kept.rename(folder)
    os.utime(folder.parent, ns=(0, 0))
    before = listing(node.root)
    scrubbed = auditor("scrub", "--root", node.root, "--state", base / "state.db", "--format", "json")
    assert scrubbed.report.summary.blobs.verified > 0
    assert listing(node.root) == before


def test_a_daemon_that_is_killed_in_pulls(daemon: Containerd, registry: Registry) -> None:
    chance = random.Random(daemon.version)
    assert interrupted.differences(daemon, interrupted.pushed(registry), chance, end=daemon.kill) == []


def test_damaged_databases(node: Containerd) -> None:
    node.stop()
    path = node.root / META
    whole = path.read_bytes()
    expected = {name: store_images(node, name) for name in ("k8s.io", "other")}
    size = pages.metas(whole)[0].page_size

    for first, count in ((pages.metas(whole)[0].page, 1), (0, 2)):
        path.write_bytes(whole[: first * size] + bytes(count * size) + whole[(first + count) * size :])
        ran = offline(node)
        assert ran.status == 3, ran.err
        assert not ran.report.complete
        assert "metadata-damaged" in {finding.code for finding in ran.report.findings}
        if count == 2:
            assert {name: store_images(node, name) for name in expected} == expected

    for damaged in (None, b"", whole[:size]):
        path.unlink(missing_ok=True)
        if damaged is not None:
            path.write_bytes(damaged)
        ran = offline(node)
        assert ran.status == 3, ran.err
        assert {finding.code for finding in ran.report.findings} == {"metadata-lost"}
        tree = auditor("tree", "--root", node.root, "lab/offline-1:1")
        assert (tree.status, tree.out) == (3, "")
        assert "do not start containerd" in tree.err


def store_images(node: Containerd, namespace: str) -> list[str]:
    found = OfflineStore(node.root).inventory(namespace)
    return sorted(f"{image.name} {image.target.digest}" for image in found.images)


def listing(root: Path) -> list[tuple[str, int, int]]:
    found = []
    for folder, _, names in os.walk(root):
        looked = [Path(folder), *(Path(folder, name) for name in names)]
        found += [(str(path), path.lstat().st_mtime_ns, path.lstat().st_ctime_ns) for path in looked]
    return sorted(found)
