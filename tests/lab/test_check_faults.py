"""Each fault that is planted gives its own code and no other over info, with the files in sight and through the API."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest

from auditor.audit.collect import Request
from auditor.model.findings import Severity
from auditor.model.platforms import parse
from tests import images
from tests.lab.checked import Named, assert_faults, assert_sound, check, look, loud, status, the
from tests.lab.kit import faults
from tests.lab.kit.daemon import Containerd
from tests.lab.kit.registry import Registry

IMAGE = images.image([images.layer(images.files(f"fault-{number}", kilobytes=16)) for number in range(3)])
OTHER = images.image([images.layer(images.files("fault-other", kilobytes=16))])
ARM = images.image([images.layer(images.files("fault-arm", kilobytes=16))], platform="linux/arm64")
INDEX = images.index([IMAGE, ARM])
BLOBS = {
    "bottom layer": IMAGE.layers[0].digest,
    "top layer": IMAGE.layers[-1].digest,
    "config": IMAGE.config_digest,
    "manifest": IMAGE.digest,
    "index": INDEX.digest,
}
DOCUMENTS = {role: digest for role, digest in BLOBS.items() if "layer" not in role}

Fault = Callable[[Containerd, str], None]


@pytest.fixture
def pulled(daemon: Containerd, registry: Registry) -> Containerd:
    """Pull a sound image beside the one to be damaged, which is one platform of an index."""
    daemon.cri_pull(registry.push(OTHER, "lab/fault-other:1"))
    daemon.cri_pull(registry.push(INDEX, "lab/fault:1"))
    return daemon


# Files


@pytest.mark.in_turn
@pytest.mark.parametrize(
    ("plant", "code"),
    [
        (faults.delete_file, "blob-file-missing"),
        (faults.empty_file, "size-mismatch"),
        (faults.shorten, "size-mismatch"),
    ],
    ids=["deleted", "emptied", "shortened"],
)
def test_a_damaged_file(pulled: Containerd, plant: Fault, code: str) -> None:
    for role, digest in BLOBS.items():
        good = pulled.blob_path(digest).read_bytes()
        plant(pulled, digest)
        report = assert_faults(pulled, (code, digest))
        finding = the(report, code)
        assert finding.severity is Severity.CRITICAL
        assert finding.subject.kind == role.rpartition(" ")[2]
        assert {image.target for image in finding.images} == {INDEX.digest}
        assert [str(image.status) for image in report.images if image.target == INDEX.digest] == ["damaged"]
        assert report.summary.images.damaged == 1
        faults.overwrite(pulled, digest, good)
    assert_sound(pulled)


@pytest.mark.in_turn
@pytest.mark.parametrize("role", DOCUMENTS)
def test_a_document_with_other_bytes_of_the_same_length(pulled: Containerd, role: str) -> None:
    faults.garble(pulled, BLOBS[role])
    finding = the(assert_faults(pulled, ("digest-mismatch", BLOBS[role])), "digest-mismatch")
    assert finding.facts["actual"] == images.sha256(b"#" * pulled.blob_path(BLOBS[role]).stat().st_size)


def test_a_config_that_still_parses_and_says_something_else(pulled: Containerd) -> None:
    faults.respell(pulled, IMAGE.config_digest, b'"amd64"', b'"arm64"')
    assert_faults(pulled, ("digest-mismatch", IMAGE.config_digest))


@pytest.mark.in_turn
@pytest.mark.parametrize("longer", [False, True], ids=["shorter", "longer"])
def test_a_manifest_that_is_another_ones(pulled: Containerd, longer: bool) -> None:
    data = OTHER.manifest if not longer else IMAGE.manifest.replace(b'"layers":', b'"annotations":{"a":"b"},"layers":')
    assert (len(data) > len(IMAGE.manifest)) is longer
    faults.overwrite(pulled, IMAGE.digest, data)
    # The daemon stops at the recorded size, so that through it a longer file is one with wrong bytes.
    api: list[Named] = [("digest-mismatch" if longer else "size-mismatch", IMAGE.digest)]
    assert_faults(pulled, ("size-mismatch", IMAGE.digest), through_api=api)


def test_a_file_with_more_bytes_behind_the_right_ones(pulled: Containerd) -> None:
    """Through the API nothing can be seen of it, and nothing of it is ever served."""
    faults.append(pulled, BLOBS["top layer"])
    finding = the(assert_faults(pulled, ("size-mismatch", BLOBS["top layer"]), through_api=()), "size-mismatch")
    assert finding.cause == "lengthened"


def test_something_else_than_a_file(pulled: Containerd) -> None:
    faults.replace_with_directory(pulled, BLOBS["top layer"])
    assert_faults(pulled, ("blob-file-missing", BLOBS["top layer"]))


@pytest.mark.in_turn
@pytest.mark.parametrize("role", ["top layer", "manifest"])
def test_a_pipe_in_the_place_of_a_file_keeps_nobody_waiting(pulled: Containerd, role: str) -> None:
    """The daemon itself would wait for ever for the bytes."""
    faults.replace_with_fifo(pulled, BLOBS[role])
    assert loud(look(pulled)) == {("blob-file-missing", BLOBS[role])}
    ran = check(pulled, "--content-root", "none", "--timeout", "0.5")
    assert loud(ran.report) == {("blob-unreadable", BLOBS[role])}
    assert (ran.status, ran.report.complete) == (1, False)


def test_damage_in_two_namespaces_is_one_finding(pulled: Containerd, registry: Registry) -> None:
    pulled.ctr("images", "pull", "--plain-http", registry.push(INDEX, "lab/fault:1"), namespace="default")
    faults.shorten(pulled, BLOBS["top layer"])
    finding = the(assert_faults(pulled, ("size-mismatch", BLOBS["top layer"])), "size-mismatch")
    assert {image.namespace for image in finding.images} == {"default", "k8s.io"}
    assert finding.facts["namespaces"] == "default,k8s.io"


def test_a_layer_shared_by_two_images_is_one_finding(pulled: Containerd, registry: Registry) -> None:
    sharing = images.image([IMAGE.layers[0], images.layer({"own": b"layer"})])
    reference = registry.push(sharing, "lab/fault-sharing:1")
    pulled.cri_pull(reference)
    faults.empty_file(pulled, BLOBS["bottom layer"])
    finding = the(assert_faults(pulled, ("size-mismatch", BLOBS["bottom layer"])), "size-mismatch")
    assert {image.target for image in finding.images} == {INDEX.digest, sharing.digest}
    assert finding.cause == "emptied"


def test_a_damaged_blob_that_nobody_names(pulled: Containerd) -> None:
    digest = faults.add_blob(pulled, b"kept by a label alone")
    faults.shorten(pulled, digest)
    finding = the(assert_faults(pulled, ("size-mismatch", digest)), "size-mismatch")
    assert finding.images == ()
    ghost = faults.add_record_without_file(pulled, b"lost")
    assert_faults(pulled, ("size-mismatch", digest), ("blob-file-missing", ghost))


def test_unrelated_damage_makes_the_disk_suspect(pulled: Containerd, registry: Registry) -> None:
    third = images.image([images.layer(images.files("fault-third", kilobytes=16))])
    pulled.cri_pull(registry.push(third, "lab/fault-third:1"))
    hurt = (BLOBS["top layer"], OTHER.layers[0].digest, third.layers[0].digest)
    for digest in hurt:
        faults.empty_file(pulled, digest)
    sizes = [("size-mismatch", digest) for digest in hurt]
    report = assert_faults(pulled, *sizes, ("suspect-storage", "content"))
    assert the(report, "suspect-storage").facts["unrelated"] == 3


# Records


def test_a_removed_record_of_a_layer(pulled: Containerd) -> None:
    faults.remove_record(pulled, BLOBS["top layer"])
    finding = the(assert_faults(pulled, ("snapshot-without-blob", BLOBS["top layer"])), "snapshot-without-blob")
    assert finding.cause == "record-deleted"
    assert "twin" not in finding.facts


def test_a_removed_record_of_a_layer_that_is_here_compressed_otherwise(pulled: Containerd, registry: Registry) -> None:
    """A twin proves that a pull could have skipped a layer, not that it did: the layer below was fetched."""
    mixes = [images.files(f"fault-{number}", kilobytes=16) for number in range(3)]
    twin = images.image([images.layer(mix, compression="zstd") for mix in mixes])
    pulled.ctr("content", "fetch", "--plain-http", registry.push(twin, "lab/fault-twin:1"))
    faults.remove_record(pulled, IMAGE.layers[1].digest)
    finding = the(assert_faults(pulled, ("snapshot-without-blob", IMAGE.layers[1].digest)), "snapshot-without-blob")
    assert finding.cause == "record-deleted"
    assert finding.facts["twin"] == twin.layers[1].digest


@pytest.mark.in_turn
@pytest.mark.parametrize(
    ("role", "code"), [("config", "missing-config"), ("manifest", "missing-manifest"), ("index", "missing-manifest")]
)
@pytest.mark.parametrize("collected", [False, True], ids=["", "collected"])
def test_a_removed_record_of_a_document(pulled: Containerd, role: str, code: str, collected: bool) -> None:
    faults.remove_record(pulled, BLOBS[role])
    if collected:
        pulled.force_gc()
    report = assert_faults(pulled, (code, BLOBS[role]))
    finding = the(report, code)
    assert (finding.severity, finding.subject.kind) == (Severity.CRITICAL, role)
    assert {image.target for image in finding.images} == {INDEX.digest}


def test_a_removed_layer_without_its_snapshot(pulled: Containerd) -> None:
    faults.remove_snapshots_from(pulled, IMAGE.chain_ids, 2)
    faults.remove_record(pulled, BLOBS["top layer"])
    finding = the(assert_faults(pulled, ("incomplete-image", BLOBS["top layer"])), "incomplete-image")
    assert finding.severity is Severity.CRITICAL


def test_an_image_whose_every_layer_and_snapshot_is_gone(pulled: Containerd) -> None:
    faults.remove_snapshots_from(pulled, IMAGE.chain_ids, 0)
    for layer in IMAGE.layers:
        faults.remove_record(pulled, layer.digest)
    assert_faults(pulled, *(("incomplete-image", layer.digest) for layer in IMAGE.layers))


def test_gc_labels_of_a_manifest_are_gone(pulled: Containerd) -> None:
    faults.strip_labels(pulled, IMAGE.digest)
    report = assert_faults(pulled, ("gc-unprotected", IMAGE.digest))
    assert the(report, "gc-unprotected").facts["blobs"] == 4
    assert check(pulled, "--fail-on", "warning").status == 1


def test_gc_labels_of_an_index_are_gone(pulled: Containerd) -> None:
    faults.strip_labels(pulled, INDEX.digest)
    assert_faults(pulled, ("gc-unprotected", INDEX.digest))


def test_the_gc_label_of_one_layer_is_gone(pulled: Containerd) -> None:
    faults.strip_reference(pulled, IMAGE.digest, BLOBS["top layer"])
    finding = the(assert_faults(pulled, ("gc-unprotected", IMAGE.digest)), "gc-unprotected")
    assert (finding.facts["blobs"], finding.facts["first"]) == (1, BLOBS["top layer"])


def test_gc_labels_of_an_index_inside_an_index_are_gone(daemon: Containerd, registry: Registry) -> None:
    outer = images.index([INDEX])
    daemon.ctr("images", "pull", "--plain-http", registry.push(outer, "lab/fault-outer:1"))
    assert_sound(daemon)
    faults.strip_labels(daemon, outer.digest)
    assert_faults(daemon, ("gc-unprotected", outer.digest))


def test_a_stale_ingest(pulled: Containerd) -> None:
    found = faults.stale_ingest(pulled, f"layer-{images.sha256(b'never')}")
    report = assert_faults(pulled, ("stale-ingest", found.ref))
    assert the(report, "stale-ingest").facts["offset"] == found.offset


def test_an_ingest_of_this_morning_is_none(pulled: Containerd) -> None:
    faults.stale_ingest(pulled, "layer-young", age=timedelta(hours=20))
    assert_sound(pulled)


def test_a_stale_ingest_does_not_excuse_what_is_absent(pulled: Containerd) -> None:
    """A pull that broke off two days ago is not in progress."""
    faults.remove_record(pulled, BLOBS["top layer"])
    left = faults.stale_ingest(pulled, f"layer-{BLOBS['top layer']}")
    assert_faults(pulled, ("snapshot-without-blob", BLOBS["top layer"]), ("stale-ingest", left.ref))


# Snapshots


def test_the_top_snapshot_is_gone(pulled: Containerd) -> None:
    faults.remove_snapshots_from(pulled, IMAGE.chain_ids, 2)
    report = assert_faults(pulled, ("snapshot-missing", f"overlayfs/{IMAGE.chain_ids[-1]}"))
    (state,) = (image for image in report.images if image.target == INDEX.digest)
    assert state.platforms[0].unpacked == {"overlayfs": False}


def test_all_snapshots_are_gone(pulled: Containerd) -> None:
    faults.remove_snapshots_from(pulled, IMAGE.chain_ids, 0)
    assert_faults(pulled, ("snapshot-missing", f"overlayfs/{IMAGE.chain_ids[-1]}"))


def test_the_only_snapshot_of_the_node_is_gone(daemon: Containerd, registry: Registry) -> None:
    daemon.cri_pull(registry.push(OTHER, "lab/fault-other:1"))
    faults.remove_snapshots_from(daemon, OTHER.chain_ids, 0)
    report = assert_faults(daemon, ("snapshot-missing", f"overlayfs/{OTHER.chain_ids[-1]}"))
    program, option, address, _, namespace, *words = shlex.split(the(report, "snapshot-missing").hint)
    assert (program, option, address) == ("ctr", "--address", str(daemon.socket))
    daemon.ctr(*words, namespace=namespace)
    assert_faults(daemon)


@pytest.mark.in_turn
@pytest.mark.parametrize("number", [0, 1])
def test_a_snapshot_below_the_top_is_gone(pulled: Containerd, number: int) -> None:
    faults.drop_middle_snapshot(pulled, IMAGE.chain_ids, number)
    name = f"overlayfs/{IMAGE.chain_ids[number]}"
    finding = the(assert_faults(pulled, ("broken-snapshot-chain", name)), "broken-snapshot-chain")
    assert (finding.severity, finding.facts["layer_index"]) == (Severity.CRITICAL, number)


def test_a_snapshot_with_another_parent(pulled: Containerd) -> None:
    low, middle, top = IMAGE.chain_ids
    faults.remove_snapshots_from(pulled, IMAGE.chain_ids, 1)
    faults.add_snapshot(pulled, middle, low)
    faults.add_snapshot(pulled, top, low)
    assert_faults(pulled, ("broken-snapshot-chain", f"overlayfs/{top}"))


# Platforms


def test_a_platform_that_is_asked_for_and_not_here(pulled: Containerd) -> None:
    """Not having it is normal, and still not what was asked: an export of it fails."""
    assert check(pulled).status == 0
    ran = check(pulled, "--platform", "linux/arm64")
    assert loud(ran.report) == {("missing-manifest", ARM.digest)}
    assert ran.status == 1
    ran = check(pulled, "--all-platforms")
    assert loud(ran.report) == {("missing-manifest", ARM.digest)}


def test_a_layer_of_a_platform_that_is_asked_for(pulled: Containerd, registry: Registry) -> None:
    reference = registry.push(INDEX, "lab/fault:1")
    pulled.ctr("content", "fetch", "--plain-http", "--all-platforms", reference)
    arm = Request(platforms=(parse("linux/arm64"),), images=(reference,))
    assert loud(look(pulled, request=arm)) == set()
    faults.remove_record(pulled, ARM.layers[0].digest)
    report = look(pulled, request=arm)
    assert (loud(report), status(report)) == ({("incomplete-image", ARM.layers[0].digest)}, 1)


@pytest.mark.in_turn
@pytest.mark.parametrize(("namespace", "collected"), [("k8s.io", True), ("default", False), ("default", True)])
def test_the_nodes_manifest_is_lost_from_an_image_pulled_for_all_platforms(
    daemon: Containerd, registry: Registry, namespace: str, collected: bool
) -> None:
    """That another platform is whole does not mean that it was wanted instead."""
    power = images.image([images.layer(images.files("fault-ppc", kilobytes=16))], platform="linux/ppc64le")
    reference = registry.push(images.index([IMAGE, ARM, power]), "lab/fault-all:1")
    daemon.ctr("images", "pull", "--plain-http", "--all-platforms", reference, namespace=namespace)
    assert_sound(daemon)
    faults.remove_record(daemon, IMAGE.digest, namespace=namespace)
    if collected:
        daemon.force_gc(namespace)
    assert_faults(daemon, ("missing-manifest", IMAGE.digest))


def test_a_manifest_that_an_index_lists_for_two_platforms(daemon: Containerd, registry: Registry) -> None:
    """Images of mere data are published like this: the platform that comes first is not the node's."""
    everywhere = images.image([images.layer(images.files("fault-noarch", kilobytes=16))])
    twice = [
        replace(everywhere, target=replace(everywhere.target, platform=f"linux/{one}")) for one in ("arm64", "amd64")
    ]
    reference = registry.push(images.index(twice), "lab/fault-noarch:1")
    # Not pulled: for such an index 2.1 fetches the layers or does not, as chance has it.
    daemon.ctr("content", "fetch", "--plain-http", "--all-platforms", reference)
    assert_sound(daemon)
    faults.remove_record(daemon, everywhere.layers[0].digest)
    report = assert_faults(daemon, ("incomplete-image", everywhere.layers[0].digest))
    assert {image.platform for image in the(report, "incomplete-image").images} == {"linux/amd64"}


def test_one_platform_of_two_is_lost_and_its_config_lies_about(daemon: Containerd, registry: Registry) -> None:
    """An image that was unpacked for the node was pulled for the node, whatever else is whole."""
    reference = registry.push(images.index([IMAGE, ARM]), "lab/fault-two:1")
    for more in ((), ("--all-platforms",)):
        daemon.ctr("images", "pull", "--plain-http", *more, reference, namespace="default")
    faults.remove_record(daemon, IMAGE.digest, namespace="default")
    assert_faults(daemon, ("missing-manifest", IMAGE.digest))


def test_layers_of_the_node_are_lost_from_an_image_with_two_platforms(daemon: Containerd, registry: Registry) -> None:
    reference = registry.push(images.index([IMAGE, ARM]), "lab/fault-two:1")
    daemon.ctr("content", "fetch", "--plain-http", "--all-platforms", reference, namespace="default")
    assert_sound(daemon)
    faults.remove_record(daemon, BLOBS["top layer"], namespace="default")
    assert_faults(daemon, ("incomplete-image", BLOBS["top layer"]))


def test_an_image_of_another_platform_alone_has_lost_a_layer(daemon: Containerd, registry: Registry) -> None:
    """Nothing of it is for the node, and somebody pulled it all the same."""
    two = images.image(
        [images.layer(images.files(f"only-arm-{n}", kilobytes=16)) for n in (0, 1)], platform="linux/arm64"
    )
    reference = registry.push(images.index([two]), "lab/fault-only:1")
    daemon.ctr("content", "fetch", "--plain-http", "--platform", "linux/arm64", reference, namespace="default")
    assert_sound(daemon)
    faults.remove_record(daemon, two.layers[1].digest, namespace="default")
    assert_faults(daemon, ("incomplete-image", two.layers[1].digest))
