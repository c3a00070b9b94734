"""Deliver signals promptly even if the main thread blocks in a system call.

CPython records a signal and runs its handler between two bytecode instructions. A signal that arrives after the last
instruction before a blocking call is handled when the call returns: under load that is one Ctrl-C in ten, and a
response of the daemon may take minutes. A thread therefore interrupts the main thread after each signal.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

#: Interrupts the main thread; its handler does nothing. Its default action is to be ignored.
_NUDGE = signal.SIGURG
#: Seconds after a signal at which the main thread is interrupted; repeated, as the first may come too early.
_DELAYS = (0.02, 0.1, 0.5)


class Terminated(BaseException):
    """SIGTERM arrived; raised in the main thread so that leases and temporary files are cleaned up."""


@contextmanager
def prompt_signals() -> Iterator[None]:
    """Raise Terminated for SIGTERM, and deliver signals promptly; to be called from the main thread.

    The handler of SIGTERM stays after the block, for the rest of the process.
    """
    signal.signal(signal.SIGTERM, _terminate)
    reading, writing = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    os.set_blocking(reading, True)
    nudged = signal.signal(_NUDGE, _nothing)
    before = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    threading.Thread(target=_wake, args=(reading, threading.get_ident()), name="signals", daemon=True).start()
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
    """Interrupt a thread after each signal, until the other end of the pipe is closed."""
    with suppress(ProcessLookupError), os.fdopen(reading, "rb", buffering=0) as signals:
        while numbers := signals.read(1):
            for delay in _DELAYS if numbers[0] != _NUDGE else ():
                time.sleep(delay)
                signal.pthread_kill(thread, _NUDGE)
