"""The bug that the program was written for, found on every release of containerd and in Docker's namespace."""

from __future__ import annotations

from typing import get_args

import pytest

from auditor.model.findings import Finding, Report
from tests import images
from tests.lab.checked import auditor, check, look, loud, quiet, the
from tests.lab.conftest import StartDaemon
from tests.lab.kit import bug, faults
from tests.lab.kit.daemon import Containerd
from tests.lab.kit.registry import Registry


def assert_bug(report: Report, found: bug.Reproduction) -> dict[str, Finding]:
    """Exactly the skipped layers, one finding a blob, with all that is known of each; and nothing else at all."""
    by = {finding.subject.digest: finding for finding in report.findings}
    assert len(by) == len(report.findings)
    assert set(by) == set(found.skipped)
    second = found.pair.second
    for index, digest in enumerate(found.skipped):
        finding = by[digest]
        assert (finding.code, finding.severity, finding.cause) == (
            "snapshot-without-blob",
            "error",
            "missing-blobs-bug",
        )
        assert finding.namespace == found.namespace
        assert finding.facts["diff_id"] == second.layers[index].diff_id
        assert finding.facts["chain_id"] == second.chain_ids[index]
        assert finding.facts["layer_index"] == index
        assert finding.facts["size"] == second.layers[index].size
        assert finding.facts["twin"] == found.pair.twins[digest]
        assert finding.facts["snapshotters"] == "overlayfs"
        (image,) = finding.images
        assert (image.name, image.platform, image.role, image.layer) == (found.second, "linux/amd64", "layer", index)
        assert image.manifest == second.digest
        assert found.second in finding.message
        assert found.second in finding.hint
    return by


def test_two_cri_pulls_leave_exactly_the_skipped_layers(daemon: Containerd, registry: Registry) -> None:
    found = bug.reproduce(daemon, registry, name="check")
    ran = check(daemon, apart=True)
    assert ran.status == 1
    assert ran.err == ""
    named = assert_bug(ran.report, found)
    (image,) = named[found.skipped[0]].images
    tag, by_digest, by_id = image.names
    assert (tag, by_id) == (found.second, found.pair.second.config_digest)
    assert by_digest == f"{found.second.rpartition(':')[0]}@{found.pair.second.digest}"

    states = {state.names[0]: state for state in ran.report.images}
    assert {name: str(state.status) for name, state in states.items()} == {
        found.first: "sound",
        found.second: "damaged",
    }
    assert [len(state.names) for state in states.values()] == [3, 3]
    (platform,) = states[found.second].platforms
    assert (platform.platform, platform.status, platform.unpacked) == ("linux/amd64", "damaged", {"overlayfs": True})
    assert ran.report.summary.images.total == 2
    assert (ran.report.summary.blobs.total, ran.report.summary.blobs.absent) == (10, 2)

    assert_bug(look(daemon, content_root=None), found)


def test_an_image_of_which_every_layer_was_skipped(daemon: Containerd, registry: Registry) -> None:
    found = bug.reproduce(daemon, registry, name="all", built=bug.pair(name="all", own=0))
    assert_bug(look(daemon), found)


@pytest.mark.parametrize("second", [kind for kind in get_args(images.Compression) if kind != "gzip"])
def test_other_compressions(daemon: Containerd, registry: Registry, second: images.Compression) -> None:
    built = bug.pair(name=f"to-{second}", second=second)
    found = bug.reproduce(daemon, registry, name=f"to-{second}", built=built)
    assert_bug(look(daemon), found)


def test_the_transfer_service_has_it_too(start_daemon: StartDaemon, registry: Registry) -> None:
    daemon = start_daemon("2.1")
    found = bug.reproduce_transfer(daemon, registry, name="transfer")
    ran = check(daemon, apart=True)
    assert ran.status == 1
    assert_bug(ran.report, found)


def test_a_twin_that_was_never_unpacked_here_is_known_by_its_config(daemon: Containerd, registry: Registry) -> None:
    """Where the layer that made the snapshot is gone, another copy proves what happened all the same."""
    found = bug.reproduce(daemon, registry, name="untwinned")
    third = bug.pair(name="untwinned", first="zstd").first
    daemon.ctr("content", "fetch", "--plain-http", registry.push(third, "lab/untwinned-third:1"))
    for digest in found.pair.twins.values():
        faults.remove_record(daemon, digest)
    by = {f.subject.digest: f for f in look(daemon).findings if f.code == "snapshot-without-blob"}
    assert set(by) == set(found.skipped) | set(found.pair.twins.values())
    assert {by[d].facts["twin"] for d in found.skipped} == {layer.digest for layer in third.layers[:2]}


def test_the_bug_without_a_twin_is_still_the_bug(daemon: Containerd, registry: Registry) -> None:
    """The first image was removed and collected; its snapshots stay, for the second one stands on them."""
    found = bug.reproduce(daemon, registry, name="alone")
    daemon.cri_remove_image(found.pair.first.config_digest)
    daemon.force_gc()
    report = check(daemon).report
    assert loud(report) == {("snapshot-without-blob", digest) for digest in found.skipped}
    assert {finding.cause for finding in report.findings} == {"missing-blobs-bug-likely"}
    assert all("twin" not in finding.facts for finding in report.findings)


def test_a_container_kept_the_snapshots_of_an_image_that_was_removed(daemon: Containerd, registry: Registry) -> None:
    """Pulled again, the very same image lacks what its own snapshots made seem unnecessary."""
    image = images.image([images.layer(images.files(f"kept-{number}", kilobytes=16)) for number in range(2)])
    reference = registry.push(image, "lab/kept-by-container:1")
    daemon.cri_pull(reference)
    daemon.ctr("containers", "create", reference, "keeper")
    daemon.cri_remove_image(image.config_digest)
    daemon.force_gc()
    daemon.cri_pull(reference)
    report = check(daemon).report
    assert loud(report) == {("snapshot-without-blob", layer.digest) for layer in image.layers}
    assert {finding.cause for finding in report.findings} == {"missing-blobs-bug-likely"}


def test_layers_are_discarded_no_longer(start_daemon: StartDaemon, daemon: Containerd, registry: Registry) -> None:
    """After the policy was turned off, a pull labels the layers, which should then be here, and skips them."""
    node = start_daemon(daemon.version, discard_unpacked_layers=True)
    image = images.image([images.layer(images.files("no-longer", kilobytes=16))])
    reference = registry.push(image, "lab/no-longer:1")
    node.cri_pull(reference)
    node.force_gc()
    assert loud(look(node)) == set()
    node.discard_unpacked_layers = False
    node.restart()
    assert loud(look(node)) == set()
    node.cri_pull(reference)
    assert loud(look(node)) == {("snapshot-without-blob", image.layers[0].digest)}


def test_an_image_that_is_asked_for_is_judged_alone(daemon: Containerd, registry: Registry) -> None:
    found = bug.reproduce(daemon, registry, name="asked")
    assert check(daemon, found.first).status == 0
    for wanted in (
        found.second,
        found.pair.second.config_digest,
        found.pair.second.digest.removeprefix("sha256:")[:12],
    ):
        ran = check(daemon, wanted)
        assert ran.status == 1
        assert_bug(ran.report, found)
        assert ran.report.summary.images.total == 1


def test_the_tree_shows_what_was_skipped(daemon: Containerd, registry: Registry) -> None:
    found = bug.reproduce(daemon, registry, name="tree")
    ran = auditor("tree", "--address", daemon.socket, found.second)
    assert ran.status == 1
    lines = ran.out.splitlines()
    assert lines[0] == f"{found.second}  (namespace k8s.io)"
    (top,) = (line for line in lines if "manifest linux/amd64" in line)
    assert "unpacked on overlayfs" in top
    skipped = [line for line in lines if "SKIPPED BY THE UNPACKER" in line]
    assert [digest[:19] in line for digest, line in zip(found.skipped, skipped, strict=True)] == [True, True]


def test_fail_on_moves_the_line(shared_daemon: Containerd, registry: Registry) -> None:
    found = bug.reproduce(shared_daemon, registry, name="line")
    statuses = {
        level: check(shared_daemon, found.second, "--fail-on", level).status
        for level in ("critical", "error", "warning", "info", "never")
    }
    assert statuses == {"critical": 0, "error": 1, "warning": 1, "info": 1, "never": 0}


def test_an_index_with_two_manifests_of_one_config(daemon: Containerd, registry: Registry) -> None:
    found = bug.reproduce_shared_config(daemon, registry, name="shared")
    report = check(daemon).report
    if daemon.version.startswith("1."):
        # These releases take one manifest of an index and nothing of the other: there is nothing to complain of.
        assert loud(report) == set()
        assert ("platform-not-pulled", found.pair.second.digest) in quiet(report)
        return
    assert loud(report) == {("shared-config-layers", digest) for digest in found.skipped}
    first = next(f for f in report.findings if f.subject.digest == found.skipped[0])
    assert first.cause == "shared-config-bug"
    assert first.facts["sibling_manifest"] == found.pair.first.digest
    assert first.images[0].manifest == found.pair.second.digest
    assert loud(look(daemon, content_root=None)) == loud(report)


def test_the_bug_and_other_platforms_in_one_index(daemon: Containerd, registry: Registry) -> None:
    """The skipped layers are told from those that a pull leaves behind anyway."""
    pair = bug.pair(name="multi")
    arm = images.image([images.layer(images.files("multi-arm"))], platform="linux/arm64")
    daemon.cri_pull(registry.push(pair.first, "lab/multi-first:1"))
    reference = registry.push(images.index([pair.second, arm], attestations=True), "lab/multi-second:1")
    daemon.cri_pull(reference)
    report = check(daemon).report
    assert loud(report) == {("snapshot-without-blob", digest) for digest in pair.skipped}
    assert the(report, "platform-not-pulled").subject.digest == arm.digest
    assert {finding.images[0].platform for finding in report.findings if finding.code == "snapshot-without-blob"} == {
        "linux/amd64"
    }
