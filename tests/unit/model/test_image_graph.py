"""The graph: whatever documents name each other, the walk ends, each digest once, and no deeper than it may."""

from __future__ import annotations

import string

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditor.model import oci
from auditor.model.digest import Digest
from auditor.model.image_graph import (
    Broken,
    Documents,
    Family,
    Flaw,
    Group,
    ImageGraph,
    content,
    family,
    group,
    key,
)
from auditor.model.image_walk import walk
from auditor.model.oci import Descriptor, ImageConfig, Index, Manifest
from auditor.model.platforms import EVERYTHING, Matcher, Platform, only
from auditor.model.store import Image

AMD64, ARM64 = Platform("linux", "amd64"), Platform("linux", "arm64")
NODE = only([AMD64])
MANY = 10_000


def digest(number: int) -> Digest:
    return Digest.of(str(number).encode())


def descriptor(number: int, media_type: str, platform: Platform | None = None) -> Descriptor:
    return Descriptor(media_type, digest(number), 1, platform)


def manifest(config: int, *layers: int) -> Manifest:
    return Manifest(descriptor(config, oci.OCI_CONFIG), tuple(descriptor(n, f"{oci.OCI_LAYER}+gzip") for n in layers))


def walked(root: int, documents: Documents, *, matcher: Matcher = NODE, media_type: str = oci.OCI_INDEX) -> ImageGraph:
    image = Group("n", ("image",), descriptor(root, media_type))
    return walk(image, documents, matcher)


def indexes(edges: dict[int, list[Descriptor]]) -> dict[tuple[Digest, Family], Index]:
    return {(digest(n), Family.INDEX): Index(tuple(children)) for n, children in edges.items()}


def walks(graph: ImageGraph) -> list[tuple[Digest, Family | None]]:
    """What was found: by digest, and as what, since a hostile index may describe one digest as two things."""
    found = [*graph.indexes, *graph.others, *graph.too_deep, *(node.descriptor for node in graph.manifests)]
    return [(each.digest, family(each.media_type)) for each in found if family(each.media_type) is not Family.CONFIG]


TYPES = st.sampled_from([oci.OCI_INDEX, oci.DOCKER_INDEX, oci.OCI_MANIFEST, oci.OCI_CONFIG, "text/plain", ""])
PLATFORMS = st.sampled_from([None, AMD64, ARM64, Platform("unknown", "unknown"), Platform()])
EDGES = st.dictionaries(
    st.integers(0, 12), st.lists(st.builds(descriptor, st.integers(0, 12), TYPES, PLATFORMS), max_size=6), max_size=13
)


# Hashes allow no cycles; a reader of hostile stores must not lean on that.
@given(EDGES, st.sampled_from([NODE, EVERYTHING]))
def test_any_web_of_indexes_is_walked_once_and_ends(edges: dict[int, list[Descriptor]], matcher: Matcher) -> None:
    graph = walked(0, indexes(edges), matcher=matcher)
    found = walks(graph)
    assert len(found) == len(set(found))
    named = {child.digest for children in edges.values() for child in children} | {digest(0)}
    assert {digest for digest, _ in found} <= named
    assert all(len(node.path) <= oci.MAX_DEPTH for node in graph.manifests)
    assert all(len(set(node.path)) == len(node.path) for node in graph.manifests)
    assert graph.too_deep == () or len(edges) > oci.MAX_DEPTH


@given(EDGES)
def test_everything_wants_whatever_is_no_attestation(edges: dict[int, list[Descriptor]]) -> None:
    graph = walked(0, indexes(edges), matcher=EVERYTHING)
    assert all(node.wanted for node in graph.manifests if not node.attestation)


@given(EDGES)
def test_one_platform_wants_one_manifest_at_most_where_platforms_are_known(edges: dict[int, list[Descriptor]]) -> None:
    known = {n: [child for child in children if child.platform is not None] for n, children in edges.items()}
    graph = walked(0, indexes(known))
    assert sum(node.wanted for node in graph.manifests) <= 1


def test_a_circle_ends() -> None:
    edges = {0: [descriptor(1, oci.OCI_INDEX)], 1: [descriptor(0, oci.OCI_INDEX), descriptor(1, oci.OCI_INDEX)]}
    graph = walked(0, indexes(edges))
    assert [each.digest for each in graph.indexes] == [digest(0), digest(1)]


@pytest.mark.parametrize("depth", [oci.MAX_DEPTH - 1, oci.MAX_DEPTH, 5000])
def test_depth_is_bounded(depth: int) -> None:
    edges = {n: [descriptor(n + 1, oci.OCI_INDEX)] for n in range(depth)}
    graph = walked(0, indexes(edges))
    assert len(graph.indexes) == min(depth + 1, oci.MAX_DEPTH)
    assert bool(graph.too_deep) is (depth >= oci.MAX_DEPTH)


def test_ten_thousand_children_are_walked_and_one_is_wanted() -> None:
    others = [descriptor(n, oci.OCI_MANIFEST, ARM64) for n in range(1, MANY)]
    graph = walked(0, indexes({0: [*others, descriptor(MANY, oci.OCI_MANIFEST, AMD64)]}))
    assert len(graph.manifests) == MANY
    assert [node.digest for node in graph.manifests if node.wanted] == [digest(MANY)]


def test_a_child_that_two_indexes_share_is_one_manifest() -> None:
    shared = descriptor(9, oci.OCI_MANIFEST, AMD64)
    edges = {0: [descriptor(1, oci.OCI_INDEX), descriptor(2, oci.OCI_INDEX)], 1: [shared], 2: [shared]}
    graph = walked(0, indexes(edges))
    assert [(node.digest, node.path) for node in graph.manifests] == [(digest(9), (digest(0), digest(1)))]


@pytest.mark.parametrize("flaw", Flaw)
def test_a_broken_index_is_a_leaf(flaw: Flaw) -> None:
    graph = walked(0, {(digest(0), Family.INDEX): Broken(flaw)})
    assert walks(graph) == [(digest(0), Family.INDEX)]
    assert content(digest(0), {(digest(0), Family.MANIFEST): Broken(flaw)}) is None


def test_a_target_that_is_a_manifest_is_wanted_whatever_its_platform() -> None:
    documents: Documents = {
        (digest(0), Family.MANIFEST): manifest(1),
        (digest(1), Family.CONFIG): ImageConfig(Platform("windows", "arm64"), ()),
    }
    (node,) = walked(0, documents, media_type=oci.OCI_MANIFEST).manifests
    assert (node.wanted, node.path) == (True, ())
    assert str(node.platform) == "windows/arm64"


def test_a_manifest_without_any_platform_is_wanted_only_where_nothing_matches() -> None:
    bare = descriptor(1, oci.OCI_MANIFEST)
    for others, wanted in (([], True), ([AMD64], False), ([ARM64], True)):
        children = [bare, *(descriptor(n, oci.OCI_MANIFEST, p) for n, p in enumerate(others, 2))]
        nodes = {node.digest: node.wanted for node in walked(0, indexes({0: children})).manifests}
        assert nodes[digest(1)] is wanted


LAYERS = st.lists(st.sampled_from([f"{oci.OCI_LAYER}+gzip", "text/plain", oci.DOCKER_FOREIGN_LAYER]), max_size=6)


@given(LAYERS, st.integers(0, 7), st.sampled_from(["", "linux"]), st.sampled_from(["", "application/x"]))
def test_layers_have_diff_ids_exactly_where_they_are_as_many(
    types: list[str], ids: int, os: str, artifact: str
) -> None:
    made = Manifest(
        config=descriptor(1, oci.OCI_CONFIG),
        layers=tuple(descriptor(10 + n, media_type) for n, media_type in enumerate(types)),
        artifact_type=artifact,
    )
    config = ImageConfig(Platform(os), tuple(digest(100 + n) for n in range(ids)))
    found = content(digest(0), {(digest(0), Family.MANIFEST): made, (digest(1), Family.CONFIG): config})
    assert found is not None
    assert [layer.index for layer in found.layers] == list(range(len(types)))
    unpackable = [oci.is_layer(media_type) for media_type in types]
    if found.container:
        assert found.counts_differ is (sum(unpackable) != ids)
    if found.container and not found.counts_differ:
        assert [layer.diff_id is not None for layer in found.layers] == unpackable
        assert found.chain == oci.chain_ids(config.diff_ids)
    else:
        assert found.chain == ()


NAMES = st.text(alphabet=string.ascii_lowercase + ":@/.", min_size=1, max_size=6)


@given(st.lists(st.tuples(st.sampled_from("ab"), NAMES, st.integers(0, 3)), max_size=12))
def test_records_are_grouped_by_target_and_none_is_lost(records: list[tuple[str, str, int]]) -> None:
    images = [Image(namespace, name, descriptor(n, oci.OCI_INDEX)) for namespace, name, n in records]
    groups = group(images)
    assert sorted((g.namespace, name) for g in groups for name in g.names) == sorted((r[0], r[1]) for r in records)
    assert len({(g.namespace, g.target.digest) for g in groups}) == len(groups)
    assert group(images[::-1]) == groups or len({i.name for i in images}) < len(images)


def test_the_three_names_of_the_cri_are_one_image_called_by_its_tag() -> None:
    target = descriptor(0, oci.OCI_INDEX)
    names = ("sha256:0123", "example.com/a@sha256:ab", "example.com/a:1")
    (found,) = group([Image("n", name, target) for name in names])
    assert found.names == names[::-1]
    assert found.name == "example.com/a:1"


@pytest.mark.parametrize(
    ("media_type", "wanted"),
    [
        (oci.OCI_INDEX, Family.INDEX),
        (oci.DOCKER_INDEX, Family.INDEX),
        (oci.OCI_MANIFEST, Family.MANIFEST),
        (oci.DOCKER_MANIFEST, Family.MANIFEST),
        ("application/vnd.docker.distribution.manifest.v1+json", Family.MANIFEST),
        (oci.OCI_CONFIG, Family.CONFIG),
        (oci.DOCKER_CONFIG, Family.CONFIG),
        (oci.OCI_LAYER, None),
        ("", None),
    ],
)
def test_families(media_type: str, wanted: Family | None) -> None:
    assert family(media_type) is wanted
    described = msgspec.structs.replace(descriptor(0, media_type))
    assert key(described) == (None if wanted is None else (digest(0), wanted))
