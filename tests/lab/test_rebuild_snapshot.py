"""Rebuilding damaged snapshots under mounted containers, on real daemons."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from auditor import containerd
from auditor.containerd.writable_store import WritableContainerdStore
from auditor.errors import Conflict, StoreError
from auditor.repair import quarantine
from auditor.repair.rebuild_snapshot import PREFIX, Surroundings, Target, rebuild
from tests import images
from tests.lab.conftest import StartDaemon
from tests.lab.kit.daemon import CRI_NAMESPACE, Containerd
from tests.lab.kit.registry import Registry
from tests.lab.rebuilt import folder_of, mounted, rebuilt, surroundings, target_of

FILES = [{f"bin/one-{n}": images.noise(f"rebuild-{n}", 9000), f"share/two-{n}": b"two"} for n in range(3)]
LAYERS = [images.layer(contents) for contents in FILES]
IMAGE = images.image(LAYERS)
CHAINS = images.chain_ids([layer.diff_id for layer in LAYERS])


@dataclass
class Stage:
    daemon: Containerd
    store: WritableContainerdStore
    folders: list[Path]
    base: Path

    def target(self, number: int) -> Target:
        return target_of(self.store, CHAINS[number], LAYERS[number], self.folders[number])

    def file(self, number: int) -> Path:
        return self.folders[number] / "fs" / f"bin/one-{number}"

    def good(self, number: int) -> bool:
        return all(
            (self.folders[number] / "fs" / name).read_bytes() == content for name, content in FILES[number].items()
        )

    def left(self) -> list[str]:
        """Return temporary snapshots and leases of rebuilds."""
        found = self.store.inventory(CRI_NAMESPACE)
        keys = [key for key in found.snapshots["overlayfs"] if key.startswith(PREFIX)]
        return [*keys, *(lease.id for lease in found.leases)]


def prepared(daemon: Containerd, registry: Registry, base: Path) -> Iterator[Stage]:
    daemon.cri_pull(registry.push(IMAGE, "lab/rebuild:1"))
    with containerd.connect_writable(daemon.socket) as store:
        yield Stage(daemon, store, [folder_of(store, chain) for chain in CHAINS], base)


@pytest.fixture
def stage(daemon: Containerd, registry: Registry, base: Path) -> Iterator[Stage]:
    yield from prepared(daemon, registry, base)


@pytest.fixture
def newest(start_daemon: StartDaemon, registry: Registry, base: Path) -> Iterator[Stage]:
    yield from prepared(start_daemon("2.1"), registry, base)


def test_containers_keep_the_old_files_and_new_ones_get_the_right_ones(stage: Stage) -> None:
    stage.file(0).write_bytes(b"")
    stage.file(1).write_bytes(bytes(9000))
    with mounted(stage.daemon, CHAINS[2], "running", stage.base) as running:
        (running / "share/two-0").write_bytes(b"changed")
        for number in (0, 1):
            entry = rebuilt(stage.store, stage.target(number), containers=("k8s.io/running",))
            assert entry is not None
            assert entry.holds_old
            assert entry.record.containers == ("k8s.io/running",)
        stage.daemon.force_gc()
        Path("/proc/sys/vm/drop_caches").write_text("2")
        assert sorted(path.name for path in (running / "bin").iterdir()) == ["one-0", "one-1", "one-2"]
        assert (running / "bin/one-0").read_bytes() == b""
        assert (running / "share/two-0").read_bytes() == b"changed"
        with mounted(stage.daemon, CHAINS[2], "started-after", stage.base) as after:
            for contents in FILES:
                for name, content in contents.items():
                    assert (after / name).read_bytes() == content
    assert stage.left() == []
    assert len(quarantine.entries(stage.target(0).root)) == 2
    assert stage.daemon.snapshots()[CHAINS[2]] == CHAINS[1]


@pytest.mark.parametrize("number", [0, 1])
def test_a_lost_folder_is_made_again(stage: Stage, number: int) -> None:
    target = stage.target(number)
    shutil.rmtree(target.folder)
    assert rebuilt(stage.store, target) is None
    assert stage.good(number)
    assert quarantine.entries(target.root) == ()
    with mounted(stage.daemon, CHAINS[2], "after", stage.base) as after:
        assert (after / f"bin/one-{number}").read_bytes() == FILES[number][f"bin/one-{number}"]
    assert stage.left() == []


def test_a_layer_that_differs_is_refused_and_nothing_changes(newest: Stage) -> None:
    newest.file(1).write_bytes(b"")
    target = newest.target(1)
    before = quarantine.inode(target.folder / "fs")
    wrong = Target(snapshot=target.snapshot, folder=target.folder, layer=target.layer, diff_id=target.layer.digest)
    with pytest.raises(Conflict, match="the image names"):
        rebuilt(newest.store, wrong)
    assert quarantine.inode(target.folder / "fs") == before
    assert quarantine.entries(target.root) == ()
    assert newest.left() == []


def test_a_folder_that_is_not_the_daemons_is_refused(newest: Stage) -> None:
    target = newest.target(1)
    wrong = Target(snapshot=target.snapshot, folder=newest.folders[2], layer=target.layer, diff_id=target.diff_id)
    with pytest.raises(StoreError, match="containerd mounts"):
        rebuilt(newest.store, wrong)
    assert all(newest.good(number) for number in range(3))
    assert newest.left() == []


def test_a_full_disk_leaves_the_snapshot_as_it_was(newest: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    newest.file(1).write_bytes(b"")
    target = newest.target(1)

    def fail(_folder: Path) -> None:
        raise StoreError("no space left on device")

    monkeypatch.setattr(quarantine, "sync_file_system", fail)
    with newest.store.lease(CRI_NAMESPACE, seconds=60) as lease, pytest.raises(StoreError, match="no space"):
        rebuild(newest.store, lease, target, surroundings(newest.store), containers=())
    assert newest.file(1).read_bytes() == b""
    assert quarantine.entries(target.root) == ()
    assert newest.left() == []


def test_a_removal_and_a_collection_meanwhile_take_nothing_from_the_rebuild(stage: Stage) -> None:
    stage.file(1).write_bytes(b"")
    target = stage.target(1)
    around = surroundings(stage.store)

    def collect(of: Target, folder: Path) -> Sequence[str]:
        for name in stage.daemon.images():
            stage.daemon.ctr("images", "remove", "--sync", name)
        stage.daemon.force_gc()
        return around.compare(of, folder)

    meanwhile = Surroundings(token=around.token, now=around.now, boot=around.boot, compare=collect)
    with stage.store.lease(CRI_NAMESPACE, seconds=60) as lease:
        entry = rebuild(stage.store, lease, target, meanwhile, containers=())
        assert CHAINS[2] not in stage.daemon.snapshots()
        assert stage.good(1)
        assert stage.good(0)
    stage.daemon.force_gc()
    assert stage.daemon.snapshots() == {}
    assert entry is not None
    assert entry.holds_old
