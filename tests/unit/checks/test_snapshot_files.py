"""Findings about unpacked files in reports and trees: their states, and several namespaces with the same layer."""

from __future__ import annotations

import msgspec
import pytest

from auditor import checks
from auditor.checks.snapshot_files import condition
from auditor.formats import table
from auditor.model.findings import Node, Verify
from auditor.model.snapshot_files import Difference, Differences, Kind, SnapshotFiles, Usage
from auditor.model.store import Container, Snapshot
from auditor.report import build, image_tree
from tests.unit.build import APP, NOW, OVERLAY, World

IMAGE = "docker.io/library/app:1"
FILES = SnapshotFiles(id="7", path="/s/7/fs", recorded=Usage(8192, 3))


def differing(*kinds: Kind, expected: int = 5, below: int = 0) -> dict[str, object]:
    items = tuple(Difference(b"usr/%d" % number, kind, below=below) for number, kind in enumerate(kinds))
    return {"differences": Differences(items, expected)}


@pytest.mark.parametrize(
    ("found", "words"),
    [
        ({}, ""),
        ({"missing": True, "reason": "it changed meanwhile"}, "directory missing"),
        ({"reason": "its layer's blob is absent"}, "not compared"),
        ({"counted": Usage(8192, 3)}, ""),
        ({"counted": Usage(8192, 2)}, "disk usage differs"),
        (differing(), "intact"),
        (differing(Kind.MISSING, below=4), "empty"),
        (differing(Kind.MODE, Kind.WHITEOUT_MISSING, Kind.EMPTY), "damaged"),
        (differing(Kind.MODE, Kind.WHITEOUT_MISSING), "whiteouts lost"),
        (differing(Kind.EXTRA, Kind.MODE), "extra files"),
        (differing(Kind.OWNER), "attributes differ"),
    ],
)
def test_the_state_in_a_tree(found: dict[str, object], words: str) -> None:
    assert condition(msgspec.structs.replace(FILES, **found)) == words


def two_namespaces() -> World:
    """The same layer, damaged in two namespaces; intact and with a container in a third."""
    first = World()
    first.pull(APP, IMAGE)
    damage = Differences((Difference(b"bin/sh", Kind.EMPTY),), 5)
    for namespace in ("default", "third"):
        World(namespace, store=first.store).pull(APP, f"{namespace}:1")
    for namespace, found in (("k8s.io", damage), ("default", damage), ("third", Differences(expected=5))):
        files = SnapshotFiles(id="7", path="/s/7/fs", differences=found)
        first.snapshot_files[namespace, OVERLAY, str(APP.chain[1])] = files
    other = World("default", store=first.store)
    held = other.inventory.snapshots[OVERLAY]
    active = Snapshot("default", OVERLAY, "key", APP.chain[2], "active")
    other.change(
        snapshots={OVERLAY: {**held, "key": active}}, containers=(Container("default", "web", "x", OVERLAY, "key"),)
    )
    return first


def test_one_line_names_the_images_and_containers_of_all_namespaces() -> None:
    seen = two_namespaces().audit(verify=Verify.SNAPSHOTS)
    assert [finding.namespace for finding in seen.findings if finding.code == "snapshot-damaged"] == [
        "default",
        "k8s.io",
    ]
    report = build.report(seen.evidence, seen.findings, host="n", started=NOW, finished=NOW, seconds=1)
    assert (report.summary.snapshots.compared, report.summary.snapshots.damaged) == (3, 2)
    text = table.render(report, advice=checks.RULEBOOK, style=table.Style(width=200))
    assert text.count("bin/sh") == 1
    assert "CRITICAL snapshot-damaged (2 findings in 2 images)" in text
    assert f"also affects: {IMAGE} (namespace k8s.io)" in text
    assert "namespaces default, k8s.io, cause power-loss, containers web" in text
    for command in ("repair -n default --snapshots default:1", f"repair -n k8s.io --snapshots {IMAGE}"):
        assert f"auditor {command}" in text


def test_the_tree_of_a_namespace_shows_its_own_snapshots() -> None:
    seen = two_namespaces().audit(verify=Verify.SNAPSHOTS)
    report = build.report(seen.evidence, seen.findings, host="n", started=NOW, finished=NOW, seconds=1)
    report = image_tree.add_trees(report, seen.evidence, seen.findings)
    shown = {image.namespace: [node.snapshot for node in nodes(image.tree)] for image in report.images}
    assert shown == {
        name: ["", "", "", state, ""]
        for name, state in (("default", "damaged"), ("k8s.io", "damaged"), ("third", "intact"))
    }
    drawn = {tree.namespace: tree.root.children[2] for tree in image_tree.trees(seen.evidence, seen.findings)}
    assert {name: (node.snapshots, node.faults) for name, node in drawn.items()} == {
        "default": ({OVERLAY: "damaged"}, ("snapshot-damaged",)),
        "k8s.io": ({OVERLAY: "damaged"}, ("snapshot-damaged",)),
        "third": ({OVERLAY: "intact"}, ()),
    }


def nodes(node: Node | None) -> list[Node]:
    return [] if node is None else [node, *(below for child in node.children for below in nodes(child))]
