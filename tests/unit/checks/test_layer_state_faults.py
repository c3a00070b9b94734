"""Absent layers that should be there, a row for each branch: the whole record of each layer is compared."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from auditor.checks.layer_state import LayerState, State, absences, faults, states
from auditor.model import image_graph
from auditor.model.store import Snapshotter
from tests.unit.build import APP, BASE, GZIP, MIDDLE, OVERLAY, TOP, Document, Layer, World, image, index
from tests.unit.build import describe as wire
from tests.unit.cases import (
    LayerRow,
    Step,
    build,
    change_info,
    collected,
    describe,
    do,
    find,
    first,
    layers,
    lose,
)

TWIN = Layer(BASE.content, "zstd")
MADE_FROM = "containerd.io/snapshot/cri.layer-digest"
PULL = do(World.pull, APP)
#: Nothing unpacked: what would be the bug is an image that cannot run.
FETCH = do(World.pull, APP, unpack=False)
NOWHERE = {"snapshotters": ()}
LOSE_BASE = lose(BASE)
LOSE_ALL = lose(*APP.layers)
UNLABEL_BASE = do(World.unlabel, APP.digest, BASE.digest)
EMBEDDED = image(
    BASE, layers=[wire(BASE.digest, len(BASE.data), GZIP) | {"data": base64.b64encode(BASE.data).decode()}]
)


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
NO_IDS = {"layer": image_graph.Layer(0, describe(CHART.layers[0])), "snapshotters": ()}


def without_ids(manifest: Document, states_of: Mapping[int, State]) -> Mapping[int, Mapping[str, Any]]:
    """Layers of a manifest whose config cannot be read: neither diffIDs nor chainIDs."""
    return {
        i: {
            "layer": image_graph.Layer(i, describe(layer)),
            "snapshotters": (),
            "state": states_of.get(i, State.PRESENT),
        }
        for i, layer in enumerate(manifest.layers)
    }


FAULTS = {
    "snapshot, no twin": LayerRow((PULL, LOSE_BASE), first(State.SKIPPED)),
    "snapshot and a twin": LayerRow(
        (do(World.pull, OTHER, "other:1"), PULL, LOSE_BASE), first(State.SKIPPED, twins=(TWIN.digest,))
    ),
    "no snapshot": LayerRow((FETCH, LOSE_BASE), first(State.INCOMPLETE), every=NOWHERE),
    "no snapshot, a twin": LayerRow(
        (do(World.pull, OTHER, "other:1", unpack=False), FETCH, LOSE_BASE),
        first(State.INCOMPLETE, twins=(TWIN.digest,)),
        every=NOWHERE,
    ),
    "made from another blob": LayerRow(
        (FETCH, do(World.unpack, APP, **{MADE_FROM: TWIN.digest}), LOSE_BASE),
        first(State.SKIPPED, built_from=TWIN.digest),
    ),
    "made from what is no digest": LayerRow(
        (FETCH, do(World.unpack, APP, **{MADE_FROM: "sha256:beef"}), LOSE_BASE), first(State.SKIPPED)
    ),
    "two snapshotters: the first tells, though it was not written down": LayerRow(
        (PULL, do(World.unpack, APP, snapshotter="second", **{MADE_FROM: TWIN.digest}), LOSE_BASE),
        first(State.SKIPPED),
        every={"snapshotters": (OVERLAY, "second")},
    ),
    "two snapshotters: the first tells": LayerRow(
        (PULL, do(World.unpack, APP, snapshotter="first", **{MADE_FROM: TWIN.digest}), LOSE_BASE),
        first(State.SKIPPED, built_from=TWIN.digest),
        every={"snapshotters": ("first", OVERLAY)},
    ),
    "a snapshotter could not be listed": LayerRow(unread(GAP, **BOTH), first(State.UNKNOWN), every=NOWHERE),
    "a snapshotter could not be listed, a twin": LayerRow(
        (do(World.pull, OTHER, "other:1", unpack=False), *unread(GAP, **BOTH)),
        first(State.UNKNOWN, twins=(TWIN.digest,)),
        every=NOWHERE,
    ),
    "a snapshotter was not asked": LayerRow(unread(**BOTH), first(State.INCOMPLETE), every=NOWHERE),
    "something else could not be listed": LayerRow(unread(GAP), first(State.INCOMPLETE), every=NOWHERE),
    "a snapshotter could not be listed, another has the snapshot": LayerRow(
        (PULL, LOSE_BASE, GAP, change_info(**BOTH)), first(State.SKIPPED)
    ),
    "no config": LayerRow(
        (PULL, do(World.drop, BASE.digest, APP.config.digest)),
        {i: {**fields, "prefix": not i} for i, fields in without_ids(APP, {0: State.UNKNOWN}).items()},
    ),
    "no config and none is meant to be": LayerRow(
        (do(World.pull, CHART, unpack=False), lose(*CHART.layers)),
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
    "the second lost its layers": LayerRow(
        (both(GZ, ZST)[1], do(World.drop, TWIN.digest)),
        first(State.SHARED_CONFIG, twins=(BASE.digest,), sibling=GZ.digest),
        ZST,
    ),
    "the first lost its layers": LayerRow(
        (both(GZ, ZST)[1], LOSE_BASE), first(State.SHARED_CONFIG, twins=(TWIN.digest,), sibling=ZST.digest), GZ
    ),
    "the wanted one lost its layer and its label": LayerRow(
        (both(GZ, ZST)[1], LOSE_BASE, do(World.unlabel, GZ.digest, BASE.digest)),
        first(State.SHARED_CONFIG, labelled=False, twins=(TWIN.digest,), sibling=ZST.digest),
        GZ,
    ),
    "the other one lost its layer and its label": LayerRow(
        (both(GZ, ZST)[1], do(World.drop, TWIN.digest), do(World.unlabel, ZST.digest, TWIN.digest)),
        first(State.DISCARDED, labelled=False),
        ZST,
    ),
    "neither wanted nor alike": LayerRow(
        (
            do(World.pull, index(GZ, ZST_ARM), platforms=("linux/amd64", "linux/arm64")),
            do(World.drop, TWIN.digest),
        ),
        first(State.SKIPPED, twins=(BASE.digest,)),
        ZST,
    ),
    "in another index of the image": LayerRow(
        (do(World.pull, index(index(GZ, platforms=False), ZST)), do(World.drop, TWIN.digest)),
        first(State.SKIPPED, twins=(BASE.digest,)),
        ZST,
    ),
    "the sibling lacks its layers too": LayerRow(
        (both(GZ, ZST)[1], do(World.drop, TWIN.digest, BASE.digest)), first(State.SKIPPED), ZST
    ),
    "the sibling lacks one of its layers": LayerRow(
        (both(PAIR, PAIR_TWIN)[1], do(World.drop, TWIN.digest, MIDDLE.digest)),
        first(State.SKIPPED, twins=(BASE.digest,)),
        PAIR_TWIN,
    ),
    "wanted for want of any platform": LayerRow(
        (do(World.pull, index(BARE_TWIN, BARE), platforms=("",)), do(World.drop, TWIN.digest)),
        first(State.SHARED_CONFIG, twins=(BASE.digest,), sibling=BARE.digest),
        BARE_TWIN,
    ),
    "the sibling's config is another": LayerRow(
        (both(image(BASE, MIDDLE), ZST)[1], do(World.drop, TWIN.digest)),
        first(State.SKIPPED, twins=(BASE.digest,)),
        ZST,
    ),
    "the sibling stands behind one that is absent and one that is other": LayerRow(
        (both(THIRD, image(MIDDLE), GZ, ZST)[1], do(World.drop, THIRD.digest, TWIN.digest)),
        first(State.SHARED_CONFIG, twins=tuple(sorted((BASE.digest, THIRD.layers[0].digest))), sibling=GZ.digest),
        ZST,
    ),
    "embedded comes before": LayerRow(
        (both(ZST, EMBEDDED)[1], LOSE_BASE),
        first(State.EMBEDDED, layer=image_graph.Layer(0, describe(BASE, embedded=True), BASE.diff_id, BASE.diff_id)),
        EMBEDDED,
    ),
    "the manifest is a target by itself": LayerRow(
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


PREFIX = {
    "none": LayerRow((PULL, do(World.pull, image(BASE), "second:1")), {}),
    "the lowest": LayerRow((PULL, LOSE_BASE), lost(0, prefix=(0,))),
    "the two lowest": LayerRow((PULL, lose(BASE, MIDDLE)), lost(0, 1, prefix=(0, 1))),
    "all": LayerRow((PULL, LOSE_ALL), lost(0, 1, 2, prefix=(0, 1, 2))),
    "the highest": LayerRow((PULL, lose(TOP)), lost(2, prefix=())),
    "the lowest and the highest": LayerRow((PULL, lose(BASE, TOP)), lost(0, 2, prefix=(0,))),
    "the highest, those below came with another image": LayerRow(
        (PULL, do(World.pull, SECOND_IMAGE, "second:1"), lose(TOP)), lost(2, prefix=(0, 1, 2))
    ),
    "the highest, the lowest came with another image": LayerRow(
        (PULL, do(World.pull, image(BASE), "second:1"), lose(TOP)), lost(2, prefix=(0,))
    ),
    "the highest, under two names": LayerRow((do(World.pull, APP, "a:1", "b:1"), lose(TOP)), lost(2, prefix=())),
    "the highest, another manifest of the image has the others": LayerRow(
        (do(World.pull, index(APP, SECOND_IMAGE)), lose(TOP)), lost(2, prefix=())
    ),
    "the highest, another namespace has the image": LayerRow(
        (
            PULL,
            lambda world: World("moby", store=world.store).pull(APP),
            lose(TOP),
        ),
        lost(2, prefix=(0, 1, 2), twins=()),
    ),
}


TABLES = {"fault": FAULTS, "shared config": SHARED, "prefix": PREFIX}


@pytest.mark.parametrize(
    "row", [pytest.param(row, id=f"{table}: {name}") for table, rows in TABLES.items() for name, row in rows.items()]
)
def test_each_layer_has_the_whole_record_of_its_branch(row: LayerRow) -> None:
    assert row.judged() == row.expected()


#: The words of `tree` and of reports.
WORDS = {
    State.PRESENT: "present",
    State.EMBEDDED: "embedded",
    State.FOREIGN: "foreign",
    State.NOT_PULLED: "not pulled",
    State.DISCARDED: "discarded",
    State.LAZY: "lazy",
    State.IN_PROGRESS: "pull in progress",
    State.NOT_FETCHED: "not fetched",
    State.SHARED_CONFIG: "lost to a shared config",
    State.SKIPPED: "skipped by the unpacker",
    State.INCOMPLETE: "missing",
    State.UNKNOWN: "absent",
    State.UNTOLD: "absent on a proxy snapshotter",
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
    evidence = collected(build((PULL, lose(BASE, TOP))))
    found = find(evidence, APP)
    absent = absences(evidence, *found)
    judged = states(evidence, *found)
    assert absent == (judged[0], judged[2])


def test_an_image_that_is_all_here_has_no_absences() -> None:
    evidence = collected(build((PULL,)))
    assert absences(evidence, *find(evidence, APP)) == ()


def test_a_manifest_without_a_record_has_no_layers() -> None:
    evidence = collected(build((PULL, do(World.drop, APP.digest))))
    found = find(evidence, APP)
    assert (states(evidence, *found), absences(evidence, *found)) == ((), ())


def test_a_manifest_is_judged_once_for_each_image_that_leads_to_it() -> None:
    whole, pull = both(GZ, ZST)
    evidence = collected(build((pull, do(World.pull, ZST, "alone:1"), do(World.drop, TWIN.digest))))
    inside, alone = (states(evidence, *find(evidence, ZST, target=target)) for target in (whole, ZST))
    assert [state.state for state in (*inside, *alone)] == [State.SHARED_CONFIG, State.SKIPPED]
    assert states(evidence, *find(evidence, ZST, target=whole)) is inside
