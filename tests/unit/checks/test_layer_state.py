"""The classifier of absent layers, a row for each branch: the whole record of each layer is compared."""

from __future__ import annotations

import base64
from datetime import timedelta
from typing import Any

import msgspec
import pytest

from auditor.checks.layer_state import State
from auditor.checks.pull_activity import MOVING, in_progress, moves
from auditor.model import image_graph, oci
from auditor.model.store import Ingest, Lease, Resource, Snapshotter
from tests.unit.build import APP, BASE, CONTENT, GZIP, MIDDLE, NOW, OVERLAY, TOP, Document, Layer, World, image, index
from tests.unit.build import describe as wire
from tests.unit.cases import (
    LayerRow,
    Step,
    add_labels,
    all_three,
    build,
    change_info,
    collected,
    describe,
    do,
    find,
    first,
    lose,
)

HOUR = timedelta(hours=1)
SECOND = timedelta(seconds=1)
TWIN = Layer(BASE.content, "zstd")
REMOTE = "containerd.io/snapshot/remote"
EXPIRE = "containerd.io/gc.expire"


PULL = do(World.pull, APP)
#: Nothing unpacked: what would be the bug is an image that cannot run.
FETCH = do(World.pull, APP, unpack=False)
NOWHERE = {"snapshotters": ()}
LOSE_BASE = lose(BASE)
LOSE_ALL = lose(*APP.layers)
UNLABEL_BASE = do(World.unlabel, APP.digest, BASE.digest)


# What the descriptor says.

EMBEDDED = image(
    BASE, layers=[wire(BASE.digest, len(BASE.data), GZIP) | {"data": base64.b64encode(BASE.data).decode()}]
)
FOREIGN = image(Layer("win", media_type="application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"), MIDDLE)
DOCKER_FOREIGN = image(Layer("win", media_type=oci.DOCKER_FOREIGN_LAYER), MIDDLE)


def foreign(manifest: Document, state: State, *, unpack: bool) -> LayerRow:
    held = (OVERLAY,) if unpack else ()
    steps = (do(World.pull, manifest, unpack=unpack), lose(manifest.layers[0]))
    return LayerRow(steps, first(state), manifest, every={"snapshotters": held})


DESCRIPTORS = {
    "present": LayerRow((PULL,), {}),
    "present, not labelled": LayerRow((PULL, UNLABEL_BASE), {0: {"labelled": False}}),
    "present, not unpacked": LayerRow((FETCH,), {}, every=NOWHERE),
    "embedded in its descriptor": LayerRow(
        (do(World.pull, EMBEDDED), LOSE_BASE),
        first(State.EMBEDDED, layer=image_graph.Layer(0, describe(BASE, embedded=True), BASE.diff_id, BASE.diff_id)),
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


NOT_PULLED: dict[str, LayerRow] = {
    "another platform": LayerRow(beside(ARM), first(State.NOT_PULLED), ARM, every=NOWHERE),
    "another platform whose layer has a snapshot": LayerRow(beside(ARM_TWIN), first(State.NOT_PULLED), ARM_TWIN),
    "another platform whose layer arrives": LayerRow(
        (*beside(ARM), do(World.ingest, f"layer-{ARM.layers[0].digest}")),
        first(State.NOT_PULLED),
        ARM,
        every=NOWHERE,
    ),
    "another platform, not labelled": LayerRow(
        (*beside(ARM_TWIN), do(World.unlabel, ARM_TWIN.digest, TWIN.digest)),
        first(State.NOT_PULLED, labelled=False),
        ARM_TWIN,
    ),
    "foreign comes before not pulled": LayerRow(beside(ARM_FOREIGN), first(State.FOREIGN), ARM_FOREIGN, every=NOWHERE),
    "another platform that was unpacked": LayerRow(
        (*beside(ARM_TWIN), claim(ARM_TWIN)), first(State.SKIPPED, twins=(BASE.digest,)), ARM_TWIN
    ),
    "another platform that was asked for": LayerRow(
        beside(ARM), first(State.INCOMPLETE), ARM, every=NOWHERE, request={"all_platforms": True}
    ),
    "another platform, the only choice": LayerRow(
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
    "the node's own, another was pulled instead": LayerRow(
        (do(World.pull, index(APP, ARM), platforms=("linux/arm64",), unpack=False), *documents(APP)),
        all_three(State.NOT_PULLED, labelled=False),
        every=NOWHERE,
    ),
}


# 2. Discarded by policy.

DISCARDED = {
    "snapshot, config label, no layer label": LayerRow(
        (PULL, LOSE_BASE, UNLABEL_BASE), first(State.DISCARDED, labelled=False)
    ),
    "no snapshot": LayerRow((FETCH, LOSE_BASE, UNLABEL_BASE), first(State.INCOMPLETE, labelled=False), every=NOWHERE),
    "layer label": LayerRow((PULL, LOSE_BASE), first(State.SKIPPED)),
    "no config label": LayerRow(
        (PULL, LOSE_BASE, do(World.unlabel, APP.digest)), first(State.SKIPPED), every={"labelled": False}
    ),
    "layer label as before containerd 1.4": LayerRow(
        (PULL, LOSE_BASE, UNLABEL_BASE, add_labels(APP.digest, **{f"{CONTENT}.0": BASE.digest})), first(State.SKIPPED)
    ),
    "the digest in a label that references nothing": LayerRow(
        (PULL, LOSE_BASE, UNLABEL_BASE, add_labels(APP.digest, **{"containerd.io/gc.bref.content.0": BASE.digest})),
        first(State.DISCARDED, labelled=False),
    ),
    "before lazy": LayerRow(
        (do(World.unpack, APP, **{REMOTE: ""}), FETCH, LOSE_BASE, UNLABEL_BASE),
        first(State.DISCARDED, labelled=False),
    ),
    "before pull in progress": LayerRow(
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


PROXY = serve(Snapshotter(OVERLAY, proxy=True))
BUILT = "containerd.io/snapshot/cri.layer-digest"


LAZY = {
    "remote label": LayerRow(remote(REMOTE), all_three(State.LAZY)),
    "remote label with more behind it": LayerRow(remote(f"{REMOTE}-not"), all_three(State.SKIPPED)),
    "nydus label": LayerRow(remote("containerd.io/snapshot/nydus-blob"), all_three(State.LAZY)),
    "overlaybd label": LayerRow(remote("containerd.io/snapshot/overlaybd.version"), all_three(State.LAZY)),
    "label that only holds such a name": LayerRow(remote("x/containerd.io/snapshot/nydus"), all_three(State.SKIPPED)),
    "one of two labels": LayerRow(remote("a", REMOTE), all_three(State.LAZY)),
    "lazy by its exports only": LayerRow((*remote(), serve(Snapshotter(OVERLAY, lazy=True))), all_three(State.SKIPPED)),
    "proxy, nothing else is known": LayerRow((*remote(), PROXY), all_three(State.UNTOLD)),
    "proxy, built from this blob": LayerRow(
        (FETCH, do(World.unpack, APP, **{BUILT: str(BASE.digest)}), LOSE_BASE, PROXY), first(State.LAZY)
    ),
    "proxy, built from a twin": LayerRow(
        (FETCH, do(World.unpack, APP, **{BUILT: str(TWIN.digest)}), LOSE_BASE, PROXY),
        first(State.SKIPPED, built_from=str(TWIN.digest)),
    ),
    "proxy, a twin that was fetched for it": LayerRow(
        (PULL, do(World.pull, image(TWIN), "twin:1"), LOSE_BASE, PROXY), first(State.SKIPPED, twins=(TWIN.digest,))
    ),
    "proxy, a twin of another snapshotter": LayerRow(
        (PULL, do(World.pull, image(TWIN), "twin:1", unpack=False), LOSE_BASE, PROXY), first(State.UNTOLD)
    ),
    "proxy, a twin that was fetched for it, behind an image that was not": LayerRow(
        (
            PULL,
            do(World.pull, image(TOP), "e:1", unpack=False),
            do(World.pull, image(TWIN), "twin:1"),
            LOSE_BASE,
            PROXY,
        ),
        first(State.SKIPPED, twins=(TWIN.digest,)),
    ),
    "another snapshotter is lazy": LayerRow(
        (*remote(), serve(Snapshotter(OVERLAY), Snapshotter("stargz", lazy=True))), all_three(State.SKIPPED)
    ),
    "snapshotter that the daemon does not name": LayerRow((*remote(), serve()), all_three(State.SKIPPED)),
    "snapshotter that the daemon does not name, remote label": LayerRow(
        (*remote(REMOTE), serve()), all_three(State.LAZY)
    ),
    "lazy snapshotter that has no snapshot of it": LayerRow(
        (FETCH, LOSE_BASE, serve(Snapshotter(OVERLAY, lazy=True))), first(State.INCOMPLETE), every=NOWHERE
    ),
    "its own snapshot is remote, the top's is not": LayerRow(
        (PULL, do(World.snapshot, APP.chain[0], **{REMOTE: ""}), LOSE_BASE), first(State.LAZY)
    ),
    "the top's snapshot is remote, its own is not": LayerRow(
        (PULL, do(World.snapshot, APP.chain[2], APP.chain[1], **{REMOTE: ""}), LOSE_BASE), first(State.SKIPPED)
    ),
    "remote on another snapshotter than the image's own": LayerRow(
        (PULL, do(World.unpack, APP, snapshotter="stargz", **{REMOTE: ""}), LOSE_BASE),
        first(State.SKIPPED),
        every={"snapshotters": (OVERLAY, "stargz")},
    ),
    "second snapshotter": LayerRow(
        (*remote(), do(World.unpack, APP, snapshotter="stargz", **{REMOTE: ""})),
        all_three(State.LAZY),
        every={"snapshotters": (OVERLAY, "stargz")},
    ),
    "only the top's snapshot": LayerRow(
        (FETCH, do(World.snapshot, APP.chain[2], APP.chain[1], **{REMOTE: ""}), LOSE_BASE),
        {0: {"state": State.INCOMPLETE, "prefix": True}, 2: {"snapshotters": (OVERLAY,)}},
        every=NOWHERE,
    ),
    "only the middle's snapshot": LayerRow(
        (FETCH, do(World.snapshot, APP.chain[1], APP.chain[0], **{REMOTE: ""}), LOSE_BASE),
        {0: {"state": State.INCOMPLETE, "prefix": True}, 1: {"snapshotters": (OVERLAY,)}},
        every=NOWHERE,
    ),
    "only its own snapshot": LayerRow(
        (FETCH, do(World.snapshot, APP.chain[0], **{REMOTE: ""}), LOSE_BASE),
        {0: {"state": State.SKIPPED, "prefix": True, "snapshotters": (OVERLAY,)}},
        every=NOWHERE,
    ),
    "before pull in progress": LayerRow(
        (*remote(REMOTE), do(World.ingest, f"layer-{BASE.digest}")), all_three(State.LAZY)
    ),
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


def arriving(*steps: Step) -> LayerRow:
    return LayerRow((FETCH, LOSE_BASE, *steps), first(State.IN_PROGRESS), every=NOWHERE)


def idle(*steps: Step) -> LayerRow:
    return LayerRow((FETCH, LOSE_BASE, *steps), first(State.INCOMPLETE), every=NOWHERE)


PROGRESS = {
    "ingest that names the blob": arriving(ingest()),
    "ingest that expects the blob": arriving(ingest("upload-7", BASE.digest)),
    "ingest of another blob": idle(ingest(f"layer-{TOP.digest}", TOP.digest)),
    "ingest that moved just now": arriving(ingest(age=MOVING - SECOND)),
    "ingest that stands still": idle(ingest(age=MOVING)),
    "ingest without a time": arriving(ingest(age=None)),
    "ingest that expects the blob, of an hour ago": idle(ingest("upload-7", BASE.digest, age=HOUR)),
    "lease on the manifest": arriving(lease()),
    "lease of an hour": arriving(lease(age=HOUR)),
    "lease from the future": arriving(lease(age=-HOUR)),
    "lease without a time": arriving(without_time("pull")),
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
    "in progress though the bug is likely": LayerRow((PULL, LOSE_BASE, lease()), first(State.IN_PROGRESS)),
}


TABLES = {
    "descriptor": DESCRIPTORS,
    "not pulled": NOT_PULLED,
    "discarded": DISCARDED,
    "lazy": LAZY,
    "progress": PROGRESS,
}


@pytest.mark.parametrize(
    "row", [pytest.param(row, id=f"{table}: {name}") for table, rows in TABLES.items() for name, row in rows.items()]
)
def test_each_layer_has_the_whole_record_of_its_branch(row: LayerRow) -> None:
    assert row.judged() == row.expected()


@pytest.mark.parametrize(
    ("steps", "moving"),
    [
        pytest.param((lease(),), False, id="a lease on a manifest that nobody asked about"),
        pytest.param((ingest(),), True, id="an ingest"),
        pytest.param((ingest(age=HOUR),), False, id="an ingest that stands still"),
    ],
)
def test_a_blob_that_is_no_layer_is_in_progress_by_its_ingest_only(steps: tuple[Step, ...], moving: bool) -> None:
    (view,) = collected(build((FETCH, *steps))).views
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
    view, _, node = find(collected(build((FETCH,))), APP)
    view = msgspec.structs.replace(view, inventory=msgspec.structs.replace(view.inventory, leases=(lease,)))
    assert in_progress(view, BASE.digest, node) is working


UPLOAD = Resource("ingests", "upload")
HOLDS_TOP = Resource("content", TOP.digest)


def holding(*held: Resource, name: str = "pull", listed: bool = True) -> Lease:
    return Lease("k8s.io", name, {}, NOW, held if listed else None)


def upload(age: timedelta, offset: int = 5, ref: str = "upload") -> Ingest:
    return Ingest("k8s.io", ref, offset, updated_at=NOW - age)


#: The lease now and the ingests; the leases and the ingests at the earlier look, if there was one.
LOOKS: dict[str, tuple[Lease, tuple[Ingest, ...], tuple[tuple[Lease, ...], tuple[Ingest, ...]] | None, bool]] = {
    "no earlier look": (holding(HOLDS_APP), (), None, True),
    "it was not there": (holding(HOLDS_APP), (), ((), ()), True),
    "its resources were not listed": (holding(HOLDS_APP), (), ((holding(listed=False),), ()), True),
    "it held nothing": (holding(HOLDS_APP), (), ((holding(),), ()), True),
    "it held less": (holding(HOLDS_APP, HOLDS_TOP), (), ((holding(HOLDS_APP),), ()), True),
    "it held more": (holding(HOLDS_APP), (), ((holding(HOLDS_APP, HOLDS_TOP),), ()), True),
    "it held the same": (holding(HOLDS_APP, HOLDS_TOP), (), ((holding(HOLDS_TOP, HOLDS_APP),), ()), False),
    "it was not there, another held the same": (
        holding(HOLDS_APP),
        (),
        ((holding(HOLDS_APP, name="other"),), ()),
        True,
    ),
    "it held the same, another did not": (
        holding(HOLDS_APP),
        (),
        ((holding(name="other"), holding(HOLDS_APP)), ()),
        False,
    ),
    "an ingest that it holds moves": (
        holding(HOLDS_APP, UPLOAD),
        (upload(SECOND),),
        ((holding(HOLDS_APP, UPLOAD),), ()),
        True,
    ),
    "an ingest that it holds grew": (
        holding(HOLDS_APP, UPLOAD),
        (upload(HOUR, 7),),
        ((holding(HOLDS_APP, UPLOAD),), (upload(HOUR),)),
        True,
    ),
    "an ingest that it holds stands still": (
        holding(HOLDS_APP, UPLOAD),
        (upload(HOUR),),
        ((holding(HOLDS_APP, UPLOAD),), (upload(HOUR),)),
        False,
    ),
    "an ingest that it holds stands still beside one that grew": (
        holding(HOLDS_APP, UPLOAD),
        (upload(HOUR), upload(HOUR, 7, "other")),
        ((holding(HOLDS_APP, UPLOAD),), (upload(HOUR), upload(HOUR, ref="other"))),
        False,
    ),
    "an ingest that it does not hold moves": (
        holding(HOLDS_APP, UPLOAD),
        (upload(SECOND, ref="other"),),
        ((holding(HOLDS_APP, UPLOAD),), ()),
        False,
    ),
    "an ingest moves whose name it holds as content": (
        holding(HOLDS_APP, Resource("content", "upload")),
        (upload(SECOND),),
        ((holding(HOLDS_APP, Resource("content", "upload")),), ()),
        False,
    ),
}


@pytest.mark.parametrize(("lease", "ingests", "earlier", "working"), LOOKS.values(), ids=LOOKS)
def test_a_lease_is_at_work_by_what_changes_between_two_looks(
    lease: Lease,
    ingests: tuple[Ingest, ...],
    earlier: tuple[tuple[Lease, ...], tuple[Ingest, ...]] | None,
    working: bool,
) -> None:
    view, _, node = find(collected(build((FETCH,))), APP)
    replace = msgspec.structs.replace
    before = None if earlier is None else replace(view.inventory, leases=earlier[0], ingests=earlier[1])
    now = replace(view.inventory, leases=(lease,), ingests=ingests)
    assert in_progress(replace(view, inventory=now, before=before), BASE.digest, node) is working


@pytest.mark.parametrize(
    ("age", "moving"), [(None, True), (MOVING - SECOND, True), (MOVING, False), (MOVING + SECOND, False), (-HOUR, True)]
)
def test_an_ingest_moves_while_it_gets_data(age: timedelta | None, moving: bool) -> None:
    (view,) = collected(build((FETCH,))).views
    assert moves(view, Ingest("k8s.io", "x", updated_at=None if age is None else NOW - age)) is moving


def test_an_ingest_that_grew_since_the_earlier_look_moves() -> None:
    (view,) = collected(build((FETCH,))).views
    held = Ingest("k8s.io", "x", 7, updated_at=NOW - HOUR)
    earlier = msgspec.structs.replace(view.inventory, ingests=(msgspec.structs.replace(held, offset=5),))
    assert moves(msgspec.structs.replace(view, before=earlier), held)
    assert not moves(msgspec.structs.replace(view, before=view.inventory), held)
