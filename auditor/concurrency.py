"""Threads for calls that wait: whoever is interrupted does not wait for them."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Final, Generic, Self, TypeVar


@contextmanager
def workers(count: int, *, name: str = "") -> Iterator[Executor]:
    """A pool of `count` threads; all work is done on leaving, except by an exception: then what waits is left behind.

    ThreadPoolExecutor itself waits in any case, so that neither Ctrl-C nor a daemon that died would end a program while
    some thread waits for an answer. What the threads wait for ends when the connection is closed, which its owner does.
    """
    pool = ThreadPoolExecutor(count, thread_name_prefix=name)
    try:
        yield pool
        pool.shutdown()
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        raise


#: Bytes asked for at a time.
CHUNK = 1 << 20


#: How many chunks are read ahead.
AHEAD = 4


#: Seconds after which a thread that waits looks whether anybody still wants it.
_WAKE: Final = 0.1


_Item = TypeVar("_Item")


class _End:
    """The end of what a thread reads ahead; with the error that ended it, if any."""

    def __init__(self, error: BaseException | None) -> None:
        self.error = error


class Ahead(Generic[_Item]):
    """An iterator whose items a thread draws from `chunks`, at most AHEAD of them early.

    Exceptions of `chunks` arrive here in their place. Reading, decompressing and hashing release the interpreter lock,
    so that they overlap. `close` must be called before what `chunks` reads from is closed: it waits for the thread,
    unless `endless` says that it may hang in a pipe that nobody writes to.
    """

    def __init__(self, chunks: Iterator[_Item], *, endless: bool = False) -> None:
        self._chunks = chunks
        self._endless = endless
        self._line: queue.Queue[_Item | _End] = queue.Queue(AHEAD)
        self._left = threading.Event()
        # A daemon thread: one that waits for a pipe must not keep the program alive.
        self._thread = threading.Thread(target=self._draw, name="archive-read-ahead", daemon=True)
        self._thread.start()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> _Item:
        while not self._left.is_set():
            try:
                item = self._line.get(timeout=_WAKE)
            except queue.Empty:
                continue
            if not isinstance(item, _End):
                return item
            self._left.set()
            if item.error is not None:
                raise item.error
        raise StopIteration

    def close(self) -> None:
        """Draw no more."""
        self._left.set()
        if not self._endless:
            self._thread.join()

    def _draw(self) -> None:
        error: BaseException | None = None
        try:
            for chunk in self._chunks:
                if not self._put(chunk):
                    return
        except BaseException as caught:  # noqa: BLE001 - it is raised again in the thread that asked
            error = caught
        self._put(_End(error))

    def _put(self, item: _Item | _End) -> bool:
        while not self._left.is_set():
            try:
                self._line.put(item, timeout=_WAKE)
            except queue.Full:
                continue
            return True
        return False
