"""Findings about indexes, manifests and configs: all of them for each row, as whole records."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import pytest

from auditor.checks import documents, index_children
from auditor.checks.rule import Hit
from auditor.model import oci
from auditor.model.findings import Finding, ImageRef
from auditor.model.store import Resource
from tests.unit.build import APP, BASE, MIDDLE, TOP, Document, Layer, World, attestation, image, index
from tests.unit.cases import NAME, Step, build, collected, do, finding, lose, pull, ref, retarget, unworded, worded

AMD, ARM, UNKNOWN = "linux/amd64", "linux/arm64", "unknown/unknown"
ARM_IMAGE = image(Layer("arm low"), Layer("arm high"), platform=ARM)
ARM_LOW = ARM_IMAGE.layers[0]
NOTE = attestation(APP)
BOTH, INNER = index(APP, ARM_IMAGE), index(APP)
OUTER = index(INNER, ARM_IMAGE)
PROVEN = index(APP, NOTE)
REPAIR = f"auditor repair -n k8s.io {NAME}"


class Row(NamedTuple):
    """Steps, and all that is found."""

    steps: tuple[Step, ...]
    found: tuple[Finding, ...] = ()
    request: Mapping[str, Any] = {}


def size(document: Document) -> dict[str, Any]:
    return {"size": len(document.data), "media_type": document.media_type}


def absent(document: Document, of: ImageRef) -> Finding:
    code = "missing-config" if of.role == "config" else "missing-manifest"
    cause = "record-absent"
    return finding(code, of.role, document.digest, of, cause=cause, facts=size(document), hint=REPAIR)


def arriving(document: Document, of: ImageRef) -> Finding:
    return finding("pull-in-progress", of.role, document.digest, of, facts=size(document))


def not_pulled(manifest: Document, whole: Document, *, here: bool = False, layers: int = 0, held: int = 0) -> Finding:
    facts = {"manifest_present": here, "layers": layers, "layers_present": held}
    of = ref("manifest", manifest, target=whole)
    return finding("platform-not-pulled", "manifest", manifest.digest, of, facts=facts)


def unattested(note: Document, whole: Document) -> Finding:
    of = ref("attestation", note, target=whole, platform="")
    return finding("attestation-not-pulled", "attestation", note.digest, of)


def unknown(document: Document, whole: Document, *, here: bool) -> Finding:
    of = ref("content", None, target=whole)
    facts = {"media_type": document.media_type, "present": here}
    return finding("unknown-media-type", "content", document.digest, of, facts=facts)


def malformed(document: Document, of: ImageRef) -> Finding:
    return finding("malformed-manifest", of.role, document.digest, of, cause="published-so")


def mistyped(document: Document, of: ImageRef, *, says: str) -> Finding:
    facts = {"document": says, "descriptor": document.media_type}
    return finding("media-type-mismatch", of.role, document.digest, of, facts=facts)


def miscounted(manifest: Document, whole: Document, *, layers: int, ids: int) -> Finding:
    of = ref("manifest", manifest, target=whole)
    facts = {"layers": layers, "diff_ids": ids, "config": str(manifest.config.digest)}
    return finding("layer-count-mismatch", "manifest", manifest.digest, of, cause="published-so", facts=facts)


def root(whole: Document) -> ImageRef:
    return ref("index", None, target=whole)


INGEST = {each.digest: do(World.ingest, f"manifest-{each.digest}") for each in (BOTH, INNER, APP, APP.config)}
INDEXES = {
    "all is here": Row((pull(APP),)),
    "all of an index is here": Row((pull(BOTH, AMD, ARM),)),
    "the index is absent": Row((pull(BOTH), lose(BOTH)), (absent(BOTH, root(BOTH)),)),
    "the index is absent and embedded": Row((pull(BOTH), lose(BOTH), retarget(embedded=True))),
    "the index is absent and arrives": Row(
        (pull(BOTH), lose(BOTH), INGEST[BOTH.digest]), (arriving(BOTH, root(BOTH)),)
    ),
    "the index is absent and another blob arrives": Row(
        (pull(BOTH), lose(BOTH), INGEST[APP.digest]), (absent(BOTH, root(BOTH)),)
    ),
    "the index is absent and leased": Row(
        (pull(BOTH), lose(BOTH), do(World.lease, "l", Resource("content", BOTH.digest))), (absent(BOTH, root(BOTH)),)
    ),
    "a nested index is absent": Row(
        (pull(OUTER, AMD, ARM), lose(INNER)),
        (absent(INNER, root(OUTER)),),
    ),
}


def nested(depth: int) -> Document:
    below = ARM_IMAGE
    for _ in range(depth):
        below = index(below)
    return below


DEEP = nested(oci.MAX_DEPTH)
TOO_DEEP = nested(oci.MAX_DEPTH + 1)
ONLY_ARM = {"wanted": "linux/amd64", "found": "linux/arm64"}
LIMIT = {
    "as deep as may be": Row(
        (pull(DEEP, ARM),),
        (finding("no-matching-platform", "index", DEEP.digest, root(DEEP), facts=ONLY_ARM),),
    ),
    "too deep": Row(
        (pull(TOO_DEEP, ARM),),
        (finding("malformed-manifest", "index", nested(1).digest, root(TOO_DEEP)),),
    ),
}
CHART = Document({}, "application/x-chart", AMD)
ODD = Document({}, "", AMD)
WITH_ODD = index(CHART, APP)


def alone(document: Document, *, keep: bool) -> tuple[Step, ...]:
    put = (do(World.put, document.data),) if keep else ()
    return (do(World.name, document, NAME), *put)


OTHERS = {
    "the target is of an unknown type": Row(alone(CHART, keep=True), (unknown(CHART, CHART, here=True),)),
    "the target is of no type": Row(alone(ODD, keep=True), (unknown(ODD, ODD, here=True),)),
    "the target is of an unknown type and absent": Row(
        alone(CHART, keep=False),
        (unknown(CHART, CHART, here=False), absent(CHART, ref("content", None, target=CHART))),
    ),
    "a child is of an unknown type and absent": Row(
        (pull(WITH_ODD, ""), do(World._fetch, APP, (), unpack=False)), (unknown(CHART, WITH_ODD, here=False),)
    ),
}
ATTESTATIONS = {
    "an attestation is whole": Row((pull(PROVEN, AMD, UNKNOWN),)),
    "an attestation is absent": Row((pull(PROVEN),), (unattested(NOTE, PROVEN),)),
    "an attestation lacks its statement": Row(
        (pull(PROVEN, AMD, UNKNOWN), lose(NOTE.layers[0])), (unattested(NOTE, PROVEN),)
    ),
    "an attestation has all but its manifest": Row(
        (pull(PROVEN, AMD, UNKNOWN), lose(NOTE)), (unattested(NOTE, PROVEN),)
    ),
    "an attestation has all but its config": Row(
        (pull(PROVEN, AMD, UNKNOWN), lose(NOTE.config)), (unattested(NOTE, PROVEN),)
    ),
}
APP_IN_BOTH = ref("manifest", APP, target=BOTH)
CONFIG_IN_BOTH = ref("config", APP, target=BOTH)
CACHE = image(
    Layer("chart", media_type="application/x-chart"),
    platform=ARM,
    config={},
    config_type="application/vnd.cncf.helm.config.v1+json",
)
WITH_CACHE = index(APP, CACHE)
BARE = image(Layer("bare"), platform="", config={})
WITH_BARE = index(APP, BARE)
MANIFESTS = {
    "the node's is absent": Row(
        (pull(BOTH, AMD, ARM), lose(APP, ARM_LOW)),
        (
            absent(APP, APP_IN_BOTH),
            not_pulled(ARM_IMAGE, BOTH, here=True, layers=2, held=1),
        ),
    ),
    "the target is absent": Row((pull(APP), lose(APP)), (absent(APP, ref("manifest", APP, platform="")),)),
    "the node's is absent and arrives": Row(
        (pull(INNER), lose(APP), INGEST[APP.digest]), (arriving(APP, ref("manifest", APP, target=INNER)),)
    ),
    "another platform's is absent": Row((pull(BOTH),), (not_pulled(ARM_IMAGE, BOTH),)),
    "another platform's is absent, all were asked for": Row(
        (pull(BOTH),), (absent(ARM_IMAGE, ref("manifest", ARM_IMAGE, target=BOTH)),), {"all_platforms": True}
    ),
    "one without a platform is absent": Row((pull(WITH_BARE),), (not_pulled(BARE, WITH_BARE),)),
    "the node's was left out": Row((pull(BOTH, ARM),), (not_pulled(APP, BOTH),)),
    "the node's was left out, its documents are here": Row(
        (pull(BOTH, ARM), do(World.put, APP.data), do(World.put, APP.config.data)),
        (not_pulled(APP, BOTH, here=True, layers=3),),
    ),
    "the node's was left out, its manifest is here": Row(
        (pull(BOTH, ARM), do(World.put, APP.data)), (not_pulled(APP, BOTH, here=True, layers=3),)
    ),
    "the node's config is absent": Row(
        (pull(BOTH), lose(APP.config)), (absent(APP.config, CONFIG_IN_BOTH), not_pulled(ARM_IMAGE, BOTH))
    ),
    "the node's config is absent and arrives": Row(
        (pull(APP), lose(APP.config), INGEST[APP.config.digest]),
        (arriving(APP.config, ref("config", APP, platform="")),),
    ),
    "another platform's config is absent": Row(
        (pull(BOTH, AMD, ARM), lose(ARM_IMAGE.config)), (not_pulled(ARM_IMAGE, BOTH, here=True, layers=2, held=2),)
    ),
    "another platform's layer is absent": Row(
        (pull(BOTH, AMD, ARM), lose(ARM_LOW)), (not_pulled(ARM_IMAGE, BOTH, here=True, layers=2, held=1),)
    ),
    "another platform's artifact lacks a layer": Row(
        (pull(WITH_CACHE, AMD, ARM), lose(CACHE.layers[0])), (not_pulled(CACHE, WITH_CACHE, here=True, layers=1),)
    ),
}
MANY = image(BASE, MIDDLE, diff_ids=[BASE.diff_id])
MANY_ARM = image(*ARM_IMAGE.layers, platform=ARM, diff_ids=[ARM_LOW.diff_id])
WITH_MANY = index(APP, MANY_ARM)
MIXED = image(BASE, Layer("text", media_type="text/plain"), diff_ids=[BASE.diff_id, TOP.diff_id])
COUNTS = {
    "the node's": Row((pull(MANY),), (miscounted(MANY, MANY, layers=2, ids=1),)),
    "the node's, without a layer": Row((pull(MANY), lose(BASE, MIDDLE)), (miscounted(MANY, MANY, layers=2, ids=1),)),
    "only what is unpacked counts": Row((pull(MIXED),), (miscounted(MIXED, MIXED, layers=1, ids=2),)),
    "without a config": Row((pull(MANY), lose(MANY.config)), (absent(MANY.config, ref("config", MANY, platform="")),)),
    "another platform's, whole": Row((pull(WITH_MANY, AMD, ARM),), (miscounted(MANY_ARM, WITH_MANY, layers=2, ids=1),)),
    "another platform's, one layer": Row(
        (pull(WITH_MANY, AMD, ARM), lose(ARM_LOW)),
        (
            miscounted(MANY_ARM, WITH_MANY, layers=2, ids=1),
            not_pulled(MANY_ARM, WITH_MANY, here=True, layers=2, held=1),
        ),
    ),
    "another platform's, no layer": Row(
        (pull(WITH_MANY, AMD, ARM), lose(*MANY_ARM.layers)), (not_pulled(MANY_ARM, WITH_MANY, here=True, layers=2),)
    ),
}
BAD_INDEX = replace(INNER, raw=b"[")
BAD_MANIFEST = replace(APP, raw=b"{}")
BAD_CONFIG = image(BASE, config={"rootfs": []})
DOCKER_SAID = image(BASE, mediaType=oci.DOCKER_MANIFEST)
UNSAID = image(BASE, mediaType="")
LIST_SAID = index(APP, mediaType=oci.DOCKER_INDEX)
BAD_NOTE = index(APP, replace(NOTE, raw=b"{}"))
FLAWS = {
    "an index": Row((pull(BAD_INDEX),), (malformed(BAD_INDEX, root(BAD_INDEX)),)),
    "a manifest": Row((pull(BAD_MANIFEST),), (malformed(BAD_MANIFEST, ref("manifest", BAD_MANIFEST, platform="")),)),
    "a config": Row((pull(BAD_CONFIG),), (malformed(BAD_CONFIG.config, ref("config", BAD_CONFIG, platform="")),)),
    "a manifest in an index": Row(
        (pull(index(BAD_MANIFEST)),),
        (malformed(BAD_MANIFEST, ref("manifest", BAD_MANIFEST, target=index(BAD_MANIFEST))),),
    ),
    "an attestation is not judged": Row(
        (pull(BAD_NOTE, AMD, UNKNOWN),), (unattested(replace(NOTE, raw=b"{}"), BAD_NOTE),)
    ),
    "wrong bytes are judged elsewhere": Row((pull(APP), lambda world: world.store.content.update({APP.digest: b"{}"}))),
    "a manifest says another type": Row(
        (pull(DOCKER_SAID),),
        (mistyped(DOCKER_SAID, ref("manifest", DOCKER_SAID), says=oci.DOCKER_MANIFEST),),
    ),
    "a manifest says no type": Row((pull(UNSAID),)),
    "an index says another type": Row(
        (pull(LIST_SAID),), (mistyped(LIST_SAID, root(LIST_SAID), says=oci.DOCKER_INDEX),)
    ),
    "an index that is absent here, malformed elsewhere": Row(
        (
            pull(BAD_INDEX),
            lambda world: World("moby", store=world.store).put(BAD_INDEX.data),
            lose(BAD_INDEX),
        ),
        (absent(BAD_INDEX, root(BAD_INDEX)),),
    ),
}
TABLES = {
    "index": INDEXES,
    "depth": LIMIT,
    "other": OTHERS,
    "attestation": ATTESTATIONS,
    "manifest": MANIFESTS,
    "counts": COUNTS,
    "flaw": FLAWS,
}


def found(row: Row) -> list[Hit]:
    evidence = collected(build(row.steps), **row.request)
    return [*documents.check(evidence), *index_children.check(evidence)]


@pytest.mark.parametrize(
    "row", [pytest.param(row, id=f"{table}: {name}") for table, rows in TABLES.items() for name, row in rows.items()]
)
def test_exactly_this_is_found(row: Row) -> None:
    assert unworded(worded(found(row))) == list(row.found)


MANIFEST = f"manifest of {NAME} (linux/amd64)"
SAID = {
    "too deep": (LIMIT["too deep"], [f"index of {NAME}: nested more than 100 indexes deep"]),
    "unknown type, absent": (
        OTHERS["the target is of an unknown type and absent"],
        [
            f"{NAME}: references content of type application/x-chart, which is not followed",
            f"content of {NAME}: blob missing: namespace k8s.io has no record of {CHART.digest.short}",
        ],
    ),
    "no type": (
        OTHERS["the target is of no type"],
        [f"{NAME}: references content of type none, which is not followed"],
    ),
    "index absent": (
        INDEXES["the index is absent"],
        [f"index of {NAME}: blob missing: namespace k8s.io has no record of {BOTH.digest.short}"],
    ),
    "index arrives": (
        INDEXES["the index is absent and arrives"],
        [f"index of {NAME}: blob missing: a pull is in progress"],
    ),
    "counts": (
        COUNTS["the node's"],
        [f"{MANIFEST}: the number of layers (2) differs from the number of diff_ids in the config (1)"],
    ),
    "not pulled": (MANIFESTS["another platform's is absent"], [f"linux/arm64 of {NAME} was not pulled"]),
    "not pulled, no platform": (
        MANIFESTS["one without a platform is absent"],
        [f"a manifest without a platform of {NAME} was not pulled"],
    ),
    "attestation": (ATTESTATIONS["an attestation is absent"], [f"an attestation of {NAME} was not pulled"]),
    "malformed": (FLAWS["a manifest"], [f"manifest of {NAME}: malformed: the manifest names no config"]),
    "type": (
        FLAWS["a manifest says another type"],
        [f"{MANIFEST}: its media type is {oci.DOCKER_MANIFEST}, in its descriptor {oci.OCI_MANIFEST}"],
    ),
}


@pytest.mark.parametrize(("row", "messages"), SAID.values(), ids=SAID)
def test_the_message_says_this(row: Row, messages: list[str]) -> None:
    assert [told.message for told in worded(found(row))] == messages
