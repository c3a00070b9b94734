"""The audit as a whole: what is found is looked at again, what changes meanwhile is no finding, each digest is read
once, and what cannot be examined is said.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import msgspec
import pytest

from auditor.audit import audit, collect
from auditor.errors import NothingExamined, StoreError
from auditor.model import platforms
from auditor.model.digest import Digest
from auditor.model.findings import FailOn, Finding, Report, Severity, Status, Verify, exit_status
from auditor.model.store import (
    ENCRYPTED,
    Container,
    DamageKind,
    FileState,
    Inventory,
    LayerVerification,
    LayerVerificationKind,
    Resource,
    StoreDamage,
    StoreInfo,
    Verification,
    VerificationKind,
)
from auditor.report.build import report
from tests.unit.build import APP, BASE, MIDDLE, NODE, NOW, TOP, Layer, World, image, index
from tests.unit.fakes import MemoryStore

Step = Callable[[], object]


def looked(world: World, *between: Step, **request: Any) -> tuple[Finding, ...]:
    """Audit while the world changes: a step between each look and the next."""
    steps = list(between)

    def pause(seconds: float) -> None:
        assert 0 < seconds < 2
        if steps:
            steps.pop(0)()

    found = audit.audit(world.store, collect.Request(**request), clock=lambda: NOW, pause=pause)
    assert not steps, "fewer looks than there were steps"
    return found.findings


def pulled() -> World:
    world = World()
    world.pull(APP, "app:1")
    return world


def codes(findings: Sequence[Finding]) -> list[str]:
    return [finding.code for finding in findings]


# What changes between two looks.


def test_what_is_mended_before_the_second_look_is_no_finding() -> None:
    world = pulled()
    world.drop(TOP.digest)
    assert looked(world, lambda: world.put(TOP.data)) == ()


def test_an_image_that_is_removed_before_the_second_look_is_no_finding() -> None:
    world = pulled()
    other = image(Layer("other"))
    world.pull(other, "other:1")
    world.drop(BASE.digest)
    kept = {other.digest, other.config.digest, other.layers[0].digest}

    def remove() -> None:
        held = world.inventory
        world.change(
            images=tuple(record for record in held.images if record.name != "app:1"),
            blobs={digest: blob for digest, blob in held.blobs.items() if digest in kept},
        )
        world.drop_snapshots(*APP.chain)

    assert looked(world, remove) == ()


def test_a_name_that_was_pulled_again_meanwhile_is_judged_as_it_is_now() -> None:
    world = pulled()
    world.drop(BASE.digest)
    newer = image(BASE, Layer("newer"))

    def pull_again() -> None:
        world.change(images=())
        world.pull(newer, "app:1")

    found = looked(world, pull_again)
    assert [f for f in found if f.severity is not Severity.INFO] == []


def test_a_fault_that_stays_is_reported_after_the_second_look() -> None:
    world = pulled()
    world.drop(BASE.digest)
    assert codes(looked(world, lambda: None)) == ["snapshot-without-blob"]


def test_what_only_the_second_look_finds_must_stay_for_the_third() -> None:
    world = pulled()
    world.drop(BASE.digest)
    found = looked(world, lambda: world.drop(MIDDLE.digest), lambda: None)
    assert sorted(f.subject.digest for f in found) == sorted([BASE.digest, MIDDLE.digest])


def test_what_two_looks_agree_on_is_said() -> None:
    world = pulled()
    world.drop(BASE.digest)
    found = looked(world, lambda: world.drop(MIDDLE.digest), lambda: None)
    assert sorted(f.subject.digest for f in found) == sorted([BASE.digest, MIDDLE.digest])


def test_what_only_the_very_last_look_finds_is_not_said() -> None:
    world = pulled()
    world.drop(BASE.digest)
    steps = (lambda: world.drop(MIDDLE.digest), lambda: world.drop(TOP.digest), lambda: world.drop(APP.config.digest))
    found = looked(world, *steps)
    assert "missing-config" not in codes(found)


def test_a_pull_that_begins_between_the_looks_excuses_what_it_works_on() -> None:
    world = pulled()
    world.drop_snapshots(*APP.chain)
    world.unlabel(APP.config.digest)
    world.drop(BASE.digest)
    found = looked(world, lambda: world.ingest(f"layer-{BASE.digest}"), lambda: None)
    assert codes(found) == ["pull-in-progress"]


def test_a_young_lease_under_which_nothing_changes_is_no_pull() -> None:
    world = pulled()
    world.drop(BASE.digest)
    world.lease("buildkit", Resource("content", APP.digest), labels={"buildkit/lease.temporary": ""})
    found = looked(world, *[lambda: None] * 3)
    assert codes(found) == ["snapshot-without-blob"]


def test_a_lease_that_gains_content_between_the_looks_is_a_pull() -> None:
    world = pulled()
    world.drop(BASE.digest)
    world.lease("pull", Resource("content", APP.digest))
    held = [Resource("content", APP.digest), Resource("content", TOP.digest)]
    assert codes(looked(world, lambda: None, lambda: world.store.hold("k8s.io", "pull", *held))) == ["pull-in-progress"]


def test_a_sound_store_is_looked_at_once() -> None:
    def never(_: float) -> None:
        raise AssertionError("there is nothing to look at again")

    world = pulled()
    world.pull(index(image(Layer("x")), image(Layer("arm"), platform="linux/arm64")), "other:1")
    audit.audit(world.store, collect.Request(), clock=lambda: NOW, pause=never)


def test_what_leases_hold_is_asked_only_where_it_could_matter() -> None:
    world = pulled()
    asked: list[str] = []

    class Asking(MemoryStore):
        def __init__(self) -> None:
            self.__dict__.update(world.store.__dict__)

        def resources(self, namespace: str, lease: str) -> Sequence[Resource]:
            asked.append(lease)
            return super().resources(namespace, lease)

    world.lease("a", Resource("content", TOP.digest))
    world.lease("over", labels={"containerd.io/gc.expire": (NOW - timedelta(1)).isoformat()})
    world.store = Asking()
    looked(world)
    assert asked == []
    world.unlabel(APP.digest, TOP.digest)
    assert codes(looked(world)) == ["expired-lease"]
    assert asked == ["a"]


# How much is read.


class Counting(MemoryStore):
    """Counts what is asked of it."""

    def __init__(self, store: MemoryStore) -> None:
        self.__dict__.update(store.__dict__)
        self.reads: Counter[Digest] = Counter()
        self.calls: Counter[str] = Counter()

    def read(self, namespace: str, digest: Digest, *, limit: int) -> bytes:
        self.reads[digest] += 1
        return super().read(namespace, digest, limit=limit)

    def inventory(self, namespace: str, *, snapshotters: Sequence[str] | None = None) -> Inventory:
        self.calls[f"inventory {namespace}"] += 1
        return super().inventory(namespace, snapshotters=snapshotters)

    def files(self) -> Mapping[Digest, FileState] | None:
        self.calls["files"] += 1
        return super().files()

    def probe(self, namespace: str, digest: Digest, size: int) -> FileState:
        self.calls["probe"] += 1
        return super().probe(namespace, digest, size)


def test_each_document_is_read_once_however_many_images_namespaces_and_looks_name_it() -> None:
    world = pulled()
    world.pull(index(APP), "again:1")
    World("moby", store=world.store).pull(APP, "app:2")
    world.drop(BASE.digest)
    store = world.store = Counting(world.store)
    looked(world, lambda: None)
    documents = {index(APP).digest, APP.digest, APP.config.digest}
    assert store.reads == dict.fromkeys(documents, 1)
    assert store.calls == {"inventory k8s.io": 2, "inventory moby": 2, "files": 2}


def test_what_is_wrong_is_read_twice_a_look_before_it_is_said() -> None:
    world = pulled()
    world.store.content[APP.config.digest] = APP.config.data[:-1] + b"]"
    store = world.store = Counting(world.store)
    assert codes(looked(world)) == ["digest-mismatch"]
    assert store.reads[APP.config.digest] == 4
    assert store.reads[APP.digest] == 1


def test_a_document_that_reads_right_at_the_second_try_is_sound() -> None:
    class Flaky(Counting):
        def read(self, namespace: str, digest: Digest, *, limit: int) -> bytes:
            data = super().read(namespace, digest, limit=limit)
            return data if self.reads[digest] > 1 else b"?" + data

    world = pulled()
    world.store = Flaky(world.store)
    assert looked(world) == ()


# Selection.


def test_examining_nothing_is_said() -> None:
    with pytest.raises(NothingExamined):
        looked(World())
    world = pulled()
    World("empty", store=world.store)
    for request in (
        {"namespaces": ("none",)},
        {"namespaces": ("empty",)},
        {"images": ("nope",)},
        {"snapshotters": ("x",)},
    ):
        with pytest.raises(NothingExamined) as said:
            looked(world, **request)
        assert said.value.hint


def test_a_store_that_fails_ends_the_audit() -> None:
    class Gone(MemoryStore):
        def inventory(self, namespace: str, *, snapshotters: Sequence[str] | None = None) -> Inventory:
            raise StoreError(f"cannot list {namespace} of {snapshotters or 'all'}: the daemon went away")

    store = Gone()
    store.put(Inventory("n"))
    with pytest.raises(StoreError):
        audit.audit(store, collect.Request(), clock=lambda: NOW, pause=lambda _: None)


def test_only_the_namespaces_asked_for_are_listed() -> None:
    world = pulled()
    World("moby", store=world.store).pull(APP, "app:2")
    store = world.store = Counting(world.store)
    looked(world, namespaces=("moby",))
    assert set(store.calls) == {"inventory moby", "files"}


@pytest.mark.parametrize("request_platform", [None, "linux/arm64"])
def test_the_platform_wanted_is_the_one_asked_for_else_the_nodes(request_platform: str | None) -> None:
    info = StoreInfo(kind=World().store.info().kind, address="x", platform=NODE)
    asked = (platforms.parse(request_platform),) if request_platform else ()
    matcher = collect.matcher_for(collect.Request(platforms=asked), info)
    assert matcher.wanted[0][0] == (asked[0] if asked else NODE)
    assert collect.matcher_for(collect.Request(all_platforms=True), info).everything
    assert collect.matcher_for(collect.Request(), msgspec.structs.replace(info, platform=None)).wanted


# The verdict.


def reported(world: World, **request: Any) -> Report:
    outcome = world.audit(**request)
    return report(outcome.evidence, outcome.findings, host="node", started=NOW, finished=NOW, seconds=0.5)


def test_a_sound_store_is_reported_so() -> None:
    world = World()
    world.pull(APP, "app:1", f"app@{APP.digest}", str(APP.config.digest))
    made = reported(world)
    assert (made.complete, made.findings) == (True, ())
    assert (made.summary.images.total, made.summary.images.sound, made.summary.images.damaged) == (1, 1, 0)
    blobs = made.summary.blobs
    assert (blobs.total, blobs.present, blobs.absent, blobs.verified) == (5, 5, 0, 2)
    assert made.summary.bytes.present == sum(len(data) for data in world.store.content.values())
    assert made.summary.bytes.read == len(APP.data) + len(APP.config.data)
    assert made.summary.snapshots.total == 3
    (state,) = made.images
    assert (state.status, state.names[0], state.platforms[0].unpacked) == (Status.SOUND, "app:1", {"overlayfs": True})


@pytest.mark.parametrize("digest", [BASE.digest, APP.config.digest, APP.digest])
def test_the_image_that_a_fault_hurts_is_damaged_and_the_other_is_sound(digest: Digest) -> None:
    world = pulled()
    world.pull(image(Layer("other")), "other:1")
    world.drop(digest)
    made = reported(world)
    assert {state.names[0]: state.status for state in made.images} == {
        "app:1": Status.DAMAGED,
        "other:1": Status.SOUND,
    }
    assert made.summary.blobs.absent == 1


def test_an_image_that_could_not_be_read_is_neither_sound_nor_damaged() -> None:
    world = pulled()
    world.verifications[TOP.digest] = Verification(TOP.digest, VerificationKind.UNREADABLE, detail="Input/output error")
    made = reported(world, verify=Verify.DIGESTS)
    assert made.images[0].status is Status.UNKNOWN
    assert (made.complete, len(made.incomplete)) == (False, 1)
    assert (made.summary.images.sound, made.summary.images.damaged, made.summary.blobs.unreadable) == (0, 0, 1)
    assert exit_status(made, FailOn.ERROR) == 1
    assert exit_status(made, FailOn.CRITICAL) == 3


def test_what_could_not_be_listed_makes_the_run_incomplete() -> None:
    world = pulled()
    world.change(gaps=("snapshotter zfs does not answer",))
    made = reported(world)
    assert (made.complete, made.incomplete) == (False, ("snapshotter zfs does not answer",))
    assert exit_status(made, FailOn.ERROR) == 3


#: Findings at a severity, whether the run is complete, --fail-on, exit status; DESIGN.md, "The command line".
EXITS = [
    (None, True, FailOn.ERROR, 0),
    (None, True, FailOn.NEVER, 0),
    (None, False, FailOn.ERROR, 3),
    (None, False, FailOn.NEVER, 3),
    (Severity.INFO, True, FailOn.WARNING, 0),
    (Severity.INFO, True, FailOn.INFO, 1),
    (Severity.WARNING, True, FailOn.ERROR, 0),
    (Severity.WARNING, False, FailOn.ERROR, 3),
    (Severity.WARNING, True, FailOn.WARNING, 1),
    (Severity.ERROR, True, FailOn.ERROR, 1),
    (Severity.ERROR, False, FailOn.ERROR, 1),
    (Severity.ERROR, True, FailOn.CRITICAL, 0),
    (Severity.CRITICAL, True, FailOn.CRITICAL, 1),
    (Severity.CRITICAL, True, FailOn.NEVER, 0),
    (Severity.CRITICAL, False, FailOn.NEVER, 3),
]


@pytest.mark.parametrize(("severity", "complete", "fail_on", "status"), EXITS)
def test_exit_status(severity: Severity | None, complete: bool, fail_on: FailOn, status: int) -> None:
    world = pulled()
    world.drop(BASE.digest)
    made = reported(world)
    findings = tuple(msgspec.structs.replace(f, severity=severity) for f in made.findings) if severity else ()
    assert exit_status(msgspec.structs.replace(made, findings=findings, complete=complete), fail_on) == status


def test_times_are_those_of_the_clock() -> None:
    ticks = iter([NOW, NOW + timedelta(days=2), NOW + timedelta(days=2)])
    seen: list[datetime] = []

    def clock() -> datetime:
        seen.append(next(ticks))
        return seen[-1]

    world = pulled()
    world.ingest("slow", age=timedelta(0))
    world.drop(BASE.digest)
    audit.audit(world.store, collect.Request(), clock=clock, pause=lambda _: None)
    assert len(seen) == 3


def test_the_cause_does_not_depend_on_how_many_images_are_asked_about() -> None:
    world = pulled()
    world.pull(image(Layer(BASE.content, "zstd")), "twin:1")
    world.drop(BASE.digest)
    (all_of_it,) = [f for f in looked(world) if f.code == "snapshot-without-blob"]
    (asked,) = [f for f in looked(world, images=("app:1",)) if f.code == "snapshot-without-blob"]
    assert asked == all_of_it
    assert asked.cause == "missing-blobs-bug"


def test_a_namespace_that_holds_only_containers_is_examined() -> None:
    world = World()
    world.change(containers=(Container(world.namespace, "c"),))
    assert looked(world, namespaces=(world.namespace,)) == ()


# Files without a record.


def test_a_file_that_no_record_names_is_counted_with_its_bytes() -> None:
    world = pulled()
    world.store.content[Digest.of(b"stray")] = b"stray"
    (found,) = looked(world)
    assert (found.code, found.severity, found.namespace) == ("file-without-record", Severity.WARNING, "")
    assert found.facts == {"files": 1, "bytes": 5, "first": Digest.of(b"stray")}


def test_the_file_of_a_blob_whose_record_was_deleted_is_part_of_that_finding() -> None:
    world = pulled()
    world.drop(TOP.digest)
    world.store.content[TOP.digest] = TOP.data
    assert codes(looked(world)) == ["snapshot-without-blob"]


def test_files_that_are_most_of_the_store_are_a_lost_database() -> None:
    world = World()
    world.store.content |= {Digest.of(data): data for data in (b"one", b"two")}
    found = audit.audit(world.store, collect.Request(), clock=lambda: NOW, pause=lambda _: None)
    assert [(f.code, f.severity, f.facts["files"]) for f in found.findings] == [("metadata-lost", Severity.CRITICAL, 2)]
    made = report(found.evidence, found.findings, host="node", started=NOW, finished=NOW, seconds=0)
    assert not made.complete
    assert exit_status(made, FailOn.ERROR) == 3


def test_files_of_a_commit_or_a_collection_are_no_finding() -> None:
    world = pulled()
    stray = Digest.of(b"stray")
    world.store.content[stray] = b"stray"
    assert looked(world, lambda: world.store.content.pop(stray)) == ()
    world.store.content |= {stray: b"stray", Digest.of(b"more"): b"more"}
    assert looked(world, lambda: world.store.content.pop(stray)) == ()


@pytest.mark.parametrize("part", [{"images": ("app:1",)}, {"namespaces": ("k8s.io",)}])
def test_an_audit_of_a_part_does_not_know_which_files_have_no_record(part: dict[str, Any]) -> None:
    world = pulled()
    world.store.content[Digest.of(b"stray")] = b"stray"
    assert looked(world, **part) == ()


@pytest.mark.parametrize(("why", "complete"), [(ENCRYPTED, True), ("it decompresses to more than 5 bytes", False)])
def test_a_layer_that_was_to_be_decompressed_and_was_not_makes_the_run_incomplete(why: str, complete: bool) -> None:
    world = pulled()
    layer = LayerVerification(LayerVerificationKind.UNVERIFIABLE, detail=why)
    verification = Verification(TOP.digest, VerificationKind.SOUND, actual=TOP.digest, layer=layer)
    found = audit.audit(
        world.store,
        collect.Request(verify=Verify.LAYERS),
        clock=lambda: NOW,
        pause=lambda _: None,
        read=lambda _: audit.Reading({TOP.digest: verification}),
    )
    assert codes(found.findings) == ["layer-unverifiable"]
    made = report(found.evidence, found.findings, host="node", started=NOW, finished=NOW, seconds=0)
    assert made.complete is complete
    assert exit_status(made, FailOn.ERROR) == (0 if complete else 3)


def test_a_store_that_has_nothing_is_an_error_unless_that_is_allowed() -> None:
    world = World()
    with pytest.raises(NothingExamined):
        looked(world)
    assert looked(world, allow_empty=True) == ()
    with pytest.raises(NothingExamined):
        looked(world, allow_empty=True, namespaces=("k8s.io",))
    with pytest.raises(NothingExamined):
        looked(world, allow_empty=True, images=("app:1",))


def test_files_of_a_lost_database_are_found_though_an_empty_store_is_allowed() -> None:
    world = World()
    world.store.content[Digest.of(b"one")] = b"one"
    assert codes(looked(world, allow_empty=True)) == ["metadata-lost"]


def test_a_damaged_database_without_an_image_is_no_empty_store() -> None:
    world = World()
    lost = StoreDamage(DamageKind.LOST, "meta.db", "no blob has a record")
    world.store.description = msgspec.structs.replace(world.store.info(), damage=(lost,))
    assert codes(looked(world)) == ["metadata-lost"]


def test_records_without_a_file_are_counted_as_absent() -> None:
    world = World()
    world.pull(APP)
    spare = world.put(b"of no image")
    before = reported(world).summary
    for digest in (BASE.digest, spare):
        del world.store.content[digest]
    after = reported(world).summary
    assert (after.blobs.total, after.blobs.present) == (before.blobs.total, before.blobs.present - 2)
    assert after.blobs.absent == before.blobs.absent + 2
    assert after.bytes.present == before.bytes.present - len(BASE.data) - len(b"of no image")
