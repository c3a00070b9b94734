"""Replacing snapshots: the order of removals and unpacking, what a failure leaves, and how the next run finishes it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import cast

import pytest

from auditor.errors import Conflict, NoRecord, StoreError
from auditor.model.digest import Digest
from auditor.model.oci import Descriptor
from auditor.model.store import Inventory, Labels, Resource, Snapshot
from auditor.model.writable_store import LeaseHandle, Mount
from auditor.repair import replace_snapshots
from auditor.repair.quarantine import FOLDER
from auditor.repair.rebuild_snapshot import SnapshotStore, Target
from auditor.repair.replace_snapshots import Step, replace
from auditor.repair.replace_snapshots import step as step_of

LEASE = LeaseHandle("k8s.io", "lease")
LAYERS = [Digest.of(name) for name in (b"one", b"two", b"three")]
DIFFS = [Digest.of(name) for name in (b"1", b"2", b"3")]
CHAINS = ["a", "b", "c"]


def step(number: int) -> Step:
    layer = Descriptor(digest=LAYERS[number], size=5, media_type="application/vnd.oci.image.layer.v1.tar")
    parent = CHAINS[number - 1] if number else ""
    snapshot = Snapshot("k8s.io", "native", CHAINS[number], parent, labels={"x": CHAINS[number]})
    return step_of(Target(snapshot=snapshot, folder=Path("/r/snapshots/1"), layer=layer, diff_id=DIFFS[number]))


STEPS = tuple(map(step, range(3)))


class Store:
    """Snapshots of one namespace; `used` has a child that is no image's, `broken` cannot be unpacked.

    `gone`: the layers were removed.
    """

    def __init__(self, *, used: str = "", broken: str = "") -> None:
        self.gone = False
        self.held = {
            name: Snapshot("k8s.io", "native", name, parent) for name, parent in zip("abc", ("", *"ab"), strict=True)
        }
        self.labels: dict[str, Labels] = {}
        self.calls: list[str] = []
        self.used = used
        self.broken = broken
        self._parents: dict[str, str] = {}

    def inventory(self, namespace: str, *, snapshotters: Iterable[str] | None = None) -> Inventory:
        assert snapshotters == ("native",)
        return Inventory(namespace, snapshots={"native": dict(self.held)})

    def hold(self, lease: LeaseHandle, resource: Resource) -> None:
        assert lease == LEASE
        assert resource.type in ("content", "snapshots/native")
        if self.gone:
            raise NoRecord(resource.id)

    def remove_snapshot(self, _namespace: str, _snapshotter: str, key: str) -> None:
        if key == self.used:
            raise Conflict("cannot remove snapshot with child")
        if self.held.pop(key, None) is not None:
            self.calls.append(f"remove {key}")

    def prepare_snapshot(self, _lease: LeaseHandle, _snapshotter: str, key: str, *, parent: str) -> tuple[Mount, ...]:
        if parent and parent not in self.held:
            raise NoRecord(parent)
        self._parents[key] = parent
        return (Mount("bind", key),)

    def unpack(self, _lease: LeaseHandle, layer: Descriptor, _mounts: tuple[Mount, ...]) -> Digest:
        number = LAYERS.index(layer.digest)
        return LAYERS[0] if CHAINS[number] == self.broken else DIFFS[number]

    def commit_snapshot(self, _lease: LeaseHandle, _snapshotter: str, name: str, key: str, *, labels: Labels) -> None:
        self.held[name] = Snapshot("k8s.io", "native", name, self._parents[key])
        self.labels[name] = labels
        self.calls.append(f"commit {name}")


def replaced(store: Store, root: Path) -> None:
    (root / FOLDER).mkdir(exist_ok=True)
    replace(cast("SnapshotStore", store), LEASE, root, STEPS, token=lambda: "token")


def recovered(store: Store, root: Path) -> tuple[str, ...]:
    return replace_snapshots.recover(cast("SnapshotStore", store), lambda _: LEASE, root, token=lambda: "token")


def test_the_uppermost_goes_first_and_the_lowest_comes_first(tmp_path: Path) -> None:
    store = Store()
    replaced(store, tmp_path)
    assert store.calls == ["remove c", "remove b", "remove a", "commit a", "commit b", "commit c"]
    assert {name: found.parent for name, found in store.held.items()} == {"a": "", "b": "a", "c": "b"}
    assert store.labels["b"] == {"x": "b"}
    assert list(tmp_path.iterdir()) == []


def test_one_that_is_in_use_stays_and_those_above_it_come_back(tmp_path: Path) -> None:
    store = Store(used="b")
    with pytest.raises(Conflict, match="with child") as caught:
        replaced(store, tmp_path)
    assert "exchange" in caught.value.hint
    assert store.calls == ["remove c", "commit c"]
    assert list(tmp_path.iterdir()) == []


def test_what_could_not_be_unpacked_is_finished_by_the_next_run(tmp_path: Path) -> None:
    store = Store(broken="b")
    with pytest.raises(StoreError, match="not unpacked again yet") as caught:
        replaced(store, tmp_path)
    assert "repair --snapshots" in caught.value.hint
    assert set(store.held) == {"a"}
    (note,) = recovered(store, tmp_path)
    assert "is not finished" in note
    store.broken = ""
    (note,) = recovered(store, tmp_path)
    assert "has been finished" in note
    assert set(store.held) == {"a", "b", "c"}
    assert recovered(store, tmp_path) == ()


def test_an_image_that_was_removed_meanwhile_ends_it(tmp_path: Path) -> None:
    store = Store(broken="a")
    with pytest.raises(StoreError):
        replaced(store, tmp_path)
    store.gone = True
    (note,) = recovered(store, tmp_path)
    assert "is over" in note
    assert recovered(store, tmp_path) == ()


def test_a_damaged_journal_is_left(tmp_path: Path) -> None:
    (tmp_path / FOLDER).mkdir()
    journal = tmp_path / FOLDER / "x.replace.json"
    journal.write_text("{")
    assert recovered(Store(), tmp_path) == ()
    assert journal.exists()


def test_a_journal_that_was_not_written_to_its_end_is_removed(tmp_path: Path) -> None:
    (tmp_path / FOLDER).mkdir()
    (tmp_path / FOLDER / "x.replace.new").write_text("[")
    assert recovered(Store(), tmp_path) == ()
    assert list(tmp_path.iterdir()) == []
