"""Threads for calls that wait: whoever is interrupted does not wait for them."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager


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
