"""Which platforms of an image were pulled: a row for each thing that speaks for one or against it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import pytest

from auditor.checks.pulled_platforms import only_choice, pulled_instead, unpacked
from tests.unit.build import APP, BASE, MIDDLE, OVERLAY, TOP, Document, Layer, World, attestation, image, index
from tests.unit.cases import Step, add_labels, build, collected, do, find, lose

CLAIM = "containerd.io/gc.ref.snapshot."
SOURCE = "containerd.io/distribution.source."
ROOT = {"containerd.io/gc.root": ""}
CHART = image(
    Layer("chart", media_type="application/x-chart"), config={}, config_type="application/vnd.cncf.helm.config.v1+json"
)
EMPTY = image()
PULL = do(World.pull, APP)
FETCH = do(World.pull, APP, unpack=False)
UNCLAIM = do(World.unlabel, APP.config.digest)


def claim(manifest: Document, name: str, of: str = OVERLAY) -> Step:
    return add_labels(manifest.config.digest, **{f"{CLAIM}{of}": name})


# Unpacked, and whole.

UNPACKED: dict[str, tuple[Document, tuple[Step, ...], bool]] = {
    "claimed and unpacked": (APP, (PULL,), True),
    "claimed, the top's snapshot is gone": (APP, (PULL, do(World.drop_snapshots, APP.chain[2])), False),
    "claimed, a snapshot below the top is gone": (APP, (PULL, do(World.drop_snapshots, APP.chain[0])), True),
    "unpacked, not claimed": (APP, (PULL, UNCLAIM), False),
    "another chain is claimed": (APP, (PULL, UNCLAIM, claim(APP, APP.chain[1])), False),
    "another chain is claimed too": (APP, (PULL, claim(APP, APP.chain[1], "native")), True),
    "claimed for a snapshotter that has nothing": (APP, (PULL, UNCLAIM, claim(APP, APP.chain[2], "native")), True),
    "no chain": (CHART, (do(World.pull, CHART, unpack=False), claim(CHART, "x")), False),
}


@pytest.mark.parametrize(("manifest", "steps", "expected"), UNPACKED.values(), ids=UNPACKED)
def test_unpacked_is_what_its_config_claims_and_a_snapshotter_has(
    manifest: Document, steps: tuple[Step, ...], expected: bool
) -> None:
    view, _, node = find(collected(build(steps)), manifest)
    inside = view.content(node.digest)
    assert inside is not None
    assert unpacked(view, inside) is expected


WHOLE: dict[str, tuple[Document, tuple[Step, ...], bool]] = {
    "config and layers": (APP, (FETCH,), True),
    "no config": (APP, (FETCH, lose(APP.config)), False),
    "a layer is absent": (APP, (FETCH, lose(TOP)), False),
    "all layers are absent": (APP, (FETCH, lose(BASE, MIDDLE, TOP)), False),
    "no manifest": (APP, (FETCH, lose(APP)), False),
    "no layers": (EMPTY, (do(World.pull, EMPTY, unpack=False),), True),
    "no layers, no config": (EMPTY, (do(World.pull, EMPTY, unpack=False), lose(EMPTY.config)), False),
}


@pytest.mark.parametrize(("manifest", "steps", "expected"), WHOLE.values(), ids=WHOLE)
def test_whole_is_a_config_with_all_layers(manifest: Document, steps: tuple[Step, ...], expected: bool) -> None:
    view, _, node = find(collected(build(steps)), manifest)
    assert view.whole(view.content(node.digest)) is expected


# The node's platform was left out.

AMD, ARM, S390, X386 = "linux/amd64", "linux/arm64", "linux/s390x", "linux/386"
ARM_IMAGE = image(Layer("arm"), platform=ARM)
S390_IMAGE = image(Layer("s390x"), platform=S390)
X386_IMAGE = image(Layer("386"), platform=X386)
#: Has the node's lowest layer.
ARM_SHARING = image(BASE, Layer("arm"), platform=ARM)
ARM_BARE = image(platform=ARM)
ARM_CHART = replace(CHART, platform=ARM)
#: Names no platform, so that it is wanted where no other is.
BARE = image(TOP, platform="", config={"rootfs": {"type": "layers", "diff_ids": [TOP.diff_id]}})
REPOSITORY = {f"{SOURCE}docker.io": "library/app"}
LEFT = b'{"os": "linux"}'


class Left(NamedTuple):
    """Pull some platforms of an index, take further steps, ask about a manifest of it."""

    listed: tuple[Document, ...]
    platforms: tuple[str, ...]
    steps: tuple[Step, ...]
    instead: bool
    of: Document = APP
    request: Mapping[str, Any] = {}
    names: tuple[str, ...] = ("docker.io/library/app:1",)
    unpack: bool = False


def documents(manifest: Document) -> tuple[Step, ...]:
    return do(World.put, manifest.data), do(World.put, manifest.config.data)


def left(repositories: Mapping[str, str], *, labels: Mapping[str, str] | None = None) -> tuple[Step, ...]:
    """What remains of an image that lost its manifest: a config that was unpacked."""
    marks = {f"{CLAIM}{OVERLAY}": "x"} if labels is None else labels
    return (do(World.put, LEFT, **marks, **repositories),)


def arm(*steps: Step, instead: bool, **fields: Any) -> Left:
    return Left((APP, ARM_IMAGE), (ARM,), steps, instead, **fields)


def cri(manifest: Document) -> tuple[str, ...]:
    return ("docker.io/library/app:1", f"sha256:{manifest.config.digest.hex}")


PAIR = index(APP, ARM_IMAGE)
FROM = add_labels(PAIR.digest, **REPOSITORY)
INSTEAD = {
    "another platform is whole": arm(instead=True),
    "another platform is documents of this one": arm(*documents(APP), instead=True),
    "another platform is whole and unpacked": arm(instead=True, unpack=True),
    "nothing was pulled": Left((APP, ARM_IMAGE), (), (), instead=False),
    "another platform lacks a layer": arm(lose(ARM_IMAGE.layers[0]), instead=False),
    "another platform lacks its config": arm(lose(ARM_IMAGE.config), instead=False),
    "platforms were named": arm(instead=False, request={"platforms": (AMD,)}),
    "all platforms were asked for": arm(instead=False, request={"all_platforms": True}),
    "the manifest is the image's target": Left((), (), (FETCH, lose(TOP)), instead=False),
    "another that would run here too": Left((APP, X386_IMAGE), (X386,), (), instead=False),
    "another without layers": Left((APP, ARM_BARE), (ARM,), (), instead=False),
    "another that is no image": Left((APP, ARM_CHART), (ARM,), (), instead=False),
    "an attestation": Left((APP, attestation(APP)), ("unknown/unknown",), (), instead=False),
    "one of two others": Left((APP, ARM_IMAGE, S390_IMAGE), (S390,), (), instead=True),
    "both others: all were pulled, one was lost": Left((APP, ARM_IMAGE, S390_IMAGE), (ARM, S390), (), instead=False),
    "both others, beside an attestation": Left(
        (APP, ARM_IMAGE, S390_IMAGE, attestation(APP)), (ARM, S390), (), instead=False
    ),
    "both others, this one without a platform": Left(
        (BARE, ARM_IMAGE, S390_IMAGE), (ARM, S390), (do(World.put, BARE.data),), instead=False, of=BARE
    ),
    "two of three others": Left(
        (APP, ARM_IMAGE, S390_IMAGE, image(Layer("ppc"), platform="linux/ppc64le")), (ARM, S390), (), instead=True
    ),
    "CRI took the other's config": arm(instead=True, names=cri(ARM_IMAGE)),
    "CRI took the other's config, a layer of this one is here": arm(
        *documents(APP), do(World.put, TOP.data), instead=True, names=cri(ARM_IMAGE)
    ),
    "CRI took this one's config": arm(instead=False, names=cri(APP)),
    "CRI took a config that is none of these": arm(instead=False, names=cri(S390_IMAGE)),
    "CRI took the second of two that are whole": Left(
        (APP, ARM_IMAGE, S390_IMAGE, X386_IMAGE, image(Layer("ppc"), platform="linux/ppc64le")),
        (ARM, S390),
        (),
        instead=True,
        names=cri(S390_IMAGE),
    ),
    "a name that ends as CRI's begins": arm(
        instead=True, names=(f"docker.io/library/app@sha256:{APP.config.digest.hex}",)
    ),
    "unpacked": arm(*documents(APP), do(World.unpack, APP), claim(APP, APP.chain[2]), instead=False),
    "snapshots that its config does not claim": arm(*documents(APP), do(World.unpack, APP), instead=True),
    "a layer of its own": arm(*documents(APP), do(World.put, TOP.data), instead=False),
    "a layer of its own, its manifest is absent": arm(do(World.put, TOP.data), instead=True),
    "a layer that the other has too": Left((APP, ARM_SHARING), (ARM,), documents(APP), instead=True),
    "a layer that the other has too, and one of its own": Left(
        (APP, ARM_SHARING), (ARM,), (*documents(APP), do(World.put, MIDDLE.data)), instead=False
    ),
    "a config left behind": arm(FROM, *left(REPOSITORY), instead=False),
    "a config left behind of another snapshotter": arm(
        FROM, *left(REPOSITORY, labels={f"{CLAIM}native": "x"}), instead=False
    ),
    "a config left behind, not unpacked": arm(FROM, *left(REPOSITORY, labels={}), instead=True),
    "a config left behind, other labels": arm(FROM, *left(REPOSITORY, labels={"a": "", f"x{CLAIM}": ""}), instead=True),
    "a config left behind, other labels and a claim": arm(
        FROM, *left(REPOSITORY, labels={"a": "", f"{CLAIM}native": ""}), instead=False
    ),
    "a config that something keeps": arm(
        FROM, *left(REPOSITORY, labels={f"{CLAIM}{OVERLAY}": "x", **ROOT}), instead=True
    ),
    "a config of another repository": arm(FROM, *left({f"{SOURCE}docker.io": "library/other"}), instead=True),
    "a config of another host": arm(FROM, *left({f"{SOURCE}quay.io": "library/app"}), instead=True),
    "a config of two repositories": arm(FROM, *left({f"{SOURCE}docker.io": "a/b,library/app"}), instead=False),
    "a config of nowhere": arm(FROM, *left({}), instead=True),
    "a config left behind, the image is from nowhere": arm(*left(REPOSITORY), instead=True),
    "labels in common that are no origins": arm(
        add_labels(PAIR.digest, note="library/app"), *left({"note": "library/app"}), instead=True
    ),
    "the whole one's own config is from the same repository": arm(
        FROM, add_labels(ARM_IMAGE.config.digest, **REPOSITORY), instead=True, unpack=True
    ),
}


@pytest.mark.parametrize("row", INSTEAD.values(), ids=INSTEAD)
def test_the_nodes_platform_was_left_out(row: Left) -> None:
    target = index(*row.listed) if row.listed else APP
    pull = do(World.pull, target, *row.names, platforms=row.platforms, unpack=row.unpack)
    evidence = collected(build((pull, *row.steps) if row.listed else row.steps), **row.request)
    view, graph, node = find(evidence, row.of)
    assert node.wanted
    assert pulled_instead(evidence, view, graph, node) is row.instead


# Nothing of the image is for the node.

PLAIN = image(Layer("low"), Layer("high"), platform=ARM)
PROOF = attestation(PLAIN)


def fetched(*listed: Document, of: tuple[str, ...], lost: tuple[Layer | Document, ...] = ()) -> tuple[Step, ...]:
    return do(World.pull, index(*listed), platforms=of, unpack=False), lose(*lost)


LOW, HIGH = PLAIN.layers
CHOICE = {
    "one layer of two": (fetched(PLAIN, S390_IMAGE, of=(ARM,), lost=(LOW,)), True),
    "no layer": (fetched(PLAIN, S390_IMAGE, of=(ARM,), lost=(LOW, HIGH)), False),
    "one layer, another platform is whole": (fetched(PLAIN, S390_IMAGE, of=(ARM, S390), lost=(LOW,)), False),
    "one layer, another platform is wanted": (fetched(PLAIN, APP, of=(ARM,), lost=(LOW,)), False),
    "one layer, an attestation is whole": (fetched(PLAIN, PROOF, of=(ARM, "unknown/unknown"), lost=(LOW,)), True),
    "it is whole itself": (fetched(PLAIN, S390_IMAGE, of=(ARM,)), False),
}


@pytest.mark.parametrize(("steps", "expected"), CHOICE.values(), ids=CHOICE)
def test_the_only_choice_is_what_lies_here_in_part(steps: tuple[Step, ...], expected: bool) -> None:
    view, graph, node = find(collected(build(steps)), PLAIN)
    inside = view.content(node.digest)
    assert inside is not None
    assert only_choice(view, graph, inside) is expected
