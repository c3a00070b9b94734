"""How fast bytes may be read, over all threads, and at which I/O priority."""

from __future__ import annotations

import ctypes
import os
import platform
import threading
from collections.abc import Callable

#: Seconds' worth of bytes that may be read at once after a pause: little, so that the rate holds within a few percent.
BURST = 0.1

# linux/ioprio.h and each architecture's syscall table; glibc has no wrapper.
_IOPRIO_SET = {
    "x86_64": 251,
    "i686": 289,
    "aarch64": 30,
    "riscv64": 30,
    "armv7l": 314,
    "ppc64le": 273,
    "s390x": 282,
}
_WHO_PROCESS = 1
_CLASS_SHIFT = 13
_CLASS_IDLE = 3


class Pace:
    """A schedule of bytes: whoever reserves some is told how many seconds to wait before reading them.

    `rate` is bytes a second over everybody who holds this object, None for no limit; `clock` gives seconds.
    """

    def __init__(self, rate: float | None, *, clock: Callable[[], float]) -> None:
        self._rate = rate
        self._clock = clock
        self._lock = threading.Lock()
        self._free_at = clock()

    def reserve(self, count: int) -> float:
        """Plan to read `count` bytes; a negative count gives back what was reserved and not read."""
        if self._rate is None:
            return 0.0
        with self._lock:
            if count <= 0:
                self._free_at += count / self._rate
                return 0.0
            now = self._clock()
            start = max(self._free_at, now - BURST)
            self._free_at = start + count / self._rate
            return max(0.0, start - now)


def idle_io() -> bool:
    """Let the calling thread's reads wait for everybody else's; False where the kernel does not take it.

    Only some I/O schedulers look at it (bfq, mq-deadline). Threads that this thread starts inherit it.
    """
    number = _IOPRIO_SET.get(platform.machine())
    if number is None or os.name != "posix":
        return False
    library = ctypes.CDLL(None, use_errno=True)
    return bool(library.syscall(number, _WHO_PROCESS, 0, _CLASS_IDLE << _CLASS_SHIFT) == 0)
