"""What a progress bar shows: things are counted, bytes have a rate and an end in sight. Imported only to draw one."""

from __future__ import annotations

from rich import filesize
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

#: As --limit-rate has them.
_UNITS = ["bytes", "KiB", "MiB", "GiB"]


class _Rate(ProgressColumn):
    """Bytes a second in the units that sizes have beside it; rich's own column has decimal ones."""

    def render(self, task: Task) -> Text:
        """Draw the rate of the last half minute."""
        speed = task.finished_speed or task.speed
        if speed is None:
            return Text("")
        unit, suffix = filesize.pick_unit_and_suffix(int(speed), _UNITS, 1024)
        return Text(f"{speed / unit:.1f} {suffix}/s")


def bar(*, in_bytes: bool) -> Progress:
    """A bar on stderr that leaves nothing behind."""
    columns: list[ProgressColumn] = [TextColumn("{task.description}"), BarColumn()]
    if in_bytes:
        columns += [DownloadColumn(binary_units=True), _Rate(), TimeRemainingColumn()]
    else:
        columns += [MofNCompleteColumn()]
    return Progress(*columns, console=Console(stderr=True), transient=True)
