"""The graph of an image, a row for each branch: whole graphs, groups and contents are compared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from auditor.model import oci
from auditor.model.digest import Digest
from auditor.model.image_graph import (
    Broken,
    Content,
    Documents,
    Family,
    Flaw,
    Group,
    ImageGraph,
    Layer,
    MalformedNode,
    ManifestNode,
    children,
    content,
    family,
    group,
    key,
    key_of_root,
)
from auditor.model.image_walk import platform_of, walk
from auditor.model.oci import Descriptor, ImageConfig, Index, MalformedChild, Manifest
from auditor.model.platforms import EVERYTHING, Matcher, Platform, only
from auditor.model.store import Image

AMD, ARM, X386, S390 = (Platform("linux", arch) for arch in ("amd64", "arm64", "386", "s390x"))
NONE, UNKNOWN = Platform(), Platform("unknown", "unknown")
NODE = only([AMD])
LAYER = f"{oci.OCI_LAYER}+gzip"
SCHEMA1 = "application/vnd.docker.distribution.manifest.v1+prettyjws"


def digest(name: str) -> Digest:
    return Digest.of(name.encode())


def index(name: str) -> Descriptor:
    return Descriptor(oci.OCI_INDEX, digest(name), 1)


def manifest(name: str, platform: Platform | None = None, **fields: Any) -> Descriptor:
    return Descriptor(oci.OCI_MANIFEST, digest(name), 1, platform, **fields)


def layer(name: str, media_type: str = LAYER) -> Descriptor:
    return Descriptor(media_type, digest(name), 1)


def config(name: str, media_type: str = oci.OCI_CONFIG) -> Descriptor:
    return Descriptor(media_type, digest(name), 1)


# Families of media types.

FAMILIES = {
    oci.OCI_INDEX: Family.INDEX,
    oci.DOCKER_INDEX: Family.INDEX,
    oci.OCI_MANIFEST: Family.MANIFEST,
    oci.DOCKER_MANIFEST: Family.MANIFEST,
    "application/vnd.docker.distribution.manifest.v1+json": Family.MANIFEST,
    SCHEMA1: Family.MANIFEST,
    oci.OCI_CONFIG: Family.CONFIG,
    oci.DOCKER_CONFIG: Family.CONFIG,
    LAYER: None,
    "": None,
}


@pytest.mark.parametrize(("media_type", "expected"), FAMILIES.items())
def test_a_media_type_has_a_family(media_type: str, expected: Family | None) -> None:
    assert family(media_type) is expected
    made = Descriptor(media_type, digest("x"), 1)
    assert key(made) == (None if expected is None else (digest("x"), expected))


def test_families_and_flaws_have_their_words() -> None:
    assert [str(each) for each in Family] == ["index", "manifest", "config", "untyped"]
    flaws = "no file|wrong size|wrong digest|malformed|unreadable|too large|neither an index nor a manifest".split("|")
    assert [str(each) for each in Flaw] == flaws


CHILDREN: dict[str, tuple[Any, list[Descriptor]]] = {
    "index": (Index((manifest("a"), index("b"))), [manifest("a"), index("b")]),
    "manifest": (Manifest(config("c"), (layer("1"), layer("2"))), [config("c"), layer("1"), layer("2")]),
    "config": (ImageConfig(AMD, (digest("x"),)), []),
    "broken": (Broken(Flaw.SIZE), []),
}


@pytest.mark.parametrize(("document", "named"), CHILDREN.values(), ids=CHILDREN)
def test_a_document_names_these_in_its_order(document: Index | Manifest, named: list[Descriptor]) -> None:
    assert list(children(document)) == named


# Targets of unknown type.


def untyped(name: str) -> Descriptor:
    return Descriptor("application/octet-stream", digest(name), 1)


UNTYPED = (digest("r"), Family.UNTYPED)
TARGETS: dict[str, tuple[Descriptor, Documents, Family]] = {
    "a known type, whatever was read": (index("r"), {UNTYPED: Manifest(config("c"), ())}, Family.INDEX),
    "nothing was read": (untyped("r"), {}, Family.UNTYPED),
    "an index": (untyped("r"), {UNTYPED: Index(())}, Family.INDEX),
    "a manifest": (untyped("r"), {UNTYPED: Manifest(config("c"), ())}, Family.MANIFEST),
    "neither": (untyped("r"), {UNTYPED: Broken(Flaw.UNTYPED)}, Family.UNTYPED),
}


@pytest.mark.parametrize(("target", "documents", "expected"), TARGETS.values(), ids=TARGETS)
def test_a_target_is_what_it_parses_as(target: Descriptor, documents: Documents, expected: Family) -> None:
    assert key_of_root(target, documents) == (digest("r"), expected)


def test_only_the_target_may_be_of_unknown_type() -> None:
    child = untyped("c")
    documents: Documents = {
        UNTYPED: Index((child,)),
        (digest("r"), Family.INDEX): Index((child,)),
        (digest("c"), Family.UNTYPED): Manifest(config("x"), ()),
    }
    image = Group("n", ("a",), untyped("r"))
    assert walk(image, documents, NODE) == ImageGraph(
        image, indexes=(untyped("r"),), others=(child,), unusable=(child,)
    )


# Records of one target.


def record(name: str, target: str = "a", namespace: str = "n") -> Image:
    return Image(namespace, name, manifest(target))


def grouped(*records: Image) -> Group:
    first = records[0]
    return Group(first.namespace, tuple(each.name for each in records), first.target, records)


TAG, DIGEST, ID = "docker.io/library/a:1", "docker.io/library/a@sha256:0", "sha256:0"
GROUPS: dict[str, tuple[list[Image], list[Group]]] = {
    "none": ([], []),
    "a tag before a digest before an id": (
        [record(ID), record(DIGEST), record(TAG)],
        [grouped(record(TAG), record(DIGEST), record(ID))],
    ),
    "a tag before a digest whatever the letters": (
        [record("a@sha256:0"), record("b:1")],
        [grouped(record("b:1"), record("a@sha256:0"))],
    ),
    "the first name's descriptor": (
        [record("b:1"), Image("n", "a:1", index("a"))],
        [grouped(Image("n", "a:1", index("a")), record("b:1"))],
    ),
    "the first descriptor of a known type": (
        [record("b:1"), Image("n", "a:1", untyped("a"))],
        [Group("n", ("a:1", "b:1"), manifest("a"), (Image("n", "a:1", untyped("a")), record("b:1")))],
    ),
    "no descriptor of a known type": (
        [Image("n", "b:1", layer("a")), Image("n", "a:1", untyped("a"))],
        [grouped(Image("n", "a:1", untyped("a")), Image("n", "b:1", layer("a")))],
    ),
    "tags by name": ([record("b:1"), record("a:1")], [grouped(record("a:1"), record("b:1"))]),
    "a digest before an id whatever the letters": (
        [record(ID), record("z@sha256:0")],
        [grouped(record("z@sha256:0"), record(ID))],
    ),
    "two targets": (
        [record("b:1", "b"), record("a:1")],
        [grouped(record("a:1")), grouped(record("b:1", "b"))],
    ),
    "one target in two namespaces": (
        [record("a:1", namespace="z"), record("b:1")],
        [grouped(record("b:1")), grouped(record("a:1", namespace="z"))],
    ),
}


@pytest.mark.parametrize(("records", "groups"), GROUPS.values(), ids=GROUPS)
def test_records_of_one_target_are_one_image(records: list[Image], groups: list[Group]) -> None:
    assert list(group(records)) == groups
    assert [each.name for each in groups] == [each.names[0] for each in groups]


# The walk.


def node(
    descriptor: Descriptor, *path: str, wanted: bool, alike: bool, platform: Platform | None = None
) -> ManifestNode:
    shown = platform or descriptor.platform
    return ManifestNode(descriptor, shown, wanted, alike, tuple(digest(name) for name in path))


@dataclass(frozen=True)
class Walk:
    """Documents, what is wanted, and the whole graph but for the image."""

    target: Descriptor
    indexes: Mapping[str, tuple[Descriptor, ...]] = field(default_factory=dict)
    more: dict[tuple[Digest, Family], Any] = field(default_factory=dict)
    matcher: Matcher = NODE
    found: dict[str, Any] = field(default_factory=dict)

    @property
    def documents(self) -> Documents:
        return {**{(digest(name), Family.INDEX): Index(below) for name, below in self.indexes.items()}, **self.more}


def says(name: str, platform: Platform) -> dict[tuple[Digest, Family], Any]:
    """A manifest whose config says its platform."""
    return {
        (digest(name), Family.MANIFEST): Manifest(config(f"{name} config"), ()),
        (digest(f"{name} config"), Family.CONFIG): ImageConfig(platform, ()),
    }


def listing(
    *below: Descriptor, nodes: tuple[ManifestNode, ...], unmatched: tuple[Platform, ...] = (), **fields: Any
) -> Walk:
    """An index over these manifests."""
    found = {"indexes": (index("i"),), "manifests": nodes, "unmatched": unmatched}
    return Walk(index("i"), {"i": below}, found=found, **fields)


A, B = manifest("a", AMD), manifest("b", ARM)
BARE, BARE2 = manifest("bare"), manifest("bare 2")
NOTE = manifest("note", UNKNOWN)
NOTE_BARE = manifest("note", annotations={"vnd.docker.reference.type": "attestation-manifest"})
DEEP = {f"{n}": (index(f"{n + 1}"), manifest(f"m{n}", ARM)) for n in range(oci.MAX_DEPTH + 1)}
DATA_ARM, DATA_AMD = manifest("data", ARM), manifest("data", AMD)
DATA_386 = manifest("data", X386)
WALKS = {
    "a manifest": Walk(A, found={"manifests": (node(A, wanted=True, alike=True),)}),
    "a manifest of another platform is not filtered": Walk(B, found={"manifests": (node(B, wanted=True, alike=True),)}),
    "a manifest, its platform in its config": Walk(
        BARE, more=says("bare", ARM), found={"manifests": (node(BARE, wanted=True, alike=True, platform=ARM),)}
    ),
    "a target of unknown type": Walk(layer("x"), found={"others": (layer("x"),)}),
    "a config as the target": Walk(config("c"), found={"others": (config("c"),)}),
    "an index that is not read": Walk(index("i"), found={"indexes": (index("i"),)}),
    "an index that is broken": Walk(
        index("i"), more={(digest("i"), Family.INDEX): Broken(Flaw.SIZE)}, found={"indexes": (index("i"),)}
    ),
    "one of two": listing(A, B, nodes=(node(A, "i", wanted=True, alike=True), node(B, "i", wanted=False, alike=False))),
    "the only one, of another platform": listing(B, nodes=(node(B, "i", wanted=False, alike=False),), unmatched=(AMD,)),
    "everything": listing(
        A,
        B,
        BARE,
        matcher=EVERYTHING,
        nodes=(
            node(A, "i", wanted=True, alike=True),
            node(B, "i", wanted=True, alike=True),
            node(BARE, "i", wanted=True, alike=False),
        ),
    ),
    "the better of two that would run": listing(
        manifest("x", X386),
        A,
        nodes=(node(manifest("x", X386), "i", wanted=False, alike=True), node(A, "i", wanted=True, alike=True)),
    ),
    "the first of two alike": listing(
        A,
        manifest("a2", AMD),
        nodes=(node(A, "i", wanted=True, alike=True), node(manifest("a2", AMD), "i", wanted=False, alike=True)),
    ),
    "without a platform, another matches": listing(
        BARE, A, nodes=(node(BARE, "i", wanted=False, alike=False), node(A, "i", wanted=True, alike=True))
    ),
    "without a platform, no other matches": listing(
        B,
        BARE,
        BARE2,
        nodes=(
            node(B, "i", wanted=False, alike=False),
            node(BARE, "i", wanted=True, alike=False),
            node(BARE2, "i", wanted=False, alike=False),
        ),
    ),
    "without a platform, its config tells": listing(
        BARE,
        B,
        more=says("bare", AMD),
        nodes=(node(BARE, "i", wanted=True, alike=True, platform=AMD), node(B, "i", wanted=False, alike=False)),
    ),
    "an attestation, whatever its config says": listing(
        NOTE_BARE,
        more=says("note", AMD),
        nodes=(node(NOTE_BARE, "i", wanted=False, alike=False),),
    ),
    "an attestation under everything": listing(
        A,
        NOTE,
        matcher=EVERYTHING,
        nodes=(
            node(A, "i", wanted=True, alike=True),
            ManifestNode(NOTE, None, wanted=False, alike=False, path=(digest("i"),)),
        ),
    ),
    "others beside manifests": Walk(
        index("i"),
        {"i": (layer("x"), A, config("c"))},
        found={
            "indexes": (index("i"),),
            "manifests": (node(A, "i", wanted=True, alike=True),),
            "others": (layer("x"), config("c")),
        },
    ),
    "nested": Walk(
        index("i"),
        {"i": (index("j"), B), "j": (A,)},
        found={
            "indexes": (index("i"), index("j")),
            "manifests": (node(A, "i", "j", wanted=True, alike=True), node(B, "i", wanted=False, alike=False)),
        },
    ),
    "named twice, then another": Walk(
        index("i"),
        {"i": (A, A, index("j"), index("j"), B), "j": (A,)},
        found={
            "indexes": (index("i"), index("j")),
            "manifests": (node(A, "i", wanted=True, alike=True), node(B, "i", wanted=False, alike=False)),
            "passed_over": (index("j"),),
        },
    ),
    "an index for another platform": Walk(
        index("i"),
        {"i": (Descriptor(oci.OCI_INDEX, digest("j"), 1, ARM),), "j": (A,)},
        found={
            "indexes": (index("i"), Descriptor(oci.OCI_INDEX, digest("j"), 1, ARM)),
            "manifests": (node(A, "i", "j", wanted=False, alike=True),),
            "passed_over": (Descriptor(oci.OCI_INDEX, digest("j"), 1, ARM),),
            "unmatched": (AMD,),
        },
    ),
    "content before a manifest": Walk(
        index("i"),
        {"i": (Descriptor("text/plain", digest("x"), 1, AMD), A)},
        found={
            "indexes": (index("i"),),
            "manifests": (node(A, "i", wanted=False, alike=True),),
            "others": (Descriptor("text/plain", digest("x"), 1, AMD),),
            "unusable": (Descriptor("text/plain", digest("x"), 1, AMD),),
        },
    ),
    "without a platform, its config is of another": listing(
        BARE,
        BARE2,
        more=says("bare", ARM),
        nodes=(
            node(BARE, "i", wanted=False, alike=False, platform=ARM),
            node(BARE2, "i", wanted=False, alike=False),
        ),
        unmatched=(AMD,),
    ),
    "one manifest for two platforms, the wanted one second": listing(
        DATA_ARM, DATA_AMD, nodes=(node(DATA_AMD, "i", wanted=True, alike=True),)
    ),
    "one manifest for two platforms, the wanted one first": listing(
        DATA_AMD, DATA_ARM, nodes=(node(DATA_AMD, "i", wanted=True, alike=True),)
    ),
    "one manifest for two platforms, neither wanted, one alike": listing(
        DATA_ARM,
        DATA_386,
        A,
        nodes=(node(DATA_386, "i", wanted=False, alike=True), node(A, "i", wanted=True, alike=True)),
    ),
    "one manifest for two platforms, both as good: the first": listing(
        DATA_ARM,
        manifest("data", S390),
        nodes=(node(DATA_ARM, "i", wanted=False, alike=False),),
        unmatched=(AMD,),
    ),
    "one index for two platforms": Walk(
        index("i"),
        {"i": (Descriptor(oci.OCI_INDEX, digest("j"), 1, ARM), Descriptor(oci.OCI_INDEX, digest("j"), 1, AMD))},
        found={"indexes": (index("i"), Descriptor(oci.OCI_INDEX, digest("j"), 1, ARM))},
    ),
    "a manifest by its descriptor, and an index elsewhere": listing(
        manifest("j", AMD),
        more={(digest("j"), Family.INDEX): Index((A,))},
        nodes=(node(manifest("j", AMD), "i", wanted=True, alike=True),),
    ),
    "malformed children of two indexes": Walk(
        index("i"),
        more={
            (digest("i"), Family.INDEX): Index((index("j"),), (MalformedChild(1, "outer"),)),
            (digest("j"), Family.INDEX): Index((A,), (MalformedChild(1, "inner"),)),
        },
        found={
            "indexes": (index("i"), index("j")),
            "manifests": (node(A, "i", "j", wanted=True, alike=True),),
            "malformed": (
                MalformedNode(index("i"), MalformedChild(1, "outer"), taken=False),
                MalformedNode(index("j"), MalformedChild(1, "inner"), taken=False),
            ),
        },
    ),
    "as deep as is followed, and nothing for the platform": Walk(
        index("0"),
        {**{f"{n}": (index(f"{n + 1}"),) for n in range(oci.MAX_DEPTH - 1)}, f"{oci.MAX_DEPTH - 1}": (B,)},
        found={
            "indexes": tuple(index(f"{n}") for n in range(oci.MAX_DEPTH)),
            "manifests": (node(B, *(f"{n}" for n in range(oci.MAX_DEPTH)), wanted=False, alike=False),),
            "unmatched": (AMD,),
        },
    ),
    "too deep": Walk(
        index("0"),
        DEEP,
        found={
            "indexes": tuple(index(f"{n}") for n in range(oci.MAX_DEPTH)),
            "manifests": tuple(
                node(manifest(f"m{n}", ARM), *(f"{i}" for i in range(n + 1)), wanted=False, alike=False)
                for n in reversed(range(oci.MAX_DEPTH))
            ),
            "too_deep": (index(f"{oci.MAX_DEPTH}"),),
        },
    ),
}


@pytest.mark.parametrize("row", WALKS.values(), ids=WALKS)
def test_an_image_leads_to_exactly_this(row: Walk) -> None:
    image = Group("n", ("image",), row.target)
    found = walk(image, row.documents, row.matcher)
    assert found == ImageGraph(image, **row.found)
    assert [each.attestation for each in found.manifests] == [each.descriptor.attestation for each in found.manifests]
    assert [each.digest for each in found.manifests] == [each.descriptor.digest for each in found.manifests]


# The platform of a manifest.

PLATFORMS: dict[str, tuple[Descriptor, Documents, Platform | None]] = {
    "its descriptor's": (A, says("a", ARM), AMD),
    "its config's": (BARE, says("bare", ARM), ARM),
    "its config names no system": (BARE, says("bare", Platform("", "arm64")), None),
    "its config is not read": (BARE, {(BARE.digest, Family.MANIFEST): Manifest(config("c"), ())}, None),
    "its config is broken": (
        BARE,
        {**says("bare", ARM), (digest("bare config"), Family.CONFIG): Broken(Flaw.CORRUPT)},
        None,
    ),
    "it is broken": (BARE, {**says("bare", ARM), (BARE.digest, Family.MANIFEST): Broken(Flaw.CORRUPT)}, None),
    "it is not read": (BARE, {}, None),
}


@pytest.mark.parametrize(("descriptor", "documents", "platform"), PLATFORMS.values(), ids=PLATFORMS)
def test_the_platform_of_a_manifest(descriptor: Descriptor, documents: Documents, platform: Platform | None) -> None:
    assert platform_of(descriptor, documents) == platform


# What a manifest names.

ONE, TWO = layer("1"), layer("2")
ID1, ID2, ID3 = (digest(f"diff {n}") for n in range(3))
CHAIN = oci.chain_ids([ID1, ID2])
TEXT = layer("text", "text/plain")
MODEL = layer("model", "application/vnd.ollama.image.model")
XZ = layer("xz", f"{oci.DOCKER_FOREIGN_LAYER}.xz")
EROFS = layer("erofs", "application/vnd.erofs.layer.v1")
CONFIG = config("c")


def holding(
    *layers: Descriptor, ids: tuple[Digest, ...] | None = (), os: str = "linux", **fields: Any
) -> tuple[Manifest, Documents]:
    """A manifest with these layers and a config of these diffIDs; None has no config that can be read."""
    made = Manifest(**{"config": CONFIG, "layers": layers, **fields})
    documents: dict[tuple[Digest, Family], Any] = {(digest("m"), Family.MANIFEST): made}
    if ids is not None:
        documents[digest("c"), Family.CONFIG] = ImageConfig(Platform(os), ids)
    return made, documents


def plain(*layers: Descriptor) -> tuple[Layer, ...]:
    """Layers of which neither diffID nor chainID is known."""
    return tuple(Layer(i, each) for i, each in enumerate(layers))


FULL = (Layer(0, ONE, ID1, CHAIN[0]), Layer(1, TWO, ID2, CHAIN[1]))
OTHER = config("c", "application/vnd.cncf.helm.config.v1+json")
#: Layers, chain, container, counts_differ; whether the config is known.
CONTENTS: dict[
    str, tuple[tuple[Manifest, Documents], tuple[tuple[Layer, ...], tuple[Digest, ...], bool, bool], bool]
] = {
    "an image": (holding(ONE, TWO, ids=(ID1, ID2)), (FULL, CHAIN, True, False), True),
    "more diffIDs than layers": (holding(ONE, TWO, ids=(ID1, ID2, ID3)), (plain(ONE, TWO), (), True, True), True),
    "fewer diffIDs than layers": (holding(ONE, TWO, ids=(ID1,)), (plain(ONE, TWO), (), True, True), True),
    "no diffIDs, a system": (holding(ONE, ids=()), (plain(ONE), (), True, True), True),
    "no diffIDs, no system": (holding(ONE, ids=(), os=""), (plain(ONE), (), False, False), True),
    "no layers, no diffIDs, a system": (holding(), ((), (), True, False), True),
    "no layers, no diffIDs, no system": (holding(os=""), ((), (), False, False), True),
    "diffIDs, no system": (holding(ONE, ids=(ID1,), os=""), (FULL[:1], CHAIN[:1], True, False), True),
    "no config": (holding(ONE, ids=None), (plain(ONE), (), True, False), False),
    "a config of another type": (holding(ONE, ids=(ID1,), config=OTHER), (plain(ONE), (), False, False), False),
    "a layer that is none among layers": (
        holding(ONE, TEXT, TWO, ids=(ID1, ID2)),
        ((FULL[0], Layer(1, TEXT), Layer(2, TWO, ID2, CHAIN[1])), CHAIN, True, False),
        True,
    ),
    "a layer that is none, no diffIDs": (holding(ONE, TEXT, ids=()), (plain(ONE, TEXT), (), False, False), True),
    "a layer that is none, no config": (holding(ONE, TEXT, ids=None), (plain(ONE, TEXT), (), True, False), False),
    "no layer that is one, a diffID for each": (holding(TEXT, ids=(ID1,)), (plain(TEXT), (), True, True), True),
    "no layer that is one, more diffIDs": (holding(TEXT, ids=(ID1, ID2)), (plain(TEXT), (), False, False), True),
    "no layer that is one, a diffID for each, no system": (
        holding(TEXT, ids=(ID1,), os="unknown"),
        (plain(TEXT), (), False, False),
        True,
    ),
    "no layer that is one, a diffID for each, an empty system": (
        holding(TEXT, ids=(ID1,), os=""),
        (plain(TEXT), (), False, False),
        True,
    ),
    "layers of a model, a diffID for each": (holding(MODEL, ids=(ID1,)), (plain(MODEL), (), False, False), True),
    "no layer that is one, no config": (holding(TEXT, ids=None), (plain(TEXT), (), False, False), False),
    "layers that containerd passes over": (
        holding(XZ, EROFS, ids=(ID1, ID2)),
        (plain(XZ, EROFS), (), True, False),
        True,
    ),
    "passed over, more diffIDs": (holding(XZ, ids=(ID1, ID2)), (plain(XZ), (), True, True), True),
    "passed over, no diffIDs": (holding(XZ, ids=()), (plain(XZ), (), False, False), True),
    "passed over, no config": (holding(XZ, ids=None), (plain(XZ), (), True, False), False),
    "passed over, an artifact's type": (
        holding(XZ, ids=(ID1,), artifact_type="application/x"),
        (plain(XZ), (), False, False),
        True,
    ),
    "passed over beside a layer": (holding(ONE, XZ, ids=(ID1, ID2)), (plain(ONE, XZ), (), True, True), True),
    "passed over beside an artifact's": (holding(XZ, TEXT, ids=(ID1, ID2)), (plain(XZ, TEXT), (), False, False), True),
    "an artifact's type, layers with diffIDs": (
        holding(ONE, ids=(ID1,), artifact_type="application/x"),
        (FULL[:1], CHAIN[:1], True, False),
        True,
    ),
    "an artifact's type, layers without diffIDs": (
        holding(ONE, ids=(), artifact_type="application/x"),
        (plain(ONE), (), False, False),
        True,
    ),
    "an artifact's type, no config": (
        holding(ONE, ids=None, artifact_type="application/x"),
        (plain(ONE), (), True, False),
        False,
    ),
    "an artifact's type, no layers": (
        holding(ids=(ID1,), artifact_type="application/x"),
        ((), (), False, False),
        True,
    ),
}


@pytest.mark.parametrize(("made", "expected", "known"), CONTENTS.values(), ids=CONTENTS)
def test_a_manifest_names_exactly_this(
    made: tuple[Manifest, Documents], expected: tuple[tuple[Layer, ...], tuple[Digest, ...], bool, bool], known: bool
) -> None:
    named, documents = made
    loaded = documents[digest("c"), Family.CONFIG] if known else None
    assert loaded is None or isinstance(loaded, ImageConfig)
    assert content(digest("m"), documents) == Content(named, loaded, *expected)


@pytest.mark.parametrize("loaded", [None, Broken(Flaw.CORRUPT), Index(())])
def test_what_cannot_be_read_as_a_manifest_names_nothing(loaded: Broken | Index | None) -> None:
    assert content(digest("m"), {} if loaded is None else {(digest("m"), Family.MANIFEST): loaded}) is None


def test_a_config_that_is_broken_is_not_known() -> None:
    made, documents = holding(ONE, ids=None)
    broken = {**documents, (digest("c"), Family.CONFIG): Broken(Flaw.CORRUPT)}
    assert content(digest("m"), broken) == Content(made, None, plain(ONE), (), container=True)


RECORDS = (
    (Broken(Flaw.SIZE), Broken(Flaw.SIZE, "", None, None)),
    (Group("n", ("a",), A), Group("n", ("a",), A, ())),
    (ManifestNode(A, AMD, wanted=True, alike=True), ManifestNode(A, AMD, True, True, ())),
    (ImageGraph(Group("n", ("a",), A)), ImageGraph(Group("n", ("a",), A), (), (), (), ())),
    (Layer(0, ONE), Layer(0, ONE, None, None)),
    (Content(holding()[0], None, (), (), container=True), Content(holding()[0], None, (), (), True, False)),
)


@pytest.mark.parametrize(("record", "full"), RECORDS, ids=[type(record).__name__ for record, _ in RECORDS])
def test_a_record_says_nothing_that_it_was_not_told_and_stays_as_it_is(record: Any, full: Any) -> None:
    assert record == full
    for name in record.__struct_fields__:
        with pytest.raises(AttributeError):
            setattr(record, name, None)
