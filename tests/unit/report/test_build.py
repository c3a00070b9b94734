"""The verdict on an image: intact, damaged, or neither where no platform of it is here."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from auditor.model.findings import Status
from auditor.report import build
from tests.unit.build import APP, Layer, World, image, index

ARM = image(Layer("arm base"), platform="linux/arm64")
ARMS = index(ARM, image(Layer("other base"), platform="linux/arm"))


def without_arm(world: World) -> None:
    world.pull(ARMS, platforms=("linux/arm64",), unpack=False)
    world.drop(ARM.digest, *(layer.digest for layer in ARM.layers))


@pytest.mark.parametrize(
    ("make", "status"),
    [
        (lambda world: world.pull(index(APP, ARM)), Status.SOUND),
        (lambda world: world.pull(ARMS, platforms=("linux/arm64",), unpack=False), Status.SOUND),
        (without_arm, Status.UNKNOWN),
        (lambda world: world.pull(index()), Status.UNKNOWN),
    ],
    ids=["the node's platform", "another one", "none", "an index of nothing"],
)
def test_the_status_of_an_image(make: Callable[[World], object], status: Status) -> None:
    world = World()
    make(world)
    seen = world.audit()
    (state,) = build.image_states(seen.evidence, seen.findings)
    assert state.status is status
