"""The rate limit: a schedule that holds over all threads, told without waiting for real time."""

from __future__ import annotations

import heapq
import threading

import pytest

from auditor.scrub import targets_of, verify_blobs
from auditor.scrub.rate_limit import BURST, RateLimit, idle_io
from tests.unit.fakes import MemoryStore


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize("threads", [1, 2, 8])
@pytest.mark.parametrize("rate", [1 << 20, 50 << 20, 1 << 30])
def test_the_rate_holds_within_five_percent_over_ten_seconds_whatever_the_threads(threads: int, rate: int) -> None:
    clock = Clock()
    pace = RateLimit(rate, clock=clock)
    piece = min(1 << 20, rate // 40)
    read = 0
    waiting = [(0.0, number) for number in range(threads)]
    while True:
        clock.now, number = heapq.heappop(waiting)
        if clock.now >= 10:
            break
        wait = pace.reserve(piece)
        if clock.now + wait < 10:
            read += piece
        heapq.heappush(waiting, (clock.now + wait, number))
    assert read == pytest.approx(rate * 10, rel=0.05)


def test_a_pause_is_not_made_up_for() -> None:
    clock = Clock()
    pace = RateLimit(1000, clock=clock)
    clock.now = 100.0
    allowed = 0
    while pace.reserve(10) == 0:
        allowed += 10
    assert allowed <= 1000 * BURST + 10


def test_what_was_reserved_and_not_read_is_given_back() -> None:
    clock = Clock()
    pace = RateLimit(1000, clock=clock)
    pace.reserve(1000)
    assert pace.reserve(-1000) == 0
    assert pace.reserve(1) == 0


def test_no_rate_is_no_wait() -> None:
    assert RateLimit(None, clock=Clock()).reserve(1 << 40) == 0


def test_prove_reads_at_the_pace_and_pieces_that_end_early_cost_their_length() -> None:
    store = MemoryStore()
    for number in range(50):
        store.add(b"%d" % number * 20)
    reserved: list[int] = []
    lock = threading.Lock()

    class Noting(RateLimit):
        def reserve(self, count: int) -> float:
            with lock:
                reserved.append(count)
            return 0.0

    targets = targets_of([store.inventory("default")])
    list(verify_blobs(store, targets, jobs=2, pace=Noting(1, clock=Clock())))
    assert sum(reserved) == sum(target.size for target in targets)


def test_a_thread_takes_the_idle_priority_where_the_kernel_has_it() -> None:
    said: list[bool] = []
    thread = threading.Thread(target=lambda: said.append(idle_io()))
    thread.start()
    thread.join()
    assert said in ([True], [False])
