"""Threads: a pool that an exception does not wait for, and bounded channels between threads."""

from __future__ import annotations

import resource
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import chain
from typing import TYPE_CHECKING, Generic, Self, TypeVar

from auditor.errors import AuditorError

if TYPE_CHECKING:
    from concurrent.futures import Executor

#: Bytes to ask for at a time.
CHUNK = 1 << 20
#: Items in a channel before its writer waits.
AHEAD = 4

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


@contextmanager
def workers(count: int, *, name: str = "") -> Iterator[Executor]:
    """Open a pool of `count` threads; wait for its work on exit, but not where the block ends by an exception.

    ThreadPoolExecutor itself always waits, so that neither Ctrl-C nor a dead daemon would end the program while a
    thread waits for an answer. Such a thread ends when the owner of the connection closes it.
    """
    from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415 - imports logging; not every command needs it

    pool = ThreadPoolExecutor(count, thread_name_prefix=name)
    try:
        yield pool
        pool.shutdown()
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        raise


def parallel(
    work: Callable[[_Item], _Result], items: Iterable[_Item], *, jobs: int, name: str = ""
) -> Iterator[_Result]:
    """Call `work` with each item in a pool of `jobs` threads, see `workers`; yield the results in order."""
    rest = iter(items)
    for first in rest:  # without any there is no pool
        with workers(jobs, name=name) as pool:
            yield from pool.map(work, chain((first,), rest))


def times_blocked() -> int:
    """Return how often this thread has waited in the kernel, as for a disk; getrusage(2), `ru_nvcsw`."""
    return resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw


class Channel(Generic[_Item]):
    """A bounded queue between threads that either side can end; iterate over it to take the items in order.

    Args:
        writers: how many threads put items; the channel ends when each of them has called `end`.
        limit: items in the queue before `put` waits.

    """

    def __init__(self, *, writers: int = 1, limit: int = AHEAD) -> None:
        self._items: deque[_Item] = deque()
        self._writers = writers
        self._limit = limit
        self._errors: list[BaseException] = []
        self._changed = threading.Condition()

    @property
    def error(self) -> BaseException | None:
        """The first error that either side ended with; a defect of the program before an error that is expected."""
        unexpected = (error for error in self._errors if not isinstance(error, AuditorError))
        return next(unexpected, next(iter(self._errors), None))

    @property
    def full(self) -> bool:
        """Whether `put` would wait now."""
        return bool(self._writers) and len(self._items) >= self._limit

    def put(self, item: _Item) -> bool:
        """Append an item; wait while the channel is full.

        Returns:
            False where the channel has ended; the item is dropped.

        Raises:
            BaseException: the error that the reader closed the channel with.

        """
        with self._changed:
            self._changed.wait_for(lambda: not self._writers or len(self._items) < self._limit)
            if self._writers:
                self._items.append(item)
                self._changed.notify_all()
                return True
        if self.error is not None:
            raise self.error
        return False

    def end(self, error: BaseException | None = None) -> None:
        """Writer: put no more; the reader gets what is queued, then the error."""
        with self._changed:
            self._writers = max(0, self._writers - 1)
            self._errors += [error] if error is not None else []
            self._changed.notify_all()

    def close(self, error: BaseException | None = None) -> None:
        """Reader: take no more; drop what is queued, release the writers, and raise the error in them."""
        with self._changed:
            self._writers = 0
            self._items.clear()
            self._errors += [error] if error is not None else []
            self._changed.notify_all()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> _Item:
        with self._changed:
            self._changed.wait_for(lambda: self._items or not self._writers)
            if self._items:
                self._changed.notify_all()
                return self._items.popleft()
        if self.error is not None:
            raise self.error
        raise StopIteration


@contextmanager
def read_ahead(
    *sources: Iterable[_Item], limit: int = AHEAD, patience: float | None = None, name: str = "read-ahead"
) -> Iterator[Iterator[_Item]]:
    """Draw from each of `sources` in a thread of its own; give the items in the order in which they come.

    Reading, decompressing and hashing release the interpreter lock, so that they overlap. An error of a source is
    raised once all sources have ended. The exit waits for the threads, so that what they read from can be closed.

    Args:
        sources: what to draw from.
        limit: items drawn early before the threads wait.
        patience: seconds to wait for each thread on exit: 0 for a source that may never answer, such as a pipe.
            The threads are daemons and do not keep the program alive.
        name: name of the threads.

    Raises:
        BaseException: the error of a source.

    """
    channel: Channel[_Item] = Channel(writers=len(sources), limit=limit)
    threads = [_thread(_produce, channel, source, name=name) for source in sources]
    try:
        yield channel
    finally:
        channel.close()
        for thread in threads:
            thread.join(patience)


class Worker(Generic[_Item]):
    """A thread that calls `work` with each item, in order, a few items behind; it ends with the object.

    Args:
        work: the function to call; after its first error no further item is worked on.
        name: name of the thread.
        limit: items that wait before `put` does.

    """

    def __init__(self, work: Callable[[_Item], object], *, name: str, limit: int = AHEAD) -> None:
        self._channel: Channel[_Item] = Channel(limit=limit)
        self._thread = _thread(_consume, self._channel, work, name=name)
        weakref.finalize(self, self._channel.close)

    def put(self, item: _Item) -> None:
        """Hand over an item; wait while the thread is behind.

        Raises:
            BaseException: the error of `work` for an earlier item.

        """
        if not self._channel.put(item):
            raise RuntimeError("an item was put after the worker's end")

    def offer(self, item: _Item) -> None:
        """Hand over an item unless as many as allowed wait already.

        Raises:
            BaseException: the error of `work` for an earlier item.

        """
        if not self._channel.full:
            self.put(item)

    def finish(self) -> None:
        """Wait until each item is done.

        Raises:
            BaseException: the first error of `work`.

        """
        self._channel.end()
        self._thread.join()
        if self._channel.error is not None:
            raise self._channel.error

    def abandon(self) -> None:
        """Drop the items that wait, and wait for the one at work."""
        self._channel.close()
        self._thread.join()


def _thread(work: Callable[..., None], *arguments: object, name: str) -> threading.Thread:
    thread = threading.Thread(target=work, args=arguments, name=name, daemon=True)
    thread.start()
    return thread


def _produce(channel: Channel[_Item], items: Iterable[_Item]) -> None:
    try:
        for item in items:
            if not channel.put(item):
                return
    except BaseException as error:  # noqa: BLE001 - raised in the thread that reads
        channel.end(error)
    else:
        channel.end()


def _consume(channel: Channel[_Item], work: Callable[[_Item], object]) -> None:
    try:
        for item in channel:
            work(item)
    except BaseException as error:  # noqa: BLE001 - raised in the thread that writes
        channel.close(error)
