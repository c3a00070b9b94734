"""Findings about protection, orphans, leases and ingests: all of them for each row, as whole records."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any, NamedTuple

import msgspec
import pytest

from auditor.checks import garbage_collection
from auditor.model.digest import Digest
from auditor.model.findings import Finding, ImageRef
from auditor.model.store import Ingest, Lease, Resource
from tests.unit.build import APP, BASE, MIDDLE, NOW, OVERLAY, TOP, Document, Layer, World, attestation, image, index
from tests.unit.cases import NAME, Step, add_labels, build, collected, do, finding, ref, unworded, worded

DAY = timedelta(days=1)
SECOND = timedelta(seconds=1)
EXPIRE = "containerd.io/gc.expire"
AT = {n: (NOW + SECOND * n).isoformat() for n in (-1, 0, 1)}
ARM = image(Layer("arm"), platform="linux/arm64")
INNER = index(APP)
OUTER = index(INNER, ARM)
BOTH = index(APP, ARM)
TWO = index(APP, OTHER := image(Layer("other")))
PROVEN = index(APP, NOTE := attestation(APP))
TWICE = image(BASE, MIDDLE, BASE)
UNREAD = index(replace(ARM, raw=b"no JSON"), APP)


class Row(NamedTuple):
    """Steps, and all that is found."""

    steps: tuple[Step, ...]
    found: tuple[Finding, ...] = ()
    request: Mapping[str, Any] = {}


def exposed(parent: Document, *lost: tuple[Digest, bytes], ref: ImageRef) -> Finding:
    facts = {"blobs": len(lost), "bytes": sum(len(data) for _, data in lost), "first": str(lost[0][0])}
    return finding("gc-unprotected", ref.role, parent.digest, ref, cause="labels-missing", facts=facts)


def of(*things: Layer | Document) -> list[tuple[Digest, bytes]]:
    return [(each.digest, each.data) for each in things]


def of_app(*things: Layer | Document) -> tuple[Finding, ...]:
    """What a manifest by itself is told to lose, as the only finding."""
    return (exposed(APP, *of(*things), ref=ref("manifest", APP)),)


def orphan(data: bytes) -> Finding:
    return finding("orphan-blob", "blob", Digest.of(data), facts={"size": len(data)})


def over(name: str, when: str) -> Finding:
    return finding("expired-lease", "lease", name, facts={"expired_at": when})


def stale(name: str, age: timedelta, **facts: int) -> Finding:
    known = {"offset": 5, "updated_at": (NOW - age).isoformat(), **facts}
    return finding("stale-ingest", "ingest", name, facts=known)


PULL = do(World.pull, APP)
FETCH = do(World.pull, APP, unpack=False)
UNLABEL_TOP = do(World.unlabel, APP.digest, TOP.digest)
HOLD_TOP = Resource("content", TOP.digest)


def unlabel(*things: Layer | Document, of: Document = APP) -> Step:
    return do(World.unlabel, of.digest, *(each.digest for each in things))


def attest(world: World) -> None:
    """Say in the record of an image that its target is an attestation."""
    (record,) = world.inventory.images
    target = msgspec.structs.replace(record.target, annotations=NOTE.annotations)
    world.change(images=(msgspec.structs.replace(record, target=target),))


LAYERS = (BASE, MIDDLE, TOP)
PROTECTION = {
    "all labels": Row((PULL,)),
    "no label of a layer": Row((PULL, UNLABEL_TOP), of_app(TOP)),
    "no label of the config": Row((PULL, unlabel(APP.config)), of_app(APP.config)),
    "no label of the config and a layer": Row((PULL, unlabel(APP.config, TOP)), of_app(APP.config, TOP)),
    "no label of two layers": Row((PULL, unlabel(BASE, TOP)), of_app(BASE, TOP)),
    "no label of a layer named twice": Row(
        (do(World.pull, TWICE), unlabel(BASE, of=TWICE)),
        (exposed(TWICE, *of(BASE), ref=ref("manifest", TWICE)),),
    ),
    "no labels at all": Row((PULL, do(World.unlabel, APP.digest)), of_app(APP.config, *LAYERS)),
    "no label of a layer that is absent": Row((PULL, UNLABEL_TOP, do(World.drop, TOP.digest))),
    "no label of the config, which is absent": Row(
        (PULL, unlabel(APP.config), do(World.drop, APP.config.digest)),
    ),
    "no label of a layer that another image names": Row((PULL, do(World.pull, image(TOP), "b:1"), UNLABEL_TOP)),
    "no label of a layer that a root label keeps": Row(
        (PULL, UNLABEL_TOP, add_labels(TOP.digest, **{"containerd.io/gc.root": ""}))
    ),
    "no label of a layer that a lease holds": Row((PULL, UNLABEL_TOP, do(World.lease, "l", HOLD_TOP))),
    "no label of a layer that a lease of our own holds": Row(
        (PULL, UNLABEL_TOP, do(World.lease, "auditor-1", HOLD_TOP))
    ),
    "no label of a layer that a lease at its expiry holds": Row(
        (PULL, UNLABEL_TOP, do(World.lease, "l", HOLD_TOP, labels={EXPIRE: AT[0]}))
    ),
    "no label of a layer that a lease past its expiry holds": Row(
        (PULL, UNLABEL_TOP, do(World.lease, "l", HOLD_TOP, labels={EXPIRE: AT[-1]})),
        (*of_app(TOP), over("l", AT[-1])),
    ),
    "discarding: config label, no layer label, all unpacked": Row((PULL, unlabel(*LAYERS))),
    "discarding, not unpacked": Row((FETCH, unlabel(*LAYERS)), of_app(*LAYERS)),
    "discarding, one not unpacked": Row(
        (FETCH, do(World.snapshot, APP.chain[0]), do(World.snapshot, APP.chain[1], APP.chain[0]), unlabel(*LAYERS)),
        of_app(TOP),
    ),
    "discarding: no config label either": Row((PULL, unlabel(APP.config, *LAYERS)), of_app(APP.config, *LAYERS)),
    "not discarding: one layer label": Row((PULL, unlabel(BASE, MIDDLE)), of_app(BASE, MIDDLE)),
    "an image past its expiry keeps nothing": Row(
        (do(World.name, APP, NAME, labels={EXPIRE: AT[-1]}), do(World._fetch, APP, (), unpack=True))
    ),
    "a manifest that its index does not label": Row(
        (do(World.pull, BOTH), unlabel(APP, of=BOTH)),
        (exposed(BOTH, *of(APP), ref=ref("index", None, target=BOTH)),),
    ),
    "a manifest that its index does not label, absent": Row(
        (do(World.pull, BOTH), unlabel(APP, of=BOTH), do(World.drop, APP.digest)), request={"images": (NAME,)}
    ),
    "an index that its index does not label": Row(
        (do(World.pull, OUTER), unlabel(INNER, of=OUTER)),
        (exposed(OUTER, *of(INNER), ref=ref("index", None, target=OUTER)),),
    ),
    "a manifest that its nested index does not label": Row(
        (do(World.pull, OUTER), unlabel(APP, of=INNER)),
        (exposed(INNER, *of(APP), ref=ref("index", None, target=OUTER)),),
    ),
    "neither of two levels is labelled: the parent's reachability is asked first": Row(
        (do(World.pull, OUTER), unlabel(INNER, of=OUTER), unlabel(APP, of=INNER)),
        (exposed(OUTER, *of(INNER), ref=ref("index", None, target=OUTER)),),
    ),
    "a manifest that nobody wants": Row(
        (do(World.pull, BOTH, platforms=("linux/amd64", "linux/arm64")), unlabel(ARM.config, *ARM.layers, of=ARM)),
    ),
    "a manifest that nobody wants before one that loses a layer": Row(
        (
            do(World.pull, index(ARM, APP), platforms=("linux/amd64", "linux/arm64")),
            unlabel(ARM.config, *ARM.layers, of=ARM),
            UNLABEL_TOP,
        ),
        (exposed(APP, *of(TOP), ref=ref("manifest", APP, target=index(ARM, APP))),),
    ),
    "a manifest whose index does not label it before one that loses its config": Row(
        (do(World.pull, TWO), unlabel(APP, of=TWO), unlabel(OTHER.config, of=OTHER)),
        (
            exposed(TWO, *of(APP), ref=ref("index", None, target=TWO)),
            exposed(OTHER, *of(OTHER.config), ref=ref("manifest", OTHER, target=TWO)),
        ),
        {"all_platforms": True},
    ),
    "a manifest that cannot be read before one that loses a layer": Row(
        (do(World.pull, UNREAD), UNLABEL_TOP),
        (exposed(APP, *of(TOP), ref=ref("manifest", APP, target=UNREAD)),),
        {"all_platforms": True},
    ),
    "a manifest that is kept and cannot be read before one that loses a layer, below an index that goes": Row(
        (
            do(World.name, UNREAD, NAME, labels={EXPIRE: AT[-1]}),
            do(World._fetch, UNREAD, ("linux/amd64", "linux/arm64"), unpack=True),
            *(add_labels(each.digest, **{"containerd.io/gc.root": ""}) for each in UNREAD.below),
            UNLABEL_TOP,
        ),
        (exposed(APP, *of(TOP), ref=ref("manifest", APP, target=UNREAD)),),
        {"all_platforms": True},
    ),
    "a manifest that is absent below an index that its index does not label": Row(
        (do(World.pull, OUTER), unlabel(INNER, of=OUTER), do(World.drop, APP.digest)), request={"images": (NAME,)}
    ),
    "a nested index that is absent here and known from another namespace": Row(
        (
            do(World.pull, OUTER),
            unlabel(INNER, of=OUTER),
            lambda world: World("moby", store=world.store).put(INNER.data),
            do(World.drop, INNER.digest),
        ),
        request={"images": (NAME,)},
    ),
    "an attestation that is an image's target": Row((do(World.pull, NOTE), unlabel(*NOTE.layers, of=NOTE), attest)),
    "an attestation": Row(
        (do(World.pull, PROVEN, platforms=("linux/amd64", "unknown/unknown")), unlabel(*NOTE.layers, of=NOTE)),
        (),
        {"all_platforms": True},
    ),
}


def held(name: str, *resources: Resource, **labels: str) -> Step:
    return do(World.lease, name, *resources, labels=labels)


#: The layers were unpacked and discarded, and no label of the config keeps the snapshots.
DISCARD = (unlabel(*LAYERS), do(World.drop, *(each.digest for each in LAYERS)))
FORGET = do(World.relabel, APP.config.digest, lambda _: {})


def only_copy(layers: int) -> Finding:
    facts = {"layers": layers, "snapshotter": OVERLAY, "chain_id": APP.chain[-1]}
    of = ref("config", APP)
    return finding("gc-unprotected", "config", APP.config.digest, of, cause="labels-missing", facts=facts)


SNAPSHOTS = {
    "snapshots that are the only copy, and nothing keeps": Row((PULL, *DISCARD, FORGET), (only_copy(3),)),
    "the only copy of one layer": Row((PULL, unlabel(*LAYERS), do(World.drop, TOP.digest), FORGET), (only_copy(1),)),
    "all layers are here too": Row((PULL, unlabel(*LAYERS), FORGET)),
    "the config's label keeps them": Row((PULL, *DISCARD)),
    "a lease keeps them": Row(
        (PULL, *DISCARD, FORGET, held("l", Resource(f"snapshots/{OVERLAY}", str(APP.chain[-1]))))
    ),
    "a label keeps those of one of two snapshotters": Row(
        (PULL, do(World.unpack, APP, snapshotter="native"), *DISCARD)
    ),
    "nothing is unpacked": Row((FETCH, *DISCARD, FORGET)),
    "the config is absent": Row((PULL, *DISCARD, do(World.drop, APP.config.digest))),
    "layers are lost, not discarded": Row((PULL, do(World.drop, *(each.digest for each in LAYERS)), FORGET)),
}

GIB = 1 << 30
EXTRA = Digest.of(b"a"), Digest.of(b"b")


def large(*sizes: int) -> Step:
    """Write blobs with these sizes in their records."""
    return lambda world: [
        world.store.add(data, "k8s.io", size=size) for data, size in zip((b"a", b"b"), sizes, strict=False)
    ]


def pins(name: str, blobs: int, size: int) -> Finding:
    facts = {"blobs": blobs, "bytes": size}
    return finding("lease-pins-content", "lease", name, facts=facts, hint=f"ctr -n k8s.io leases rm {name}")


HOLD_ONE, HOLD_OTHER = (Resource("content", digest) for digest in EXTRA)
FLAT = {"containerd.io/gc.flat": ""}
PINS = {
    "a lease alone keeps a gibibyte": Row((PULL, large(GIB), held("l", HOLD_ONE)), (pins("l", 1, GIB),)),
    "a byte less": Row((PULL, large(GIB - 1), held("l", HOLD_ONE))),
    "two blobs together": Row((PULL, large(GIB - 1, 2), held("l", HOLD_ONE, HOLD_OTHER)), (pins("l", 2, GIB + 1),)),
    "a lease that expires later": Row((PULL, large(GIB), held("l", HOLD_ONE, **{EXPIRE: AT[1]}))),
    "a flat lease": Row((PULL, large(GIB), held("l", HOLD_ONE, **FLAT))),
    "two leases": Row((PULL, large(GIB), held("k", HOLD_ONE), held("l", HOLD_ONE))),
    "another lease on it, past its expiry": Row(
        (PULL, large(GIB), held("k", HOLD_ONE, **{EXPIRE: AT[-1]}), held("l", HOLD_ONE)),
        (over("k", AT[-1]), pins("l", 1, GIB)),
    ),
    "leases that pin nothing come before": Row(
        (PULL, large(GIB), held("j"), held("k", HOLD_TOP), held("l", HOLD_ONE)), (pins("l", 1, GIB),)
    ),
    "a label keeps the blob too": Row(
        (PULL, large(GIB), add_labels(EXTRA[0], **{"containerd.io/gc.root": ""}), held("l", HOLD_ONE))
    ),
    "what nothing keeps does not count": Row(
        (PULL, large(GIB), do(World.put, b"b"), held("l", HOLD_OTHER)),
        (finding("orphan-blob", "blob", EXTRA[0], facts={"size": GIB}),),
    ),
}


STALE = do(World.ingest, "up load", age=DAY)
HOLD_INGEST = Resource("ingests", "up load")


def ingests(*made: Ingest) -> Step:
    return do(World.change, ingests=made)


OLD = Ingest("k8s.io", "old", 5, updated_at=NOW - DAY)
WHOLE = {
    "an orphan": Row((PULL, do(World.put, b"orphan")), (orphan(b"orphan"),)),
    "two orphans": Row((PULL, do(World.put, b"a"), do(World.put, b"b")), (orphan(b"b"), orphan(b"a"))),
    "content that a root label keeps": Row((PULL, do(World.put, b"a", **{"containerd.io/gc.root": ""}))),
    "content that a lease holds": Row((PULL, do(World.put, b"a"), held("l", Resource("content", Digest.of(b"a"))))),
    "content that an image names and nothing keeps is no orphan": Row((PULL, unlabel(APP.config)), of_app(APP.config)),
    "a lease without an expiry": Row((PULL, held("l"))),
    "a lease past its expiry": Row((PULL, held("l", **{EXPIRE: AT[-1]})), (over("l", AT[-1]),)),
    "a lease at its expiry": Row((PULL, held("l", **{EXPIRE: AT[0]}))),
    "a lease before its expiry": Row((PULL, held("l", **{EXPIRE: AT[1]}))),
    "an ingest of a day": Row((PULL, STALE), (stale("up load", DAY, total=10),)),
    "an ingest a second short of a day": Row((PULL, do(World.ingest, "x", age=DAY - SECOND))),
    "an ingest of two days": Row((PULL, do(World.ingest, "x", age=2 * DAY)), (stale("x", 2 * DAY, total=10),)),
    "an ingest of unknown total": Row((PULL, ingests(OLD)), (stale("old", DAY),)),
    "an ingest without a time": Row((PULL, ingests(Ingest("k8s.io", "x"), OLD)), (stale("old", DAY),)),
    "an ingest that a lease holds": Row((PULL, STALE, held("l", HOLD_INGEST))),
    "an ingest that a lease holds among others": Row(
        (PULL, STALE, held("k"), held("l", Resource("content", "x"), HOLD_INGEST))
    ),
    "an ingest that a lease past its expiry holds": Row(
        (PULL, STALE, held("l", HOLD_INGEST, **{EXPIRE: AT[-1]})),
        (over("l", AT[-1]), stale("up load", DAY, total=10)),
    ),
    "an ingest whose name a lease holds as content": Row(
        (PULL, STALE, held("l", Resource("content", "up load"))), (stale("up load", DAY, total=10),)
    ),
    "a lease on another ingest": Row(
        (PULL, STALE, held("l", Resource("ingests", "other"))), (stale("up load", DAY, total=10),)
    ),
}
EVERYTHING = (PULL, UNLABEL_TOP, do(World.put, b"a"), STALE, held("l", **{EXPIRE: AT[-1]}))
SCOPE = {
    "all that a namespace can have": Row(
        EVERYTHING, (*of_app(TOP), orphan(b"a"), over("l", AT[-1]), stale("up load", DAY, total=10))
    ),
    "one image: only its protection": Row(EVERYTHING, of_app(TOP), {"images": (NAME,)}),
    "something could not be listed: nothing": Row((*EVERYTHING, do(World.change, gaps=("leases",)))),
    "something could not be listed in the first of two namespaces": Row(
        (
            lambda world: World("aaa", store=world.store).change(gaps=("leases",)),
            *EVERYTHING,
        ),
        (*of_app(TOP), orphan(b"a"), over("l", AT[-1]), stale("up load", DAY, total=10)),
    ),
}


ROWS = {**PROTECTION, **SNAPSHOTS, **WHOLE, **PINS, **SCOPE}


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_exactly_this_is_found(row: Row) -> None:
    evidence = collected(build(row.steps), **row.request)
    assert unworded(worded(garbage_collection.check(evidence))) == list(row.found)


@pytest.mark.parametrize(
    ("held", "found"),
    [
        pytest.param(Lease("k8s.io", "l", {}, NOW, (HOLD_INGEST,)), [], id="it holds the ingest"),
        pytest.param(Lease("k8s.io", "l", {}, NOW, None), ["stale-ingest"], id="nobody asked what it holds"),
        pytest.param(
            Lease("k8s.io", "l", {EXPIRE: AT[-1]}, NOW, (HOLD_INGEST,)),
            ["expired-lease", "stale-ingest"],
            id="it held the ingest until it expired",
        ),
    ],
)
def test_a_lease_keeps_the_ingest_that_it_is_known_to_hold(held: Lease, found: list[str]) -> None:
    evidence = collected(build((PULL, STALE)))
    (view,) = evidence.views
    view = msgspec.structs.replace(view, inventory=msgspec.structs.replace(view.inventory, leases=(held,)))
    evidence = msgspec.structs.replace(evidence, views=(view,))
    assert [told.code for told in worded(garbage_collection.check(evidence))] == found


SAID = {
    "gc-unprotected: one": (
        (PULL, UNLABEL_TOP),
        f"manifest of {NAME} (linux/amd64): gc labels missing: the next garbage collection deletes 1 blob",
    ),
    "gc-unprotected: several": (
        (PULL, unlabel(BASE, TOP)),
        f"manifest of {NAME} (linux/amd64): gc labels missing: the next garbage collection deletes 2 blobs",
    ),
    "gc-unprotected: snapshots": (
        (PULL, *DISCARD, FORGET),
        (
            f"config of {NAME} (linux/amd64): gc label missing: the next garbage collection deletes the snapshots, "
            "the only copy of 3 layers"
        ),
    ),
    "lease-pins-content": (
        (PULL, large(GIB), held("l", HOLD_ONE)),
        f"lease l: no expiry time, alone protects 1 blobs ({GIB} bytes)",
    ),
    "orphan-blob": (
        (PULL, do(World.put, b"orphan")),
        f"blob {Digest.of(b'orphan').short} (6 bytes): no reference in namespace k8s.io",
    ),
    "expired-lease": ((PULL, held("l", **{EXPIRE: AT[-1]})), f"lease l: expired at {AT[-1]}"),
    "stale-ingest": ((PULL, STALE), "ingest up load: 5 bytes, no progress since 2026-04-30"),
}


@pytest.mark.parametrize(("steps", "message"), SAID.values(), ids=SAID)
def test_the_message_says_this(steps: tuple[Step, ...], message: str) -> None:
    (told,) = worded(garbage_collection.check(collected(build(steps))))
    assert told.message == message
