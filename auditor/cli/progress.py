"""Progress on stderr: on a terminal only, and only for what takes longer than a second."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from auditor.cli.output import deliver
from auditor.formats import ndjson

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID


#: Seconds that work may take before anything is shown.
PATIENCE = 1.0


class Meter:
    """Hears how far the work is; draws once it has taken PATIENCE seconds. Threads may share it."""

    def __init__(self, *, shown: bool) -> None:
        self._shown = shown
        self._begun = time.monotonic()
        self._lock = threading.Lock()
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._what = ""

    def __call__(self, what: str, done: int, total: int) -> None:
        """Say that `done` of `total` things are done; 0 where nobody knows how many there are."""
        self._draw(what, done, total, in_bytes=False)

    def reading(self, total: int, what: str = "reading") -> Callable[[int], None]:
        """Give what is to be told of each piece of `total` bytes that was read."""
        done = 0

        def read(count: int) -> None:
            nonlocal done
            done += count
            self._draw(what, done, total, in_bytes=True)

        return read

    def _draw(self, what: str, done: int, total: int, *, in_bytes: bool) -> None:
        if not self._shown or time.monotonic() - self._begun < PATIENCE:
            return
        with self._lock:
            if what != self._what:
                self._restart(what, done, total, in_bytes=in_bytes)
            if self._bar is not None and self._task is not None:
                self._bar.update(self._task, completed=done, total=total or None)

    def _restart(self, what: str, done: int, total: int, *, in_bytes: bool) -> None:
        """Begin a bar for another kind of work."""
        from auditor.cli.progress_bars import bar

        self._stop()
        self._bar = bar(in_bytes=in_bytes)
        # What came before is no part of the rate.
        self._task = self._bar.add_task(what, total=total or None, completed=done)
        self._bar.start()
        self._what = what

    def _stop(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def close(self) -> None:
        """Take the bar away for good."""
        with self._lock:
            self._shown = False
            self._stop()


@contextmanager
def progress(*, wanted: bool) -> Iterator[Meter]:
    """A meter for a piece of work, drawn only where stderr is a terminal."""
    meter = Meter(shown=wanted and sys.stderr.isatty())
    try:
        yield meter
    finally:
        meter.close()


#: Seconds between two lines about the same work.
INTERVAL = 1.0


class LineMeter(Meter):
    """Hears what a Meter hears and prints it; what is new is said at once, the rest once a second."""

    def __init__(self) -> None:
        super().__init__(shown=False)
        self._last = -INTERVAL

    def _draw(self, what: str, done: int, total: int, *, in_bytes: bool) -> None:
        clock = time.monotonic()
        with self._lock:
            if what == self._what and clock - self._last < INTERVAL:
                return
            self._what, self._last = what, clock
            deliver(ndjson.progress(f"{what} bytes" if in_bytes else what, done, total, time=datetime.now(UTC)), None)


@contextmanager
def streaming() -> Iterator[Meter]:
    """A meter that prints lines, after the line that says that the run began."""
    deliver(ndjson.begun(time=datetime.now(UTC)), None)
    yield LineMeter()
