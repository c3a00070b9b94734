"""Which events lead to a look at one image, and which looks to a check of everything."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from auditor import checks
from auditor.errors import EventsLost, StoreTimeout, StoreUnreachable
from auditor.model.digest import Digest
from auditor.model.findings import Finding, Severity
from auditor.model.store import Blob, FileState, Image, Ingest, Lease, Snapshot
from auditor.model.store_event import EventKind, StoreEvent
from auditor.watch.memory import Memory
from auditor.watch.one_image import one_image
from auditor.watch.watcher import HEARTBEAT, Watcher
from tests.unit.build import APP, BASE, NOW, OVERLAY, TOP, Layer, World, attestation, image, index
from tests.unit.cases import collected
from tests.unit.fakes import MemoryStore

SPACE = "k8s.io"
NAME = "docker.io/library/app:1"
BOTH = index(APP, image(Layer("arm"), platform="linux/arm64"), attestation(APP))


class Stream:
    """Gives what a test puts in, moves the clock by the time waited, and ends with the last."""

    def __init__(self, world: Lookup) -> None:
        self._world = world
        self.closed = False

    def wait(self, seconds: float) -> tuple[StoreEvent, ...]:
        if not self._world.script:
            raise StoreUnreachable("the stream of events ended")
        step = self._world.script.pop(0)
        if step is None:
            self._world.at += seconds
            return ()
        if isinstance(step, Exception):
            raise step
        if callable(step):
            step()
            return ()
        return (step,)

    def close(self) -> None:
        self.closed = True


Step = StoreEvent | Exception | Callable[[], object] | None


class Lookup(MemoryStore):
    """A store in memory that looks up single records; counts what it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World(store=self)
        self.description = self.world.store.info()
        self.script: list[Step] = []
        self.at = 1000.0
        self.alive = True
        self.looked: list[str] = []
        #: What a look and a full check take.
        self.seconds, self.full_seconds = 0.0, 0.0
        self.stream_made: Stream | None = None

    def image(self, namespace: str, name: str) -> Image | None:
        self.looked.append(name)
        self.at += self.seconds
        return next((each for each in self.inventory_of(namespace).images if each.name == name), None)

    def blob(self, namespace: str, digest: Digest) -> Blob | None:
        return self.inventory_of(namespace).blobs.get(digest)

    def snapshot(self, namespace: str, snapshotter: str, name: str) -> Snapshot | None:
        return self.inventory_of(namespace).snapshots.get(snapshotter, {}).get(name)

    def guards(self, namespace: str) -> tuple[Sequence[Lease], Sequence[Ingest]]:
        held = self.inventory_of(namespace)
        return held.leases, held.ingests

    def file(self, digest: Digest) -> FileState | None:
        return (self.files() or {}).get(digest)

    def answers(self, seconds: float) -> bool:
        del seconds
        return self.alive

    def subscribe(self) -> Stream:
        self.stream_made = Stream(self)
        return self.stream_made


def image_event(name: str = NAME, kind: EventKind = EventKind.IMAGE) -> StoreEvent:
    return StoreEvent(kind, SPACE, name)


#: Time enough for an image to settle.
SETTLED: tuple[Step, ...] = (None, None, None)


def watcher(
    lookup: Lookup, checked: list[float], *script: Step, every: float = 3600, memory: Memory | None = None
) -> Watcher:
    """A watcher that is given a script of events; each None is a wait without any."""
    lookup.script = list(script)

    def full() -> None:
        lookup.at += lookup.full_seconds
        checked.append(lookup.at)

    return Watcher(
        lookup,
        memory or Memory(None, address="memory"),
        full,
        every=every,
        clock=lambda: lookup.at,
        now=lambda: NOW,
        beat=lambda: None,
    )


def run(lookup: Lookup, *script: Step, every: float = 3600, memory: Memory | None = None) -> int:
    """Watch to the end of a script; return how often everything was checked after the start."""
    checked: list[float] = []
    with pytest.raises(StoreUnreachable):
        watcher(lookup, checked, *script, every=every, memory=memory).run()
    assert lookup.stream_made is not None
    assert lookup.stream_made.closed
    return len(checked) - 1


@pytest.fixture
def lookup() -> Lookup:
    made = Lookup()
    made.world.pull(APP)
    return made


def test_it_checks_everything_at_the_start_and_a_sound_pull_needs_no_more(lookup: Lookup) -> None:
    assert run(lookup, image_event(), image_event(), *SETTLED) == 0
    assert lookup.looked == [NAME]


@pytest.mark.parametrize("lost", [BASE, TOP, APP])
def test_whatever_an_image_lacks_leads_to_a_full_check(lookup: Lookup, lost: Layer) -> None:
    lookup.drop_record(SPACE, Digest(lost.digest))
    assert run(lookup, image_event(), *SETTLED) == 1


def test_a_file_that_is_gone_or_short_leads_to_a_full_check(lookup: Lookup) -> None:
    lookup.content[Digest(TOP.digest)] = b""
    assert run(lookup, image_event(), *SETTLED) == 1


def test_other_platforms_and_attestations_need_no_full_check() -> None:
    lookup = Lookup()
    lookup.world.pull(BOTH)
    assert run(lookup, image_event(), *SETTLED) == 0


def test_an_image_that_is_gone_again_is_nothing(lookup: Lookup) -> None:
    assert run(lookup, image_event("gone:1", EventKind.IMAGE_DELETED), *SETTLED) == 0
    assert lookup.looked == ["gone:1"]


def test_a_sound_look_at_an_image_that_was_told_of_confirms_that_it_is_gone(lookup: Lookup) -> None:
    memory = Memory(None, address="memory")
    lost = lookup.content[Digest(BASE.digest)]
    record = lookup.inventory_of(SPACE).blobs[Digest(BASE.digest)]
    lookup.drop_record(SPACE, record.digest)
    found: tuple[Finding, ...] = checks.judge(collected(lookup.world))
    assert any(each.severity is not Severity.INFO for each in found)
    for change in memory.changes(found, complete=True):
        memory.record(change)
    lookup.add(lost, SPACE, labels=record.labels)
    assert run(lookup, image_event(), *SETTLED, memory=memory) == 1


def test_looks_that_take_as_long_as_a_full_check_are_replaced_by_one(lookup: Lookup) -> None:
    events = [image_event(f"docker.io/library/app:{n}") for n in range(50)]
    lookup.seconds, lookup.full_seconds = 0.25, 2.0
    assert run(lookup, *events, *SETTLED) == 1
    assert len(lookup.looked) == 9
    lookup.looked, lookup.seconds = [], 0.03125
    assert run(lookup, *events, *SETTLED) == 0
    assert len(lookup.looked) == 50


def test_three_names_of_one_target_are_one_look(lookup: Lookup) -> None:
    names = [f"docker.io/library/app:{n}" for n in range(2, 5)]
    lookup.world.name(APP, *names)
    lookup.drop_record(SPACE, Digest(BASE.digest))
    assert run(lookup, *map(image_event, names), *SETTLED) == 1


def test_lost_events_and_time_lead_to_a_full_check(lookup: Lookup) -> None:
    assert run(lookup, EventsLost("events came faster than they were taken")) == 1
    assert run(lookup, *[None] * 4, every=2 * HEARTBEAT) == 2


def test_a_daemon_that_hangs_is_noticed_though_the_stream_is_silent(lookup: Lookup) -> None:
    def hang() -> None:
        lookup.alive = False

    with pytest.raises(StoreUnreachable):
        watcher(lookup, [], None, None).run()  # while it answers, only the end of the script ends it
    with pytest.raises(StoreTimeout, match="does not answer"):
        watcher(lookup, [], hang, None, None).run()


def test_one_image_has_its_records_and_no_others(lookup: Lookup) -> None:
    """What the rules see of one image is what a listing shows of it."""
    lookup.world.pull(image(Layer("another")), "docker.io/library/other:1")
    record = lookup.image(SPACE, NAME)
    assert record is not None
    found = one_image(lookup, record)
    held, every = found.inventory(SPACE), lookup.inventory_of(SPACE)
    assert [each.name for each in held.images] == [NAME]
    wanted = {APP.digest, APP.config.digest, *(Digest(layer.digest) for layer in APP.layers)}
    assert held.blobs == {digest: every.blobs[digest] for digest in wanted}
    assert held.snapshots[OVERLAY] == {chain: every.snapshots[OVERLAY][chain] for chain in APP.chain}
