"""Hash bytes in another thread: hashing large pieces releases the interpreter lock."""

from __future__ import annotations

from functools import cached_property
from typing import Final

from auditor.concurrency import Worker
from auditor.model.digest import Measured, Meter

#: Bytes that are hashed sooner than a thread starts.
SMALL: Final = 1 << 18


class ThreadedMeter:
    """A meter that hashes what exceeds `SMALL` bytes in a thread, which ends with `result` or `close`."""

    def __init__(self, algorithm: str = "sha256") -> None:
        self.size = 0
        self._meter = Meter(algorithm)

    @cached_property
    def _worker(self) -> Worker[bytes | memoryview]:
        return Worker(self._meter.update, name="layer-digest")

    def update(self, chunk: bytes | memoryview) -> None:
        """Hash or hand over the next bytes."""
        self.size += len(chunk)
        if self.size > SMALL:
            self._worker.put(chunk)
        else:
            self._meter.update(chunk)

    def close(self) -> None:
        """End the thread, with or without a result."""
        if self.size > SMALL:
            self._worker.abandon()

    def result(self) -> Measured:
        """Wait for the thread; no bytes may follow."""
        if self.size > SMALL:
            self._worker.finish()
        return self._meter.result()
