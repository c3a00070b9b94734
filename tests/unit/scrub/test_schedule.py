"""What a standing job reads next, and that being killed costs it nothing but what it was reading."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditor.model.digest import Digest
from auditor.model.store import LayerVerification, LayerVerificationKind, Verification, VerificationKind
from auditor.scrub import Coverage, Target, coverage, plan, scrub, targets_of
from auditor.scrub.state import Remembered, State
from tests.forks import forks, kill
from tests.unit.fakes import Damaged, MemoryStore

NOW = datetime(2026, 8, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)


def target(name: str, size: int = 10, *, layer: bool = False) -> Target:
    return Target(Digest.of(name.encode()), size, ("default",), layer=layer)


def known(
    name: str, kind: VerificationKind | None = None, *, age: timedelta = DAY, tried: timedelta | None = None
) -> Remembered:
    digest = Digest.of(name.encode())
    return Remembered(
        digest,
        tried_at=NOW - tried if tried is not None else None,
        read_at=NOW - age if kind else None,
        verification=Verification(digest, kind) if kind else None,
    )


def memory(*entries: Remembered) -> dict[Digest, Remembered]:
    return {entry.digest: entry for entry in entries}


NAMES = ("old", "new", "bad", "older", "big")
TARGETS = [target("old"), target("new"), target("bad"), target("older"), target("big", 99)]
MEMORY = memory(
    known("old", VerificationKind.SOUND, age=3 * DAY),
    known("older", VerificationKind.SOUND, age=9 * DAY),
    known("bad", VerificationKind.CORRUPT),
)


def names(targets: list[Target]) -> list[str]:
    by = {Digest.of(name.encode()): name for name in NAMES}
    return [by[found.digest] for found in targets]


def test_known_bad_comes_first_then_never_proven_then_longest_unproven() -> None:
    assert names(plan(TARGETS, MEMORY, now=NOW)) == ["bad", "big", "new", "older", "old"]


def test_what_was_proven_within_the_age_is_not_due_and_known_bad_always_is() -> None:
    assert names(plan(TARGETS, MEMORY, now=NOW, max_age=7 * DAY)) == ["bad", "big", "new", "older"]
    assert names(plan(TARGETS, MEMORY, now=NOW, max_age=99 * DAY)) == ["bad", "big", "new"]


def test_a_run_can_be_restricted_to_known_bad_and_to_new() -> None:
    assert names(plan(TARGETS, MEMORY, now=NOW, known_bad=True)) == ["bad"]
    assert names(plan(TARGETS, MEMORY, now=NOW, new_only=True)) == ["big", "new"]
    assert names(plan(TARGETS, MEMORY, now=NOW, new_only=True, known_bad=True)) == ["bad", "big", "new"]


def test_what_was_begun_and_never_finished_comes_after_what_was_never_begun() -> None:
    tried = memory(known("big", tried=timedelta(hours=1)))
    assert names(plan([target("big", 99), target("new")], tried, now=NOW)) == ["new", "big"]


def test_a_layer_that_was_only_hashed_is_new_to_a_run_that_decompresses() -> None:
    hashed = memory(known("old", VerificationKind.SOUND))
    assert plan([target("old", layer=True)], hashed, now=NOW, max_age=7 * DAY, layers=True)
    assert not plan([target("old", layer=False)], hashed, now=NOW, max_age=7 * DAY, layers=True)
    entry = hashed[Digest.of(b"old")]
    assert entry.verification is not None
    verification = Verification(
        entry.digest, VerificationKind.SOUND, layer=LayerVerification(LayerVerificationKind.SOUND)
    )
    looked = memory(Remembered(entry.digest, read_at=entry.read_at, verification=verification))
    assert not plan([target("old", layer=True)], looked, now=NOW, max_age=7 * DAY, layers=True)


@given(st.integers(-400, 400), st.integers(1, 300))
def test_a_clock_that_was_put_back_neither_hides_a_blob_for_long_nor_stops_anything(hours: int, age: int) -> None:
    shifted = memory(known("old", VerificationKind.SOUND, age=timedelta(hours=hours)))
    due = plan([target("old")], shifted, now=NOW, max_age=timedelta(hours=age))
    assert bool(due) == (abs(hours) >= age)


def test_coverage_counts_only_what_was_found_sound() -> None:
    assert coverage(TARGETS, MEMORY) == Coverage(
        blobs=5, bytes=139, proven_blobs=2, proven_bytes=20, bad=1, oldest=NOW - 9 * DAY
    )
    assert coverage([], {}) == Coverage()


def store_of(count: int) -> MemoryStore:
    store = MemoryStore()
    for number in range(count):
        store.add(b"%d " % number * 3000)
    return store


def targets(store: MemoryStore) -> list[Target]:
    return targets_of([store.inventory("default")])


def test_each_outcome_is_remembered_before_it_is_given(tmp_path: Path) -> None:
    store = store_of(5)
    with State.open(tmp_path / "s", store="a") as state:
        for verification in scrub(store, state, targets(store), now=lambda: NOW, jobs=2):
            assert state.remembered()[verification.digest].verification is not None


def test_a_run_that_ends_early_is_taken_up_where_it_was(tmp_path: Path) -> None:
    store = store_of(20)
    rounds = 0
    with State.open(tmp_path / "s", store="a") as state:
        while due := plan(targets(store), state.remembered(), now=NOW, max_age=DAY):
            rounds += 1
            with closing(scrub(store, state, due, now=lambda: NOW, jobs=1)) as outcomes:
                for _ in range(3):
                    next(outcomes, None)
    assert 1 < rounds <= 7


def test_a_blob_too_large_for_the_budget_does_not_keep_the_others_from_their_turn(tmp_path: Path) -> None:
    store = store_of(3)
    huge = store.add(b"huge" * 40_000)
    clock = [0]

    def slow(_: int, __: Digest, pieces: Iterator[bytes]) -> Iterator[bytes]:
        for piece in pieces:
            clock[0] += 1
            yield piece

    with State.open(tmp_path / "s", store="a") as state:
        for _ in range(2):
            clock[0] = 0
            due = plan(targets(store), state.remembered(), now=NOW, max_age=30 * DAY)
            list(scrub(Damaged(store, slow), state, due, now=lambda: NOW, jobs=1, over=lambda: clock[0] > 20))
        remembered = state.remembered()
    assert remembered[huge].verification is None
    assert sum(entry.verification is not None for entry in remembered.values()) == 3


VICTIM = """
import sys, time
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from auditor.scrub import plan, scrub
from auditor.scrub.state import State
from tests.unit.fakes import Damaged
from tests.unit.scrub.test_schedule import store_of, targets

def slow(_, digest, pieces):
    for piece in pieces:
        time.sleep(0.002)
        yield piece
    with open(sys.argv[2], "a") as log:
        log.write(digest + "\\n")

store = store_of(60)
now = lambda: datetime.now(UTC)

def main(_):
    with State.open(Path(sys.argv[1]), store="a") as state:
        due = plan(targets(store), state.remembered(), now=now(), max_age=timedelta(days=1))
        for verification in scrub(Damaged(store, slow), state, due, now=now, jobs=2):
            pass
"""


@pytest.mark.slow
def test_killed_ten_times_at_random_every_blob_is_proven_and_hardly_any_twice(tmp_path: Path) -> None:
    chance = random.Random(7)
    with forks(VICTIM, tmp_path / "s", tmp_path / "log") as scrubs:
        for _ in range(10):
            with scrubs.running() as child:
                time.sleep(chance.random() * 0.08)
                kill(child)
        with scrubs.running():
            pass
    with State.open(tmp_path / "s", store="a") as state:
        remembered = state.remembered()
        assert state.notes == ()
    assert {digest for digest, entry in remembered.items() if entry.verified(layers=False)} == {
        entry.digest for entry in targets(store_of(60))
    }
    # What is read whole and not yet written down when the kill comes is read again: one a thread, at most.
    read = (tmp_path / "log").read_text().split()
    assert len(read) <= 60 + 10 * 2
