"""The classifier of absent layers, a row for each branch: the whole record of each layer is compared."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any, NamedTuple

import msgspec
import pytest

from auditor import graph, oci
from auditor.checks.absence import LayerState, State, absences, faults, in_progress, states, young_ingest
from auditor.store import Ingest, Lease, Resource, Snapshotter
from tests.unit.build import APP, BASE, CONTENT, GZIP, MIDDLE, NOW, OVERLAY, TOP, Document, Layer, World, image, index
from tests.unit.build import describe as wire
from tests.unit.cases import Step, add_labels, build, change_info, collect, describe, do, find, layers

HOUR = timedelta(hours=1)
SECOND = timedelta(seconds=1)
TWIN = Layer(BASE.content, "zstd")
REMOTE = "containerd.io/snapshot/remote"
MADE_FROM = "containerd.io/snapshot/cri.layer-digest"
EXPIRE = "containerd.io/gc.expire"


class Row(NamedTuple):
    """Steps, and by layer how its record differs from that of a layer that is present, labelled and unpacked."""

    steps: tuple[Step, ...]
    layers: Mapping[int, Mapping[str, Any]]
    manifest: Document = APP
    #: The image that the manifest is looked at in.
    target: Document | None = None
    #: How all records differ.
    every: Mapping[str, Any] = {}
    request: Mapping[str, Any] = {}


def expected(row: Row) -> tuple[LayerState, ...]:
    return tuple(
        msgspec.structs.replace(
            LayerState(each, State.PRESENT, (OVERLAY,), labelled=True),
            **{**row.every, **row.layers.get(each.index, {})},
        )
        for each in layers(row.manifest)
    )


def judge(row: Row) -> tuple[LayerState, ...]:
    evidence = collect(build(row.steps), **row.request)
    return states(evidence, *find(evidence, row.manifest, target=row.target))


PULL = do(World.pull, APP)
#: Nothing unpacked: what would be the bug is an image that cannot run.
FETCH = do(World.pull, APP, unpack=False)
NOWHERE = {"snapshotters": ()}
LOSE_BASE = do(World.drop, BASE.digest)
LOSE_ALL = do(World.drop, *(layer.digest for layer in APP.layers))
UNLABEL_BASE = do(World.unlabel, APP.digest, BASE.digest)


def first(state: State, **fields: Any) -> Mapping[int, Mapping[str, Any]]:
    """Only the lowest layer is absent."""
    return {0: {"state": state, "prefix": True, **fields}}


def all_three(state: State, **fields: Any) -> Mapping[int, Mapping[str, Any]]:
    return {i: {"state": state, "prefix": True, **fields} for i in range(3)}


# What the descriptor says.

EMBEDDED = image(
    BASE, layers=[wire(BASE.digest, len(BASE.data), GZIP) | {"data": base64.b64encode(BASE.data).decode()}]
)
FOREIGN = image(Layer("win", media_type="application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"), MIDDLE)
DOCKER_FOREIGN = image(Layer("win", media_type=oci.DOCKER_FOREIGN_LAYER), MIDDLE)


def lose_first(manifest: Document) -> Step:
    return do(World.drop, manifest.layers[0].digest)


def foreign(manifest: Document, state: State, *, unpack: bool) -> Row:
    held = (OVERLAY,) if unpack else ()
    steps = (do(World.pull, manifest, unpack=unpack), lose_first(manifest))
    return Row(steps, first(state), manifest, every={"snapshotters": held})


DESCRIPTORS = {
    "present": Row((PULL,), {}),
    "present, not labelled": Row((PULL, UNLABEL_BASE), {0: {"labelled": False}}),
    "present, not unpacked": Row((FETCH,), {}, every=NOWHERE),
    "embedded in its descriptor": Row(
        (do(World.pull, EMBEDDED), LOSE_BASE),
        first(State.EMBEDDED, layer=graph.Layer(0, describe(BASE, embedded=True), BASE.diff_id, BASE.diff_id)),
        EMBEDDED,
    ),
    "nondistributable, no snapshot": foreign(FOREIGN, State.FOREIGN, unpack=False),
    "foreign of docker, no snapshot": foreign(DOCKER_FOREIGN, State.FOREIGN, unpack=False),
    "nondistributable with a snapshot is judged as any other": foreign(FOREIGN, State.SKIPPED, unpack=True),
}


# 1. Platforms that were not pulled.

ARM = image(Layer("arm"), platform="linux/arm64")
#: The node's lowest layer compressed otherwise: the snapshot of the node's image has its chainID.
ARM_TWIN = image(TWIN, platform="linux/arm64")
ARM_FOREIGN = image(FOREIGN.layers[0], platform="linux/arm64")


def beside(manifest: Document) -> tuple[Step, ...]:
    """Pull the node's image; of another platform's only the documents."""
    both = index(APP, manifest)
    labels = {f"{CONTENT}.l.0": str(manifest.layers[0].digest), f"{CONTENT}.config": str(manifest.config.digest)}
    return (
        do(World.pull, both),
        do(World.put, manifest.data, **labels),
        do(World.put, manifest.config.data),
    )


def documents(manifest: Document) -> tuple[Step, ...]:
    """Write a manifest and its config, without labels."""
    return do(World.put, manifest.data), do(World.put, manifest.config.data)


def claim(manifest: Document) -> Step:
    """Write on the config that its image is unpacked."""
    return add_labels(manifest.config.digest, **{f"containerd.io/gc.ref.snapshot.{OVERLAY}": manifest.chain[-1]})


NOT_PULLED: dict[str, Row] = {
    "another platform": Row(beside(ARM), first(State.NOT_PULLED), ARM, every=NOWHERE),
    "another platform whose layer has a snapshot": Row(beside(ARM_TWIN), first(State.NOT_PULLED), ARM_TWIN),
    "another platform whose layer arrives": Row(
        (*beside(ARM), do(World.ingest, f"layer-{ARM.layers[0].digest}")),
        first(State.NOT_PULLED),
        ARM,
        every=NOWHERE,
    ),
    "another platform, not labelled": Row(
        (*beside(ARM_TWIN), do(World.unlabel, ARM_TWIN.digest, TWIN.digest)),
        first(State.NOT_PULLED, labelled=False),
        ARM_TWIN,
    ),
    "foreign comes before not pulled": Row(beside(ARM_FOREIGN), first(State.FOREIGN), ARM_FOREIGN, every=NOWHERE),
    "another platform that was unpacked": Row(
        (*beside(ARM_TWIN), claim(ARM_TWIN)), first(State.SKIPPED, twins=(BASE.digest,)), ARM_TWIN
    ),
    "another platform that was asked for": Row(
        beside(ARM), first(State.INCOMPLETE), ARM, every=NOWHERE, request={"all_platforms": True}
    ),
    "another platform, the only choice": Row(
        (
            do(World.pull, index(ARM2 := image(Layer("low"), Layer("high"), platform="linux/arm64")), unpack=False),
            do(World.put, ARM2.data, **{f"{CONTENT}.l.1": str(ARM2.layers[1].digest)}),
            do(World.put, ARM2.config.data),
            do(World.put, ARM2.layers[1].data),
        ),
        {0: {"state": State.INCOMPLETE, "prefix": True, "labelled": False}},
        ARM2,
        every=NOWHERE,
    ),
    "the node's own, another was pulled instead": Row(
        (do(World.pull, index(APP, ARM), platforms=("linux/arm64",), unpack=False), *documents(APP)),
        all_three(State.NOT_PULLED, labelled=False),
        every=NOWHERE,
    ),
}


# 2. Discarded by policy.

DISCARDED = {
    "snapshot, config label, no layer label": Row(
        (PULL, LOSE_BASE, UNLABEL_BASE), first(State.DISCARDED, labelled=False)
    ),
    "no snapshot": Row((FETCH, LOSE_BASE, UNLABEL_BASE), first(State.INCOMPLETE, labelled=False), every=NOWHERE),
    "layer label": Row((PULL, LOSE_BASE), first(State.SKIPPED)),
    "no config label": Row(
        (PULL, LOSE_BASE, do(World.unlabel, APP.digest)), first(State.SKIPPED), every={"labelled": False}
    ),
    "layer label as before containerd 1.4": Row(
        (PULL, LOSE_BASE, UNLABEL_BASE, add_labels(APP.digest, **{f"{CONTENT}.0": BASE.digest})), first(State.SKIPPED)
    ),
    "the digest in a label that references nothing": Row(
        (PULL, LOSE_BASE, UNLABEL_BASE, add_labels(APP.digest, **{"containerd.io/gc.bref.content.0": BASE.digest})),
        first(State.DISCARDED, labelled=False),
    ),
    "before lazy": Row(
        (do(World.unpack, APP, **{REMOTE: ""}), FETCH, LOSE_BASE, UNLABEL_BASE),
        first(State.DISCARDED, labelled=False),
    ),
    "before pull in progress": Row(
        (PULL, LOSE_BASE, UNLABEL_BASE, do(World.ingest, f"layer-{BASE.digest}")),
        first(State.DISCARDED, labelled=False),
    ),
}


# 3. Snapshotters that read from the registry.


def remote(*labels: str, **fields: Any) -> tuple[Step, ...]:
    """All layers absent, their snapshots with these labels."""
    return (FETCH, do(World.unpack, APP, **dict.fromkeys(labels, ""), **fields), LOSE_ALL)


def serve(*snapshotters: Snapshotter) -> Step:
    return change_info(snapshotters=snapshotters)


LAZY = {
    "remote label": Row(remote(REMOTE), all_three(State.LAZY)),
    "remote label with more behind it": Row(remote(f"{REMOTE}-not"), all_three(State.SKIPPED)),
    "nydus label": Row(remote("containerd.io/snapshot/nydus-blob"), all_three(State.LAZY)),
    "overlaybd label": Row(remote("containerd.io/snapshot/overlaybd.version"), all_three(State.LAZY)),
    "label that only holds such a name": Row(remote("x/containerd.io/snapshot/nydus"), all_three(State.SKIPPED)),
    "one of two labels": Row(remote("a", REMOTE), all_three(State.LAZY)),
    "lazy snapshotter": Row((*remote(), serve(Snapshotter(OVERLAY, lazy=True))), all_three(State.LAZY)),
    "another snapshotter is lazy": Row(
        (*remote(), serve(Snapshotter(OVERLAY), Snapshotter("stargz", lazy=True))), all_three(State.SKIPPED)
    ),
    "snapshotter that the daemon does not name": Row((*remote(), serve()), all_three(State.SKIPPED)),
    "snapshotter that the daemon does not name, remote label": Row((*remote(REMOTE), serve()), all_three(State.LAZY)),
    "lazy snapshotter that has no snapshot of it": Row(
        (FETCH, LOSE_BASE, serve(Snapshotter(OVERLAY, lazy=True))), first(State.INCOMPLETE), every=NOWHERE
    ),
    "its own snapshot is remote, the top's is not": Row(
        (PULL, do(World.snapshot, APP.chain[0], **{REMOTE: ""}), LOSE_BASE), first(State.LAZY)
    ),
    "the top's snapshot is remote, its own is not": Row(
        (PULL, do(World.snapshot, APP.chain[2], APP.chain[1], **{REMOTE: ""}), LOSE_BASE), first(State.LAZY)
    ),
    "second snapshotter": Row(
        (*remote(), do(World.unpack, APP, snapshotter="stargz", **{REMOTE: ""})),
        all_three(State.LAZY),
        every={"snapshotters": (OVERLAY, "stargz")},
    ),
    "only the top's snapshot": Row(
        (FETCH, do(World.snapshot, APP.chain[2], APP.chain[1], **{REMOTE: ""}), LOSE_BASE),
        {0: {"state": State.LAZY, "prefix": True}, 2: {"snapshotters": (OVERLAY,)}},
        every=NOWHERE,
    ),
    "only the middle's snapshot": Row(
        (FETCH, do(World.snapshot, APP.chain[1], APP.chain[0], **{REMOTE: ""}), LOSE_BASE),
        {0: {"state": State.INCOMPLETE, "prefix": True}, 1: {"snapshotters": (OVERLAY,)}},
        every=NOWHERE,
    ),
    "only its own snapshot": Row(
        (FETCH, do(World.snapshot, APP.chain[0], **{REMOTE: ""}), LOSE_BASE),
        {0: {"state": State.LAZY, "prefix": True, "snapshotters": (OVERLAY,)}},
        every=NOWHERE,
    ),
    "before pull in progress": Row((*remote(REMOTE), do(World.ingest, f"layer-{BASE.digest}")), all_three(State.LAZY)),
}


# 4. Pulls in progress.


def ingest(ref: str = f"layer-{BASE.digest}", expected: str = "", *, age: timedelta | None = SECOND) -> Step:
    moved = None if age is None else NOW - age
    return lambda world: world.change(ingests=(Ingest("k8s.io", ref, expected=expected, updated_at=moved),))


def lease(name: str = "pull", *held: Resource, age: timedelta = SECOND, expire: str = "") -> Step:
    labels = {EXPIRE: AT[expire]} if expire else {}
    return do(World.lease, name, *(held or (HOLDS_APP,)), age=age, labels=labels)


HOLDS_APP = Resource("content", APP.digest)
AT = {"past": (NOW - SECOND).isoformat(), "now": NOW.isoformat(), "future": (NOW + SECOND).isoformat()}


def without_time(name: str) -> Step:
    """A lease that does not say when it was created."""

    def step(world: World) -> None:
        world.change(leases=(Lease("k8s.io", name),))
        world.store.hold("k8s.io", name, HOLDS_APP)

    return step


def arriving(*steps: Step) -> Row:
    return Row((FETCH, LOSE_BASE, *steps), first(State.IN_PROGRESS), every=NOWHERE)


def idle(*steps: Step) -> Row:
    return Row((FETCH, LOSE_BASE, *steps), first(State.INCOMPLETE), every=NOWHERE)


PROGRESS = {
    "ingest that names the blob": arriving(ingest()),
    "ingest that expects the blob": arriving(ingest("upload-7", BASE.digest)),
    "ingest of another blob": idle(ingest(f"layer-{TOP.digest}", TOP.digest)),
    "ingest that moved a second short of an hour ago": arriving(ingest(age=HOUR - SECOND)),
    "ingest that moved an hour ago": idle(ingest(age=HOUR)),
    "ingest without a time": arriving(ingest(age=None)),
    "ingest that expects the blob, of an hour ago": idle(ingest("upload-7", BASE.digest, age=HOUR)),
    "lease on the manifest": arriving(lease()),
    "lease a second short of an hour": arriving(lease(age=HOUR - SECOND)),
    "lease of an hour": idle(lease(age=HOUR)),
    "lease from the future": arriving(lease(age=-HOUR)),
    "lease without a time": idle(without_time("pull")),
    "lease of our own": idle(lease("auditor-7f")),
    "lease of a name that begins like ours": arriving(lease("auditors")),
    "lease of a name that ends like ours": arriving(lease("x-auditor-")),
    "lease past its expiry": idle(lease(expire="past")),
    "lease at its expiry": arriving(lease(expire="now")),
    "lease before its expiry": arriving(lease(expire="future")),
    "lease on the layer": idle(lease("pull", Resource("content", BASE.digest))),
    "lease on the config": idle(lease("pull", Resource("content", APP.config.digest))),
    "lease on an ingest of the manifest's name": idle(lease("pull", Resource("ingests", APP.digest))),
    "lease on more than the manifest": arriving(lease("pull", Resource("images", "x"), HOLDS_APP)),
    "lease of our own beside one that is not": arriving(lease("auditor-7f"), lease("pull")),
    "old lease beside a young one": arriving(lease("a", age=HOUR), lease("b")),
    "in progress though the bug is likely": Row((PULL, LOSE_BASE, lease()), first(State.IN_PROGRESS)),
}


# 5. and 6. Faults.

OTHER = image(TWIN, Layer("other top"))


def unread(*steps: Step, **info: Any) -> tuple[Step, ...]:
    """Not unpacked as far as is known."""
    return (FETCH, LOSE_BASE, *steps, *([change_info(**info)] if info else []))


GAP = do(World.change, gaps=("snapshotter native could not be listed",))
BOTH = {"snapshotters": (Snapshotter(OVERLAY), Snapshotter("native"))}
CHART = image(
    Layer("chart", media_type="application/x-chart"), config={}, config_type="application/vnd.cncf.helm.config.v1+json"
)
NO_IDS = {"layer": graph.Layer(0, describe(CHART.layers[0])), "snapshotters": ()}


def without_ids(manifest: Document, states_of: Mapping[int, State]) -> Mapping[int, Mapping[str, Any]]:
    """Layers of a manifest whose config cannot be read: neither diffIDs nor chainIDs."""
    return {
        i: {"layer": graph.Layer(i, describe(layer)), "snapshotters": (), "state": states_of.get(i, State.PRESENT)}
        for i, layer in enumerate(manifest.layers)
    }


FAULTS = {
    "snapshot, no twin": Row((PULL, LOSE_BASE), first(State.SKIPPED)),
    "snapshot and a twin": Row(
        (do(World.pull, OTHER, "other:1"), PULL, LOSE_BASE), first(State.SKIPPED, twins=(TWIN.digest,))
    ),
    "no snapshot": Row((FETCH, LOSE_BASE), first(State.INCOMPLETE), every=NOWHERE),
    "no snapshot, a twin": Row(
        (do(World.pull, OTHER, "other:1", unpack=False), FETCH, LOSE_BASE),
        first(State.INCOMPLETE, twins=(TWIN.digest,)),
        every=NOWHERE,
    ),
    "made from another blob": Row(
        (FETCH, do(World.unpack, APP, **{MADE_FROM: TWIN.digest}), LOSE_BASE),
        first(State.SKIPPED, built_from=TWIN.digest),
    ),
    "two snapshotters: the first tells, though it was not written down": Row(
        (PULL, do(World.unpack, APP, snapshotter="second", **{MADE_FROM: TWIN.digest}), LOSE_BASE),
        first(State.SKIPPED),
        every={"snapshotters": (OVERLAY, "second")},
    ),
    "two snapshotters: the first tells": Row(
        (PULL, do(World.unpack, APP, snapshotter="first", **{MADE_FROM: TWIN.digest}), LOSE_BASE),
        first(State.SKIPPED, built_from=TWIN.digest),
        every={"snapshotters": ("first", OVERLAY)},
    ),
    "a snapshotter could not be listed": Row(unread(GAP, **BOTH), first(State.UNKNOWN), every=NOWHERE),
    "a snapshotter could not be listed, a twin": Row(
        (do(World.pull, OTHER, "other:1", unpack=False), *unread(GAP, **BOTH)),
        first(State.UNKNOWN, twins=(TWIN.digest,)),
        every=NOWHERE,
    ),
    "a snapshotter was not asked": Row(unread(**BOTH), first(State.INCOMPLETE), every=NOWHERE),
    "something else could not be listed": Row(unread(GAP), first(State.INCOMPLETE), every=NOWHERE),
    "a snapshotter could not be listed, another has the snapshot": Row(
        (PULL, LOSE_BASE, GAP, change_info(**BOTH)), first(State.SKIPPED)
    ),
    "no config": Row(
        (PULL, do(World.drop, BASE.digest, APP.config.digest)),
        {i: {**fields, "prefix": not i} for i, fields in without_ids(APP, {0: State.UNKNOWN}).items()},
    ),
    "no config and none is meant to be": Row(
        (do(World.pull, CHART, unpack=False), lose_first(CHART)),
        {0: {**NO_IDS, "state": State.INCOMPLETE, "prefix": True}},
        CHART,
    ),
}


# Two manifests with one config.

GZ, ZST = image(BASE), image(TWIN)
#: The same as an index describes it for another platform.
ZST_ARM = replace(ZST, platform="linux/arm64")
#: Manifests that name no platform, neither in the index nor in the config.
BARE, BARE_TWIN = (
    image(layer, platform="", config={"rootfs": {"type": "layers", "diff_ids": [layer.diff_id]}})
    for layer in (BASE, TWIN)
)
#: The same config under layers of which one may be here and one not.
PAIR, PAIR_TWIN = image(BASE, MIDDLE), image(TWIN, Layer(MIDDLE.content, "zstd"))
#: A third manifest with the config of the two, of which nothing is here.
THIRD = image(Layer(BASE.content, "zstd -9"))


def both(*manifests: Document) -> tuple[Document, Step]:
    whole = index(*manifests)
    return whole, do(World.pull, whole)


SHARED = {
    "the second lost its layers": Row(
        (both(GZ, ZST)[1], do(World.drop, TWIN.digest)),
        first(State.SHARED_CONFIG, twins=(BASE.digest,), sibling=GZ.digest),
        ZST,
    ),
    "the first lost its layers": Row(
        (both(GZ, ZST)[1], LOSE_BASE), first(State.SHARED_CONFIG, twins=(TWIN.digest,), sibling=ZST.digest), GZ
    ),
    "the wanted one lost its layer and its label": Row(
        (both(GZ, ZST)[1], LOSE_BASE, do(World.unlabel, GZ.digest, BASE.digest)),
        first(State.SHARED_CONFIG, labelled=False, twins=(TWIN.digest,), sibling=ZST.digest),
        GZ,
    ),
    "the other one lost its layer and its label": Row(
        (both(GZ, ZST)[1], do(World.drop, TWIN.digest), do(World.unlabel, ZST.digest, TWIN.digest)),
        first(State.DISCARDED, labelled=False),
        ZST,
    ),
    "neither wanted nor alike": Row(
        (
            do(World.pull, index(GZ, ZST_ARM), platforms=("linux/amd64", "linux/arm64")),
            do(World.drop, TWIN.digest),
        ),
        first(State.SKIPPED, twins=(BASE.digest,)),
        ZST,
    ),
    "in another index of the image": Row(
        (do(World.pull, index(index(GZ, platforms=False), ZST)), do(World.drop, TWIN.digest)),
        first(State.SKIPPED, twins=(BASE.digest,)),
        ZST,
    ),
    "the sibling lacks its layers too": Row(
        (both(GZ, ZST)[1], do(World.drop, TWIN.digest, BASE.digest)), first(State.SKIPPED), ZST
    ),
    "the sibling lacks one of its layers": Row(
        (both(PAIR, PAIR_TWIN)[1], do(World.drop, TWIN.digest, MIDDLE.digest)),
        first(State.SKIPPED, twins=(BASE.digest,)),
        PAIR_TWIN,
    ),
    "wanted for want of any platform": Row(
        (do(World.pull, index(BARE, BARE_TWIN), platforms=("",)), do(World.drop, TWIN.digest)),
        first(State.SHARED_CONFIG, twins=(BASE.digest,), sibling=BARE.digest),
        BARE_TWIN,
    ),
    "the sibling's config is another": Row(
        (both(image(BASE, MIDDLE), ZST)[1], do(World.drop, TWIN.digest)),
        first(State.SKIPPED, twins=(BASE.digest,)),
        ZST,
    ),
    "the sibling stands behind one that is absent and one that is other": Row(
        (both(THIRD, image(MIDDLE), GZ, ZST)[1], do(World.drop, THIRD.digest, TWIN.digest)),
        first(State.SHARED_CONFIG, twins=tuple(sorted((BASE.digest, THIRD.layers[0].digest))), sibling=GZ.digest),
        ZST,
    ),
    "embedded comes before": Row(
        (both(ZST, EMBEDDED)[1], LOSE_BASE),
        first(State.EMBEDDED, layer=graph.Layer(0, describe(BASE, embedded=True), BASE.diff_id, BASE.diff_id)),
        EMBEDDED,
    ),
    "the manifest is a target by itself": Row(
        (both(GZ, ZST)[1], do(World.pull, ZST, "alone:1"), do(World.drop, TWIN.digest)),
        first(State.SKIPPED, twins=(BASE.digest,)),
        ZST,
        ZST,
    ),
}


# The run of absent layers from the bottom up.


def lost(*numbers: int, prefix: tuple[int, ...], **more: Any) -> Mapping[int, Mapping[str, Any]]:
    return {i: {"prefix": i in prefix, **({"state": State.SKIPPED, **more} if i in numbers else {})} for i in range(3)}


SECOND_IMAGE = image(BASE, MIDDLE, Layer("second"))


def lose(*absent: Layer) -> Step:
    return do(World.drop, *(layer.digest for layer in absent))


PREFIX = {
    "the lowest": Row((PULL, LOSE_BASE), lost(0, prefix=(0,))),
    "the two lowest": Row((PULL, lose(BASE, MIDDLE)), lost(0, 1, prefix=(0, 1))),
    "all": Row((PULL, LOSE_ALL), lost(0, 1, 2, prefix=(0, 1, 2))),
    "the highest": Row((PULL, lose(TOP)), lost(2, prefix=())),
    "the lowest and the highest": Row((PULL, lose(BASE, TOP)), lost(0, 2, prefix=(0,))),
    "the highest, those below came with another image": Row(
        (PULL, do(World.pull, SECOND_IMAGE, "second:1"), lose(TOP)), lost(2, prefix=(0, 1, 2))
    ),
    "the highest, the lowest came with another image": Row(
        (PULL, do(World.pull, image(BASE), "second:1"), lose(TOP)), lost(2, prefix=(0,))
    ),
    "the highest, under two names": Row((do(World.pull, APP, "a:1", "b:1"), lose(TOP)), lost(2, prefix=())),
    "the highest, another manifest of the image has the others": Row(
        (do(World.pull, index(APP, SECOND_IMAGE)), lose(TOP)), lost(2, prefix=())
    ),
    "the highest, another namespace has the image": Row(
        (
            PULL,
            lambda world: World("moby", store=world.store).pull(APP),
            lose(TOP),
        ),
        lost(2, prefix=(0, 1, 2), twins=()),
    ),
}

TABLES = {
    "descriptor": DESCRIPTORS,
    "not pulled": NOT_PULLED,
    "discarded": DISCARDED,
    "lazy": LAZY,
    "progress": PROGRESS,
    "fault": FAULTS,
    "shared config": SHARED,
    "prefix": PREFIX,
}


@pytest.mark.parametrize(
    "row", [pytest.param(row, id=f"{table}: {name}") for table, rows in TABLES.items() for name, row in rows.items()]
)
def test_each_layer_has_the_whole_record_of_its_branch(row: Row) -> None:
    assert judge(row) == expected(row)


#: The words of `tree` and of reports.
WORDS = {
    State.PRESENT: "present",
    State.EMBEDDED: "embedded",
    State.FOREIGN: "foreign",
    State.NOT_PULLED: "not pulled",
    State.DISCARDED: "discarded",
    State.LAZY: "lazy",
    State.IN_PROGRESS: "pull in progress",
    State.SHARED_CONFIG: "lost to a shared config",
    State.SKIPPED: "skipped by the unpacker",
    State.INCOMPLETE: "missing",
    State.UNKNOWN: "absent",
}


@pytest.mark.parametrize("state", State)
def test_a_state_has_its_word(state: State) -> None:
    assert str(state) == WORDS[state]


def test_a_record_says_nothing_that_it_was_not_told_and_stays_as_it_is() -> None:
    record = LayerState(layers(APP)[0], State.PRESENT)
    assert record == LayerState(layers(APP)[0], State.PRESENT, (), False, False, (), "", None)
    with pytest.raises(AttributeError):
        record.prefix = True  # type: ignore[misc]


@pytest.mark.parametrize("state", State)
def test_what_should_be_there_is_a_fault(state: State) -> None:
    assert state.fault is (state in {State.SHARED_CONFIG, State.SKIPPED, State.INCOMPLETE})
    found = (LayerState(layers(APP)[0], state), LayerState(layers(APP)[1], State.LAZY))
    assert faults(found) == (found[:1] if state.fault else ())


def test_absences_are_the_states_of_what_is_not_present() -> None:
    evidence = collect(build((PULL, lose(BASE, TOP))))
    found = find(evidence, APP)
    judged = states(evidence, *found)
    assert absences(evidence, *found) == (judged[0], judged[2])


def test_an_image_that_is_all_here_has_no_absences() -> None:
    evidence = collect(build((PULL,)))
    assert absences(evidence, *find(evidence, APP)) == ()


def test_a_manifest_without_a_record_has_no_layers() -> None:
    evidence = collect(build((PULL, do(World.drop, APP.digest))))
    found = find(evidence, APP)
    assert (states(evidence, *found), absences(evidence, *found)) == ((), ())


def test_a_manifest_is_judged_once_for_each_image_that_leads_to_it() -> None:
    whole, pull = both(GZ, ZST)
    evidence = collect(build((pull, do(World.pull, ZST, "alone:1"), do(World.drop, TWIN.digest))))
    inside, alone = (states(evidence, *find(evidence, ZST, target=target)) for target in (whole, ZST))
    assert [state.state for state in (*inside, *alone)] == [State.SHARED_CONFIG, State.SKIPPED]
    assert states(evidence, *find(evidence, ZST, target=whole)) is inside


@pytest.mark.parametrize(
    ("steps", "moving"),
    [
        pytest.param((lease(),), False, id="a lease on a manifest that nobody asked about"),
        pytest.param((ingest(),), True, id="an ingest"),
        pytest.param((ingest(age=HOUR),), False, id="an ingest that stands still"),
    ],
)
def test_a_blob_that_is_no_layer_is_in_progress_by_its_ingest_only(steps: tuple[Step, ...], moving: bool) -> None:
    (view,) = collect(build((FETCH, *steps))).views
    assert in_progress(view, BASE.digest) is moving


@pytest.mark.parametrize(
    ("lease", "working"),
    [
        pytest.param(Lease("k8s.io", "pull", {}, NOW, (HOLDS_APP,)), True, id="young"),
        pytest.param(Lease("k8s.io", "pull", {}, NOW, None), False, id="resources not listed"),
        pytest.param(Lease("k8s.io", "pull", {EXPIRE: AT["past"]}, NOW, (HOLDS_APP,)), False, id="past its expiry"),
    ],
)
def test_a_lease_is_a_pull_by_what_it_holds(lease: Lease, working: bool) -> None:
    view, _, node = find(collect(build((FETCH,))), APP)
    view.inventory = msgspec.structs.replace(view.inventory, leases=(lease,))
    assert in_progress(view, BASE.digest, node) is working


@pytest.mark.parametrize(
    ("age", "young"), [(None, True), (HOUR - SECOND, True), (HOUR, False), (HOUR + SECOND, False), (-HOUR, True)]
)
def test_an_ingest_is_young_within_the_hour(age: timedelta | None, young: bool) -> None:
    (view,) = collect(build((FETCH,))).views
    assert young_ingest(view, Ingest("k8s.io", "x", updated_at=None if age is None else NOW - age)) is young
