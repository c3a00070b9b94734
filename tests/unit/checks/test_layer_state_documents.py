"""Images of which only documents were fetched, and labels that snapshots inherit: the whole record of each layer."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec
import pytest

from auditor.checks.layer_state import State
from auditor.model import image_graph
from auditor.model.store import Container, Snapshotter
from tests.unit.build import APP, BASE, GZIP, MIDDLE, OVERLAY, Document, Layer, World, attestation, image, index
from tests.unit.build import describe as wire
from tests.unit.cases import NAME, LayerRow, Step, add_labels, all_three, change_info, describe, do, first, lose

AMD, ARM = "linux/amd64", "linux/arm64"
NOWHERE = {"snapshotters": ()}
SOURCE = {"containerd.io/distribution.source.docker.io": "library/app"}
#: Another variant of the node's platform, so that its documents are judged as well.
OTHER = image(Layer("other low"), Layer("other high"), platform=ARM)
ONLY, INNER = index(APP), index(APP, platforms=False)
BOTH, NESTED, PROVEN = index(APP, OTHER), index(INNER), index(APP, NOTE := attestation(APP))
TWICE, TWICE_BELOW = index(APP, APP), index(INNER, APP)


def documents(
    whole: Document, *, platforms: tuple[str, ...] = (AMD,), manifests: tuple[Document, ...] = (APP,)
) -> Step:
    """Fetch an index and manifests of it without layers, as `ctr content fetch --metadata-only` does."""

    def step(world: World) -> None:
        world.pull(whole, NAME, "docker.io/library/app:2", platforms=platforms, unpack=False)
        for manifest in manifests:
            world.drop(*(layer.digest for layer in manifest.layers))
            world.relabel(manifest.digest, lambda old: {**old, **SOURCE})

    return step


FETCH = documents(ONLY)
FETCH_BOTH = documents(BOTH, platforms=(AMD, ARM), manifests=(APP, OTHER))


def fetched(*steps: Step, **fields: Any) -> LayerRow:
    """Nothing in the store tells that the image had layers."""
    return LayerRow(steps, all_three(State.NOT_FETCHED), every=NOWHERE, **fields)


def had(*steps: Step, **fields: Any) -> LayerRow:
    """Something tells that the image had layers."""
    return LayerRow(steps, all_three(State.INCOMPLETE), every=NOWHERE, **fields)


def label_records(*names: str, **labels: str) -> Step:
    """Label the image records of these names."""

    def step(world: World) -> None:
        records = world.inventory.images
        world.change(
            images=[msgspec.structs.replace(r, labels=labels) if r.name in names else r for r in records],
        )

    return step


def contain(image: str) -> Step:
    return do(World.change, containers=(Container("k8s.io", "b", "none"), Container("k8s.io", "c", image)))


MANAGED = {"io.cri-containerd.image": "managed"}
CLAIM = "containerd.io/gc.ref.snapshot."
NOT_FETCHED = {
    "an index": fetched(FETCH),
    "a nested index": fetched(documents(NESTED)),
    "layers are wanted": had(FETCH, request={"layers_wanted": True}),
    "no index": had(documents(APP)),
    "the manifest is listed twice": had(documents(TWICE)),
    "the manifest is listed in two indexes": had(documents(TWICE_BELOW)),
    "CRI manages the record": had(FETCH, label_records(NAME, **MANAGED)),
    "CRI manages the record of another name": had(FETCH, label_records("docker.io/library/app:2", **MANAGED)),
    "a label of somebody else": fetched(FETCH, label_records(NAME, **{"x.io.cri-containerd.image": "managed"})),
    "a container": had(FETCH, contain(NAME)),
    "a container of another name": had(FETCH, contain("docker.io/library/app:2")),
    "a container of another image": fetched(FETCH, contain("docker.io/library/app:3")),
    "the config is claimed as unpacked": had(FETCH, add_labels(APP.config.digest, **{f"{CLAIM}native": "x"})),
    "the manifest was not labelled by a fetch": had(FETCH, do(World.relabel, APP.digest, lambda _: {}))._replace(
        every={**NOWHERE, "labelled": False}
    ),
    "the manifest has a label that ends like a fetch's": had(
        FETCH,
        do(World.relabel, APP.digest, lambda _: {f"x{name}": value for name, value in SOURCE.items()}),
    )._replace(every={**NOWHERE, "labelled": False}),
    "the manifest has a fetch's label among others": fetched(FETCH, add_labels(APP.digest, a="", z="")),
    "a snapshot": LayerRow(
        (FETCH, do(World.snapshot, APP.chain[1])),
        {**all_three(State.INCOMPLETE), 1: {"state": State.SKIPPED, "prefix": True, "snapshotters": (OVERLAY,)}},
        every=NOWHERE,
    ),
    "a layer": LayerRow(
        (FETCH, do(World.put, MIDDLE.data)),
        {0: {"state": State.INCOMPLETE, "prefix": True}, 2: {"state": State.INCOMPLETE}},
        every=NOWHERE,
    ),
    "another platform's documents too": fetched(FETCH_BOTH),
    "another platform's manifest is absent": fetched(FETCH_BOTH, lose(OTHER)),
    "another platform's manifest cannot be read": had(
        documents(damaged := index(APP, replace(OTHER, raw=b"{}")), platforms=(AMD, ARM)), target=damaged
    ),
    "another platform's config is absent": had(FETCH_BOTH, lose(OTHER.config)),
    "another platform has a layer": had(FETCH_BOTH, do(World.put, OTHER.layers[0].data)),
    "another platform has a snapshot": had(FETCH_BOTH, do(World.snapshot, OTHER.chain[1])),
    "another platform was not labelled by a fetch": had(FETCH_BOTH, do(World.relabel, OTHER.digest, lambda _: {})),
    "another platform's config is claimed as unpacked": had(
        FETCH_BOTH, add_labels(OTHER.config.digest, **{f"{CLAIM}{OVERLAY}": "x"})
    ),
    "an attestation that no fetch labelled": fetched(
        documents(PROVEN, platforms=(AMD, "unknown/unknown")),
    ),
    "a pull is in progress": LayerRow(
        (FETCH, do(World.ingest, f"layer-{BASE.digest}")),
        {**all_three(State.NOT_FETCHED), 0: {"state": State.IN_PROGRESS, "prefix": True}},
        every=NOWHERE,
    ),
}


# Labels of snapshots that repeat the annotations of a layer.

REMOTE, NYDUS = "containerd.io/snapshot/remote", "containerd.io/snapshot/nydus-blob"
NOTES = {REMOTE: "true", "a": "b"}
NOTED = image(BASE, layers=[wire(BASE.digest, len(BASE.data), GZIP) | {"annotations": NOTES}])
FULL = image_graph.Layer(0, describe(BASE, annotations=NOTES), BASE.diff_id, BASE.diff_id)


def noted(state: State, label: str, *snapshotters: Snapshotter, on: str = OVERLAY, **fields: Any) -> LayerRow:
    steps = (
        do(World.pull, NOTED, unpack=False),
        do(World.unpack, NOTED, snapshotter=on, **{label: "true"}),
        lose(BASE),
        change_info(snapshotters=snapshotters),
    )
    return LayerRow(steps, first(state, layer=FULL, **fields), NOTED, every={"snapshotters": (on,)})


INHERITED = {
    "a local snapshotter": noted(State.SKIPPED, REMOTE, Snapshotter(OVERLAY)),
    "a local snapshotter that the daemon does not list": noted(State.SKIPPED, REMOTE),
    "a local snapshotter, the layer does not have the annotation": noted(State.LAZY, NYDUS, Snapshotter(OVERLAY)),
    "a proxy of a local snapshotter's name": noted(State.LAZY, REMOTE, Snapshotter(OVERLAY, proxy=True)),
    "a remote snapshotter": noted(State.LAZY, REMOTE, Snapshotter("stargz"), on="stargz"),
    "a remote snapshotter that the daemon does not list": noted(State.LAZY, REMOTE, on="stargz"),
    "a local snapshotter beside a proxy": noted(
        State.SKIPPED, REMOTE, Snapshotter("stargz", proxy=True), Snapshotter(OVERLAY)
    ),
}
TABLES = {"not fetched": NOT_FETCHED, "inherited": INHERITED}


@pytest.mark.parametrize(
    "row", [pytest.param(row, id=f"{table}: {name}") for table, rows in TABLES.items() for name, row in rows.items()]
)
def test_each_layer_has_the_whole_record_of_its_branch(row: LayerRow) -> None:
    assert row.judged() == row.expected()
