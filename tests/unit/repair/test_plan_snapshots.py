"""From findings about unpacked files to rebuilds: which, in which order, and why the others are left alone."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from auditor.model.digest import Digest
from auditor.model.findings import Verify
from auditor.model.snapshot_files import Difference, Differences, Kind, SnapshotFiles
from auditor.model.store import (
    Container,
    LayerVerification,
    LayerVerificationKind,
    Snapshot,
    Verification,
    VerificationKind,
)
from auditor.repair.plan_snapshots import Rebuild, SnapshotPlan, plan_snapshots
from auditor.repair.rebuild_snapshot import Target
from tests.unit.build import APP, BASE, MIDDLE, OVERLAY, TOP, World

IMAGE = "docker.io/library/app:1"
BROKEN = Differences((Difference(b"bin/tool", Kind.EMPTY), Difference(b"bin/tool", Kind.MODE)), expected=5)
EXTRA = Differences((Difference(b"more", Kind.EXTRA),), expected=5)


def world(*broken: int, **found: object) -> World:
    """A pulled image whose layers of these numbers are damaged."""
    made = World()
    made.pull(APP, IMAGE)
    for index in broken:
        files = SnapshotFiles(id=str(index), path=f"/r/snapshots/{index}/fs", differences=BROKEN)
        made.snapshot_files[made.namespace, OVERLAY, str(APP.chain[index])] = msgspec.structs.replace(files, **found)
    return made


def planned(
    made: World,
    *,
    restored: frozenset[Digest] = frozenset(),
    refused: dict[str, str] | None = None,
    rebuild: Rebuild = Rebuild.EXCHANGE,
) -> SnapshotPlan:
    def refuse(target: Target) -> str:
        return (refused or {}).get(target.snapshot.name, "")

    seen = made.audit(verify=Verify.LAYERS)
    return plan_snapshots(seen.evidence, seen.findings, refuse=refuse, restored=restored, rebuild=rebuild)


def test_a_damaged_snapshot_is_rebuilt_once_for_all_its_findings() -> None:
    (action,) = planned(world(1)).actions
    assert action.key == ("k8s.io", OVERLAY, APP.chain[1])
    assert action.codes == ("snapshot-damaged",)
    assert action.target.folder == Path("/r/snapshots/1")
    assert (action.target.layer.digest, action.target.diff_id) == (MIDDLE.digest, MIDDLE.diff_id)
    assert (action.images, action.containers, action.fetches) == ((IMAGE,), (), False)


def test_parents_are_rebuilt_first() -> None:
    made = planned(world(2, 0, 1))
    assert [action.index for action in made.actions] == [0, 1, 2]
    assert made.skips == ()


def test_files_that_were_added_are_a_reason_to_rebuild_and_an_intact_store_is_not() -> None:
    assert [action.codes for action in planned(world(0, differences=EXTRA)).actions] == [("snapshot-extra-files",)]
    assert planned(world()) == SnapshotPlan()


def test_containers_on_it_are_named() -> None:
    made = world(0)
    held = made.inventory.snapshots[OVERLAY]
    active = Snapshot("k8s.io", OVERLAY, "key", APP.chain[2], "active")
    made.change(
        snapshots={OVERLAY: {**held, "key": active}}, containers=(Container("k8s.io", "web", IMAGE, OVERLAY, "key"),)
    )
    assert [action.containers for action in planned(made).actions] == [("k8s.io/web",)]


def test_what_is_refused_keeps_those_above_it_from_a_rebuild() -> None:
    made = planned(world(0, 1, 2), refused={str(APP.chain[1]): "not this one"})
    assert [action.index for action in made.actions] == [0]
    below = "a layer below it is damaged and cannot be rebuilt, and it is unpacked on that"
    assert {skip.id: skip.reason for skip in made.skips} == {
        f"{OVERLAY}/{APP.chain[1]}": "not this one",
        f"{OVERLAY}/{APP.chain[2]}": below,
    }


def test_an_absent_blob_is_a_reason_to_wait_or_to_leave_it() -> None:
    made = world(0, missing=True, differences=None)
    made.drop(BASE.digest)
    (action,) = planned(made, restored=frozenset({BASE.digest})).actions
    assert action.fetches
    left = planned(made)
    assert left.actions == ()
    assert [skip.reason for skip in left.skips] == ["its layer's blob is absent, and no source offers it"]


def test_a_discarded_blob_is_fetched_with_an_option() -> None:
    made = world(0, missing=True, differences=None)
    made.unlabel(APP.digest, str(BASE.digest))
    made.drop(BASE.digest)
    (left,) = planned(made).skips
    assert "--include-discarded" in left.reason


def test_a_damaged_blob_is_a_reason_to_leave_it() -> None:
    made = world(0, missing=True, differences=None)
    made.verifications[BASE.digest] = Verification(BASE.digest, VerificationKind.CORRUPT)
    assert [skip.reason for skip in planned(made).skips] == ["its layer's blob is damaged, and no source offers it"]
    assert len(planned(made, restored=frozenset({BASE.digest})).actions) == 1


@pytest.mark.parametrize("restored", [False, True])
def test_snapshots_that_are_compared_later_are_announced(restored: bool) -> None:
    made = world(0, differences=None, reason="its layer's blob is absent")
    found = planned(made, restored=frozenset({BASE.digest} if restored else ()))
    assert found.actions == ()
    assert bool(found.notes) is restored


def verified(*broken: int) -> World:
    """A world whose layers are verified, and whose snapshots were all looked at."""
    made = world(*broken)
    for layer in APP.layers:
        verification = LayerVerification(LayerVerificationKind.SOUND, layer.diff_id)
        made.verifications[layer.digest] = Verification(layer.digest, VerificationKind.SOUND, layer=verification)
    for index, name in enumerate(APP.chain):
        key = (made.namespace, OVERLAY, str(name))
        made.snapshot_files.setdefault(key, SnapshotFiles(id="9", path=f"/r/snapshots/{index}/fs"))
    return made


def test_a_replacement_takes_those_above_with_it() -> None:
    (action,) = planned(verified(1, 2), rebuild=Rebuild.REPLACE).actions
    assert (action.index, action.rebuild) == (1, "replace")
    assert [target.snapshot.name for target in action.above] == [APP.chain[2]]
    lowest = planned(verified(0), rebuild=Rebuild.REPLACE).actions[0]
    assert [target.snapshot.name for target in lowest.above] == [APP.chain[1], APP.chain[2]]


def test_a_replacement_needs_all_layers_and_nobody_on_them() -> None:
    made = verified(1)
    made.verifications[TOP.digest] = Verification(TOP.digest, VerificationKind.SOUND)
    assert "was not verified" in planned(made, rebuild=Rebuild.REPLACE).skips[0].reason
    made = verified(1)
    held = made.inventory.snapshots[OVERLAY]
    made.change(snapshots={OVERLAY: {**held, "key": Snapshot("k8s.io", OVERLAY, "key", APP.chain[2], "active")}})
    assert "key uses it" in planned(made, rebuild=Rebuild.REPLACE).skips[0].reason
    made = verified(1)
    made.snapshot("sha256:unknown", APP.chain[2])
    assert "is not known" in planned(made, rebuild=Rebuild.REPLACE).skips[0].reason
    assert len(planned(made).actions) == 1


def test_a_committed_container_is_not_replaced() -> None:
    made = verified(1)
    key = (made.namespace, OVERLAY, str(APP.chain[1]))
    made.snapshot_files[key] = msgspec.structs.replace(made.snapshot_files[key], unpacked=False)
    (left,) = planned(made, rebuild=Rebuild.REPLACE).skips
    assert "by committing a container" in left.reason


def test_one_above_that_cannot_be_removed_keeps_all_from_a_replacement() -> None:
    why = "containerd would refuse to remove it"
    (left,) = planned(verified(0), rebuild=Rebuild.REPLACE, refused={str(APP.chain[2]): why}).skips
    assert left.reason == why
