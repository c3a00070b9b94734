"""Signals that are heard though the main thread is about to wait.

CPython notes a signal and acts on it between two of its instructions. One that arrives after the last of them and
before the thread sleeps, for a lock or for an answer of the daemon, would be acted on when something else wakes the
thread: under load that is one Ctrl-C in ten, and an answer may take minutes.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

#: Wakes the main thread and does nothing else; nobody sends it to us, and by itself it is ignored.
_NUDGE = signal.SIGURG
#: Seconds after a signal at which the main thread is woken: at once for people, and again should that come too early.
_DELAYS = (0.02, 0.1, 0.5)


class Terminated(BaseException):
    """SIGTERM arrived; raised in the main thread so that leases and temporary files are cleaned up."""


@contextmanager
def hearing() -> Iterator[None]:
    """Raise Terminated for SIGTERM, and let no signal wait for the main thread; call it from there.

    The handler of SIGTERM stays when the block is left, for the little that is left to do then.
    """
    signal.signal(signal.SIGTERM, _terminate)
    reading, writing = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    os.set_blocking(reading, True)
    nudged = signal.signal(_NUDGE, _nothing)
    before = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    threading.Thread(target=_wake, args=(reading, threading.get_ident()), name="hearing", daemon=True).start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        signal.signal(_NUDGE, nudged)
        os.close(writing)


def _terminate(_signal: int, _frame: FrameType | None) -> None:
    raise Terminated


def _nothing(_signal: int, _frame: FrameType | None) -> None:
    pass


def _wake(reading: int, thread: int) -> None:
    """Nudge a thread after each signal, until the other end of the pipe is closed."""
    with suppress(ProcessLookupError), os.fdopen(reading, "rb", buffering=0) as signals:
        while numbers := signals.read(1):
            for delay in _DELAYS if numbers[0] != _NUDGE else ():
                time.sleep(delay)
                signal.pthread_kill(thread, _NUDGE)
