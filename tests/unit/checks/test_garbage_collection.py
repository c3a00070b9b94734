"""Snapshots, protection from garbage collection, ingests, leases, orphans; and what looks like a fault and is none."""

from __future__ import annotations

from datetime import timedelta

import msgspec
import pytest

from auditor.model.store import Resource
from tests.unit.build import APP, BASE, CONTENT, MIDDLE, NOW, OVERLAY, TOP, Layer, World, image, index

DAY = timedelta(days=1)
EXPIRE = "containerd.io/gc.expire"
ARM = image(Layer("arm"), platform="linux/arm64")


def pulled(*, unpack: bool = True) -> World:
    world = World()
    world.pull(APP, unpack=unpack)
    return world


# Snapshots.


@pytest.mark.parametrize("gone", [0, 1])
def test_a_chain_with_a_member_gone_is_broken_at_it(gone: int) -> None:
    world = pulled()
    world.drop_snapshots(APP.chain[gone])
    (finding,) = world.findings()
    assert (finding.code, finding.facts["layer_index"]) == ("broken-snapshot-chain", gone)
    assert finding.subject.name == f"{OVERLAY}/{APP.chain[gone]}"


def test_a_chain_with_another_parent_is_broken() -> None:
    world = pulled()
    world.snapshot(APP.chain[2], APP.chain[0])
    (finding,) = world.findings()
    assert (finding.code, finding.facts["layer_index"]) == ("broken-snapshot-chain", 2)
    assert APP.chain[0][:19] in finding.message


def test_one_broken_chain_hurts_every_image_on_it_and_is_one_finding() -> None:
    second = image(BASE, MIDDLE, Layer("second"))
    world = pulled()
    world.pull(second, "second:1")
    world.drop_snapshots(APP.chain[0])
    (finding,) = world.findings()
    assert [ref.name for ref in finding.images] == ["docker.io/library/app:1", "second:1"]


def test_a_chain_of_another_snapshotter_is_judged_by_itself() -> None:
    world = pulled()
    world.unpack(APP, snapshotter="native")
    assert world.findings() == ()
    held = world.inventory.snapshots
    native = {name: s for name, s in held["native"].items() if name != APP.chain[0]}
    world.change(snapshots={**held, "native": native})
    assert world.faults() == [("broken-snapshot-chain", f"native/{APP.chain[0]}")]


def test_lazy_chains_are_not_judged() -> None:
    world = World(lazy=True)
    world.pull(APP)
    world.drop_snapshots(APP.chain[0])
    assert world.faults() == []


@pytest.mark.parametrize("lost", [1, 3])
def test_a_snapshot_that_the_config_claims_and_is_gone(lost: int) -> None:
    world = pulled()
    world.drop_snapshots(*APP.chain[-lost:])
    (finding,) = world.findings()
    assert (finding.code, finding.subject.name) == ("snapshot-missing", f"{OVERLAY}/{APP.chain[-1]}")
    assert finding.hint == f"ctr -n k8s.io snapshots --snapshotter {OVERLAY} unpack {APP.digest}"


def test_a_claim_for_a_snapshotter_that_nobody_offers_any_more_is_no_fault() -> None:
    world = pulled()
    world.relabel(APP.config.digest, lambda old: {**old, "containerd.io/gc.ref.snapshot.gone": APP.chain[-1]})
    assert world.faults() == []


def test_an_image_that_was_never_unpacked_is_no_fault() -> None:
    world = pulled(unpack=False)
    assert world.findings()[0].code == "not-unpacked"
    assert world.faults() == []


def test_claims_that_end_in_a_name_are_claims() -> None:
    world = pulled()
    world.relabel(APP.config.digest, lambda _: {f"containerd.io/gc.ref.snapshot.{OVERLAY}/x": APP.chain[-1]})
    assert world.faults() == []
    world.drop_snapshots(APP.chain[-1])
    assert [code for code, _ in world.faults()] == ["snapshot-missing"]


# Protection.


@pytest.mark.parametrize("lost", [BASE, TOP])
def test_a_present_layer_without_its_label_is_exposed(lost: Layer) -> None:
    world = pulled()
    world.unlabel(APP.digest, lost.digest)
    (finding,) = world.findings()
    assert (finding.code, finding.subject.digest) == ("gc-unprotected", APP.digest)
    assert finding.facts == {"blobs": 1, "bytes": len(lost.data), "first": lost.digest}


def test_a_config_without_its_label_is_exposed() -> None:
    world = pulled()
    world.unlabel(APP.digest, APP.config.digest)
    (finding,) = world.findings()
    assert (finding.code, finding.facts["first"]) == ("gc-unprotected", APP.config.digest)


def test_a_manifest_that_its_index_does_not_label_is_exposed() -> None:
    both = index(APP, ARM)
    world = World()
    world.pull(both)
    world.unlabel(both.digest, APP.digest)
    (finding,) = (f for f in world.findings() if f.code == "gc-unprotected")
    assert (finding.subject.digest, finding.facts["first"]) == (both.digest, APP.digest)


def test_labels_under_any_name_protect() -> None:
    world = pulled()
    below = [APP.config.digest, *(layer.digest for layer in APP.layers)]
    for form in (f"{CONTENT}.%d", f"{CONTENT}/%d", f"{CONTENT}.l.%d", f"{CONTENT}.x/%d"):
        labels = {form % n: digest for n, digest in enumerate(below)}
        world.relabel(APP.digest, lambda _, labels=labels: labels)  # type: ignore[misc]
        assert world.faults() == [], form


def test_what_a_lease_holds_is_protected_until_it_expires() -> None:
    world = pulled()
    world.unlabel(APP.digest, TOP.digest)
    world.lease("mine", Resource("content", TOP.digest), labels={EXPIRE: (NOW + DAY).isoformat()})
    assert world.faults() == []
    world.change(leases=())
    world.lease("mine", Resource("content", TOP.digest), labels={EXPIRE: (NOW - DAY).isoformat()})
    assert world.faults() == [("gc-unprotected", APP.digest)]


def test_what_another_image_labels_is_protected() -> None:
    world = pulled()
    world.pull(image(TOP, Layer("else")), "second:1")
    world.unlabel(APP.digest, TOP.digest)
    assert world.faults() == []


def test_a_root_label_protects() -> None:
    world = pulled()
    world.unlabel(APP.digest, TOP.digest)
    world.relabel(TOP.digest, lambda old: {**old, "containerd.io/gc.root": "2024-01-01T00:00:00Z"})
    assert world.faults() == []


def test_an_absent_child_has_nothing_to_protect() -> None:
    world = World()
    both = index(APP, ARM)
    world.pull(both)
    world.unlabel(both.digest, ARM.digest)
    assert world.faults() == []


# Ingests, leases, orphans.


@pytest.mark.parametrize(
    ("age", "stale"), [(timedelta(0), False), (DAY - timedelta(minutes=1), False), (DAY, True), (DAY * 30, True)]
)
def test_an_ingest_is_stale_after_a_day(age: timedelta, stale: bool) -> None:
    world = pulled()
    world.ingest("upload", age=age)
    assert [f.code for f in world.findings()] == (["stale-ingest"] if stale else [])


def test_an_ingest_that_a_lease_holds_is_not_stale() -> None:
    world = pulled()
    world.ingest("upload", age=DAY * 2)
    world.lease("mine", Resource("ingests", "upload"))
    assert world.faults() == []


def test_an_ingest_without_times_or_from_the_future_is_not_stale() -> None:
    world = pulled()
    world.ingest("upload", age=-DAY)
    (ingest,) = world.inventory.ingests
    world.change(ingests=(ingest, msgspec.structs.replace(ingest, ref="b", updated_at=None, started_at=None)))
    assert world.findings() == ()


@pytest.mark.parametrize("text", ["", "soon", "2020-01-01", "2020-01-01T00:00:00"])
def test_a_lease_whose_expiry_go_cannot_read_never_expires(text: str) -> None:
    world = pulled()
    world.lease("odd", labels={EXPIRE: text})
    assert world.findings() == ()


@pytest.mark.parametrize("text", ["2026-05-01T11:59:59Z", "2026-05-01T13:59:59.123456789+02:00"])
def test_a_lease_past_its_expiry_is_told(text: str) -> None:
    world = pulled()
    world.lease("odd", labels={EXPIRE: text})
    assert [f.code for f in world.findings()] == ["expired-lease"]


def test_what_a_lease_or_a_label_holds_is_no_orphan() -> None:
    world = pulled()
    held, rooted, free = (world.put(text) for text in (b"held", b"rooted", b"free"))
    world.lease("mine", Resource("content", held))
    world.relabel(rooted, lambda _: {"containerd.io/gc.root": "x"})
    assert world.notes() == [("orphan-blob", free)]


def test_a_run_about_one_image_says_nothing_of_the_rest_of_the_namespace() -> None:
    world = pulled()
    world.pull(ARM, "arm:1", unpack=False)
    world.put(b"orphan")
    world.ingest("upload", age=DAY * 2)
    world.drop(ARM.config.digest)
    assert world.findings(images=("docker.io/library/app:1",)) == ()
