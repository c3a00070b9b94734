"""Channels between threads: order, bounds, errors on either side, and that no thread is left behind."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Iterator

import pytest

from auditor.concurrency import AHEAD, Channel, Worker, read_ahead
from auditor.errors import StoreError


def gone(name: str) -> bool:
    """Wait until no thread of that name is left; False after five seconds."""
    for _ in range(500):
        if name not in {thread.name for thread in threading.enumerate()}:
            return True
        time.sleep(0.01)
    return False


def test_items_come_in_order_and_few_of_them_early() -> None:
    drawn: list[int] = []

    def numbers() -> Iterator[int]:
        for number in range(100):
            drawn.append(number)
            yield number

    with read_ahead(numbers(), name="ordered") as items:
        assert next(items) == 0
        time.sleep(0.05)
        assert len(drawn) <= AHEAD + 2
        assert list(items) == list(range(1, 100))
    assert gone("ordered")


def test_several_sources_are_merged_and_a_defect_comes_before_an_expected_error() -> None:
    def failing(error: Exception) -> Iterator[int]:
        yield 1
        raise error

    got: list[int] = []
    with (
        read_ahead(failing(StoreError("gone")), failing(KeyError("defect")), iter([2, 3]), name="merged") as items,
        pytest.raises(KeyError),
    ):
        got += items
    assert sorted(got) == [1, 1, 2, 3]
    assert gone("merged")


def test_a_source_that_hangs_is_not_waited_for() -> None:
    never = threading.Event()

    def hanging() -> Iterator[int]:
        yield 1
        never.wait(60)

    begun = time.monotonic()
    with read_ahead(hanging(), patience=0) as items:
        assert next(items) == 1
    assert time.monotonic() - begun < 30
    never.set()


def test_a_worker_does_everything_in_order_before_it_finishes() -> None:
    done: list[int] = []
    worker: Worker[int] = Worker(done.append, name="orderly")
    for number in range(100):
        worker.put(number)
    worker.finish()
    assert done == list(range(100))
    with pytest.raises(RuntimeError):
        worker.put(1)
    assert gone("orderly")


def test_an_error_of_a_worker_reaches_the_writer_and_ends_the_work() -> None:
    done: list[int] = []

    def work(number: int) -> None:
        done.append(number)
        if number == 3:
            raise OSError(28, "No space left on device")

    worker: Worker[int] = Worker(work, name="failing")

    def hand_over() -> None:
        for number in range(1000):
            worker.put(number)

    with pytest.raises(OSError, match="No space"):
        hand_over()
    with pytest.raises(OSError, match="No space"):
        worker.finish()
    worker.abandon()
    assert done == [0, 1, 2, 3]


def test_an_offer_that_would_wait_is_dropped() -> None:
    released, taken = threading.Event(), threading.Event()
    done: list[int] = []

    def work(number: int) -> None:
        taken.set()
        released.wait(60)
        done.append(number)

    worker: Worker[int] = Worker(work, name="busy", limit=1)
    worker.put(1)
    assert taken.wait(60)
    for number in (2, 3, 4):
        worker.offer(number)
    released.set()
    worker.finish()
    assert done == [1, 2]


def test_an_abandoned_or_forgotten_worker_leaves_no_thread() -> None:
    released = threading.Event()
    done: list[int] = []

    def work(number: int) -> None:
        released.wait(60)
        done.append(number)

    worker: Worker[int] = Worker(work, name="left")
    for number in range(AHEAD):
        worker.put(number)
    released.set()
    worker.abandon()
    assert done in ([], [0], [0, 1], [0, 1, 2], [0, 1, 2, 3])
    assert gone("left")
    forgotten: Worker[int] = Worker(done.append, name="forgotten")
    forgotten.put(7)
    del forgotten
    gc.collect()
    assert gone("forgotten")


def test_a_closed_channel_takes_nothing_and_gives_nothing() -> None:
    channel: Channel[int] = Channel(limit=2)
    assert channel.put(1)
    assert channel.put(2)
    assert channel.full
    channel.close()
    assert not channel.put(3)
    assert list(channel) == []
