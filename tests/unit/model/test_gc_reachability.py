"""Reachability against core/metadata/gc.go: what is a root, what references, and what has run out."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditor.model.digest import Digest
from auditor.model.gc_reachability import expired, reachable, references
from auditor.model.oci import OCI_INDEX, Descriptor
from auditor.model.store import Blob, Container, Image, Inventory, Lease, Resource, Snapshot
from tests.unit.build import NOW

A, B, C, D = (Digest.of(bytes([n])) for n in range(4))
PAST, FUTURE = ((NOW + timedelta(hours=h)).isoformat() for h in (-1, 1))
EXPIRE, ROOT, REF = "containerd.io/gc.expire", "containerd.io/gc.root", "containerd.io/gc.ref.content"


def store(blobs: Mapping[Digest, Mapping[str, str]], **fields: object) -> Inventory:
    held = {digest: Blob("n", digest, 1, labels) for digest, labels in blobs.items()}
    return msgspec.structs.replace(Inventory("n", blobs=held), **fields)


def image(target: Digest, name: str = "i", **labels: str) -> Image:
    return Image("n", name, Descriptor(OCI_INDEX, target, 1), labels)


def kept(inventory: Inventory) -> set[Digest]:
    reach = reachable(inventory, now=NOW)
    return {digest for digest in inventory.blobs if reach.blob(digest)}


CHAIN: dict[Digest, dict[str, str]] = {A: {f"{REF}.0": B}, B: {f"{REF}.l.0": C}, C: {}, D: {}}


def test_an_image_keeps_what_its_labels_lead_to() -> None:
    assert kept(store(CHAIN, images=(image(A),))) == {A, B, C}
    assert kept(store(CHAIN, images=(image(B),))) == {B, C}
    assert kept(store(CHAIN)) == set()


@pytest.mark.parametrize(
    ("label", "follows"),
    [
        (REF, True),
        (f"{REF}.config", True),
        (f"{REF}.l.3", True),
        (f"{REF}/anything", True),
        (f"{REF}s", False),
        (f"{REF}-x", False),
        ("containerd.io/gc.ref.contents.0", False),
        ("containerd.io/gc.reference.content", False),
        ("gc.ref.content", False),
    ],
)
def test_the_name_of_a_reference_follows_a_dot_or_a_slash(label: str, follows: bool) -> None:
    assert (kept(store({A: {label: B}, B: {}}, images=(image(A),))) == {A, B}) is follows


def test_an_expired_image_is_no_root_and_one_with_a_bad_expiry_is() -> None:
    assert kept(store(CHAIN, images=(image(A, **{EXPIRE: PAST}),))) == set()
    assert kept(store(CHAIN, images=(image(A, **{EXPIRE: FUTURE}),))) == {A, B, C}
    assert kept(store(CHAIN, images=(image(A, **{EXPIRE: "tomorrow"}),))) == {A, B, C}


def test_labels_of_an_image_are_references() -> None:
    assert kept(store(CHAIN, images=(image(D, **{f"{REF}.x": A}),))) == {A, B, C, D}


def test_a_lease_keeps_what_it_holds_and_a_flat_one_no_more_than_that() -> None:
    lease = Lease("n", "l", {}, NOW, (Resource("content", A),))
    assert kept(store(CHAIN, leases=(lease,))) == {A, B, C}
    flat = msgspec.structs.replace(lease, labels={"containerd.io/gc.flat": "true"})
    assert kept(store(CHAIN, leases=(flat,))) == {A}
    over = msgspec.structs.replace(lease, labels={EXPIRE: PAST})
    assert kept(store(CHAIN, leases=(over,))) == set()
    assert expired(over, NOW)
    assert not expired(lease, NOW)


def test_a_lease_that_holds_an_image_keeps_it_past_its_expiry() -> None:
    old = image(A, **{EXPIRE: PAST})
    lease = Lease("n", "l", {}, NOW, (Resource("images", "i"),))
    assert kept(store(CHAIN, images=(old,), leases=(lease,))) == {A, B, C}
    flat = msgspec.structs.replace(lease, labels={"containerd.io/gc.flat": "true"})
    assert kept(store(CHAIN, images=(old,), leases=(flat,))) == {A}


def test_a_root_label_is_a_root_whatever_it_says() -> None:
    assert kept(store({**CHAIN, A: {**CHAIN[A], ROOT: ""}})) == {A, B, C}


def test_an_expiry_on_content_protects_nothing() -> None:
    assert kept(store({A: {EXPIRE: FUTURE}})) == set()


def test_back_references_go_the_other_way() -> None:
    by_content = store({A: {}, B: {"containerd.io/gc.bref.content.x": A}, C: {f"{REF}.0": A}}, images=(image(A),))
    assert kept(by_content) == {A, B}
    assert kept(store({A: {}, B: {"containerd.io/gc.bref.image.x": "i"}}, images=(image(A),))) == {A, B}
    assert kept(store({A: {}, B: {"containerd.io/gc.bref.image.x": "other"}}, images=(image(A),))) == {A}
    assert kept(store({A: {}, B: {"containerd.io/gc.bref.contents": A}}, images=(image(A),))) == {A}


def test_back_references_to_containers_and_snapshots() -> None:
    container = Container("n", "c1", snapshotter="overlayfs", snapshot_key="s")
    by_container = {A: {"containerd.io/gc.bref.container": "c1"}, B: {"containerd.io/gc.bref.container.x": "c2"}}
    assert kept(store(by_container, containers=(container,))) == {A}
    by_snapshot = {
        A: {"containerd.io/gc.bref.snapshot.overlayfs": "s"},
        B: {"containerd.io/gc.bref.snapshot.native": "s"},
    }
    snapshots = {"overlayfs": {"s": Snapshot("n", "overlayfs", "s")}}
    assert kept(store(by_snapshot, containers=(container,), snapshots=snapshots)) == {A}


def test_snapshots_keep_their_parents_and_what_their_labels_name() -> None:
    held = {
        "top": Snapshot("n", "overlayfs", "top", "base", labels={f"{REF}.x": A}),
        "base": Snapshot("n", "overlayfs", "base"),
        "lone": Snapshot("n", "overlayfs", "lone"),
    }
    container = Container("n", "c", snapshotter="overlayfs", snapshot_key="top")
    inventory = store({A: {}, B: {}}, snapshots={"overlayfs": held}, containers=(container,))
    reach = reachable(inventory, now=NOW)
    assert [reach.snapshot("overlayfs", name) for name in held] == [True, True, False]
    assert not reach.snapshot("native", "top")
    assert kept(inventory) == {A}


def test_a_config_keeps_its_snapshot_and_the_snapshotters_name_ends_at_a_slash() -> None:
    labels = {"containerd.io/gc.ref.snapshot.overlayfs/extra": "top"}
    snapshots = {"overlayfs": {"top": Snapshot("n", "overlayfs", "top")}}
    assert list(references(labels)) == [("overlayfs", "top")]
    assert reachable(store({A: labels}, images=(image(A),), snapshots=snapshots), now=NOW).snapshot("overlayfs", "top")


def test_a_flat_lease_keeps_a_snapshot_with_its_parents() -> None:
    held = {
        "top": Snapshot("n", "overlayfs", "top", "base", labels={f"{REF}.x": A}),
        "base": Snapshot("n", "overlayfs", "base"),
    }
    lease = Lease("n", "l", {"containerd.io/gc.flat": ""}, NOW, (Resource("snapshots/overlayfs", "top"),))
    inventory = store({A: {}}, snapshots={"overlayfs": held}, leases=(lease,))
    reach = reachable(inventory, now=NOW)
    assert [reach.snapshot("overlayfs", name) for name in held] == [True, True]
    assert kept(inventory) == set()


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9))), st.sets(st.integers(0, 9), max_size=3))
def test_references_may_go_round_in_circles(edges: list[tuple[int, int]], roots: set[int]) -> None:
    nodes = [Digest.of(bytes([n])) for n in range(10)]
    blobs = {
        node: {f"{REF}.{i}": nodes[to] for i, (start, to) in enumerate(edges) if start == n}
        for n, node in enumerate(nodes)
    }
    found = kept(store(blobs, images=tuple(image(nodes[n], f"i{n}") for n in roots)))
    wanted = set(roots)
    for _ in nodes:
        wanted |= {to for start, to in edges if start in wanted}
    assert found == {nodes[n] for n in wanted}
