"""Progress on a terminal's stderr, for work that takes longer than a second; or as lines of JSON."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from auditor.cli.output import deliver

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID


#: Seconds before a bar is shown.
PATIENCE = 1.0


class Meter:
    """Receives progress, and draws it once the work has taken PATIENCE seconds. Threads may share it."""

    def __init__(self, *, shown: bool) -> None:
        self._shown = shown
        self._begun = time.monotonic()
        self._lock = threading.Lock()
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._what = ""

    def __call__(self, what: str, done: int, total: int) -> None:
        """Report that `done` of `total` items are done; a total of 0 is unknown."""
        self._draw(what, done, total, in_bytes=False)

    def reading(self, total: int, what: str = "reading") -> Callable[[int], None]:
        """A callback for the number of bytes read, of `total` bytes."""
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
        """Start a bar for the next activity."""
        from auditor.cli.progress_bars import bar

        self._stop()
        self._bar = bar(in_bytes=in_bytes)
        # Earlier bytes do not count for the rate.
        self._task = self._bar.add_task(what, total=total or None, completed=done)
        self._bar.start()
        self._what = what

    def _stop(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def close(self) -> None:
        """Remove the bar; later progress is ignored."""
        with self._lock:
            self._shown = False
            self._stop()


@contextmanager
def progress(*, wanted: bool) -> Iterator[Meter]:
    """A meter that draws only if stderr is a terminal."""
    meter = Meter(shown=wanted and sys.stderr.isatty())
    try:
        yield meter
    finally:
        meter.close()


#: Seconds between two lines about one activity.
INTERVAL = 1.0


class LineMeter(Meter):
    """Prints progress as lines of JSON: a new activity at once, its progress every INTERVAL seconds."""

    def __init__(self, *, host: str) -> None:
        super().__init__(shown=False)
        self._host = host
        self._last = -INTERVAL

    def _draw(self, what: str, done: int, total: int, *, in_bytes: bool) -> None:
        clock = time.monotonic()
        with self._lock:
            if what == self._what and clock - self._last < INTERVAL:
                return
            self._what, self._last = what, clock
            what = f"{what} bytes" if in_bytes else what
            from auditor.formats import ndjson

            deliver(ndjson.progress(what, done, total, time=datetime.now(UTC), host=self._host), None)


@contextmanager
def streaming(*, host: str) -> Iterator[Meter]:
    """Print the start line, and give a meter that prints lines."""
    from auditor.formats import ndjson

    deliver(ndjson.begun(time=datetime.now(UTC), host=host), None)
    yield LineMeter(host=host)
