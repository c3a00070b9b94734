"""Progress as lines of JSON on standard output, for programs that watch a run."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from auditor.cli.output import deliver
from auditor.cli.progress import Meter
from auditor.formats import ndjson

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
