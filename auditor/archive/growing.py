"""Reading a file back while it is still being written: the reader waits at its end until there is more."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType

from auditor.digest import Meter


class Abandoned(Exception):
    """The other side has given up, and says why itself."""


class Growing:
    """How far a file has been written, and whether its reader still follows; `meter`, if any, hashes the file.

    It is a `Tap` of the reader. Either side hears that the other has given up by an Abandoned.
    """

    def __init__(self, meter: Meter | None = None) -> None:
        self._meter = meter
        self._written = 0
        self._ended = False
        self._abandoned = False
        self._change = threading.Condition()

    def grew(self, size: int) -> None:
        """More has been written. Raises Abandoned where nobody reads on."""
        with self._change:
            if self._abandoned:
                raise Abandoned
            self._written += size
            self._change.notify_all()

    def end(self) -> None:
        """All has been written."""
        with self._change:
            self._ended = True
            self._change.notify_all()

    def abandon(self) -> None:
        """Give up, on either side."""
        with self._change:
            self._abandoned = True
            self._change.notify_all()

    def wait(self, position: int) -> None:
        """Return when something is behind `position`, or all has been written. Raises Abandoned."""
        with self._change:
            self._change.wait_for(lambda: self._written > position or self._ended or self._abandoned)
            if self._abandoned:
                raise Abandoned

    def update(self, chunk: bytes) -> None:
        """Take what was read."""
        if self._meter is not None:
            self._meter.update(chunk)


class Follower:
    """Runs `read` in a thread beside the writing inside the block.

    Leaving the block by an error ends the reader; where it was the reader that gave up, its own error is raised.
    """

    def __init__(self, growing: Growing, read: Callable[[], None]) -> None:
        self._growing = growing
        self._read = read
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="archive-read-back")

    def __enter__(self) -> Future[None]:
        self._reading = self._pool.submit(self._follow)
        return self._reading

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self._growing.abandon()
        self._pool.shutdown()
        if isinstance(error, Abandoned):
            self._reading.result()

    def _follow(self) -> None:
        try:
            self._read()
        except BaseException:
            self._growing.abandon()
            raise
