"""Limit the rate of reads over all threads, and their I/O priority."""

from __future__ import annotations

import ctypes
import os
import platform
import threading
from collections.abc import Callable

#: Largest burst after a pause, in seconds of the rate: small, so that the rate holds within a few percent.
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


class RateLimit:
    """Token-bucket rate limiter; `reserve(n)` returns the delay in seconds.

    Args:
        rate: bytes per second over all threads that share the object; None for no limit.
        clock: returns seconds.

    """

    def __init__(self, rate: float | None, *, clock: Callable[[], float]) -> None:
        self._rate = rate
        self._clock = clock
        self._lock = threading.Lock()
        self._free_at = clock()

    @property
    def rate(self) -> int:
        """Bytes per second; zero for no limit."""
        return int(self._rate or 0)

    def reserve(self, count: int) -> float:
        """Reserve `count` bytes; return the seconds to wait before reading them.

        A negative count returns bytes that were reserved and not read.
        """
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
    """Set the idle I/O priority of the calling thread (ioprio_set(2)); False where the kernel refuses.

    Only some I/O schedulers honour it (bfq, mq-deadline). Threads that this thread starts inherit it.
    """
    number = _IOPRIO_SET.get(platform.machine())
    if number is None or os.name != "posix":
        return False
    library = ctypes.CDLL(None, use_errno=True)
    return bool(library.syscall(number, _WHO_PROCESS, 0, _CLASS_IDLE << _CLASS_SHIFT) == 0)
