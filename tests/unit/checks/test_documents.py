"""Indexes, manifests and configs: absent, wrong, malformed, and what looks like it and is not."""

from __future__ import annotations

import msgspec
import pytest

from auditor.model import oci
from auditor.model.digest import Digest
from auditor.model.store import Ingest
from tests.unit.build import APP, BASE, MIDDLE, NOW, Document, Layer, World, attestation, image, index

ARM = image(Layer("arm"), platform="linux/arm64")


def under(world: World, raw: bytes, media_type: str) -> Digest:
    """Let an image's target be these bytes."""
    target = oci.Descriptor(media_type, Digest.of(raw), len(raw))
    world.name(APP, "broken:1")
    world.change(images=(msgspec.structs.replace(world.inventory.images[-1], target=target),))
    return world.put(raw)


def test_an_absent_index_is_one_finding_with_all_names() -> None:
    both = index(APP, ARM)
    world = World()
    world.pull(both, "app:1", "app:latest")
    world.drop(both.digest)
    findings = [f for f in world.findings() if f.code == "missing-manifest"]
    assert [f.subject.digest for f in findings] == [both.digest]
    assert findings[0].images[0].names == ("app:1", "app:latest")


def test_an_absent_manifest_of_the_node_is_missing_and_of_another_platform_is_not() -> None:
    both = index(APP, ARM)
    world = World()
    world.pull(both, platforms=("linux/amd64", "linux/arm64"), unpack=False)
    world.drop(ARM.digest)
    assert world.faults() == []
    world.drop(APP.digest)
    assert world.faults() == [("missing-manifest", APP.digest)]


def test_an_index_of_which_nothing_was_pulled_lacks_the_nodes_manifest() -> None:
    both = index(APP, ARM)
    world = World()
    world.pull(both, platforms=())
    assert world.faults() == [("missing-manifest", APP.digest)]


def test_a_nested_index_is_walked() -> None:
    inner = index(APP)
    world = World()
    world.pull(index(inner, ARM))
    assert world.faults() == []
    world.drop(inner.digest)
    assert ("missing-manifest", inner.digest) in world.faults()


def test_a_manifest_whose_descriptor_names_no_platform_is_judged_by_its_config() -> None:
    world = World()
    world.pull(index(APP, ARM, platforms=False), platforms=("linux/amd64", "linux/arm64"), unpack=False)
    world.drop(ARM.layers[0].digest)
    assert world.faults() == []
    world.drop(BASE.digest)
    assert world.faults() == [("incomplete-image", BASE.digest)]


def test_a_target_that_is_a_manifest_is_never_filtered_by_platform() -> None:
    world = World()
    world.pull(ARM, unpack=False)
    world.drop(ARM.layers[0].digest)
    assert world.faults() == [("incomplete-image", ARM.layers[0].digest)]


def test_docker_types_are_read_like_ocis() -> None:
    docker = image(BASE, MIDDLE, config_type=oci.DOCKER_CONFIG, media_type=oci.DOCKER_MANIFEST)
    world = World()
    world.pull(index(docker, media_type=oci.DOCKER_INDEX))
    assert world.findings() == ()
    world.drop(docker.config.digest)
    assert world.faults() == [("missing-config", docker.config.digest)]


def test_attestations_are_no_fault_in_any_state() -> None:
    verification = attestation(APP)
    assert verification.config.digest != APP.config.digest
    for pulled in ((), ("unknown/unknown",)):
        world = World()
        world.pull(index(APP, verification), platforms=("linux/amd64", *pulled), unpack=False)
        assert world.faults() == []
        world.drop(verification.layers[0].digest)
        assert world.faults() == []


def test_schema_1_is_said_to_be_unsupported() -> None:
    world = World()
    digest = under(world, b"{}", "application/vnd.docker.distribution.manifest.v1+prettyjws")
    (finding,) = (f for f in world.findings() if f.code == "malformed-manifest")
    assert finding.subject.digest == digest
    assert "schema 1" in finding.message


@pytest.mark.parametrize(
    ("raw", "media_type"),
    [
        (b"", oci.OCI_MANIFEST),
        (b"not json", oci.OCI_INDEX),
        (b"[]", oci.OCI_MANIFEST),
        (APP.data, oci.OCI_INDEX),
        (index(APP).data, oci.OCI_MANIFEST),
        (b'{"manifests": [{"digest": "sha256:../../etc/passwd", "size": 1}]}', oci.OCI_INDEX),
        (b'{"manifests": [{"digest": "%b", "size": -1}]}' % APP.digest.encode(), oci.OCI_INDEX),
        (b"[" * 100_000, oci.OCI_INDEX),
    ],
)
def test_a_malformed_root_is_found_and_nothing_else(raw: bytes, media_type: str) -> None:
    world = World()
    digest = under(world, raw, media_type)
    assert world.faults() == [("malformed-manifest", digest)]


def test_a_malformed_config_is_found() -> None:
    broken = image(BASE, config={"rootfs": {"diff_ids": ["nonsense"]}})
    world = World()
    world.pull(broken, unpack=False)
    assert world.faults() == [("malformed-manifest", broken.config.digest)]


def nested(depth: int) -> Document:
    """An image under `depth` indexes."""
    made = APP
    for _ in range(depth):
        made = index(made, platforms=False)
    return made


@pytest.mark.parametrize(
    ("depth", "codes"),
    [(1, set()), (oci.MAX_DEPTH, set()), (oci.MAX_DEPTH + 1, {"malformed-manifest"}), (150, {"malformed-manifest"})],
)
def test_indexes_nest_so_deep_and_no_deeper(depth: int, codes: set[str]) -> None:
    world = World()
    world.pull(nested(depth))
    assert {code for code, _ in world.faults()} == codes


def test_an_index_of_no_manifests_is_no_fault() -> None:
    world = World()
    world.pull(index())
    assert world.faults() == []


@pytest.mark.slow
def test_an_index_of_ten_thousand_manifests_is_read_and_one_more_is_malformed() -> None:
    child = APP.describe(platform=True)
    others = [
        {**child, "digest": str(Digest.of(bytes(str(n), "ascii"))), "platform": {"os": "x"}} for n in range(9_999)
    ]
    world = World()
    world.pull(index(APP, manifests=[child, *others]))
    assert world.faults() == []
    assert len(world.notes()) == 9_999
    world = World()
    world.pull(index(APP, manifests=[child, child, *others]))
    assert {code for code, _ in world.faults()} >= {"malformed-manifest"}


def test_a_document_without_a_media_type_of_its_own_contradicts_nobody() -> None:
    world = World()
    world.pull(index(APP, mediaType=""))
    assert world.findings() == ()


@pytest.mark.parametrize("diff_ids", [[], [BASE.diff_id], [BASE.diff_id, MIDDLE.diff_id, MIDDLE.diff_id]])
def test_layers_and_diff_ids_must_be_as_many(diff_ids: list[Digest]) -> None:
    wrong = image(BASE, MIDDLE, diff_ids=diff_ids)
    world = World()
    world.pull(wrong, unpack=False)
    assert world.faults() == [("layer-count-mismatch", wrong.digest)]


def test_layers_that_are_not_unpacked_are_not_counted() -> None:
    signature = Layer("sig", media_type="application/vnd.dev.cosign.simplesigning.v1+json")
    mixed = image(BASE, signature, diff_ids=[BASE.diff_id])
    world = World()
    world.pull(mixed, unpack=False)
    assert world.faults() == []


def test_a_root_of_unknown_type_is_told_and_has_to_be_there() -> None:
    world = World()
    raw = b"anything"
    digest = under(world, raw, "application/vnd.example+json")
    assert world.faults() == []
    assert ("unknown-media-type", digest) in world.notes()
    world.drop(digest)
    assert world.faults() == [("missing-manifest", digest)]


def test_a_manifest_that_is_being_pulled_is_no_fault() -> None:
    world = World()
    world.name(APP, "app:1")
    world.change(ingests=(Ingest(world.namespace, f"manifest-{APP.digest}", updated_at=NOW),))
    assert world.faults() == []
    assert world.notes() == [("pull-in-progress", APP.digest)]


def test_one_digest_under_two_types_is_judged_as_each_namespace_says() -> None:
    world = World()
    world.pull(APP, "app:1")
    other = World("moby", store=world.store)
    other.pull(APP, "app:1")
    target = oci.Descriptor(oci.OCI_INDEX, APP.digest, len(APP.data))
    other.change(images=(msgspec.structs.replace(other.inventory.images[0], target=target),))
    found = [f for f in world.findings() if f.code == "malformed-manifest"]
    assert [(f.namespace, f.subject.kind, f.subject.digest) for f in found] == [("moby", "index", APP.digest)]
