"""What garbage collection keeps: the whole set of nodes, a row for each kind of root and reference."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import msgspec
import pytest

from auditor.model.digest import Digest
from auditor.model.gc_reachability import Place, Reach, expired, reachable, references
from auditor.model.oci import OCI_INDEX, Descriptor
from auditor.model.store import Blob, Container, Image, Inventory, Labels, Lease, Resource, Snapshot
from tests.unit.build import NOW

A, B, C = (Digest.of(bytes([n])) for n in range(3))
SECOND = timedelta(seconds=1)
PAST, EXACTLY, FUTURE = ((NOW + SECOND * n).isoformat() for n in (-1, 0, 1))
GC = "containerd.io/gc."
EXPIRE, FLAT, ROOT, REF, BACK = (f"{GC}{word}" for word in ("expire", "flat", "root", "ref", "bref"))


def store(blobs: Mapping[Digest, Labels] | None = None, *records: Image | Lease | Snapshot | Container) -> Inventory:
    made = Inventory("n", blobs={digest: Blob("n", digest, 1, labels) for digest, labels in (blobs or {}).items()})
    snapshots: dict[str, dict[str, Snapshot]] = {}
    for each in records:
        if isinstance(each, Snapshot):
            snapshots.setdefault(each.snapshotter, {})[each.name] = each
    return msgspec.structs.replace(
        made,
        images=tuple(each for each in records if isinstance(each, Image)),
        leases=tuple(each for each in records if isinstance(each, Lease)),
        containers=tuple(each for each in records if isinstance(each, Container)),
        snapshots=snapshots,
    )


def image(target: Digest = A, name: str = "i", labels: Labels | None = None) -> Image:
    return Image("n", name, Descriptor(OCI_INDEX, target, 1), labels or {})


def lease(*held: Resource, **fields: Any) -> Lease:
    return msgspec.structs.replace(Lease("n", "l", resources=held), **fields)


def snapshot(name: str, parent: str = "", *, of: str = "overlayfs", labels: Labels | None = None) -> Snapshot:
    return Snapshot("n", of, name, parent, labels=labels or {})


Node = tuple[Place, str]


def blob(digest: Digest, *, flat: bool = False) -> Node:
    return Place("content", flat=flat), digest


def named(name: str = "i", *, flat: bool = False) -> Node:
    return Place("image", flat=flat), name


def unpacked(name: str, of: str = "overlayfs", *, flat: bool = False) -> Node:
    return Place("snapshot", of, flat), name


RUNNING = Container("n", "c", "i", "overlayfs", "top")
STARTED: set[Node] = {(Place("container"), "c"), unpacked("top")}
HOLDS = Resource("content", A)
ROWS: dict[str, tuple[Inventory, set[Node]]] = {
    "nothing": (store({A: {}}), set()),
    # Roots.
    "image": (store({A: {}}, image()), {named(), blob(A)}),
    "image whose target has no record": (store({}, image()), {named(), blob(A)}),
    "image past its expiry": (store({A: {}}, image(labels={EXPIRE: PAST})), set()),
    "image at its expiry": (store({A: {}}, image(labels={EXPIRE: EXACTLY})), {named(), blob(A)}),
    "image before its expiry": (store({A: {}}, image(labels={EXPIRE: FUTURE})), {named(), blob(A)}),
    "image with an expiry without a zone": (
        store({A: {}}, image(labels={EXPIRE: "2020-01-01T00:00:00"})),
        {named(), blob(A)},
    ),
    "image with an expiry that is none": (store({A: {}}, image(labels={EXPIRE: "soon"})), {named(), blob(A)}),
    "image past its expiry with a root label, which counts for content and snapshots": (
        store({A: {}}, image(labels={EXPIRE: PAST, ROOT: ""})),
        set(),
    ),
    "image past its expiry beside another": (
        store({A: {}}, image(name="old", labels={EXPIRE: PAST}), image()),
        {named(), blob(A)},
    ),
    "container": (store({}, RUNNING), STARTED),
    "container that is named as an image past its expiry": (
        store({A: {}}, image(name="c", labels={EXPIRE: PAST}), RUNNING),
        STARTED,
    ),
    "content with a root label": (store({A: {ROOT: ""}, B: {}}), {blob(A)}),
    "content with a root label and a name": (store({A: {f"{ROOT}.mine": "x"}}), {blob(A)}),
    "content with a root label among others": (store({A: {"a": "", ROOT: "x", "z": ""}}), {blob(A)}),
    "content with a label that ends like a root's": (store({A: {f"x{ROOT}": ""}}), set()),
    "content with an expiry": (store({A: {EXPIRE: FUTURE}}), set()),
    "snapshot with a root label": (
        store({}, snapshot("top", "base", labels={ROOT: ""}), snapshot("base"), snapshot("lone")),
        {unpacked("top"), unpacked("base")},
    ),
    # Leases.
    "lease on content": (store({A: {}}, lease(HOLDS)), {blob(A)}),
    "lease on content, past its expiry": (store({A: {}}, lease(HOLDS, labels={EXPIRE: PAST})), set()),
    "lease on content, at its expiry": (store({A: {}}, lease(HOLDS, labels={EXPIRE: EXACTLY})), {blob(A)}),
    "lease on an image": (store({A: {}}, lease(Resource("images", "other"))), {named("other")}),
    "lease on an image past its expiry": (
        store({A: {}}, image(labels={EXPIRE: PAST}), lease(Resource("images", "i"))),
        {named(), blob(A)},
    ),
    "lease on a snapshot": (
        store({}, snapshot("top", of="native"), lease(Resource("snapshots/native", "top"))),
        {unpacked("top", "native")},
    ),
    "lease on an ingest": (store({}, lease(Resource("ingests", "x"))), set()),
    "lease on a kind that nobody knows": (store({}, lease(Resource("snapshots", "x"))), set()),
    "lease on several": (
        store({A: {}, B: {}}, lease(Resource("ingests", "x"), HOLDS, Resource("content", B))),
        {blob(A), blob(B)},
    ),
    "lease on one thing twice, and on another": (
        store({A: {}, B: {}}, lease(Resource("content", B), HOLDS, HOLDS)),
        {blob(A), blob(B)},
    ),
    "lease whose resources were not listed": (store({A: {}}, lease(resources=None)), set()),
    "flat lease on content": (
        store({A: {f"{REF}.content.0": B}, B: {}}, lease(HOLDS, labels={FLAT: ""})),
        {blob(A, flat=True)},
    ),
    "flat lease on an image": (
        store(
            {A: {f"{REF}.content.0": B}, B: {}},
            image(labels={EXPIRE: PAST}),
            lease(Resource("images", "i"), labels={FLAT: ""}),
        ),
        {named(flat=True), blob(A, flat=True)},
    ),
    "flat lease on a snapshot": (
        store(
            {},
            snapshot("top", "base", labels={f"{REF}.content.0": A}),
            snapshot("base"),
            lease(Resource("snapshots/overlayfs", "top"), labels={FLAT: ""}),
        ),
        {unpacked("top", flat=True), unpacked("base", flat=True)},
    ),
    # References.
    "content to content": (
        store({A: {f"{REF}.content.config": B}, B: {f"{REF}.content.l.0": C}}, image()),
        {named(), blob(A), blob(B), blob(C)},
    ),
    "content to content, no name": (store({A: {f"{REF}.content": B}}, image()), {named(), blob(A), blob(B)}),
    "content to content, a slash": (store({A: {f"{REF}.content/0": B}}, image()), {named(), blob(A), blob(B)}),
    "content to content, a slash before a dot": (
        store({A: {f"{REF}.content/x.y": B}}, image()),
        {named(), blob(A), blob(B)},
    ),
    "content to a snapshot": (
        store({A: {f"{REF}.snapshot.native": "top"}}, image(), snapshot("top", "base", of="native")),
        {named(), blob(A), unpacked("top", "native"), unpacked("base", "native")},
    ),
    "content to a snapshot, a slash": (
        store({A: {f"{REF}.snapshot.native/x": "top"}}, image()),
        {named(), blob(A), unpacked("top", "native")},
    ),
    "content to an image": (store({A: {f"{REF}.image.x": "j"}}, image()), {named(), blob(A), named("j")}),
    "content to a container": (store({A: {f"{REF}.container.x": "c"}}, image()), {named(), blob(A)}),
    "content to a kind that nobody knows": (store({A: {f"{REF}.contents.x": B}}, image()), {named(), blob(A)}),
    "a label that only holds a reference's": (store({A: {f"x{REF}.content": B}}, image()), {named(), blob(A)}),
    "image to content": (
        store({A: {}}, image(labels={f"{REF}.content.x": B})),
        {named(), blob(A), blob(B)},
    ),
    "snapshot to content": (
        store({}, RUNNING, snapshot("top", labels={f"{REF}.content.0": A})),
        {*STARTED, blob(A)},
    ),
    "snapshot to its parent": (
        store({}, RUNNING, snapshot("top", "base"), snapshot("base", "root"), snapshot("root")),
        {*STARTED, unpacked("base"), unpacked("root")},
    ),
    "snapshot of another snapshotter": (store({}, RUNNING, snapshot("top", "base", of="native")), STARTED),
    "references in a circle": (
        store({A: {f"{REF}.content.0": B}, B: {f"{REF}.content.0": A}}, image()),
        {named(), blob(A), blob(B)},
    ),
    # References the other way.
    "content that leans on content": (
        store({A: {}, B: {f"{BACK}.content.x": A}, C: {}}, image()),
        {named(), blob(A), blob(B)},
    ),
    "content that leans on what goes": (store({A: {f"{BACK}.content.x": B}, B: {}}), set()),
    "content that leans on an image": (
        store({A: {}, B: {f"{BACK}.image.x": "i"}}, image()),
        {named(), blob(A), blob(B)},
    ),
    "content that leans on a container": (
        store({A: {f"{BACK}.container": "c"}, B: {f"{BACK}.container": "d"}}, RUNNING),
        {*STARTED, blob(A)},
    ),
    "content that leans on a snapshot": (
        store({A: {f"{BACK}.snapshot.overlayfs": "top"}, B: {f"{BACK}.snapshot.native": "top"}}, RUNNING),
        {*STARTED, blob(A)},
    ),
    "two that lean on one": (
        store({A: {}, B: {f"{BACK}.content": A}, C: {f"{BACK}.content": A}}, image()),
        {named(), blob(A), blob(B), blob(C)},
    ),
    "one that leans on two": (
        store({A: {f"{BACK}.image.x": "gone", f"{BACK}.container": "c"}}, RUNNING),
        {*STARTED, blob(A)},
    ),
    "snapshots that lean on content": (
        store(
            {A: {}},
            image(),
            snapshot("top", labels={f"{BACK}.content": A}),
            snapshot("two", labels={f"{BACK}.content": A}),
        ),
        {named(), blob(A), unpacked("top"), unpacked("two")},
    ),
    "images past their expiry that lean on content": (
        store(
            {A: {ROOT: ""}, B: {}, C: {}},
            image(B, "i", {EXPIRE: PAST, f"{BACK}.content": A}),
            image(C, "j", {EXPIRE: PAST, f"{BACK}.content": A}),
        ),
        {blob(A), named(), blob(B), named("j"), blob(C)},
    ),
    "what leans on something kept flat": (
        store({A: {}, B: {f"{BACK}.content": A}}, lease(HOLDS, labels={FLAT: ""})),
        {blob(A, flat=True)},
    ),
}


@pytest.mark.parametrize(("inventory", "nodes"), ROWS.values(), ids=ROWS)
def test_a_collection_keeps_exactly_these(inventory: Inventory, nodes: set[Node]) -> None:
    reach = reachable(inventory, now=NOW)
    assert {(place, name) for place, names in reach.kept.items() for name in names} == nodes


def test_what_is_kept_does_not_change_any_more() -> None:
    with pytest.raises(AttributeError):
        reachable(store(), now=NOW).kept = {}  # type: ignore[misc]


@pytest.mark.parametrize("flat", [False, True])
def test_what_is_kept_flat_is_kept(flat: bool) -> None:
    reach = Reach({place: {name} for place, name in (blob(A, flat=flat), unpacked("top", flat=flat), named(B))})
    assert [reach.blob(each) for each in (A, B)] == [True, False]
    asked = (("overlayfs", "top"), ("native", "top"), ("overlayfs", "base"), ("", A))
    assert [reach.snapshot(*each) for each in asked] == [True, False, False, False]


@pytest.mark.parametrize(
    ("labels", "over"),
    [
        pytest.param({}, False, id="no expiry"),
        pytest.param({EXPIRE: PAST}, True, id="past"),
        pytest.param({EXPIRE: EXACTLY}, False, id="exactly now"),
        pytest.param({EXPIRE: FUTURE}, False, id="future"),
        pytest.param({EXPIRE: "2020-01-01T00:00:00"}, False, id="no zone"),
        pytest.param({EXPIRE: "never"}, False, id="no time"),
        pytest.param({"containerd.io/expire": PAST}, False, id="another label"),
    ],
)
def test_a_lease_is_over_when_its_expiry_has_passed(labels: Labels, over: bool) -> None:
    assert expired(lease(labels=labels), NOW) is over


def test_references_are_those_to_blobs_and_snapshots() -> None:
    labels = {
        f"{REF}.content.0": A,
        f"{REF}.snapshot.native": "top",
        f"{REF}.image.x": "i",
        f"{REF}.container.x": "c",
        f"{BACK}.content.0": B,
    }
    assert list(references(labels)) == [("", A), ("native", "top")]
