"""The trees of a chain: each layer is read once, and what cannot be told is a reason."""

from __future__ import annotations

import gzip

from auditor.model.digest import Digest
from auditor.snapshots.expected import MERGED, Layers
from auditor.snapshots.presence import Needed, needed
from auditor.snapshots.tree import Node
from tests.unit.build import Document, Layer, World, image
from tests.unit.snapshots.test_compare import entry, layer


class File(Layer):
    """A layer with one empty file, which is named after its content."""

    @property
    def data(self) -> bytes:
        return layer((entry(self.content), b""))

    @property
    def diff_id(self) -> Digest:
        return Digest.of(gzip.decompress(self.data))


A, B, C, D = (File(name) for name in "abcd")


def world(*documents: Document) -> World:
    made = World()
    for number, document in enumerate(documents):
        made.pull(document, f"docker.io/library/app:{number}", unpack=False)
        made.unpack(document, snapshotter=MERGED)
    return made


def chained(made: World) -> tuple[Layers, dict[str, Needed]]:
    evidence = made.audit().evidence
    found = {str(each.snapshot.name): each for each in needed(evidence).values()}
    return Layers(made.store, evidence), found


def files(found: Node | str) -> set[bytes] | str:
    return found if isinstance(found, str) else set(found.children or {})


def test_a_chain_is_read_once_and_a_branch_again() -> None:
    one, other = image(A, B, C), image(A, D)
    made = world(one, other)
    layers, found = chained(made)
    made.store.streamed.clear()
    trees = [files(layers.expected(found[name], contents=True)) for name in one.chain]
    assert trees == [{b"a"}, {b"a", b"b"}, {b"a", b"b", b"c"}]
    assert [digest for _, digest, _ in made.store.streamed] == [A.digest, B.digest, C.digest]
    assert files(layers.expected(found[other.chain[1]], contents=True)) == {b"a", b"d"}
    assert [digest for _, digest, _ in made.store.streamed[3:]] == [A.digest, D.digest]


def test_a_kept_tree_without_contents_is_not_used_with_them() -> None:
    document = image(A, B)
    layers, found = chained(world(document))
    layers.expected(found[document.chain[0]], contents=False)
    tree = layers.expected(found[document.chain[1]], contents=True)
    assert not isinstance(tree, str)
    assert (tree.children or {})[b"a"].digest


def test_blobs_that_are_absent_or_damaged() -> None:
    document = image(A, B, C)
    made = world(document)
    made.drop(B.digest)
    layers, found = chained(made)
    reasons = [files(layers.expected(found[name], contents=True)) for name in document.chain]
    assert reasons == [{b"a"}, "its layer's blob is absent", "the blob of a layer below it is absent"]
    made = world(document)
    made.store.content[B.digest] = C.data
    layers, found = chained(made)
    damaged = "its layer's blob is damaged or does not match the diffID"
    reasons = [files(layers.expected(found[name], contents=True)) for name in document.chain]
    assert reasons == [{b"a"}, damaged, f"a layer below it: {damaged}"]


def test_a_snapshot_on_another_parent_is_not_judged() -> None:
    document = image(A, B)
    made = world(document)
    made.snapshot(document.chain[1], snapshotter=MERGED)
    layers, found = chained(made)
    assert layers.expected(found[document.chain[1]], contents=True) == "a snapshot below it is not known"
