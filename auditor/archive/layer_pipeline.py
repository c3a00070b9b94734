"""Verify a layer beside the hash of its blob: one thread decompresses, another hashes what comes out.

All of it releases the interpreter lock. The queues are bounded: the slowest stage sets the rate and memory stays flat.
"""

from __future__ import annotations

from typing import Protocol

from auditor.concurrency import Worker
from auditor.layers.inspector import Metering
from auditor.model.digest import Measured, Meter
from auditor.model.store import LayerVerification

Data = bytes | memoryview


class Inspector(Protocol):
    """Verifies a layer while its bytes pass: `auditor.layers.LayerInspector`."""

    def update(self, chunk: Data) -> None:
        """Take the next bytes."""

    def finish(self) -> LayerVerification:
        """Return the verdict; called once, at the end."""


class MakeInspector(Protocol):
    """Makes an inspector whose decompressed bytes `meter` hashes."""

    def __call__(self, *, meter: Metering) -> Inspector:
        """Make one for a layer."""


class ThreadedInspector:
    """An inspector that runs in a thread of its own."""

    def __init__(self, inspector: Inspector) -> None:
        self._inspector = inspector
        self._worker: Worker[Data] = Worker(inspector.update, name="archive-layer")

    def update(self, chunk: Data) -> None:
        """Hand over the next bytes."""
        self._worker.put(chunk)

    def finish(self) -> LayerVerification:
        """Wait for the thread and return the verdict."""
        self._worker.finish()
        return self._inspector.finish()


class SharedMeter:
    """The meter of the blob itself, for a layer that is not compressed: its bytes are hashed there already."""

    def __init__(self, blob: Meter) -> None:
        self._blob = blob

    @property
    def size(self) -> int:
        """Bytes of the blob so far."""
        return self._blob.size

    def update(self, chunk: Data) -> None:
        """Do nothing: the blob's meter has the bytes."""

    def result(self) -> Measured:
        """Digest and size of the blob."""
        return self._blob.result()
