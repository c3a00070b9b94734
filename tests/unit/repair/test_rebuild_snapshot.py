"""What a rebuild refuses, which containers it names, and how it reads mounts."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from auditor.model.digest import Digest
from auditor.model.oci import Descriptor
from auditor.model.store import Container, Inventory, Snapshot
from auditor.model.writable_store import Mount
from auditor.repair.rebuild_snapshot import Target, refusal, top_folder, users

BASE, TOP = "sha256:" + "a" * 64, "sha256:" + "b" * 64
LAYER = Digest.parse("sha256:" + "c" * 64)


def snapshot(name: str, parent: str = "", *, snapshotter: str = "overlayfs", kind: str = "committed") -> Snapshot:
    labels = {"containerd.io/snapshot.ref": name}
    return Snapshot("k8s.io", snapshotter, name, parent, kind, labels)


def inventory(*snapshots: Snapshot, namespace: str = "k8s.io", containers: tuple[Container, ...] = ()) -> Inventory:
    held = {"overlayfs": {each.name: each for each in snapshots}}
    return Inventory(namespace=namespace, snapshots=held, containers=containers)


def target(tmp_path: Path, which: Snapshot) -> Target:
    (tmp_path / "snapshots").mkdir(exist_ok=True)
    layer = Descriptor(media_type="application/vnd.oci.image.layer.v1.tar", digest=LAYER, size=1)
    return Target(snapshot=which, folder=tmp_path / "snapshots/7", layer=layer, diff_id=LAYER)


def test_a_snapshot_of_a_layer_is_not_refused(tmp_path: Path) -> None:
    assert refusal(target(tmp_path, snapshot(BASE)), [inventory(snapshot(BASE))], identity=()) == ""


@pytest.mark.parametrize(
    ("which", "words"),
    [
        (snapshot(BASE, snapshotter="native"), "only snapshots of overlayfs"),
        (snapshot(BASE, kind="active"), "not made by unpacking"),
    ],
)
def test_other_snapshots_are_refused(tmp_path: Path, which: Snapshot, words: str) -> None:
    assert words in refusal(target(tmp_path, which), [], identity=())


def test_a_committed_container_is_refused_and_an_import_without_labels_is_not(tmp_path: Path) -> None:
    found = target(tmp_path, Snapshot("k8s.io", "overlayfs", BASE))
    assert refusal(found, [], identity=()) == ""
    assert "by committing a container" in refusal(msgspec.structs.replace(found, unpacked=False), [], identity=())


def test_an_index_of_overlayfs_is_refused(tmp_path: Path) -> None:
    parameter = tmp_path / "index"
    parameter.write_text("Y\n")
    assert "index or nfs_export" in refusal(target(tmp_path, snapshot(BASE)), [], identity=[parameter])
    parameter.write_text("N\n")
    assert refusal(target(tmp_path, snapshot(BASE)), [], identity=[parameter, tmp_path / "absent"]) == ""


def test_a_pull_that_unpacks_the_same_layer_is_refused(tmp_path: Path) -> None:
    pulling = inventory(snapshot(f"extract-123-abc {BASE}", kind="active"), namespace="other")
    assert "a pull in other" in refusal(target(tmp_path, snapshot(BASE)), [pulling], identity=())


def test_containers_of_all_namespaces_are_named() -> None:
    chain = (snapshot(BASE), snapshot(TOP, BASE), snapshot("key", TOP, kind="active"))
    first = inventory(*chain, containers=(Container("k8s.io", "a", "", "overlayfs", "key"),))
    second = inventory(*chain, namespace="moby", containers=(Container("moby", "b", "", "overlayfs", "key"),))
    assert users([second, first], "overlayfs", BASE) == ("k8s.io/a", "moby/b")
    assert users([first], "native", BASE) == ()
    assert users([first], "overlayfs", "sha256:other") == ()


def test_a_parent_loop_ends() -> None:
    loop = inventory(snapshot(BASE, TOP), snapshot(TOP, BASE), containers=(Container("n", "a", "", "overlayfs", TOP),))
    assert users([loop], "overlayfs", "sha256:other") == ()


@pytest.mark.parametrize(
    ("mounts", "folder"),
    [
        ([Mount("bind", "/r/snapshots/1/fs", ("ro", "rbind"))], "/r/snapshots/1/fs"),
        (
            [Mount("overlay", "overlay", ("index=off", "lowerdir=/r/snapshots/2/fs:/r/snapshots/1/fs"))],
            "/r/snapshots/2/fs",
        ),
        ([Mount("erofs", "/r/layer.erofs")], None),
        ([], None),
    ],
)
def test_the_topmost_folder_of_a_view(mounts: list[Mount], folder: str | None) -> None:
    assert top_folder(mounts) == (Path(folder) if folder else None)
