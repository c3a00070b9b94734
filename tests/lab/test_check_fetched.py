"""Content that was fetched and is no image to run: documents alone, BuildKit caches, layers that no differ unpacks."""

from __future__ import annotations

import pytest

from auditor.diagnose.messages import Confidence
from auditor.model import oci
from auditor.model.findings import Severity
from tests import images
from tests.lab.checked import assert_sound, auditor_here, check, loud, the
from tests.lab.diagnosed import ask
from tests.lab.kit import faults
from tests.lab.kit.daemon import Containerd
from tests.lab.kit.registry import Registry

FETCH = ("content", "fetch", "--plain-http")
CACHE = "application/vnd.buildkit.cacheconfig.v0"
EROFS = "application/vnd.oci.image.layer.v1.erofs"


def built(name: str, *, platform: str = "linux/amd64") -> images.BuiltImage:
    return images.image([images.layer(images.files(f"{name}-{n}", kilobytes=8)) for n in range(2)], platform=platform)


def test_documents_without_layers_are_one_warning(daemon: Containerd, registry: Registry) -> None:
    """The image is not called intact, and is not exported."""
    one = built("documents")
    index = images.index([one, built("documents-arm", platform="linux/arm64")])
    reference = registry.push(index, "lab/documents:1")
    daemon.ctr(*FETCH, "--metadata-only", reference, namespace="default")
    ran = check(daemon)
    assert loud(ran.report) == {("layers-not-fetched", one.digest)}
    assert the(ran.report, "layers-not-fetched").severity is Severity.WARNING
    assert [str(image.status) for image in ran.report.images] == ["unknown"]
    assert check(daemon, "--fail-on", "warning").status == 1
    archive = daemon.root.parent / "not.tar"
    exported = auditor_here("export", "--address", daemon.socket, "-n", "default", "-o", archive, reference)
    assert exported.status == 1
    assert "--include-discarded" in exported.err
    assert not archive.exists()
    diagnosed = auditor_here("diagnose", "--address", daemon.socket, one.layers[0].digest)
    assert "[layers-not-fetched]" in diagnosed.out
    verdict = ask(daemon, f"ctr: content digest {one.layers[1].digest}: not found")[0].verdict
    assert (verdict.code, verdict.sure) == ("layers-not-fetched", Confidence.LIKELY)
    assert verdict.commands[0].partition("  #")[0].endswith(f"-n default images pull {reference}")
    wanted = ("--platform", "linux/amd64", "--refetch", "-o", archive, reference)
    fetched = auditor_here("export", "--address", daemon.socket, "-n", "default", *wanted)
    assert (fetched.status, archive.exists()) == (0, True), fetched.err


def test_an_image_that_cri_manages_is_not_excused(daemon: Containerd, registry: Registry) -> None:
    """CRI labels each image of its namespace, however it came, some time later; here at once."""
    one = built("managed")
    reference = registry.push(images.index([one]), "lab/managed:1")
    daemon.ctr(*FETCH, "--metadata-only", reference)
    daemon.ctr("images", "label", reference, "io.cri-containerd.image=managed")
    assert loud(check(daemon).report) == {("incomplete-image", layer.digest) for layer in one.layers}


def test_an_image_of_foreign_layers_alone_is_an_image(daemon: Containerd, registry: Registry) -> None:
    """Absent layers of a foreign type are no loss, whether containerd takes the type for a layer or passes it over."""
    for name, suffix in (("taken", ".gzip"), ("passed-over", ".xz")):
        kind = f"{oci.DOCKER_FOREIGN_LAYER}{suffix}"
        foreign = images.raw_layer(name.encode(), images.sha256(b"x"), compression="gzip", media_type=kind)
        daemon.ctr(*FETCH, registry.push(images.image([foreign]), f"lab/foreign-{name}:1"))
        faults.remove_record(daemon, foreign.digest)
    ran = check(daemon)
    assert (loud(ran.report), ran.status) == (set(), 0)
    assert sorted(f.code for f in ran.report.findings if f.code == "foreign-layer") == ["foreign-layer"] * 2


@pytest.mark.parametrize("verify", ["presence", "layers"])
def test_a_build_cache_is_no_broken_image(daemon: Containerd, registry: Registry, verify: str) -> None:
    """BuildKit writes a manifest, or, in older releases, an index of layers."""
    layers = [images.layer(images.files(f"cache-{n}", kilobytes=8)) for n in range(2)]
    config = images.dump({"layers": [{"blob": layer.digest, "parent": -1} for layer in layers], "records": []})
    manifest = images.assemble(config, CACHE, layers)
    last = images.Descriptor(CACHE, images.sha256(config), len(config))
    below = [*(layer.descriptor for layer in layers), last]
    kind = images.INDEX_TYPES["oci"]
    document = images.dump({"schemaVersion": 2, "mediaType": kind, "manifests": [each.json() for each in below]})
    target = images.Descriptor(kind, images.sha256(document), len(document))
    index = images.BuiltIndex(target, (target,), {**manifest.blobs, target.digest: document}, ())
    for name, cache in (("manifest", manifest), ("index", index)):
        daemon.ctr(*FETCH, registry.push(cache, f"lab/cache-{name}:1"))
    assert_sound(daemon)
    ran = check(daemon, "--verify", verify)
    assert (loud(ran.report), ran.status) == (set(), 0)


def test_a_layer_that_no_differ_unpacks_is_named(daemon: Containerd, registry: Registry) -> None:
    erofs = images.raw_layer(b"\0" * 2048, images.sha256(b"unpacked"), compression="none", media_type=EROFS)
    daemon.ctr(*FETCH, registry.push(images.image([erofs]), "lab/erofs:1"))
    ran = check(daemon)
    assert (loud(ran.report), ran.status) == ({("layer-type-unsupported", erofs.digest)}, 0)
    verified = check(daemon, "--verify", "layers")
    assert (verified.status, verified.report.complete) == (3, False)
