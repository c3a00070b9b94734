"""Findings about snapshots, and about storage that several damaged blobs make suspect: as whole records."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import pytest

from auditor.checks import snapshots, suspect_storage
from auditor.model.findings import Finding, ImageRef
from auditor.model.store import Snapshotter
from tests.unit.build import APP, BASE, OVERLAY, TOP, Document, Layer, World, image, index
from tests.unit.cases import (
    NAME,
    Step,
    add_labels,
    build,
    change_info,
    collected,
    do,
    finding,
    lose,
    ref,
    unworded,
    worded,
)

ONE, TWO, THREE = APP.chain
CLAIM = "containerd.io/gc.ref.snapshot."
ARM = image(Layer("arm low"), Layer("arm high"), platform="linux/arm64")
BOTH = index(APP, ARM)
PULL, FETCH = do(World.pull, APP), do(World.pull, APP, unpack=False)


class Row(NamedTuple):
    """Steps, and all that is found."""

    steps: tuple[Step, ...]
    found: tuple[Finding, ...] = ()
    request: Mapping[str, Any] = {}


def broken(number: int, *, of: str = OVERLAY, manifest: Document = APP, whole: Document | None = None) -> Finding:
    name = manifest.chain[number]
    facts = {"snapshotter": of, "chain_id": name, "layer_index": number}
    where = ref("snapshot", manifest, target=whole, layer=number)
    return finding("broken-snapshot-chain", "snapshot", f"{of}/{name}", where, facts=facts)


def missing(*, of: str = OVERLAY, name: str = THREE) -> Finding:
    facts = {"snapshotter": of, "chain_id": name, "config": APP.config.digest}
    hint = f"ctr -n k8s.io snapshots --snapshotter {of} unpack {APP.digest}"
    where = ref("snapshot", APP)
    return finding("snapshot-missing", "snapshot", f"{of}/{name}", where, cause="removed", facts=facts, hint=hint)


def not_unpacked(manifest: Document = APP, whole: Document | None = None) -> Finding:
    return finding("not-unpacked", "manifest", manifest.digest, ref("manifest", manifest, target=whole))


def gone(*names: str) -> Step:
    return do(World.drop_snapshots, *names)


def also(of: str) -> Step:
    return do(World.unpack, APP, snapshotter=of)


def drop_in(of: str, name: str) -> Step:
    """Lose a snapshot of one snapshotter."""

    def step(world: World) -> None:
        held = world.inventory.snapshots
        world.change(snapshots={**held, of: {n: s for n, s in held[of].items() if n != name}})

    return step


BROKEN = {
    "whole": Row((PULL,)),
    "the lowest is gone": Row((PULL, gone(ONE)), (broken(0),)),
    "the middle is gone": Row((PULL, gone(TWO)), (broken(1),)),
    "two are gone: the lowest is told": Row((PULL, gone(ONE, TWO)), (broken(0),)),
    "the lowest has a parent": Row((PULL, do(World.snapshot, ONE, TWO)), (broken(0),)),
    "the top has another parent": Row((PULL, do(World.snapshot, THREE, ONE)), (broken(2),)),
    "the middle has no parent": Row((PULL, do(World.snapshot, TWO)), (broken(1),)),
    "docker commit: on the snapshot of the mount points": Row(
        (PULL, do(World.snapshot, "c-init", TWO), do(World.snapshot, THREE, "c-init"))
    ),
    "such a snapshot on another layer": Row(
        (PULL, do(World.snapshot, "c-init", ONE), do(World.snapshot, THREE, "c-init")), (broken(2),)
    ),
    "on another client's snapshot": Row(
        (PULL, do(World.snapshot, "c", TWO), do(World.snapshot, THREE, "c")), (broken(2),)
    ),
    "on the second snapshotter": Row((PULL, also("second"), drop_in("second", ONE)), (broken(0, of="second"),)),
    "only the top on the second snapshotter": Row(
        (PULL, do(World.snapshot, THREE, TWO, snapshotter="second")), (broken(0, of="second"),)
    ),
    "one layer": Row((do(World.pull, image(APP.layers[0])),)),
    "the only label names a snapshotter that lacks it": Row(
        (
            FETCH,
            also(OVERLAY),
            do(World.snapshot, "x", snapshotter="second"),
            add_labels(APP.config.digest, **{f"{CLAIM}second": THREE}),
        ),
        (missing(of="second"),),
    ),
    "on two snapshotters, by name": Row((PULL, also("first"), gone(ONE)), (broken(0, of="first"), broken(0))),
    "a snapshotter without the image before one that breaks it": Row(
        (PULL, do(World.snapshot, "x", snapshotter="first"), gone(ONE)), (broken(0),)
    ),
    "a whole chain before one that is broken": Row((PULL, also("first"), drop_in(OVERLAY, ONE)), (broken(0),)),
    "on a lazy snapshotter": Row((PULL, gone(ONE), change_info(snapshotters=(Snapshotter(OVERLAY, lazy=True),)))),
    "on a snapshotter that the daemon does not name": Row(
        (PULL, gone(ONE), change_info(snapshotters=())), (broken(0),)
    ),
    "without a config": Row((PULL, gone(ONE), lose(APP.config))),
    "without a config here, known from another namespace": Row(
        (
            PULL,
            gone(ONE),
            lambda world: World("moby", store=world.store).put(APP.config.data),
            lose(APP.config),
        ),
    ),
    "another snapshotter lost what is claimed: only the broken one is told": Row(
        (
            PULL,
            do(World.snapshot, "x", snapshotter="second"),
            add_labels(APP.config.digest, **{f"{CLAIM}second": THREE}),
            gone(ONE),
        ),
        (broken(0),),
    ),
    "without a manifest": Row((PULL, gone(ONE), lose(APP))),
    "of a platform that nobody wants": Row(
        (do(World.pull, BOTH, platforms=("linux/amd64", "linux/arm64")), gone(ARM.chain[0])),
        (broken(0, manifest=ARM, whole=BOTH),),
    ),
}
MISSING = {
    "claimed and gone": Row((PULL, gone(THREE)), (missing(),)),
    "claimed and gone, all of it": Row((PULL, gone(*APP.chain)), (missing(),)),
    "claimed for a snapshotter that was not looked at": Row(
        (PULL, add_labels(APP.config.digest, **{f"{CLAIM}away": THREE}))
    ),
    "claimed for one not looked at, then for one that lost it": Row(
        (PULL, gone(THREE), add_labels(APP.config.digest, **{f"{CLAIM}away": THREE})), (missing(),)
    ),
    "claimed twice and gone once": Row(
        (PULL, also("second"), add_labels(APP.config.digest, **{f"{CLAIM}second": THREE}), drop_in("second", THREE)),
        (missing(of="second"),),
    ),
    "claimed twice and gone twice, by name": Row(
        (PULL, also("first"), add_labels(APP.config.digest, **{f"{CLAIM}first": THREE}), gone(THREE)),
        (missing(of="first"), missing()),
    ),
    "claimed and gone, a layer is absent too": Row((PULL, gone(*APP.chain), lose(BASE))),
    "claimed and gone, a layer arrives": Row(
        (PULL, gone(*APP.chain), lose(TOP), do(World.ingest, f"layer-{TOP.digest}"))
    ),
    "claimed and gone, layers discarded": Row(
        (PULL, gone(THREE), lose(BASE), do(World.unlabel, APP.digest, BASE.digest)), (missing(),)
    ),
    "claimed and gone, a layer below skipped": Row((PULL, gone(THREE), lose(BASE)), (missing(),)),
    "of a platform that nobody wants": Row(
        (
            do(World.pull, BOTH, platforms=("linux/amd64", "linux/arm64"), unpack=False),
            do(World.unpack, APP),
            add_labels(ARM.config.digest, **{f"{CLAIM}{OVERLAY}": ARM.chain[1]}),
        ),
        (
            finding(
                "snapshot-missing",
                "snapshot",
                f"{OVERLAY}/{ARM.chain[1]}",
                ref("snapshot", ARM, target=BOTH),
                cause="removed",
                facts={"snapshotter": OVERLAY, "chain_id": ARM.chain[1], "config": ARM.config.digest},
                hint=f"ctr -n k8s.io snapshots --snapshotter {OVERLAY} unpack {BOTH.digest}",
            ),
        ),
    ),
}
UNPACKED = {
    "complete and not unpacked": Row((FETCH,), (not_unpacked(),)),
    "unpacked but for the top": Row((FETCH, do(World.snapshot, ONE), do(World.snapshot, TWO, ONE)), (not_unpacked(),)),
    "no snapshotter was looked at": Row((FETCH, do(World.change, snapshots={}))),
    "no snapshotter of the first of two namespaces": Row(
        (lambda world: World("aaa", store=world.store).change(snapshots={}), FETCH), (not_unpacked(),)
    ),
    "incomplete": Row((FETCH, lose(TOP))),
    "arriving": Row((FETCH, lose(TOP), do(World.ingest, f"layer-{TOP.digest}"))),
    "skipped below": Row((FETCH, do(World.snapshot, ONE), lose(BASE))),
    "discarded below": Row(
        (FETCH, do(World.snapshot, ONE), lose(BASE), do(World.unlabel, APP.digest, BASE.digest)), (not_unpacked(),)
    ),
    "of a platform that nobody wants": Row(
        (do(World.pull, BOTH, platforms=("linux/amd64", "linux/arm64"), unpack=False),), (not_unpacked(APP, BOTH),)
    ),
    "of a platform that nobody wants, its claim is gone": Row(
        (
            do(World.pull, BOTH, platforms=("linux/amd64", "linux/arm64")),
            do(World.unlabel, ARM.config.digest),
            gone(*ARM.chain),
        )
    ),
    "of a platform that nobody wants, claimed elsewhere": Row(
        (
            do(World.pull, BOTH, platforms=("linux/amd64", "linux/arm64"), unpack=False),
            add_labels(ARM.config.digest, **{f"{CLAIM}away": ARM.chain[1]}),
        ),
        (not_unpacked(APP, BOTH),),
    ),
    "left out for another platform": Row(
        (
            do(World.pull, BOTH, platforms=("linux/arm64",), unpack=False),
            do(World.put, APP.data),
            do(World.put, APP.config.data),
        )
    ),
    "no layers": Row((do(World.pull, image(), unpack=False),)),
}
TABLES = {"broken": BROKEN, "missing": MISSING, "unpacked": UNPACKED}


@pytest.mark.parametrize(
    "row", [pytest.param(row, id=f"{table}: {name}") for table, rows in TABLES.items() for name, row in rows.items()]
)
def test_exactly_this_is_found(row: Row) -> None:
    assert unworded(worded(snapshots.check(collected(build(row.steps), **row.request)))) == list(row.found)


CHAIN = f"{NAME} (linux/amd64): snapshot chain on {OVERLAY} is broken at layer"
SAID = {
    "gone": (BROKEN["the middle is gone"], f"{CHAIN} 2: the snapshot does not exist"),
    "another parent": (
        BROKEN["the top has another parent"],
        f"{CHAIN} 3: its parent is {ONE[:19]} instead of {TWO[:19]}",
    ),
    "no parent": (BROKEN["the middle has no parent"], f"{CHAIN} 2: its parent is none instead of {ONE[:19]}"),
    "a parent": (BROKEN["the lowest has a parent"], f"{CHAIN} 1: its parent is {TWO[:19]} instead of none"),
    "missing": (
        MISSING["claimed and gone"],
        f"{NAME} (linux/amd64): marked as unpacked on {OVERLAY}, but snapshot {THREE[:19]} does not exist",
    ),
    "not unpacked": (
        UNPACKED["complete and not unpacked"],
        f"{NAME} (linux/amd64): complete, and not unpacked on any snapshotter",
    ),
}


@pytest.mark.parametrize(("row", "message"), SAID.values(), ids=SAID)
def test_the_message_says_this(row: Row, message: str) -> None:
    (found,) = worded(snapshots.check(collected(build(row.steps), **row.request)))
    assert found.message == message


# Storage.


def damage(number: int, *targets: str, code: str = "digest-mismatch", cause: str | None = None) -> Finding:
    images = (ImageRef(namespace="k8s.io", name=target, target=target) for target in targets)
    return finding(code, "layer", f"sha256:{number}", *images, cause=cause, namespace=f"n{number}")


def suspect(number: int, blobs: int, unrelated: int) -> list[Finding]:
    facts = {"blobs": blobs, "unrelated": unrelated}
    return [finding("suspect-storage", "store", "content", namespace=f"n{number}", facts=facts)]


THREE_APART = [damage(1, "a"), damage(2, "b"), damage(3, "c")]
STORAGE: dict[str, tuple[list[Finding], list[Finding]]] = {
    "none": ([], []),
    "two": (THREE_APART[:2], []),
    "three": (THREE_APART, suspect(1, 3, 3)),
    "three of one image": ([damage(n, "a") for n in range(3)], []),
    "three, two of which share an image": ([*THREE_APART[:2], damage(3, "b")], []),
    "four, two of which share an image": ([*THREE_APART, damage(4, "b")], suspect(1, 4, 3)),
    "three and one that shares some": (
        [damage(1, "a", "b"), damage(2, "b", "c"), damage(3, "c"), damage(4)],
        suspect(1, 4, 3),
    ),
    "what a related one hurts does not count": (
        [damage(1, "a"), damage(2, "a", "b"), damage(3, "b"), damage(4, "c")],
        suspect(1, 4, 3),
    ),
    "three that no image uses": ([damage(n) for n in (1, 2, 3)], suspect(1, 3, 3)),
    "records that disagree are no damage": ([*THREE_APART[:2], damage(3, "c", cause="records-disagree")], []),
    "the first that is damaged names the namespace": (
        [damage(9, "z", code="incomplete-image"), *THREE_APART],
        suspect(1, 3, 3),
    ),
    **{
        code: ([*THREE_APART[:2], damage(3, "c", code=code)], suspect(1, 3, 3))
        for code in ("size-mismatch", "blob-file-missing", "blob-unreadable", "read-unsteady")
    },
    **{
        f"{code} is no damage": ([*THREE_APART[:2], damage(3, "c", code=code)], [])
        for code in ("missing-config", "diffid-mismatch", "layer-undecodable", "incomplete-image")
    },
}


@pytest.mark.parametrize(("found", "expected"), STORAGE.values(), ids=STORAGE)
def test_storage_is_suspect_where_unrelated_blobs_are_damaged(found: list[Finding], expected: list[Finding]) -> None:
    told = list(suspect_storage.check(found))
    assert unworded(told) == expected
    for each in told:
        blobs, unrelated = each.facts["blobs"], each.facts["unrelated"]
        assert each.message == (
            f"{blobs} blobs are damaged, {unrelated} of them share no image: suspect the disk or the memory"
        )
