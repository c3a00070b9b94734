"""Progress bars on a terminal's stderr: one per blob during a repair, and one for other work."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich import filesize
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

if TYPE_CHECKING:
    from auditor.model.digest import Digest
    from auditor.repair.apply import Outcome
    from auditor.repair.plan import Action


class Bars:
    """Bars of repair actions that run in several threads; draws nothing if `drawn` is None."""

    def __init__(self, drawn: Progress | None) -> None:
        self._drawn = drawn
        self._lock = threading.Lock()
        self._tasks: dict[Digest, TaskID] = {}

    def start(self, action: Action) -> None:
        """Add the bar of an action that starts."""
        if self._drawn is not None:
            text = f"{action.kind} {action.digest.short}"
            with self._lock:
                if not self._tasks:
                    self._drawn.start()
                self._tasks[action.digest] = self._drawn.add_task(text, total=action.need.size or None)

    def read(self, digest: Digest, count: int) -> None:
        """Count bytes received for a blob."""
        if self._drawn is not None and digest in self._tasks:
            self._drawn.advance(self._tasks[digest], count)

    def end(self, outcome: Outcome) -> None:
        """Remove the bar of an action that ended."""
        if self._drawn is not None:
            with self._lock:
                task = self._tasks.pop(outcome.action.digest, None)
                if task is not None:
                    self._drawn.remove_task(task)
                if not self._tasks:
                    self._drawn.stop()


@contextmanager
def bars(*, wanted: bool) -> Iterator[Bars]:
    """Bars for the duration of a repair."""
    if not (wanted and sys.stderr.isatty()):
        yield Bars(None)
        return
    from rich import progress
    from rich.console import Console

    columns = [progress.TextColumn("{task.description}", markup=False), progress.BarColumn(bar_width=16)]
    columns += [progress.DownloadColumn(binary_units=True), progress.TransferSpeedColumn()]
    drawn = progress.Progress(*columns, console=Console(stderr=True), transient=True)
    try:
        yield Bars(drawn)
    finally:
        drawn.stop()


#: The units of --limit-rate.
_UNITS = ["bytes", "KiB", "MiB", "GiB"]


class _Rate(ProgressColumn):
    """Bytes per second in binary units; rich's own column uses decimal ones."""

    def render(self, task: Task) -> Text:
        """Draw the rate of the last half minute."""
        speed = task.finished_speed or task.speed
        if speed is None:
            return Text("")
        unit, suffix = filesize.pick_unit_and_suffix(int(speed), _UNITS, 1024)
        return Text(f"{speed / unit:.1f} {suffix}/s")


def bar(*, in_bytes: bool) -> Progress:
    """A bar on stderr that is erased at its end."""
    columns: list[ProgressColumn] = [TextColumn("{task.description}"), BarColumn()]
    if in_bytes:
        columns += [DownloadColumn(binary_units=True), _Rate(), TimeRemainingColumn()]
    else:
        columns += [MofNCompleteColumn()]
    return Progress(*columns, console=Console(stderr=True), transient=True)
