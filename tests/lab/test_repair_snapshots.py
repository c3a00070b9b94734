"""`auditor repair --snapshots` and `auditor quarantine` under running containers, on real daemons."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from auditor.containerd import connect_writable
from auditor.repair.own_state import LOCK
from tests import images
from tests.lab.checked import auditor_here, check, loud
from tests.lab.conftest import StartDaemon
from tests.lab.diagnosed import ask
from tests.lab.kit import faults
from tests.lab.kit.containers import running, shell_files, shell_layer
from tests.lab.kit.daemon import Containerd
from tests.lab.kit.power_cut import small_disk
from tests.lab.kit.registry import Registry
from tests.lab.rebuilt import mounted
from tests.lab.repaired import archive, repair
from tests.lab.test_snapshot_files import DAMAGES, ODD, directory, pulled

DATA = [{f"data/{name}-{n}": images.noise(f"{name}-{n}", 5000) for name in "abc"} for n in range(2)]


@dataclass
class Stage:
    """A daemon with an image that runs."""

    daemon: Containerd
    registry: Registry
    image: images.BuiltImage
    name: str

    def folder(self, index: int) -> Path:
        return directory(self.daemon, self.image, index)

    def repair(self, *arguments: str) -> Any:
        done = repair(self.daemon, "--snapshots", *arguments)
        assert done.status == 0, done.run.err or done.run.out
        return done.document

    def quarantine(self, *arguments: str, status: int = 0) -> list[dict[str, Any]]:
        done = auditor_here("quarantine", *arguments, "--address", self.daemon.socket, "--format", "json")
        assert done.status == status, done.err
        return list(json.loads(done.out)["entries"])


def staged(daemon: Containerd, registry: Registry) -> Stage:
    image = images.image([shell_layer(), *(images.layer(contents) for contents in DATA)])
    name = registry.push(image, "lab/runs:1")
    daemon.cri_pull(name)
    return Stage(daemon, registry, image, name)


@pytest.fixture
def stage(daemon: Containerd, registry: Registry) -> Stage:
    return staged(daemon, registry)


@pytest.fixture
def newest(start_daemon: StartDaemon, registry: Registry) -> Stage:
    return staged(start_daemon("2.1"), registry)


def test_containers_keep_what_they_have_and_get_the_right_files_when_restarted(stage: Stage) -> None:
    (stage.folder(1) / "data/a-0").write_bytes(b"")
    labels = ("io.kubernetes.pod.namespace=default", "io.kubernetes.pod.name=shop")
    with running(stage.daemon, stage.name, "before", *labels) as before:
        (stage.folder(0) / "bin/cat").write_bytes(b"")  # nothing that the container itself runs
        (stage.folder(2) / "data/c-1").unlink()
        (before.root / "data/b-0").write_bytes(b"changed")
        (before.root / "data/b-1").unlink()
        (before.root / "new").mkdir()
        document = stage.repair()
        assert [row["chain_id"] for row in document["plan"]["snapshots"]] == list(stage.image.chain_ids)
        assert [row["containers"] for row in document["plan"]["snapshots"]] == [["k8s.io/before"]] * 3
        assert [(row["result"], row["restart"]) for row in document["snapshots"]] == [
            ("rebuilt", ["k8s.io/before"])
        ] * 3
        assert document["snapshots"][0]["pods"] == {"k8s.io/before": "default/shop"}
        Path("/proc/sys/vm/drop_caches").write_text("2")
        assert (before.root / "data/a-0").read_bytes() == b""
        assert not (before.root / "data/c-1").exists()
        assert (before.root / "data/b-0").read_bytes() == b"changed"
        kept = stage.quarantine("drop")
        assert [row["reason"] for row in kept] == ["container k8s.io/before uses it"] * 3
        assert stage.quarantine("drop", kept[0]["id"], status=1) == kept[:1]
        with running(stage.daemon, stage.name, "after") as after:
            assert all((after.root / name).read_bytes() == data for each in DATA for name, data in each.items())
            before.stop()
            before.start()
            assert (before.root / "data/a-0").read_bytes() == DATA[0]["data/a-0"]
            assert (before.root / "data/c-1").read_bytes() == DATA[1]["data/c-1"]
            assert (before.root / "data/b-0").read_bytes() == b"changed"
            assert not (before.root / "data/b-1").exists()
            assert (before.root / "new").is_dir()
            assert all(row["dropped"] for row in stage.quarantine("drop"))
            assert stage.quarantine("list") == []
            assert (after.root / "data/a-1").read_bytes() == DATA[1]["data/a-1"]
    assert check(stage.daemon, "--verify", "snapshots").status == 0


def test_each_damage_is_repaired_under_a_mounted_container(daemon: Containerd, registry: Registry, base: Path) -> None:
    pulled(daemon, registry)
    with mounted(daemon, ODD.chain_ids[-1], "on-it", base):
        for index, damage, code in DAMAGES:
            damage(directory(daemon, ODD, index))
            done = repair(daemon, "--snapshots")
            assert done.status == 0, done.run.err or done.run.out
            assert [row["codes"] for row in done.document["plan"]["snapshots"]] == [[code]]
            (row,) = done.document["snapshots"]
            assert (row["result"], row["chain_id"]) == ("rebuilt", ODD.chain_ids[index]), row
            assert [finding for finding in done.document["after"]["findings"] if finding["severity"] != "info"] == []
        assert loud(check(daemon, "--verify", "snapshots-quick").report) == set()


def test_an_absent_blob_is_fetched_first(newest: Stage) -> None:
    layer = newest.image.layers[1].digest
    faults.remove_record(newest.daemon, layer)
    newest.daemon.force_gc()
    shutil.rmtree(newest.folder(1).parent)
    (newest.folder(2) / "data/c-1").write_bytes(b"")
    dry = repair(newest.daemon, "--snapshots", "--dry-run", yes=False)
    assert [(row["fetches"], row["rebuild"]) for row in dry.document["plan"]["snapshots"]] == [
        (True, "exchange"),
        (False, "exchange"),
    ]
    document = newest.repair()
    assert [row["result"] for row in (*document["outcomes"], *document["snapshots"])] == [
        "repaired",
        "rebuilt",
        "rebuilt",
    ]
    with running(newest.daemon, newest.name, "after") as after:
        assert all((after.root / name).read_bytes() == data for each in DATA for name, data in each.items())


def test_a_full_disk_leaves_the_snapshots_and_the_next_run_repairs_them(base: Path, registry: Registry) -> None:
    folder = base / "small"
    with small_disk(base, folder, mebibytes=48), Containerd("2.1", folder) as daemon:
        contents = {f"big-{number}": images.noise(f"big-{number}", 1 << 20) for number in range(8)}
        image = images.image([images.layer(contents, level=1)])
        daemon.cri_pull(registry.push(image, "lab/full:1"))
        damaged = directory(daemon, image, 0) / "big-3"
        damaged.write_bytes(b"")
        filler = daemon.root / "filler"
        fill(filler, leave=4 << 20)
        done = repair(daemon, "--snapshots")
        assert done.status == 1
        (row,) = done.document["snapshots"]
        assert row["result"] == "failed"
        assert "no space left on device" in row["message"]
        assert damaged.read_bytes() == b""
        assert not (damaged.parents[3] / "auditor-quarantine").exists()
        filler.unlink()
        assert repair(daemon, "--snapshots").status == 0
        assert damaged.read_bytes() == contents["big-3"]
        assert [key for key in daemon.snapshots() if not key.startswith("sha256:")] == []


def fill(path: Path, *, leave: int) -> None:
    """Fill the file system of `path`, all but some bytes."""
    path.parent.mkdir(exist_ok=True)
    free = shutil.disk_usage(path.parent).free
    with path.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, free - leave)


def test_a_second_repair_and_a_drop_wait_for_the_first(newest: Stage) -> None:
    (newest.folder(1) / "data/a-0").write_bytes(b"")
    with connect_writable(newest.daemon.socket) as store, store.exclusive(LOCK):
        second = auditor_here("repair", "--snapshots", "--yes", "--address", newest.daemon.socket)
        assert (second.status, "another repair" in second.err) == (3, True), second.err
        drop = auditor_here("quarantine", "drop", "--address", newest.daemon.socket)
        assert (drop.status, "a repair of this daemon is running" in drop.err) == (3, True), drop.err
    assert (newest.folder(1) / "data/a-0").read_bytes() == b""
    assert len(newest.repair()["snapshots"]) == 1


def test_an_imported_image_is_repaired(stage: Stage, base: Path) -> None:
    """Some releases set no label on snapshots that an import unpacks."""
    daemon = stage.daemon
    daemon.ctr("images", "import", archive(base / "image.tar", stage.image, name=stage.name), namespace="other")
    daemon.ctr("images", "remove", "--sync", *daemon.images())
    (directory(daemon, stage.image, 1, namespace="other") / "data/a-0").write_bytes(b"")
    document = stage.repair()
    assert [(row["namespace"], row["result"]) for row in document["snapshots"]] == [("other", "rebuilt")]
    assert (directory(daemon, stage.image, 1, namespace="other") / "data/a-0").read_bytes() == DATA[0]["data/a-0"]


def test_a_snapshot_of_another_snapshotter_is_replaced_where_nobody_uses_it(
    start_daemon: StartDaemon, registry: Registry
) -> None:
    daemon = start_daemon("1.7", snapshotter="native")
    image = images.image([images.layer(contents) for contents in DATA])
    name = registry.push(image, "lab/native:1")
    daemon.cri_pull(name)
    shutil.rmtree(directory(daemon, image, 0, snapshotter="native"))
    daemon.ctr("snapshots", "--snapshotter", "native", "prepare", "user", image.chain_ids[1])
    used = repair(daemon, "--snapshots", "--rebuild", "replace")
    assert used.status == 1
    assert "user uses it" in used.document["skips"][0]["reason"]
    daemon.ctr("snapshots", "--snapshotter", "native", "remove", "user")
    exchanged = repair(daemon, "--snapshots")
    assert exchanged.status == 1
    assert "only snapshots of overlayfs" in exchanged.document["skips"][0]["reason"]
    done = repair(daemon, "--snapshots", "--rebuild", "replace")
    assert done.status == 0, done.run.out
    (row,) = done.document["plan"]["snapshots"]
    assert (row["rebuild"], row["above"]) == ("replace", [image.chain_ids[1]])
    assert daemon.snapshots() == {image.chain_ids[0]: "", image.chain_ids[1]: image.chain_ids[0]}
    daemon.force_gc()
    for contents in DATA:
        for path, data in contents.items():
            assert (directory(daemon, image, 1, snapshotter="native") / path).read_bytes() == data


def test_what_a_container_prints_leads_to_the_damaged_files_and_their_repair(newest: Stage) -> None:
    daemon, folder = newest.daemon, newest.folder(0)
    library = next(name for name in shell_files() if "libc.so" in name)
    numbers = count()

    def run() -> str:
        name = f"cat-{next(numbers)}"  # a container that does not start leaves its snapshot
        done = daemon.ctr("run", "--rm", "--null-io", newest.name, name, "/bin/cat", "/bin/cat", check=False)
        return done.stderr.strip()

    def run_alone() -> str:
        """Run on the layer's directory: the words go to standard error, which the lab's containers do not have."""
        return subprocess.run(["chroot", folder, "/bin/cat"], capture_output=True, text=True, check=False).stderr

    rows: tuple[tuple[Callable[[], object], Callable[[], str], str, str], ...] = (
        ((folder / "bin/cat").unlink, run, "snapshot-damaged", "bin/cat: missing"),
        (
            partial(empty, folder / "bin/cat"),
            lambda: "exec /bin/cat: exec format error",
            "snapshot-damaged",
            "bin/cat: empty",
        ),
        (partial(empty, folder / library), run_alone, "snapshot-damaged", f"{library}: empty"),
        (partial(shutil.rmtree, folder.parent), run, "snapshot-directory-missing", str(folder)),
    )
    for damage, printed, code, part in rows:
        damage()
        words = printed()
        diagnosis, status = ask(daemon, words)
        verdict = diagnosis.verdict
        assert (verdict.code, status) == (code, 1), (words, verdict)
        assert part in " ".join(verdict.evidence), (words, verdict.evidence)
        _, command = (step for step in verdict.commands if step.startswith("auditor repair"))
        done = auditor_here(*shlex.split(command)[1:], "--yes")
        assert done.status == 0, (command, done.out, done.err)
        assert run() == ""


def empty(path: Path) -> None:
    path.write_bytes(b"")


def test_a_child_that_garbage_collection_left_listed_refuses_a_replacement(stage: Stage) -> None:
    daemon, namespace = stage.daemon, "other"
    daemon.ctr("images", "pull", "--plain-http", stage.name, namespace=namespace)
    more = images.image([shell_layer(), images.layer({"data/more": b"1"})])
    gone = stage.registry.push(more, "lab/gone:1")
    daemon.ctr("images", "pull", "--plain-http", gone, namespace=namespace)
    daemon.ctr("images", "remove", "--sync", gone, namespace=namespace)
    daemon.force_gc(namespace)
    held = daemon.snapshots(namespace=namespace)
    assert set(held) == set(stage.image.chain_ids)
    damaged = directory(daemon, stage.image, 0, namespace=namespace) / "bin/cat"
    damaged.write_bytes(b"")
    refused = repair(daemon, "--snapshots", "--rebuild", "replace")
    assert refused.status == 1
    (skip,) = refused.document["skips"]
    assert f"names {more.chain_ids[1]}, which garbage collection has removed" in skip["reason"]
    assert (daemon.snapshots(namespace=namespace), damaged.read_bytes()) == (held, b"")
    assert stage.repair()["snapshots"][0]["result"] == "rebuilt"
