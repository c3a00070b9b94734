"""What is absent or odd by design: nothing over info, exit status 0, with the files in sight and through the API."""

from __future__ import annotations

import io
import json
import tarfile
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from auditor import containerd
from auditor.model.store import Resource
from auditor.model.writable_store import LeaseHandle
from tests import images
from tests.lab.checked import assert_faults, assert_sound, check, loud, quiet, the
from tests.lab.conftest import StartDaemon
from tests.lab.kit import bug, faults
from tests.lab.kit.binaries import VERSIONS
from tests.lab.kit.daemon import CRI_NAMESPACE, Containerd
from tests.lab.kit.registry import Registry

FETCH = ("content", "fetch", "--plain-http")
PULL = ("images", "pull", "--plain-http")
NOWHERE = images.image([images.layer({"nowhere": b""})], platform="linux/s390x")


def built(name: str, *, count: int = 2, platform: str = "linux/amd64") -> images.BuiltImage:
    mixes = [images.files(f"sound-{name}-{number}", kilobytes=16) for number in range(count)]
    return images.image([images.layer(mix) for mix in mixes], platform=platform)


def codes(found: set[tuple[str, str]]) -> set[str]:
    return {code for code, _ in found}


# What pulls leave behind


def test_other_platforms_and_attestations(daemon: Containerd, registry: Registry) -> None:
    mine, arm = built("mine"), built("arm", platform="linux/arm64")
    daemon.cri_pull(registry.push(images.index([arm, mine], attestations=True), "lab/platforms:1"))
    report = assert_sound(daemon)
    assert ("platform-not-pulled", arm.digest) in quiet(report)
    assert codes(quiet(report)) == {"platform-not-pulled", "attestation-not-pulled"}
    assert sum(finding.code == "attestation-not-pulled" for finding in report.findings) == 2


@pytest.mark.parametrize("namespace", ["k8s.io", "default"])
def test_ctr_leaves_manifests_of_other_platforms(daemon: Containerd, registry: Registry, namespace: str) -> None:
    """The transfer service of 2.1 keeps the manifests and configs of all platforms."""
    mine, arm = built("mine"), built("arm", platform="linux/arm64")
    daemon.ctr(*PULL, registry.push(images.index([arm, mine]), "lab/platforms-ctr:1"), namespace=namespace)
    report = assert_sound(daemon)
    assert {code for code, digest in quiet(report) if digest == arm.digest} == {"platform-not-pulled"}


def test_an_image_of_another_platform_alone(daemon: Containerd, registry: Registry) -> None:
    """The node's own platform is left out on purpose, and on 2.1 its manifest and config are here all the same."""
    mine, arm = built("mine"), built("arm", platform="linux/arm64")
    index = images.index([mine, arm])
    reference = registry.push(index, "lab/platforms-arm:1")
    daemon.ctr(*PULL, "--platform", "linux/arm64", reference, namespace="default")
    report = assert_sound(daemon)
    assert ("platform-not-pulled", mine.digest) in quiet(report)
    assert check(daemon, "--platform", "linux/arm64").status == 0
    assert check(daemon, "--platform", "linux/amd64").status == 1


def test_all_platforms(daemon: Containerd, registry: Registry) -> None:
    both = [built("mine"), built("arm", platform="linux/arm64")]
    daemon.ctr(*PULL, "--all-platforms", registry.push(images.index(both), "lab/all:1"), namespace="default")
    attested = images.index(both, attestations=True)
    daemon.ctr(*FETCH, "--all-platforms", registry.push(attested, "lab/all-attested:1"), namespace="default")
    assert "platform-not-pulled" not in codes(quiet(assert_sound(daemon)))
    assert check(daemon, "--all-platforms").status == 0


def test_platforms_of_the_same_layers_packed_otherwise(daemon: Containerd, registry: Registry) -> None:
    """The snapshots of the one that was pulled have the names of the other's."""
    mixes = [images.files(f"sound-same-{number}", kilobytes=16) for number in range(2)]
    mine = images.image([images.layer(mix) for mix in mixes])
    arm = images.image([images.layer(mix, compression="zstd") for mix in mixes], platform="linux/arm64")
    assert mine.chain_ids == arm.chain_ids
    reference = registry.push(images.index([mine, arm]), "lab/platforms-same:1")
    daemon.ctr(*PULL, reference, namespace="default")
    report = assert_sound(daemon)
    assert ("platform-not-pulled", arm.digest) in quiet(report)
    daemon.cri_pull(reference)
    assert_sound(daemon)


def test_platforms_that_the_node_would_run_too(daemon: Containerd, registry: Registry) -> None:
    """An amd64 node runs 386, and takes the better match alone."""
    older, mine = built("386", platform="linux/386"), built("mine")
    daemon.cri_pull(registry.push(images.index([older, mine]), "lab/platforms-386:1"))
    daemon.ctr(*PULL, registry.push(images.index([older, mine]), "lab/platforms-386:1"), namespace="default")
    assert_sound(daemon)


def test_an_image_for_the_next_best_platform(daemon: Containerd, registry: Registry) -> None:
    older = built("386", platform="linux/386")
    reference = registry.push(images.index([older, NOWHERE]), "lab/platforms-only-386:1")
    daemon.ctr(*PULL, "--platform", "linux/386", reference)
    report = assert_sound(daemon)
    assert [state.platform for image in report.images for state in image.platforms] == ["linux/386"]


def test_nested_indexes(daemon: Containerd, registry: Registry) -> None:
    inner = images.index([built("inner"), NOWHERE], attestations=True)
    outer = images.index([inner, images.index([built("inner-arm", platform="linux/arm64")])])
    daemon.ctr(*PULL, registry.push(outer, "lab/nested:1"))
    assert_sound(daemon)


# Kinds of images


def test_artifacts(daemon: Containerd, registry: Registry) -> None:
    """Charts, signatures, modules: no diff_ids, layers that nobody unpacks."""
    chart = images.artifact([images.blob_layer(b"a chart")])
    # What old tools pushed: the config of an image, without any content.
    helm = images.assemble(b"{}", images.CONFIG_TYPES["oci"], [images.blob_layer(b"an old chart")])
    mixed = images.index([built("with-artifact"), chart])
    for number, one in enumerate((chart, helm, mixed)):
        daemon.ctr(*FETCH, registry.push(one, f"lab/artifact-{number}:1"))
    report = assert_sound(daemon)
    assert len(report.images) == 3


def test_a_cache_manifest_in_an_index(daemon: Containerd, registry: Registry) -> None:
    """BuildKit's caches are indexes that name layers as if they were manifests."""
    layer = images.layer({"cached": b"something"})
    config = b'{"layers":[]}'
    kind = "application/vnd.buildkit.cacheconfig.v0"
    entries = [images.Descriptor(one.media_type, one.digest, one.size).json() for one in (layer,)]
    entries.append({"mediaType": kind, "digest": images.sha256(config), "size": len(config)})
    body = json.dumps({"schemaVersion": 2, "mediaType": images.INDEX_TYPES["oci"], "manifests": entries}).encode()
    target = images.Descriptor(images.INDEX_TYPES["oci"], images.sha256(body), len(body))
    blobs = {layer.digest: layer.blob, images.sha256(config): config, target.digest: body}
    cache = images.Built(target, (target,), blobs)
    daemon.ctr(*FETCH, registry.push(cache, "lab/cache:1"))
    assert_sound(daemon)


def test_docker_images(daemon: Containerd, registry: Registry) -> None:
    layers = [images.layer(images.files(f"sound-docker-{n}", kilobytes=16), flavour="docker") for n in range(2)]
    mine = images.image(layers, flavour="docker")
    arm = images.image(layers[:1], flavour="docker", platform="linux/arm64")
    daemon.cri_pull(registry.push(mine, "lab/docker-one:1"))
    daemon.cri_pull(registry.push(images.index([mine, arm], flavour="docker"), "lab/docker-list:1"))
    assert_sound(daemon)


@pytest.mark.parametrize("compression", ["zstd", "none"])
def test_compressions(daemon: Containerd, registry: Registry, compression: images.Compression) -> None:
    layer = images.layer(images.files(f"sound-{compression}", kilobytes=16), compression=compression)
    daemon.cri_pull(registry.push(images.image([layer]), f"lab/sound-{compression}:1"))
    assert_sound(daemon)


def test_empty_layers_and_layers_named_twice(daemon: Containerd, registry: Registry) -> None:
    empty = images.layer({})
    full = images.layer(images.files("sound-twice", kilobytes=16))
    for number, layers in enumerate(([empty], [full, empty, full], [empty, empty, full])):
        daemon.cri_pull(registry.push(images.image(layers), f"lab/twice-{number}:1"))
    assert_sound(daemon)


def test_no_layers_at_all(daemon: Containerd, registry: Registry) -> None:
    daemon.ctr(*FETCH, registry.push(images.image([]), "lab/layerless:1"))
    assert_sound(daemon)


@pytest.mark.parametrize(
    "media_type",
    ["application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", f"{images.OCI}layer.nondistributable.v1.tar+gzip"],
)
def test_foreign_layers(daemon: Containerd, registry: Registry, media_type: str) -> None:
    """Registries do not carry them, so that they are here only where the image runs."""
    foreign = replace(images.layer({"windows": b"licensed"}), media_type=media_type)
    image = images.image([foreign, images.layer({"own": b"layer"})])
    daemon.ctr(*FETCH, registry.push(image, "lab/foreign:1"))
    assert_sound(daemon)
    faults.remove_record(daemon, foreign.digest)
    assert ("foreign-layer", foreign.digest) in quiet(assert_sound(daemon))


def test_a_blob_of_no_bytes(daemon: Containerd) -> None:
    """Zero-length is a fault only of what should have bytes."""
    faults.add_blob(daemon, b"")
    assert assert_sound(daemon).summary.blobs.present == 1


# Policies


def test_discarded_layers(daemon: Containerd, start_daemon: StartDaemon, registry: Registry) -> None:
    discarding = start_daemon(daemon.version, discard_unpacked_layers=True)
    one = built("discard")
    index = images.index([one, built("discard-arm", platform="linux/arm64")], attestations=True)
    discarding.cri_pull(registry.push(one, "lab/discard:1"))
    discarding.cri_pull(registry.push(index, "lab/discard-index:1"))
    assert_sound(discarding)
    discarding.force_gc()
    report = assert_sound(discarding)
    assert {("blob-discarded", layer.digest) for layer in one.layers} <= quiet(report)
    assert the(report, "platform-not-pulled").images[0].platform == "linux/arm64"


def test_layers_that_the_second_pull_would_have_skipped_anyway(start_daemon: StartDaemon, registry: Registry) -> None:
    """On a node that discards, the bug leaves the same as the policy: nothing that anybody should mend."""
    discarding = start_daemon(VERSIONS[-1], discard_unpacked_layers=True)
    bug.reproduce(discarding, registry, name="discard-bug")
    assert_sound(discarding)
    discarding.force_gc()
    assert_sound(discarding)


def test_pruned_references(daemon: Containerd, registry: Registry) -> None:
    """`ctr content prune references` drops the labels of layers, and the next collection the layers."""
    one = built("pruned")
    daemon.cri_pull(registry.push(one, "lab/pruned:1"))
    daemon.ctr("content", "prune", "references")
    assert_sound(daemon)
    daemon.force_gc()
    assert quiet(assert_sound(daemon)) == {("blob-discarded", layer.digest) for layer in one.layers}


def test_a_remote_snapshot(daemon: Containerd, registry: Registry) -> None:
    lazy = built("lazy", count=3)
    daemon.cri_pull(registry.push(lazy, "lab/lazy:1"))
    for chain_id, layer in zip(lazy.chain_ids, lazy.layers, strict=True):
        faults.mark_remote(daemon, chain_id)
        faults.remove_record(daemon, layer.digest)
    report = assert_sound(daemon)
    assert quiet(report) == {("blob-lazy", layer.digest) for layer in lazy.layers}


def test_a_local_layer_below_a_remote_one_should_be_here(daemon: Containerd, registry: Registry) -> None:
    """Lazy snapshotters unpack the layers that they cannot serve, and then need their blobs as any other."""
    lazy = built("half-lazy", count=3)
    daemon.cri_pull(registry.push(lazy, "lab/half-lazy:1"))
    faults.mark_remote(daemon, lazy.chain_ids[1])
    for layer in lazy.layers[:2]:
        faults.remove_record(daemon, layer.digest)
    report = assert_faults(daemon, ("snapshot-without-blob", lazy.layers[0].digest))
    assert ("blob-lazy", lazy.layers[1].digest) in quiet(report)


# Work under way


def test_a_download_that_moves(daemon: Containerd, registry: Registry) -> None:
    one = built("moving")
    daemon.ctr(*FETCH, registry.push(one, "lab/moving:1"))
    faults.remove_record(daemon, one.layers[1].digest)
    assert_faults(daemon, ("incomplete-image", one.layers[1].digest))
    faults.interrupted_ingest(daemon, f"layer-{one.layers[1].digest}", data=b"the first bytes")
    assert ("pull-in-progress", one.layers[1].digest) in quiet(assert_sound(daemon))
    daemon.ctr(*FETCH, registry.reference("lab/moving:1"))
    assert quiet(assert_sound(daemon)) == {("not-unpacked", one.digest)}


def test_a_young_lease_under_which_nothing_moves_excuses_nothing(daemon: Containerd, registry: Registry) -> None:
    one = built("leased")
    daemon.ctr(*FETCH, registry.push(one, "lab/leased:1"))
    faults.remove_record(daemon, one.layers[0].digest)
    faults.add_lease(daemon, "pull", expires_in=timedelta(hours=24))
    hold(daemon, "pull", Resource("content", one.digest))
    assert_faults(daemon, ("incomplete-image", one.layers[0].digest))


def test_the_top_marked_remote_excuses_no_local_layer(daemon: Containerd, registry: Registry) -> None:
    one = built("top-remote", count=3)
    daemon.cri_pull(registry.push(one, "lab/top-remote:1"))
    faults.mark_remote(daemon, one.chain_ids[-1])
    faults.remove_record(daemon, one.layers[0].digest)
    assert_faults(daemon, ("snapshot-without-blob", one.layers[0].digest))


@pytest.mark.parametrize("name", ["another", "auditor-0123456789abcdef"])
def test_a_lease_that_is_no_pull_excuses_nothing(daemon: Containerd, registry: Registry, name: str) -> None:
    """Not an expired one, and not our own, under which we export and repair."""
    one = built("unexcused")
    daemon.ctr(*FETCH, registry.push(one, "lab/unexcused:1"))
    faults.remove_record(daemon, one.layers[0].digest)
    faults.add_lease(daemon, name, expires_in=timedelta(hours=-1 if name == "another" else 1))
    hold(daemon, name, Resource("content", one.digest))
    assert_faults(daemon, ("incomplete-image", one.layers[0].digest))


def test_content_that_leases_hold(daemon: Containerd, registry: Registry) -> None:
    one = built("held")
    daemon.cri_pull(registry.push(one, "lab/held:1"))
    held, loose = (faults.add_blob(daemon, data, rooted=False) for data in (b"held by a lease", b"held by nobody"))
    faults.add_lease(daemon, "builder")
    hold(daemon, "builder", Resource("content", held))
    assert quiet(assert_sound(daemon)) == {("orphan-blob", loose)}


def test_an_expired_lease(daemon: Containerd, registry: Registry) -> None:
    daemon.cri_pull(registry.push(built("expired"), "lab/expired:1"))
    faults.add_lease(daemon, "old", expires_in=timedelta(hours=-1))
    assert quiet(assert_sound(daemon)) == {("expired-lease", "old")}


def hold(daemon: Containerd, lease: str, resource: Resource) -> None:
    with containerd.connect_writable(daemon.socket) as store:
        store.hold(LeaseHandle(CRI_NAMESPACE, lease), resource)


# Where images are, and where not


def test_two_namespaces(daemon: Containerd, registry: Registry) -> None:
    one = built("two-namespaces")
    reference = registry.push(one, "lab/two-namespaces:1")
    daemon.cri_pull(reference)
    daemon.ctr(*PULL, reference, namespace="default")
    daemon.ctr(*FETCH, reference, namespace="another")
    report = assert_sound(daemon)
    assert [image.namespace for image in report.images] == ["another", "default", "k8s.io"]
    assert report.summary.blobs.total == 4


def test_never_unpacked(daemon: Containerd, registry: Registry, base: Path) -> None:
    fetched, imported = built("fetched"), built("imported")
    daemon.ctr(*FETCH, registry.push(fetched, "lab/fetched:1"))
    daemon.ctr(*FETCH, registry.push(imported, "lab/imported:1"), namespace="elsewhere")
    archive = base / "imported.tar"
    export(daemon, archive, registry.reference("lab/imported:1"))
    daemon.ctr("images", "import", "--no-unpack", archive)
    report = assert_sound(daemon)
    assert quiet(report) >= {("not-unpacked", one.digest) for one in (fetched, imported)}


def export(daemon: Containerd, archive: Path, reference: str) -> None:
    """The transfer service may return before its last bytes are written, so it is passed by where there is one."""
    local = [] if daemon.version.startswith("1.") else ["--local"]
    daemon.ctr("images", "export", *local, archive, reference, namespace="elsewhere")


def test_an_archive_with_one_platform_of_an_index(daemon: Containerd, registry: Registry, base: Path) -> None:
    index = images.index([built("mine"), built("arm", platform="linux/arm64")])
    daemon.ctr(*FETCH, registry.push(index, "lab/archived:1"), namespace="elsewhere")
    export(daemon, base / "a.tar", registry.reference("lab/archived:1"))
    daemon.ctr("images", "import", "--no-unpack", base / "a.tar", namespace="default")
    assert_sound(daemon)


def test_an_uncompressed_archive_of_docker(daemon: Containerd, base: Path) -> None:
    """`docker save` before 25: no index, and layers that are plain tars."""
    one = images.image([images.layer(images.files("saved", kilobytes=16), compression="none")], flavour="docker")
    archive = base / "saved.tar"
    with tarfile.open(archive, "w") as out:
        listing = [{"Config": "config.json", "RepoTags": ["lab/saved:1"], "Layers": ["layer.tar"]}]
        for name, data in (("config.json", one.config), ("layer.tar", one.layers[0].blob), ("manifest.json", listing)):
            body = json.dumps(data).encode() if isinstance(data, list) else data
            entry = tarfile.TarInfo(name)
            entry.size = len(body)
            out.addfile(entry, io.BytesIO(body))
    daemon.ctr("images", "import", archive)
    assert len(assert_sound(daemon).images) == 1


def test_containers_keep_snapshots_of_images_that_are_gone(daemon: Containerd, registry: Registry) -> None:
    one = built("contained")
    reference = registry.push(one, "lab/contained:1")
    daemon.cri_pull(reference)
    daemon.cri_pull(registry.push(built("stays"), "lab/stays:1"))
    daemon.ctr("containers", "create", reference, "kept")
    daemon.cri_remove_image(one.config_digest)
    daemon.force_gc()
    report = assert_sound(daemon)
    assert len(report.images) == 1
    assert set(one.chain_ids) <= set(daemon.snapshots())


def test_another_snapshotter(daemon: Containerd, registry: Registry) -> None:
    reference = registry.push(built("native"), "lab/native:1")
    local = [] if daemon.version.startswith("1.") else ["--local"]
    daemon.ctr(*PULL, *local, "--snapshotter", "native", reference)
    report = assert_sound(daemon)
    assert report.images[0].platforms[0].unpacked == {"native": True}
    daemon.cri_pull(reference)
    report = assert_sound(daemon)
    assert report.images[0].platforms[0].unpacked == {"native": True, "overlayfs": True}


def test_a_snapshotter_that_is_asked_for(daemon: Containerd, registry: Registry) -> None:
    daemon.cri_pull(registry.push(built("snapshotter"), "lab/snapshotter:1"))
    assert check(daemon, "--snapshotter", "overlayfs").status == 0
    assert loud(check(daemon, "--snapshotter", "native").report) == set()


def test_a_removed_image_leaves_nothing_to_complain_of(daemon: Containerd, registry: Registry) -> None:
    """Until the next collection everything of it lies about."""
    gone = built("gone")
    daemon.cri_pull(registry.push(gone, "lab/gone:1"))
    daemon.cri_pull(registry.push(built("stays"), "lab/stays:1"))
    daemon.cri_remove_image(gone.config_digest)
    assert codes(quiet(assert_sound(daemon))) <= {"orphan-blob"}
    daemon.force_gc()
    assert quiet(assert_sound(daemon)) == set()
