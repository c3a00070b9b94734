"""Looking into a layer beside the hashing of its blob: decompressing in one thread, hashing what comes out in another.

All of it releases the interpreter lock. Each line is bounded, so that the slowest sets the pace and memory does not.
"""

from __future__ import annotations

import queue
import threading
import weakref
from collections.abc import Callable
from typing import Protocol

from auditor.concurrency import AHEAD
from auditor.layers.inspector import Metering
from auditor.model.digest import Measured, Meter
from auditor.model.store import LayerProof

Data = bytes | memoryview


class Inspector(Protocol):
    """What looks into a layer while it passes: `auditor.layers.LayerInspector`."""

    def update(self, chunk: Data) -> None:
        """Take the next bytes."""

    def finish(self) -> LayerProof:
        """Say what the layer turned out to be; called once, at the end."""


class MakeInspector(Protocol):
    """Makes an inspector whose decompressed bytes `meter` hashes."""

    def __call__(self, *, meter: Metering) -> Inspector:
        """Make one for a layer."""


class _Worker:
    """A thread that does one thing with each chunk it is handed, a few chunks behind."""

    def __init__(self, work: Callable[[Data], None], *, name: str) -> None:
        self._work = work
        self._line: queue.Queue[Data | None] = queue.Queue(AHEAD)
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def put(self, chunk: Data) -> None:
        """Hand a chunk over; waits where the thread is behind."""
        self._line.put(chunk)

    def end(self) -> None:
        """Let the thread end when it has done what it was handed."""
        if self._thread.is_alive():
            self._line.put(None)

    def join(self) -> None:
        """Wait until all is done; raises what went wrong."""
        self.end()
        self._thread.join()
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        while (chunk := self._line.get()) is not None:
            if self._error is None:
                self._one(chunk)

    def _one(self, chunk: Data) -> None:
        try:
            self._work(chunk)
        except BaseException as error:  # noqa: BLE001 - it is raised again in `join`
            self._error = error


class Aside:
    """An inspector that works in a thread of its own."""

    def __init__(self, inspector: Inspector) -> None:
        self._inspector = inspector
        self._worker = _Worker(inspector.update, name="archive-layer")

    def update(self, chunk: Data) -> None:
        """Hand the next bytes over."""
        self._worker.put(chunk)

    def finish(self) -> LayerProof:
        """Wait for the inspector and ask it."""
        self._worker.join()
        return self._inspector.finish()


class Behind:
    """A meter that hashes in a thread of its own, which ends with `result`, or with the meter."""

    def __init__(self) -> None:
        self.size = 0
        self._meter = Meter()
        self._worker: _Worker | None = None

    def update(self, chunk: Data) -> None:
        """Hand the next bytes over."""
        if self._worker is None:
            self._worker = _Worker(self._meter.update, name="archive-diff-id")
            weakref.finalize(self, self._worker.end)
        self.size += len(chunk)
        self._worker.put(chunk)

    def result(self) -> Measured:
        """Wait for the thread; there must be no more bytes afterwards."""
        if self._worker is not None:
            self._worker.join()
            self._worker = None
        return self._meter.result()


class Same:
    """The meter of the blob itself, for a layer that is not compressed: its bytes are hashed there already."""

    def __init__(self, blob: Meter) -> None:
        self._blob = blob

    @property
    def size(self) -> int:
        """Bytes of the blob so far."""
        return self._blob.size

    def update(self, chunk: Data) -> None:
        """Leave it to the blob's meter."""

    def result(self) -> Measured:
        """What the blob came out as."""
        return self._blob.result()
