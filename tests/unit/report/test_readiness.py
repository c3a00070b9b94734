"""What a node could serve or unpack: every state of a layer, counted in images and in bytes, each digest once."""

from __future__ import annotations

from typing import Any

import pytest

from auditor import checks
from auditor.checks.evidence import Evidence
from auditor.model.readiness import CanServe, CanUnpack
from auditor.report.can_serve import can_serve
from auditor.report.can_unpack import can_unpack
from tests.unit.build import APP, BASE, MIDDLE, OVERLAY, TOP, Layer, World, attestation, image, index
from tests.unit.cases import Step, build, collected, do, lose

OTHER = image(BASE, Layer("other"))
BOTH = index(APP, ARM := image(Layer("arm"), platform="linux/arm64"), attestation(APP))


def evidence(*steps: Step, **request: Any) -> Evidence:
    return collected(build(steps), **request)


def served(*steps: Step) -> CanServe:
    found = evidence(*steps)
    return can_serve(found, checks.judge(found))


def unpacked(snapshotter: str, *steps: Step) -> CanUnpack:
    found = evidence(*steps)
    return can_unpack(found, checks.judge(found), snapshotter)


def size_of(*parts: Any) -> int:
    return sum(len(part.data) for part in parts)


WHOLE = size_of(APP, BASE, MIDDLE, TOP)


def test_a_whole_image_is_served_with_all_its_bytes() -> None:
    found = served(do(World.pull, APP))
    assert (found.images, found.servable, found.bytes_absent, found.not_servable) == (1, 1, 0, ())
    assert found.bytes > WHOLE


def test_shared_layers_count_once() -> None:
    one, both = served(do(World.pull, APP)), served(do(World.pull, APP), do(World.pull, OTHER, "docker.io/library/b:1"))
    assert both.servable == 2
    assert both.bytes < 2 * one.bytes


@pytest.mark.parametrize("layer", [BASE, TOP])
def test_an_absent_layer_has_its_reason_and_its_bytes(layer: Layer) -> None:
    found = served(do(World.pull, APP), lose(layer))
    assert (found.images, found.servable) == (1, 0)
    assert found.bytes_absent == len(layer.data)
    (image_found,) = found.not_servable
    assert image_found.name == "docker.io/library/app:1"
    assert sum(image_found.reasons.values()) == len(layer.data)


def test_other_platforms_and_attestations_do_not_count() -> None:
    found = served(do(World.pull, BOTH))
    assert (found.images, found.servable, found.not_servable) == (1, 1, ())


def test_an_image_with_all_blobs_can_be_unpacked_for_any_snapshotter() -> None:
    found = unpacked("nydus", do(World.pull, APP))
    assert (found.images, found.unpacked, found.can, found.pull_again, found.configured) == (1, 0, 1, (), False)
    here = unpacked(OVERLAY, do(World.pull, APP))
    assert (here.unpacked, here.can, here.configured) == (1, 0, True)


def test_a_broken_snapshot_chain_leaves_the_blobs_usable() -> None:
    steps = (do(World.pull, APP), do(World.snapshot, APP.chain[0], APP.chain[1]))
    assert [each.code for each in checks.judge(evidence(*steps))] == ["broken-snapshot-chain"]
    assert served(*steps).servable == 1
    assert unpacked("nydus", *steps).can == 1


def test_an_image_that_is_unpacked_and_lacks_blobs_must_be_pulled_again_for_another() -> None:
    steps = (do(World.pull, APP), lose(BASE, TOP))
    assert unpacked(OVERLAY, *steps).unpacked == 1
    found = unpacked("nydus", *steps)
    assert (found.unpacked, found.can, len(found.pull_again)) == (0, 0, 1)
    assert found.bytes_to_pull == size_of(BASE, TOP)


def test_bytes_to_pull_count_each_digest_once() -> None:
    steps = (do(World.pull, APP), do(World.pull, OTHER, "docker.io/library/b:1"), lose(BASE))
    found = unpacked("nydus", *steps)
    assert len(found.pull_again) == 2
    assert found.bytes_to_pull == len(BASE.data)
