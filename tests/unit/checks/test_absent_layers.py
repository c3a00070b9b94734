"""Absent layers: the causes told apart, and what looks like the bug and is not."""

from __future__ import annotations

from datetime import timedelta

import pytest

from auditor.model import oci
from auditor.model.findings import Finding
from auditor.model.store import Resource
from tests.unit.build import APP, BASE, GZIP, MIDDLE, OVERLAY, TOP, Document, Layer, World, image, index

TWIN = Layer(BASE.content, "zstd")
OTHER = image(TWIN, Layer("other top"))


def skipped(world: World, **request: object) -> list[Finding]:
    return [f for f in world.findings(**request) if f.code == "snapshot-without-blob"]


# The bug, and how sure we are.


def test_the_bug_is_told_with_all_that_is_known_of_it() -> None:
    world = World()
    names = ("docker.io/library/app:1", f"docker.io/library/app@{APP.digest}", str(APP.config.digest))
    world.pull(OTHER, "registry:5000/other:2")
    world.pull(APP, *names[::-1])
    world.drop(BASE.digest)
    (finding,) = skipped(world)
    assert finding.cause == "missing-blobs-bug"
    (ref,) = finding.images
    assert (ref.name, ref.names, ref.target) == (names[0], names, APP.digest)
    assert (ref.platform, ref.manifest, ref.role, ref.layer) == ("linux/amd64", APP.digest, "layer", 0)
    assert finding.facts == {
        "size": len(BASE.data),
        "media_type": GZIP,
        "layer_index": 0,
        "diff_id": BASE.diff_id,
        "chain_id": APP.chain[0],
        "snapshotters": OVERLAY,
        "twin": TWIN.digest,
    }
    assert "other compression" in finding.message
    assert finding.hint == f"auditor repair -n k8s.io {names[0]}"


def test_a_twin_is_found_through_its_config_where_it_was_never_applied() -> None:
    world = World()
    world.pull(OTHER, "other:2", unpack=False)
    world.pull(APP)
    world.drop(BASE.digest)
    assert not any(blob.labels for blob in world.inventory.blobs.values() if blob.digest == TWIN.digest)
    (finding,) = skipped(world)
    assert finding.facts["twin"] == TWIN.digest


def test_a_twin_is_found_through_its_label_where_no_image_has_it_any_more() -> None:
    world = World()
    world.pull(APP)
    world.drop(BASE.digest)
    world.put(TWIN.data, **{"containerd.io/uncompressed": TWIN.diff_id})
    (finding,) = skipped(world)
    assert (finding.cause, finding.facts["twin"]) == ("missing-blobs-bug", TWIN.digest)


def test_a_twin_in_another_namespace_is_a_twin() -> None:
    world = World()
    world.pull(APP)
    world.drop(BASE.digest)
    World("moby", store=world.store).pull(OTHER, "other:2")
    (finding,) = skipped(world)
    assert finding.facts["twin"] == TWIN.digest


def test_the_snapshots_label_names_the_blob_it_was_built_from() -> None:
    world = World()
    world.pull(APP)
    world.drop(BASE.digest)
    world.unpack(APP, **{"containerd.io/snapshot/cri.layer-digest": str(TWIN.digest)})
    (finding,) = skipped(world)
    assert (finding.cause, finding.facts["built_from"]) == ("missing-blobs-bug", TWIN.digest)


def test_a_snapshot_built_from_this_very_blob_was_not_skipped_for_another() -> None:
    world = World()
    world.pull(APP)
    world.drop(BASE.digest)
    world.unpack(APP, **{"containerd.io/snapshot/cri.layer-digest": str(BASE.digest)})
    (finding,) = skipped(world)
    assert finding.cause != "missing-blobs-bug"


@pytest.mark.parametrize(
    ("lost", "causes"),
    [
        ((BASE,), ["missing-blobs-bug-likely"]),
        ((BASE, MIDDLE), ["missing-blobs-bug-likely"] * 2),
        ((BASE, MIDDLE, TOP), ["missing-blobs-bug-likely"] * 3),
        ((TOP,), ["record-deleted"]),
        ((MIDDLE, TOP), ["record-deleted"] * 2),
        ((BASE, TOP), ["missing-blobs-bug-likely", "record-deleted"]),
    ],
)
def test_the_bug_leaves_a_prefix_anything_else_was_deleted(lost: tuple[Layer, ...], causes: list[str]) -> None:
    world = World()
    world.pull(APP)
    world.drop(*(layer.digest for layer in lost))
    found = sorted(skipped(world), key=lambda f: int(f.facts["layer_index"] or 0))
    assert [f.cause for f in found] == causes


def test_a_layer_named_twice_is_one_blob_and_one_finding() -> None:
    empty = Layer("empty")
    twice = image(empty, MIDDLE, empty)
    world = World()
    world.pull(twice)
    world.drop(empty.digest)
    (finding,) = skipped(world)
    assert [ref.layer for ref in finding.images] == [0, 2]


def test_one_blob_that_two_images_lack_is_one_finding() -> None:
    second = image(BASE, Layer("second"))
    world = World()
    world.pull(APP, "app:1")
    world.pull(second, "second:1")
    world.drop(BASE.digest)
    (finding,) = skipped(world)
    assert [ref.name for ref in finding.images] == ["app:1", "second:1"]
    assert "and 1 more image" in finding.message


def test_the_bug_in_two_namespaces_is_a_finding_in_each() -> None:
    world = World()
    moby = World("moby", store=world.store)
    for each in (world, moby):
        each.pull(APP)
        each.drop(BASE.digest)
    assert [f.namespace for f in skipped(world)] == ["k8s.io", "moby"]


def test_a_snapshot_of_another_namespace_makes_nothing_runnable() -> None:
    world = World()
    world.pull(APP, unpack=False)
    world.drop(BASE.digest)
    World("moby", store=world.store).unpack(APP)
    assert world.faults() == [("incomplete-image", BASE.digest)]


def test_only_the_lower_layers_unpacked_is_the_bug_below_and_incomplete_above() -> None:
    world = World()
    world.pull(APP, unpack=False)
    world.snapshot(APP.chain[0])
    world.drop(BASE.digest, TOP.digest)
    assert world.faults() == [("incomplete-image", TOP.digest), ("snapshot-without-blob", BASE.digest)]


# Look-alikes: nothing over info.


def quiet(world: World, *notes: str, **request: object) -> None:
    assert world.faults(**request) == []
    assert {code for code, _ in world.notes(**request)} == set(notes)


def discard(world: World, manifest: Document) -> None:
    """What `discard_unpacked_layers` leaves: no layer labels, and after a collection no layers."""
    for layer in manifest.layers:
        world.unlabel(manifest.digest, *(each.digest for each in manifest.layers))
        world.drop(layer.digest)


def test_discarded_layers_are_no_fault() -> None:
    world = World()
    world.pull(APP)
    discard(world, APP)
    quiet(world, "blob-discarded")
    assert len(world.notes()) == 3


def test_the_only_copy_of_discarded_layers_without_a_gc_label_is_a_warning() -> None:
    world = World()
    world.pull(APP)
    discard(world, APP)
    world.unlabel(APP.config.digest)
    assert world.faults() == [("gc-unprotected", APP.config.digest)]
    world.lease("pull", Resource(f"snapshots/{OVERLAY}", APP.chain[-1]))
    assert world.faults() == []


def test_layers_about_to_be_discarded_are_no_fault() -> None:
    world = World()
    world.pull(APP)
    world.unlabel(APP.digest, *(layer.digest for layer in APP.layers))
    quiet(world)


def test_a_discarded_layer_without_a_snapshot_is_incomplete() -> None:
    world = World()
    world.pull(APP)
    discard(world, APP)
    world.drop_snapshots(*APP.chain)
    assert {code for code, _ in world.faults()} == {"incomplete-image"}


def test_labels_from_before_1_4_count_as_labels() -> None:
    world = World()
    world.pull(APP)
    old = {
        f"containerd.io/gc.ref.content.{i}": d for i, d in enumerate([APP.config.digest, BASE.digest, MIDDLE.digest])
    }
    world.relabel(APP.digest, lambda _: {**old, "containerd.io/gc.ref.content.3": TOP.digest})
    quiet(world)
    world.drop(BASE.digest)
    (finding,) = skipped(world)
    assert finding.cause == "missing-blobs-bug-likely"


@pytest.mark.parametrize(
    "label",
    [
        "containerd.io/snapshot/remote",
        "containerd.io/snapshot/nydus-meta",
        "containerd.io/snapshot/overlaybd.version",
    ],
)
def test_layers_of_remote_snapshots_are_no_fault(label: str) -> None:
    world = World()
    world.pull(APP, unpack=False)
    world.unpack(APP, **{label: "1"})
    world.drop(*(layer.digest for layer in APP.layers))
    quiet(world, "blob-lazy")


@pytest.mark.parametrize("label", ["containerd.io/snapshot/remote", "containerd.io/snapshot/nydus-blob"])
@pytest.mark.parametrize(("snapshotter", "code"), [("overlayfs", "snapshot-without-blob"), ("nydus", "blob-lazy")])
def test_labels_that_an_image_was_published_with_excuse_no_local_snapshot(
    label: str, snapshotter: str, code: str
) -> None:
    """containerd copies the annotations of a layer to its snapshot, whatever the snapshotter is."""
    wire = {"mediaType": BASE.media_type, "digest": BASE.digest, "size": len(BASE.data), "annotations": {label: "true"}}
    made = image(BASE, layers=[wire])
    world = World()
    world.pull(made, unpack=False)
    world.unpack(made, snapshotter=snapshotter, **{label: "true"})
    world.drop(BASE.digest)
    assert {finding.code for finding in world.findings()} == {code}


def test_a_snapshotter_that_can_be_lazy_excuses_no_local_snapshot() -> None:
    world = World(lazy=True)
    world.pull(APP)
    world.drop(BASE.digest)
    assert world.faults() == [("snapshot-without-blob", BASE.digest)]


def test_a_local_snapshot_of_an_image_that_is_otherwise_remote_may_be_the_bug() -> None:
    world = World()
    world.pull(APP)
    world.snapshot(APP.chain[1], APP.chain[0], **{"containerd.io/snapshot/remote": ""})
    world.drop(BASE.digest, MIDDLE.digest)
    assert world.faults() == [("snapshot-without-blob", BASE.digest)]


def test_other_platforms_are_not_pulled_however_much_of_them_is_here() -> None:
    arm = image(Layer("arm"), platform="linux/arm64")
    for keep in (0, 1, 2):
        world = World()
        world.pull(index(APP, arm))
        kept = ((arm.digest, arm.data), (arm.config.digest, arm.config.data))[:keep]
        for _, data in kept:
            world.put(data)
        quiet(world, "platform-not-pulled")


def test_an_image_that_another_platform_was_pulled_of_on_purpose_is_no_fault() -> None:
    arm = image(Layer("arm"), platform="linux/arm64")
    world = World()
    world.pull(index(APP, arm), platforms=("linux/arm64",), unpack=False)
    quiet(world, "platform-not-pulled")


def test_all_platforms_wants_them_all() -> None:
    arm = image(Layer("arm"), platform="linux/arm64")
    world = World()
    world.pull(index(APP, arm), platforms=("linux/amd64", "linux/arm64"))
    world.drop(arm.layers[0].digest)
    assert world.faults(all_platforms=True) == [("snapshot-without-blob", arm.layers[0].digest)]
    world.drop_snapshots(*arm.chain)
    assert ("incomplete-image", arm.layers[0].digest) in world.faults(all_platforms=True)


def test_another_platform_that_is_unpacked_here_can_have_the_bug() -> None:
    arm = image(Layer("arm"), platform="linux/arm64")
    world = World()
    world.pull(index(APP, arm), platforms=("linux/amd64", "linux/arm64"))
    world.drop(arm.layers[0].digest)
    assert world.faults() == [("snapshot-without-blob", arm.layers[0].digest)]


def test_a_386_image_beside_the_amd64_one_is_not_missing() -> None:
    world = World()
    world.pull(index(image(Layer("386"), platform="linux/386"), APP))
    quiet(world, "platform-not-pulled")


def test_foreign_layers_are_no_fault() -> None:
    foreign = Layer("win", media_type="application/vnd.oci.image.layer.nondistributable.v1.tar+gzip")
    world = World()
    world.pull(image(foreign, BASE), unpack=False)
    world.drop(foreign.digest)
    quiet(world, "foreign-layer", "not-unpacked")


@pytest.mark.parametrize("leased", [False, True])
def test_a_pull_under_way_is_no_fault(leased: bool) -> None:
    world = World()
    world.pull(APP, unpack=False)
    world.drop(BASE.digest)
    ref = f"layer-{TOP.digest if leased else BASE.digest}"
    world.ingest(ref, age=timedelta(seconds=5))
    if leased:
        world.lease("pull", Resource("content", APP.digest), Resource("ingests", ref), age=timedelta(hours=5))
    quiet(world, "pull-in-progress")


@pytest.mark.parametrize("age", [timedelta(minutes=5), timedelta(hours=2)])
def test_a_lease_without_work_or_an_ingest_that_stands_still_excuses_nothing(age: timedelta) -> None:
    world = World()
    world.pull(APP, unpack=False)
    world.drop(BASE.digest)
    world.lease("pull", Resource("content", APP.digest), age=age)
    world.ingest(f"layer-{BASE.digest}", age=age)
    assert world.faults() == [("incomplete-image", BASE.digest)]


def test_a_lease_on_another_image_excuses_nothing() -> None:
    world = World()
    world.pull(APP, unpack=False)
    world.drop(BASE.digest)
    world.lease("pull", Resource("content", BASE.digest))
    assert world.faults() == [("incomplete-image", BASE.digest)]


def test_an_artifact_without_diff_ids_is_no_image() -> None:
    chart = Layer("chart", media_type="application/vnd.cncf.helm.chart.content.v1.tar+gzip")
    artifact = image(chart, config={}, config_type="application/vnd.cncf.helm.config.v1+json")
    world = World()
    world.pull(artifact, "chart:1", unpack=False)
    quiet(world)


@pytest.mark.parametrize("config_type", [oci.OCI_CONFIG, oci.DOCKER_CONFIG])
def test_an_artifact_that_borrows_the_type_of_image_configs_is_no_image(config_type: str) -> None:
    cache = image(
        Layer("cache", media_type="application/vnd.buildkit.cacheconfig.v0"), config={}, config_type=config_type
    )
    wasm = image(Layer("wasm", media_type="application/vnd.wasm.content.layer.v1+wasm"), config={})
    world = World()
    world.pull(cache, "cache:1", unpack=False)
    world.pull(wasm, "wasm:1", unpack=False)
    quiet(world)


def test_an_absent_layer_of_an_artifact_is_said() -> None:
    chart = Layer("chart", media_type="application/vnd.cncf.helm.chart.content.v1.tar+gzip")
    artifact = image(chart, config={}, config_type="application/vnd.cncf.helm.config.v1+json")
    world = World()
    world.pull(artifact, "chart:1", unpack=False)
    world.drop(chart.digest)
    assert world.faults() == [("incomplete-image", chart.digest)]


def test_content_that_stands_in_its_descriptor_needs_no_blob() -> None:
    empty = {"mediaType": "application/vnd.oci.empty.v1+json", "data": "e30="}
    wire = {**empty, "digest": "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a", "size": 2}
    artifact = image(Layer("a", media_type="text/plain"), layers=[wire], artifactType="application/x")
    world = World()
    world.pull(artifact, "artifact:1", unpack=False)
    world.drop(artifact.layers[0].digest)
    quiet(world)


def test_an_image_in_two_namespaces_is_no_fault() -> None:
    world = World()
    for each in (world, World("moby", store=world.store)):
        each.pull(APP)
    quiet(world)


def test_layers_under_a_config_that_cannot_be_read_are_not_judged() -> None:
    world = World()
    world.pull(APP)
    world.drop(APP.config.digest, BASE.digest)
    assert world.faults() == [("missing-config", APP.config.digest)]


# Two manifests with one config (containerd#14000).


def test_a_manifest_that_lost_its_layers_to_its_sibling() -> None:
    gzip, zstd = image(BASE), image(TWIN)
    assert gzip.config.digest == zstd.config.digest
    world = World()
    world.pull(index(gzip, zstd))
    world.drop(TWIN.digest)
    (finding,) = (f for f in world.findings() if f.code == "shared-config-layers")
    assert finding.subject.digest == TWIN.digest
    assert finding.facts["sibling_manifest"] == gzip.digest
    assert finding.cause == "shared-config-bug"


def test_of_two_manifests_with_one_config_a_pull_may_take_one() -> None:
    gzip, zstd = image(BASE), image(TWIN)
    world = World()
    world.pull(index(gzip, zstd))
    world.drop(zstd.digest, TWIN.digest)
    quiet(world, "platform-not-pulled")


def test_a_sibling_that_lacks_layers_too_explains_nothing() -> None:
    gzip, zstd = image(BASE), image(TWIN)
    world = World()
    world.pull(index(gzip, zstd))
    world.drop(BASE.digest, TWIN.digest)
    assert "shared-config-layers" not in {code for code, _ in world.faults()}
