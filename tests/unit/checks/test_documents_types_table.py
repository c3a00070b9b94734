"""Images of unknown types, of names that state another digest, and of archives: all findings, as whole records."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

import msgspec
import pytest

from auditor.checks import documents, index_children
from auditor.checks.evidence import Evidence
from auditor.model import oci
from auditor.model.digest import Digest
from auditor.model.findings import Finding, ImageRef, Subject
from tests.unit.build import APP, BASE, Document, Layer, World, attestation, image, index
from tests.unit.cases import NAME, Step, build, collected, do, finding, lose, pull, ref, retarget, unworded, worded

AMD, ARM, UNKNOWN = "linux/amd64", "linux/arm64", "unknown/unknown"
ARM_IMAGE = image(Layer("arm"), platform=ARM)
NOTE = attestation(APP)
BOTH = index(APP, ARM_IMAGE)
OCTETS = "application/octet-stream"
REPAIR = f"auditor repair -n k8s.io {NAME}"
PUBLISHER = "Ask the image's publisher; fetching it again brings the same bytes."


class Row(NamedTuple):
    """Steps, all that is found, and what it says."""

    steps: tuple[Step, ...]
    found: tuple[Finding, ...] = ()
    messages: tuple[str, ...] = ()


def about(name: str, code: str, used: ImageRef, **facts: str) -> Finding:
    """A finding about an image's name."""
    made = finding(code, "image", "x", used, facts=facts)
    return msgspec.structs.replace(made, subject=Subject(kind="image", name=name))


# Pages of a mirror.

PAGE = Document({}, "text/html", AMD, raw=b"<html>")
CHART = Document({}, "application/x-chart", AMD)
HUGE = Document({}, "text/plain", raw=b" " * (oci.MAX_DOCUMENT + 1))


def alone(document: Document) -> tuple[Step, ...]:
    return do(World.name, document, NAME), do(World.put, document.data)


def unknown(document: Document, whole: Document, *, here: bool) -> Finding:
    facts = {"media_type": document.media_type, "present": here}
    return finding("unknown-media-type", "content", document.digest, ref("content", None, target=whole), facts=facts)


def no_image(document: Document) -> Finding:
    facts = {"media_type": document.media_type, "size": len(document.data)}
    return finding("not-an-image", "content", document.digest, ref("content", None, target=document), facts=facts)


PAGES = {
    "a page": Row(alone(PAGE), (no_image(PAGE),), (f"{NAME}: its content is not an image (type text/html, 6 bytes)",)),
    "a page that is larger than any document": Row(
        alone(HUGE),
        (no_image(HUGE),),
        (f"{NAME}: its content is not an image (type text/plain, {oci.MAX_DOCUMENT + 1} bytes)",),
    ),
    "a page with wrong bytes": Row(
        (*alone(PAGE), lambda world: world.store.content.update({PAGE.digest: b"<HTML>"})),
        (unknown(PAGE, PAGE, here=True),),
        (f"{NAME}: references content of type text/html, which is not followed",),
    ),
    "an artifact of its own type": Row(
        alone(CHART),
        (unknown(CHART, CHART, here=True),),
        (f"{NAME}: references content of type application/x-chart, which is not followed",),
    ),
    "a page in an index": Row(
        (pull(index(replace(PAGE, platform=ARM), APP), AMD, ""), do(World.put, PAGE.data)),
        (unknown(PAGE, index(replace(PAGE, platform=ARM), APP), here=True),),
        (f"{NAME}: references content of type text/html, which is not followed",),
    ),
}


# Images whose record or index gives them a type of no image.


def mistyped(says: str, given: str, of: Document, role: str) -> Finding:
    facts = {"document": says, "descriptor": given}
    used = ref(role, of if role == "manifest" else None, target=of)
    return finding("image-type-unknown", role, of.digest, used, facts=facts)


UNSAID, UNSAID_INDEX = image(BASE, mediaType=""), index(APP, mediaType="")


def unmatched(whole: Document, listed: str) -> Finding:
    facts = {"wanted": AMD, "found": listed}
    return finding("no-matching-platform", "index", whole.digest, ref("index", None, target=whole), facts=facts)


CONFIGURED = image(BASE, config={"manifests": []}, config_type=OCTETS)
PLAIN, PLAIN_INDEX = image(BASE, mediaType=OCTETS), index(APP, mediaType=OCTETS)
TARGETS = {
    "a manifest as plain bytes": Row(
        (pull(APP), retarget(media_type=OCTETS)),
        (mistyped(oci.OCI_MANIFEST, OCTETS, APP, "manifest"),),
        (f"manifest of {NAME} (linux/amd64): its media type is {oci.OCI_MANIFEST}, in its descriptor {OCTETS}",),
    ),
    "a manifest of no stated type as plain bytes": Row(
        (pull(UNSAID), retarget(media_type=OCTETS)),
        (mistyped("", OCTETS, UNSAID, "manifest"),),
        (f"manifest of {NAME} (linux/amd64): its media type is a manifest, in its descriptor {OCTETS}",),
    ),
    "an index of no stated type as plain bytes": Row(
        (pull(UNSAID_INDEX), retarget(media_type=OCTETS)),
        (mistyped("", OCTETS, UNSAID_INDEX, "index"),),
        (f"index of {NAME}: its media type is an index, in its descriptor {OCTETS}",),
    ),
    "a manifest that states the unknown type of its record": Row(
        (pull(PLAIN), retarget(media_type=OCTETS)),
        (mistyped(OCTETS, OCTETS, PLAIN, "manifest"),),
        (f"manifest of {NAME} (linux/amd64): its media type is {OCTETS}, in its descriptor {OCTETS}",),
    ),
    "the config of an artifact, which is the target of another record": Row(
        (pull(CONFIGURED, name="b:1"), do(World.name, CONFIGURED.config, NAME)),
        (mistyped("", OCTETS, CONFIGURED.config, "index"), unmatched(CONFIGURED.config, "")),
        (
            f"index of {NAME}: its media type is an index, in its descriptor {OCTETS}",
            f"{NAME}: no manifest for linux/amd64; its index lists no image",
        ),
    ),
    "an index that states the unknown type of its record": Row(
        (pull(PLAIN_INDEX), retarget(media_type=OCTETS)),
        (mistyped(OCTETS, OCTETS, PLAIN_INDEX, "index"),),
        (f"index of {NAME}: its media type is {OCTETS}, in its descriptor {OCTETS}",),
    ),
}


def second(media_type: str, name: str = "b:1") -> Step:
    """Write another record of APP, which gives it this type."""
    return do(World.name, replace(APP, media_type=media_type), name)


def disagreeing(given: str, name: str = "b:1") -> Finding:
    names = tuple(sorted((NAME, name)))
    used = ref("image", None, target=APP, name=names[0], names=names)
    known = {"document": oci.OCI_MANIFEST, "descriptor": given, "target": str(APP.digest)}
    return about(name, "image-type-unknown", used, **known)


SAYS = f"another record of the target {oci.OCI_MANIFEST}"
RECORDS = {
    "plain bytes": Row(
        (pull(APP), second(OCTETS)),
        (disagreeing(OCTETS),),
        (f"b:1: its record gives the media type {OCTETS}, {SAYS}",),
    ),
    "no type": Row(
        (pull(APP), second("")), (disagreeing(""),), (f"b:1: its record gives the media type none, {SAYS}",)
    ),
    "an index": Row(
        (pull(APP), second(oci.OCI_INDEX, "z:1")),
        (disagreeing(oci.OCI_INDEX, "z:1"),),
        (f"z:1: its record gives the media type {oci.OCI_INDEX}, {SAYS}",),
    ),
    "Docker's name of the same kind": Row((pull(APP), second(oci.DOCKER_MANIFEST, "z:1"))),
    "the same type": Row((pull(APP), second(oci.OCI_MANIFEST))),
    "the last of three": Row(
        (pull(APP), second(oci.OCI_MANIFEST, "a:1"), second(OCTETS, "y:1")),
        (
            msgspec.structs.replace(
                disagreeing(OCTETS, "y:1"),
                images=(ref("image", None, target=APP, name="a:1", names=("a:1", NAME, "y:1")),),
            ),
        ),
        (f"y:1: its record gives the media type {OCTETS}, {SAYS}",),
    ),
    "two unknown types": Row(
        (*alone(CHART), do(World.name, replace(CHART, media_type="application/y"), "z:1")),
        (
            finding(
                "unknown-media-type",
                "content",
                CHART.digest,
                ref("content", None, target=CHART, names=(NAME, "z:1")),
                facts={"media_type": CHART.media_type, "present": True},
            ),
        ),
        (f"{NAME}: references content of type application/x-chart, which is not followed",),
    ),
}


# Content that comes before an image in its index.

#: A manifest's type with a parameter, which containerd does not know.
ODD = f"{oci.OCI_MANIFEST}; charset=utf-8"
WRONG = replace(APP, media_type=ODD)
BARE = image(Layer("bare"), platform="", config={})


def first_child(child: Document, whole: Document, *, here: bool) -> Finding:
    return finding(
        "image-type-unknown",
        "content",
        child.digest,
        ref("content", None, target=whole),
        cause="published-so",
        facts={"descriptor": child.media_type, "present": here},
        hint=PUBLISHER,
    )


def taken(media_type: str, which: str = "of linux/amd64") -> str:
    return (
        f"{NAME}: the first child {which} in its index has the media type {media_type}, of no manifest: "
        "containerd takes no other child"
    )


def not_followed(media_type: str) -> str:
    return f"{NAME}: references content of type {media_type}, which is not followed"


def not_pulled(manifest: Document, whole: Document) -> Finding:
    facts = {"manifest_present": False, "layers": 0, "layers_present": 0}
    of = ref("manifest", manifest, target=whole)
    return finding("platform-not-pulled", "manifest", manifest.digest, of, facts=facts)


def listed(*below: Document, platforms: bool = True) -> Document:
    return index(*below, platforms=platforms)


LONE, WITH_ARM = listed(WRONG), listed(WRONG, ARM_IMAGE)
CHART_FIRST, CHART_ARM, CHART_NOTE = listed(CHART, APP), listed(CHART, ARM_IMAGE), listed(CHART, NOTE)
UNNAMED = image(Layer("unnamed"))
BEFORE_UNNAMED = listed(WRONG, UNNAMED, platforms=False)
BEFORE_BARE = listed(WRONG, BARE, platforms=False)
ALONE_UNNAMED = listed(WRONG, platforms=False)
PUT_CHART = do(World.put, CHART.data)
ARM_ABSENT = f"linux/arm64 of {NAME} was not pulled"
CHILDREN = {
    "the only one, of a type with a parameter": Row(
        (pull(LONE),), (first_child(WRONG, LONE, here=True),), (taken(ODD),)
    ),
    "the only one, absent": Row((pull(LONE), lose(WRONG)), (first_child(WRONG, LONE, here=False),), (taken(ODD),)),
    "the only one, of no type": Row(
        (pull(listed(untyped := replace(APP, media_type=""))),),
        (first_child(untyped, listed(untyped), here=True),),
        (taken("none"),),
    ),
    "absent, and another platform was pulled": Row(
        (pull(WITH_ARM, ARM),), (unknown(WRONG, WITH_ARM, here=False),), (not_followed(ODD),)
    ),
    "here, and another platform was pulled": Row(
        (pull(WITH_ARM, AMD, ARM),), (first_child(WRONG, WITH_ARM, here=True),), (taken(ODD),)
    ),
    "absent, and another platform was pulled in part": Row(
        (pull(WITH_ARM, ARM), lose(*ARM_IMAGE.layers)),
        (
            first_child(WRONG, WITH_ARM, here=False),
            msgspec.structs.replace(
                not_pulled(ARM_IMAGE, WITH_ARM), facts={"manifest_present": True, "layers": 1, "layers_present": 0}
            ),
        ),
        (taken(ODD), ARM_ABSENT),
    ),
    "an artifact before the node's image": Row(
        (pull(CHART_FIRST, ""), do(World._fetch, APP, (), unpack=False), PUT_CHART),
        (first_child(CHART, CHART_FIRST, here=True),),
        (taken("application/x-chart"),),
    ),
    "an artifact before another platform's image": Row(
        (pull(CHART_ARM, ""), PUT_CHART),
        (unknown(CHART, CHART_ARM, here=True), not_pulled(ARM_IMAGE, CHART_ARM)),
        (not_followed("application/x-chart"), ARM_ABSENT),
    ),
    "an artifact before an attestation": Row(
        (pull(CHART_NOTE, UNKNOWN), PUT_CHART),
        (unknown(CHART, CHART_NOTE, here=True),),
        (not_followed("application/x-chart"),),
    ),
    "no platform, before the node's image": Row(
        (pull(BEFORE_UNNAMED),),
        (first_child(WRONG, BEFORE_UNNAMED, here=True),),
        (taken(ODD, "without a platform"),),
    ),
    "no platform, before an image that names none": Row(
        (pull(BEFORE_BARE, AMD, ""),),
        (first_child(WRONG, BEFORE_BARE, here=True),),
        (taken(ODD, "without a platform"),),
    ),
    "no platform, the only one": Row(
        (pull(ALONE_UNNAMED),), (unknown(WRONG, ALONE_UNNAMED, here=True),), (not_followed(ODD),)
    ),
}


# Nested indexes of other platforms.

OF_ARM = index(ARM_IMAGE)
NESTED = index(APP, OF_ARM)
OTHER_INDEX = finding(
    "platform-not-pulled", "index", OF_ARM.digest, ref("index", None, target=NESTED), facts={"manifest_present": False}
)
INDEXES = {
    "absent": Row(
        (pull(NESTED), lose(OF_ARM)), (OTHER_INDEX,), (f"an index of other platforms of {NAME} was not pulled",)
    ),
    "here": Row((pull(NESTED),), (not_pulled(ARM_IMAGE, NESTED),), (ARM_ABSENT,)),
}


# Names that state a digest or an id.

OTHER = Digest.of(b"other")
ARM_CONFIG = str(ARM_IMAGE.config.digest)
SECOND = image(Layer("second"))


def stated(name: str, digest: str, whole: Document) -> Finding:
    used = ref("image", None, target=whole, name=name, names=(name,))
    return about(name, "name-mismatch", used, stated=digest, target=str(whole.digest))


def leads(name: str, digest: str, whole: Document) -> str:
    return f"{name}: its name states {digest[:19]}, and leads to {whole.digest.short}"


def misnamed(*steps: Step, name: str, of: Document = APP, digest: str = OTHER) -> Row:
    """The name of the image, which the steps pull, states a digest that is not the image's."""
    return Row((pull(of, name=name), *steps), (stated(name, digest, of),), (leads(name, digest, of),))


def of_arm(world: World) -> None:
    """Write the config of the other platform, and no manifest that names it."""
    world.put(ARM_IMAGE.config.data)


def named(found: Finding, name: str) -> Finding:
    """The finding about an image of another name."""
    images = tuple(msgspec.structs.replace(each, name=name, names=(name,)) for each in found.images)
    return msgspec.structs.replace(found, images=images)


ID = str(OTHER)
ID_ARM_ABSENT = named(not_pulled(ARM_IMAGE, BOTH), ARM_CONFIG)
SHA512 = Digest.of(APP.data, algorithm="sha512")
NAMES = {
    "the digest of the target": Row((pull(APP, name=f"app@{APP.digest}"),)),
    "another digest": misnamed(name=f"app@{OTHER}"),
    "another digest behind a tag": misnamed(name=f"app:1@{OTHER}"),
    "another digest behind two signs": misnamed(name=f"a@b@{OTHER}"),
    "the digest of the config behind a name": misnamed(name=f"app@{APP.config.digest}", digest=APP.config.digest),
    "no digest": Row((pull(APP, name="app@sha256:beef"),)),
    "a digest with more behind it": Row((pull(APP, name=f"app@{OTHER}x"),)),
    "a digest that is not behind a sign": Row((pull(APP, name=f"app/{OTHER}"),)),
    "an id, that of the config": Row((pull(APP, name=str(APP.config.digest)),)),
    "an id, that of the target": Row((pull(APP, name=str(APP.digest)),)),
    "an id of something else": misnamed(name=str(OTHER)),
    "an id of another image's config": misnamed(
        pull(SECOND, name="b:1"), name=str(SECOND.config.digest), digest=SECOND.config.digest
    ),
    "an id of another image's target": misnamed(
        pull(SECOND, name="b:1"), name=str(SECOND.digest), digest=SECOND.digest
    ),
    "an id of an attestation's config": misnamed(
        name=str(NOTE.config.digest), of=index(APP, NOTE), digest=NOTE.config.digest
    )._replace(steps=(pull(index(APP, NOTE), AMD, UNKNOWN, name=str(NOTE.config.digest)),)),
    "an id, the node's manifest is absent": Row(
        (pull(APP, name=str(OTHER)), lose(APP)),
        (
            finding(
                "missing-manifest",
                "manifest",
                APP.digest,
                ref("manifest", APP, platform="", name=str(OTHER), names=(str(OTHER),)),
                cause="record-absent",
                facts={"size": len(APP.data), "media_type": APP.media_type},
                hint=f"auditor repair -n k8s.io {OTHER}",
            ),
        ),
        (f"manifest of {OTHER}: blob missing: namespace k8s.io has no record of {APP.digest.short}",),
    ),
    "an id, that of a platform whose manifest is absent and whose config is here": Row(
        (pull(BOTH, name=ARM_CONFIG), of_arm),
        (ID_ARM_ABSENT,),
        (f"linux/arm64 of {ARM_CONFIG} was not pulled",),
    ),
    "an id of something that is not here, another platform's manifest is absent": Row(
        (pull(BOTH, name=ARM_CONFIG),),
        (stated(ARM_CONFIG, ARM_CONFIG, BOTH), ID_ARM_ABSENT),
        (leads(ARM_CONFIG, ARM_CONFIG, BOTH), f"linux/arm64 of {ARM_CONFIG} was not pulled"),
    ),
    "an id, and only another platform's manifest is listed, which is absent": Row(
        (pull(OF_ARM, name=ID),),
        tuple(named(each, ID) for each in (unmatched(OF_ARM, ARM), not_pulled(ARM_IMAGE, OF_ARM))),
        (f"{ID}: no manifest for linux/amd64; its index has linux/arm64", f"linux/arm64 of {ID} was not pulled"),
    ),
    "an id of something that is here, all manifests are known": misnamed(do(World.put, b"other"), name=str(OTHER)),
    "another digest than a target of sha512": Row(
        (pull(APP, name=f"app@{OTHER}"), retarget(digest=SHA512)),
        (
            finding(
                "missing-manifest",
                "manifest",
                SHA512,
                msgspec.structs.replace(
                    ref("manifest", None, target=APP, name=f"app@{OTHER}", names=(f"app@{OTHER}",)),
                    manifest=str(SHA512),
                    target=str(SHA512),
                ),
                cause="record-absent",
                facts={"size": len(APP.data), "media_type": APP.media_type},
                hint=f"auditor repair -n k8s.io app@{OTHER}",
            ),
        ),
        (f"manifest of app@{OTHER}: blob missing: namespace k8s.io has no record of {SHA512.short}",),
    ),
}
TABLES = {
    "page": PAGES,
    "target": TARGETS,
    "record": RECORDS,
    "child": CHILDREN,
    "index": INDEXES,
    "name": NAMES,
}


def told_of(evidence: Evidence) -> list[Finding]:
    return worded([*documents.check(evidence), *index_children.check(evidence)])


@pytest.mark.parametrize(
    "row", [pytest.param(row, id=f"{table}: {name}") for table, rows in TABLES.items() for name, row in rows.items()]
)
def test_exactly_this_is_found_and_said(row: Row) -> None:
    found = told_of(collected(build(row.steps)))
    assert unworded(found) == list(row.found)
    assert [told.message for told in found] == list(row.messages)


# Archives have no namespaces.

ARCHIVED: Mapping[str, tuple[tuple[Step, ...], str]] = {
    "a manifest": ((pull(APP), lose(APP)), f"manifest of {NAME}: not in the archive"),
    "another platform": ((pull(BOTH),), f"linux/arm64 of {NAME} is not in the archive"),
    "an attestation": ((pull(index(APP, NOTE)),), f"an attestation of {NAME} is not in the archive"),
    "an index": ((pull(NESTED), lose(OF_ARM)), f"an index of other platforms of {NAME} is not in the archive"),
}


@pytest.mark.parametrize(("steps", "message"), ARCHIVED.values(), ids=ARCHIVED)
def test_what_an_archive_lacks(steps: tuple[Step, ...], message: str) -> None:
    (told,) = told_of(collected(build(steps, namespace="")))
    assert told.message == message
