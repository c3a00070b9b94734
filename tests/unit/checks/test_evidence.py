"""Which manifests of a namespace the rules look at, and which snapshots and blobs count."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import pytest

from auditor.checks.evidence import NamespaceView
from tests.unit.build import APP, BASE, OVERLAY, TOP, Document, Layer, World, attestation, image, index
from tests.unit.cases import Step, add_labels, build, collected, do, lose, pull

AMD, ARM = "linux/amd64", "linux/arm64"
ARM_IMAGE = image(BASE, Layer("arm"), platform=ARM)
BOTH = index(APP, ARM_IMAGE)
PULL = pull(BOTH, AMD, ARM)


def view(*steps: Step, **request: object) -> NamespaceView:
    """The evidence about the namespace after these steps."""
    return next(each for each in collected(build(steps), **request).views if each.name == "k8s.io")


def spoil(document: Document) -> Step:
    """Change the bytes of a document."""
    return lambda world: world.store.content.update({document.digest: b"{}"})


def elsewhere(world: World) -> None:
    World("moby", store=world.store).pull(APP)


class Row(NamedTuple):
    """Steps, the manifests that are not whole, and the digests without a record."""

    steps: tuple[Step, ...]
    not_whole: tuple[Document, ...] = ()
    absent: tuple[Document | Layer, ...] = ()


NOT_WHOLE = {
    "nothing is absent": Row((PULL,)),
    "the other platform was not pulled": Row((pull(BOTH),), (ARM_IMAGE,), (ARM_IMAGE,)),
    "no manifest": Row((PULL, lose(APP)), (APP,), (APP,)),
    "no config": Row((PULL, lose(APP.config)), (APP,), (APP.config,)),
    "no layer of one": Row((PULL, lose(TOP)), (APP,), (TOP,)),
    "no layer of both": Row((PULL, lose(BASE)), (APP, ARM_IMAGE), (BASE,)),
    "no index": Row((PULL, lose(BOTH)), (), (BOTH,)),
    "a manifest that cannot be read": Row((PULL, spoil(APP)), (APP,)),
    "a config that cannot be read": Row((PULL, spoil(APP.config))),
    "a layer that another namespace has": Row((PULL, elsewhere, lose(TOP)), (APP,), (TOP,)),
    "a manifest that another namespace has": Row((PULL, elsewhere, lose(APP)), (APP,), (APP,)),
}


@pytest.mark.parametrize("row", NOT_WHOLE.values(), ids=NOT_WHOLE)
def test_these_manifests_are_not_whole(row: Row) -> None:
    found = view(*row.steps)
    assert [node.digest for _, node in found.not_whole] == [each.digest for each in row.not_whole]
    assert found.absent == {each.digest for each in row.absent}


NAMING: dict[str, tuple[tuple[Document | Layer, ...], tuple[Document, ...]]] = {
    "nothing": ((), ()),
    "the manifest": ((APP,), (APP,)),
    "the index above": ((BOTH,), (APP, ARM_IMAGE)),
    "a config": ((APP.config,), (APP,)),
    "a layer": ((TOP,), (APP,)),
    "a layer of both": ((BASE,), (APP, ARM_IMAGE)),
    "something of each": ((TOP, ARM_IMAGE.config), (APP, ARM_IMAGE)),
    "another layer": ((Layer("another"),), ()),
}


@pytest.mark.parametrize(("asked", "named"), NAMING.values(), ids=NAMING)
def test_these_manifests_have_a_digest(asked: tuple[Document | Layer, ...], named: tuple[Document, ...]) -> None:
    found = view(PULL).naming({each.digest for each in asked})
    assert [node.digest for _, node in found] == [each.digest for each in named]


def test_a_manifest_that_cannot_be_read_has_its_own_digest_and_its_index() -> None:
    found = view(PULL, spoil(APP))
    asked: list[tuple[Document | Layer, bool]] = [(APP, True), (BOTH, True), (TOP, False)]
    for document, named in asked:
        assert (APP.digest in [node.digest for _, node in found.naming({document.digest})]) is named


def test_the_images_that_are_not_audited_have_no_part() -> None:
    found = view(PULL, pull(image(Layer("lone")), name="b:1"), lose(Layer("lone"), TOP), images=("b:1",))
    assert [graph.group.name for graph, _ in found.not_whole] == ["b:1"]
    assert found.absent == {Layer("lone").digest}
    assert not list(found.naming({TOP.digest}))


def test_a_manifest_is_whole_with_its_config_and_layers() -> None:
    inside = view(pull(APP)).content(APP.digest)
    assert view(pull(APP), lose(APP)).whole(inside)
    for absent in (APP.config, BASE, TOP):
        assert not view(pull(APP), lose(APP, absent)).whole(inside)
    assert not view(pull(APP)).whole(None)


def test_the_role_of_each_blob_in_an_image() -> None:
    note, chart = attestation(APP), Document({}, "application/x-chart")
    whole = index(ARM_IMAGE, APP, note, chart)
    users = collected(build((pull(whole, AMD, ARM, "unknown/unknown"), spoil(ARM_IMAGE)))).users
    assert {digest: " ".join(use.role for use in uses) for digest, uses in users.items()} == {
        whole.digest: "index",
        chart.digest: "content",
        **dict.fromkeys((ARM_IMAGE.digest, APP.digest), "manifest"),
        note.digest: "attestation",
        **dict.fromkeys((APP.config.digest, note.config.digest), "config"),
        **dict.fromkeys([layer.digest for layer in (*APP.layers, *note.layers)], "layer"),
    }


def test_the_snapshots_that_a_config_names() -> None:
    label = "containerd.io/gc.ref.snapshot"
    named = add_labels(APP.config.digest, **{f"{label}.zfs/x": "a", f"{label}.btrfs": "b", f"x.{label}.native": "c"})
    assert view(pull(APP), named).claims(APP.config.digest) == {"zfs": "a", "btrfs": "b"}


def unpack(snapshotter: str) -> Step:
    return do(World.unpack, APP, snapshotter=snapshotter)


@pytest.mark.parametrize(
    ("steps", "names", "snapshotters"),
    [
        pytest.param((), set(), [], id="none"),
        pytest.param((unpack(OVERLAY),), set(APP.chain), [OVERLAY], id="of one"),
        pytest.param(
            (unpack("zfs"), do(World.snapshot, "c", snapshotter="btrfs")),
            {*APP.chain, "c"},
            ["btrfs", "zfs"],
            id="of two, by name",
        ),
    ],
)
def test_snapshots(steps: tuple[Callable[[World], object], ...], names: set[str], snapshotters: list[str]) -> None:
    found = view(PULL, *steps)
    assert found.snapshot_names == names
    assert [name for name, _ in found.snapshotters] == snapshotters
