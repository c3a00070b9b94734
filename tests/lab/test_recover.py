"""Recovering images: from a deleted database into archives and fresh daemons; a sound copy of a damaged database."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from auditor.bbolt import bolt
from tests import images
from tests.lab.checked import Run, auditor
from tests.lab.conftest import StartDaemon
from tests.lab.kit.binaries import VERSIONS
from tests.lab.kit.daemon import CRI_NAMESPACE, Containerd
from tests.lab.kit.process import scratch
from tests.lab.kit.registry import Registry

META = Path("io.containerd.metadata.v1.bolt", "meta.db")
COUNT = 6


class Node(msgspec.Struct, frozen=True):
    """The root of a stopped daemon, its log, and what the daemon listed before."""

    version: str
    root: Path
    log: Path
    names: dict[str, str]
    other: str
    other_digest: str
    snapshots: int


def built(name: str) -> images.BuiltImage:
    return images.image([images.layer(images.files(f"recover-{name}-{n}", kilobytes=16)) for n in range(2)])


@pytest.fixture(scope="module", params=VERSIONS)
def node(request: pytest.FixtureRequest, registry: Registry) -> Iterator[Node]:
    with scratch() as folder:
        with Containerd(request.param, folder) as daemon:
            names = {}
            for number in range(COUNT):
                image = built(str(number))
                name = registry.push(image, f"lab/recover-{number}:1")
                daemon.cri_pull(name)
                names[name] = images.sha256(image.manifest)
            other = registry.push(built("other"), "lab/recover-other:1")
            daemon.ctr("images", "pull", "--plain-http", other, namespace="other")
            snapshots = len(daemon.snapshots())
            daemon.kill()
        digest = images.sha256(built("other").manifest)
        yield Node(request.param, daemon.root, daemon.log, names, other, digest, snapshots)


@pytest.fixture
def root(node: Node, base: Path) -> Path:
    """Copy the root without snapshots' files, for a test that damages it."""
    return copied(node, base / "root")


def copied(node: Node, target: Path) -> Path:
    shutil.copytree(node.root, target, symlinks=True)
    return target


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


def test_a_deleted_database(node: Node, root: Path, base: Path, start_daemon: StartDaemon) -> None:
    (root / META).unlink()
    listed = recover(root, "--dry-run")
    assert listed.status == 0, listed.err
    assert {row["digest"] for row in rows(listed)} == {*node.names.values(), node.other_digest}
    assert named(listed) == {}
    pods = base / "pods.json"
    pods.write_text(json.dumps({"items": [pod(node.other, node.other_digest)]}))
    archive = base / "all.tar"
    written = recover(root, "--names", node.log, "--names", pods, "-o", archive)
    assert written.status == 0, written.err
    assert named(written) == {**node.names, node.other: node.other_digest}
    assert {row["source"] for row in rows(written)} == {node.log.name, pods.name}
    assert auditor("verify", archive, "--verify", "layers").status == 0
    fresh = start_daemon(node.version)
    fresh.ctr("images", "import", archive)
    sound(fresh, [*node.names, node.other])
    into = start_daemon(node.version)
    loaded = recover(root, "--names", node.log, "--names", pods, "--into", into.socket)
    assert loaded.status == 0, loaded.err
    into.force_gc()
    sound(into, [*node.names, node.other])
    again = recover(root, "--names", node.log, "--names", pods, "--into", into.socket)
    assert again.status == 0, again.err


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
    return zeroed(data, bolt.metas(data)[0].page, size)


@pytest.mark.parametrize("damage", [both_metas, newest_meta])
def test_a_sound_copy_starts_the_daemon(
    node: Node, base: Path, start_daemon: StartDaemon, damage: Callable[[bytes, int], bytes]
) -> None:
    daemon = start_daemon(node.version)
    daemon.stop()
    shutil.rmtree(daemon.root)
    copied(node, daemon.root)
    whole = (daemon.root / META).read_bytes()
    (daemon.root / META).write_bytes(damage(whole, bolt.metas(whole)[0].page_size))
    made = base / "made.db"
    ran = recover(daemon.root, "--meta-db", made)
    assert ran.status == 0, ran.err
    assert json.loads(ran.out)["newest"] is False
    shutil.copy(made, daemon.root / META)
    daemon.start()
    daemon.force_gc()
    assert {name for name in daemon.images() if name in node.names} == set(node.names)
    assert daemon.images(namespace="other") == (node.other,)
    assert len(daemon.snapshots()) == node.snapshots
    assert auditor("check", "--address", daemon.socket, "--verify", "layers").status == 0


def test_a_copy_that_would_delete_files_is_refused(node: Node, root: Path, base: Path) -> None:
    made = base / "made.db"
    blobs = root / "io.containerd.content.v1.content/blobs/sha256"
    (blobs / node.other_digest.partition(":")[2]).unlink()
    ran = recover(root, "--meta-db", made)
    assert (ran.status, ran.out) == (3, "")
    assert f"{node.other_digest} has no file" in ran.err
    damaged = recover(root, "-o", base / "some.tar")
    assert damaged.status == 1
    states = {row["name"]: row["status"] for row in rows(damaged)}
    assert [name for name, state in states.items() if state == "damaged"] == [node.other]
    assert CRI_NAMESPACE in {row["namespace"] for row in rows(damaged)}
    assert not made.exists()
