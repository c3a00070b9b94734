"""Progress on stderr: on a terminal only, and only for what takes longer than a second."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

#: Seconds that work may take before anything is shown.
PATIENCE = 1.0


class Meter:
    """Hears how far the work is; draws once it has taken PATIENCE seconds. Safe to call from threads."""

    def __init__(self, *, shown: bool) -> None:
        self._shown = shown
        self._begun = time.monotonic()
        self._bar: Progress | None = None
        self._task: TaskID | None = None

    def __call__(self, what: str, done: int, total: int) -> None:
        """Take a step: `done` of `total`, or an unknown end where total is 0."""
        if not self._shown or time.monotonic() - self._begun < PATIENCE:
            return
        if self._bar is None or self._task is None:
            self._start()
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, description=what, completed=done, total=total or None)

    def _start(self) -> None:
        from rich.console import Console
        from rich.progress import Progress

        self._bar = Progress(console=Console(stderr=True), transient=True)
        self._task = self._bar.add_task("", total=None)
        self._bar.start()

    def close(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
            self._shown = False


@contextmanager
def progress(*, wanted: bool) -> Iterator[Meter]:
    """A meter for a piece of work, drawn only where stderr is a terminal."""
    meter = Meter(shown=wanted and sys.stderr.isatty())
    try:
        yield meter
    finally:
        meter.close()
