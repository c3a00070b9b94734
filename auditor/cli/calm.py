"""Leaving a block in peace: a signal that comes while something is being taken down waits until it is."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager

_PUT_OFF = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def calm() -> Iterator[None]:
    """Put off SIGINT and SIGTERM until the block has ended; in the main thread only, where Python handles them."""
    came: list[int] = []
    before = {number: signal.signal(number, lambda n, _frame: came.append(n)) for number in _PUT_OFF}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for late in came:
            signal.raise_signal(late)
