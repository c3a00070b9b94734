"""Recovering images: from a deleted database into archives and fresh daemons; a sound copy of a damaged database."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from auditor.bbolt import pages
from auditor.containerd import connect_writable
from tests.lab.checked import Run
from tests.lab.checked import auditor_here as auditor
from tests.lab.conftest import StartDaemon
from tests.lab.kit.daemon import CRI_NAMESPACE, Containerd
from tests.lab.stopped_node import BLOBS, META, OTHER_NAMESPACE, StoppedNode

Damage = Callable[[bytes, int], bytes]


@pytest.fixture
def root(stopped: StoppedNode, base: Path) -> Path:
    """Copy the root, for a test that damages it."""
    return stopped.copy(base / "root")


def recover(root: Path, *arguments: str | Path) -> Run:
    return auditor("recover", "--root", root, "--format", "json", *arguments)


def rows(ran: Run) -> list[dict[str, Any]]:
    found = json.loads(ran.out)["images"]
    assert isinstance(found, list)
    return found


def named(ran: Run) -> dict[str, str]:
    """Return the digest of each tag that a source names."""
    return {
        row["name"]: row["digest"]
        for row in rows(ran)
        if row["certainty"] != "none" and "@" not in row["name"] and not row["name"].startswith("sha256:")
    }


def zeroed(data: bytes, page: int, size: int, *, count: int = 1) -> bytes:
    return data[: page * size] + bytes(count * size) + data[(page + count) * size :]


def pod(name: str, digest: str) -> dict[str, Any]:
    return {"status": {"containerStatuses": [{"image": name, "imageID": f"{name.rpartition(':')[0]}@{digest}"}]}}


def test_a_deleted_database(stopped: StoppedNode, root: Path, base: Path, start_daemon: StartDaemon) -> None:
    (root / META).unlink()
    listed = recover(root, "--dry-run")
    assert listed.status == 0, listed.err
    assert {row["digest"] for row in rows(listed)} == {*stopped.tags.values(), stopped.other_digest}
    assert named(listed) == {}
    pods = base / "pods.json"
    pods.write_text(json.dumps({"items": [pod(stopped.other, stopped.other_digest)]}))
    archive = base / "all.tar"
    written = recover(root, "--names", stopped.log, "--names", pods, "-o", archive)
    assert written.status == 0, written.err
    assert named(written) == {**stopped.tags, stopped.other: stopped.other_digest}
    assert {row["source"] for row in rows(written)} == {stopped.log.name, pods.name}
    assert auditor("verify", archive, "--verify", "layers").status == 0
    fresh = start_daemon(stopped.version)
    fresh.ctr("images", "import", archive)
    sound(fresh, [*stopped.tags, stopped.other])
    fresh.ctr("run", "--rm", "--null-io", stopped.other, "one", "/bin/sh", "-c", ":")
    into = start_daemon(stopped.version)
    loaded = recover(root, "--names", stopped.log, "--names", pods, "--into", into.socket)
    assert loaded.status == 0, loaded.err
    into.force_gc()
    sound(into, [*stopped.tags, stopped.other])
    into.ctr("run", "--rm", "--null-io", stopped.other, "one", "/bin/sh", "-c", ":")
    # As a killed run leaves it.
    into.ctr("leases", "create", "--id", "killed", "containerd-auditor/recover=run")
    with connect_writable(into.socket) as daemon, daemon.exclusive("recover"):
        locked = recover(root, "--into", into.socket)
    assert (locked.status, "another auditor recover" in locked.err) == (3, True), locked.err
    again = recover(root, "--names", stopped.log, "--names", pods, "--into", into.socket)
    assert again.status == 0, again.err
    assert not into.ctr("leases", "list", "--quiet").stdout


def sound(daemon: Containerd, names: list[str]) -> None:
    """Check that a daemon has images whole, protected from collection, and can unpack and export them."""
    assert set(names) <= set(daemon.images())
    checked = auditor("check", "--address", daemon.socket, "--verify", "layers", "--format", "json")
    assert checked.status == 0, checked.out
    assert "gc-unprotected" not in {finding.code for finding in checked.report.findings}
    for name in names[:2]:
        daemon.ctr("snapshots", "unpack", next(row for row in digests(daemon, name)))
    assert daemon.snapshots()


def digests(daemon: Containerd, name: str) -> list[str]:
    lines = daemon.ctr("images", "list", f"name=={name}").stdout.splitlines()[1:]
    return [line.split()[2] for line in lines]


def both_metas(data: bytes, size: int) -> bytes:
    return zeroed(data, 0, size, count=2)


def newest_meta(data: bytes, size: int) -> bytes:
    return zeroed(data, pages.metas(data)[0].page, size)


@pytest.mark.parametrize("damage", [both_metas, newest_meta])
def test_a_sound_copy_starts_the_daemon(
    stopped: StoppedNode, base: Path, start_daemon: StartDaemon, damage: Damage
) -> None:
    daemon = start_daemon(stopped.version)
    daemon.stop()
    shutil.rmtree(daemon.root)
    stopped.copy(daemon.root)
    whole = (daemon.root / META).read_bytes()
    (daemon.root / META).write_bytes(damage(whole, pages.metas(whole)[0].page_size))
    made = base / "made.db"
    ran = recover(daemon.root, "--meta-db", made)
    assert ran.status == 0, ran.err
    assert json.loads(ran.out)["newest"] is False
    shutil.copy(made, daemon.root / META)
    daemon.start()
    daemon.force_gc()
    names = {(space, name) for space in (CRI_NAMESPACE, OTHER_NAMESPACE) for name in daemon.images(namespace=space)}
    assert names == stopped.names.keys()
    assert len(daemon.snapshots()) + len(daemon.snapshots(namespace=OTHER_NAMESPACE)) == stopped.snapshots
    assert auditor("check", "--address", daemon.socket, "--verify", "layers").status == 0


def test_a_copy_that_would_delete_files_is_refused(stopped: StoppedNode, root: Path, base: Path) -> None:
    made = base / "made.db"
    (root / BLOBS / stopped.other_digest.partition(":")[2]).unlink()
    ran = recover(root, "--meta-db", made)
    assert (ran.status, ran.out) == (3, "")
    assert f"{stopped.other_digest} has no file" in ran.err
    damaged = recover(root, "-o", base / "some.tar")
    assert damaged.status == 1
    states = {row["name"]: row["status"] for row in rows(damaged)}
    assert [name for name, state in states.items() if state == "damaged"] == [stopped.other]
    assert CRI_NAMESPACE in {row["namespace"] for row in rows(damaged)}
    assert not made.exists()


def test_a_daemon_without_its_database_says_how_to_go_on(
    stopped: StoppedNode, start_daemon: StartDaemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    daemon = start_daemon(stopped.version)
    daemon.stop()
    whole = (stopped.root / META).read_bytes()
    (daemon.root / META).write_bytes(both_metas(whole, pages.metas(whole)[0].page_size))
    monkeypatch.setattr(daemon, "cri_wait", lambda: None)
    daemon.start()
    ran = auditor("check", "--address", daemon.socket)
    assert (ran.status, ran.out) == (3, "")
    assert "containerd runs without its metadata database" in ran.err
    assert f"stop containerd, then: auditor check --root {daemon.root}" in ran.err
