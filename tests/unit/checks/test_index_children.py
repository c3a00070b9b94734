"""Findings about the children of indexes: malformed ones, and platforms of which none is the node's."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest

from auditor.checks import index_children
from auditor.model import oci
from auditor.model.findings import Finding
from auditor.model.store import SourceKind
from tests.unit.build import APP, Document, Layer, World, attestation, image, index
from tests.unit.cases import NAME, build, change_info, collected, do, finding, ref, worded

AMD, ARM = "linux/amd64", "linux/arm64"
ARM_IMAGE = image(Layer("arm"), platform=ARM)
THING = image(Layer("thing", "text", "application/x-thing"), config_type="application/x-config", platform="")
NOTHING = {"config": {}, "rootfs": {"type": "layers", "diff_ids": [ARM_IMAGE.layers[0].diff_id]}}
UNNAMED = image(*ARM_IMAGE.layers, platform="", config=NOTHING)
SIX = ("arm64", "loong64", "mips64", "ppc64le", "riscv64", "s390x")
MANY, FIVE = (index(*(image(Layer(name), platform=f"linux/{name}") for name in SIX[:n])) for n in (6, 5))
IDS = {"rootfs": {"type": "layers", "diff_ids": [Layer("x").diff_id]}}
Change = Callable[[dict[str, Any]], object]


def findings(*targets: Document, **request: Any) -> list[Finding]:
    """Pull targets with all that they list, and check their children."""
    everything = {"platforms": (AMD, ARM, ""), "unpack": False}
    pulls = (do(World.pull, each, NAME if each is targets[0] else "b:1", **everything) for each in targets)
    evidence = collected(build(tuple(pulls)), **request)
    return worded(index_children.check(evidence))


def malformed(change: Change, *, child: int) -> Document:
    """Return an index of two platforms with one changed descriptor."""
    both = index(APP, ARM_IMAGE)
    change(both.value["manifests"][child])
    return both


def lying(document: Document, platform: str) -> Document:
    return replace(document, platform=platform)


#: `ctr run` and `ctr images mount` of each release end with `no match for platform in manifest`, and CRI lists none.
UNMATCHED = {
    "another platform": (index(ARM_IMAGE), "no manifest for linux/amd64; its index has linux/arm64"),
    "no child": (index(), "no manifest for linux/amd64; its index lists no image"),
    "attestations": (index(attestation(APP)), "no manifest for linux/amd64; its index lists no image"),
    "a child without a platform": (
        index(ARM_IMAGE, platforms=False),
        "no manifest for linux/amd64; its index has linux/arm64",
    ),
    "no platform at all": (index(UNNAMED), "no manifest for linux/amd64; its index names no platform"),
    "a nested index": (index(index(ARM_IMAGE)), "no manifest for linux/amd64; its index has linux/arm64"),
    "a descriptor that lies": (index(lying(APP, ARM)), "no manifest for linux/amd64; its index has linux/arm64"),
    "as many as are told": (
        FIVE,
        f"no manifest for linux/amd64; its index has {', '.join(f'linux/{name}' for name in SIX[:5])}",
    ),
    "many": (
        MANY,
        f"no manifest for linux/amd64; its index has {', '.join(f'linux/{name}' for name in SIX[:5])}, …",
    ),
}
#: containerd unpacks these; programs of another architecture do not start.
FOREIGN = {
    "a manifest of another platform": (ARM_IMAGE, "its config is for linux/arm64, not for linux/amd64"),
    "a descriptor that lies": (index(lying(ARM_IMAGE, AMD)), "its config is for linux/arm64, not for linux/amd64"),
}


@pytest.mark.parametrize(("target", "text"), [*UNMATCHED.values(), *FOREIGN.values()], ids=[*UNMATCHED, *FOREIGN])
def test_an_image_without_the_nodes_platform_is_information(target: Document, text: str) -> None:
    (found,) = (each for each in findings(target) if not each.code.endswith("-not-pulled"))
    assert (found.code, found.severity.value) == ("no-matching-platform", "info")
    shown = f" ({found.images[0].platform})" if found.images[0].platform else ""
    assert found.message == f"docker.io/library/app:1{shown}: {text}"


@pytest.mark.parametrize(
    "target",
    [
        APP,
        index(APP, ARM_IMAGE),
        index(image(Layer("x"), platform="linux/386")),
        index(APP, platforms=False),
        index(index(APP)),
        image(Layer("x"), platform="linux/amd64/v3"),
        image(Layer("x"), platform="", config=IDS),
        image(Layer("x"), platform="", config={"architecture": "arm64", **IDS}),
        image(Layer("x"), platform="", config={"os": "linux", **IDS}),
        index(APP, replace(ARM_IMAGE, raw=b"{}")),
        THING,
        index(THING, platforms=False),
    ],
    ids=(
        "it|both|386|without|nested|v3|no platform|no system|no architecture|unread|an artifact|an index of artifacts"
    ).split("|"),
)
def test_nothing_is_said_of_an_image_that_has_the_platform_or_is_none(target: Document) -> None:
    assert findings(target) == []


def test_an_index_that_is_absent_is_not_told_to_lack_a_platform() -> None:
    world = build((do(World.pull, index(index(ARM_IMAGE)), platforms=(ARM,), unpack=False),))
    world.drop(index(ARM_IMAGE).digest)
    assert [found.code for found in worded(index_children.check(collected(world)))] == []


def test_each_platform_that_was_asked_for_is_looked_for() -> None:
    found = findings(index(APP), index(image(Layer("z"), platform="linux/s390x")), platforms=(AMD, "linux/s390x"))
    assert [each.facts for each in found if each.code == "no-matching-platform"] == [
        {"wanted": AMD, "found": "linux/s390x"},
        {"wanted": "linux/s390x", "found": AMD},
    ]
    assert findings(index(ARM_IMAGE), all_platforms=True) == []


def test_an_archive_is_for_any_node() -> None:
    everything = {"platforms": (ARM,), "unpack": False}
    steps = do(World.pull, index(ARM_IMAGE), **everything), change_info(kind=SourceKind.ARCHIVE)
    assert worded(index_children.check(collected(build(steps)))) == []


def test_all_platforms_are_told() -> None:
    (found,) = findings(image(Layer("z"), platform="linux/s390x"), platforms=(AMD, ARM))
    assert found.facts == {"wanted": f"{AMD}, {ARM}", "found": "linux/s390x"}
    found, *_ = findings(MANY)
    assert found.facts == {"wanted": AMD, "found": ", ".join(f"linux/{name}" for name in SIX)}


#: Pulls of 1.6 and 1.7 succeed with these for a platform that is not wanted; all releases mount and export the image.
CHANGES: Mapping[str, tuple[Change, str]] = {
    "a digest that is too short": (lambda child: child.update(digest="sha256:a"), "'sha256:a' is not a digest"),
    "no digest": (lambda child: child.pop("digest"), "'' is not a digest"),
    "a negative size": (lambda child: child.update(size=-1), "its size is -1 bytes"),
}


@pytest.mark.parametrize(("change", "text"), CHANGES.values(), ids=CHANGES)
def test_a_malformed_child_is_a_warning_where_another_is_taken(change: Change, text: str) -> None:
    (found,) = findings(malformed(change, child=1))
    assert (found.code, found.severity.value, found.facts) == ("malformed-descriptor", "warning", {"platform": ARM})
    assert found.message == f"index of docker.io/library/app:1: malformed: descriptor 2 of the index: {text}"


@pytest.mark.parametrize(("change", "text"), CHANGES.values(), ids=CHANGES)
def test_a_malformed_child_is_critical_where_it_is_taken(change: Change, text: str) -> None:
    (found,) = findings(malformed(change, child=0))
    assert (found.code, found.severity.value) == ("malformed-manifest", "critical")
    assert found.message.endswith(f"malformed: descriptor 1 of the index: {text}")
    (bare,) = findings(malformed(lambda child: [change(child), child.pop("platform")], child=1))
    assert (bare.code, bare.facts) == ("malformed-descriptor", {})
    everything = findings(malformed(change, child=1), all_platforms=True)
    assert [each.code for each in everything] == ["malformed-manifest"]


def test_null_is_a_malformed_child_and_an_absent_size_is_zero() -> None:
    both = index(APP, ARM_IMAGE)
    both.value["manifests"].append(None)
    del both.value["manifests"][1]["size"]
    parsed = oci.parse(both.data, oci.OCI_INDEX, malformed_children=True)
    assert isinstance(parsed, oci.Index)
    assert [child.size for child in parsed.manifests] == [len(APP.data), 0]
    assert [(child.position, child.platform) for child in parsed.malformed] == [(2, None)]
    assert parsed.listed == [*parsed.manifests, *parsed.malformed]


def test_a_foreign_config_as_a_whole_record() -> None:
    (found,) = findings(ARM_IMAGE)
    code, of = "no-matching-platform", ref("manifest", ARM_IMAGE)
    known = {"wanted": AMD, "found": ARM}
    assert found == finding(code, "manifest", ARM_IMAGE.digest, of, message=found.message, facts=known)


def test_a_malformed_child_as_a_whole_record() -> None:
    both = malformed(lambda child: child.update(size=-1), child=1)
    (found,) = findings(both)
    code, of = "malformed-descriptor", ref("index", None, target=both)
    known = {"message": found.message, "cause": "published-so", "facts": {"platform": ARM}}
    assert found == finding(code, "index", both.digest, of, **known)
