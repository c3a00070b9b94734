"""The metrics files of a run: which, what they had before, and the failure of a run without a report."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from auditor.cli.choices import ReportFormat
from auditor.cli.options import Common
from auditor.cli.output import print_error
from auditor.errors import AuditorError, OutputError, UsageError
from auditor.regular_file import read_regular

#: Maximum of bytes of earlier metrics that are read.
_METRICS = 16 << 20
COULD_NOT = 3


def write_metrics(path: Path, text: str) -> None:
    """Write metrics so that the collector, another user, may read them. Raises OutputError."""
    from auditor.atomic_write import write_whole

    write_whole(path, text.encode(), mode=0o644)


def earlier(path: Path | None) -> str:
    """The metrics of the earlier run; empty without a file."""
    try:
        return read_regular(path, limit=_METRICS).decode(errors="replace") if path is not None else ""
    except OSError:
        return ""


def metrics_places(options: Common, output_format: ReportFormat, textfile: Path | None) -> tuple[Path, ...]:
    """The metrics files that this run writes."""
    main = (options.output,) if output_format is ReportFormat.PROMETHEUS else ()
    return tuple(path for path in (*main, textfile) if path is not None and str(path) != "-")


@contextmanager
def failure_told(places: Sequence[Path], *, command: str, address: str) -> Iterator[None]:
    """If the run fails without a report, record the failure in its metrics files."""
    try:
        yield
    except UsageError:
        raise
    except AuditorError:
        for place in places:
            _tell_failure(place, command=command, address=address)
        raise


def _tell_failure(place: Path, *, command: str, address: str) -> None:
    from auditor.formats import prometheus

    text = prometheus.failed(earlier(place), command=command, address=address, at=time.time(), exit_status=COULD_NOT)
    try:
        write_metrics(place, text)
    except OutputError as error:
        print_error(error)
