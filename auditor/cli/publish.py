"""Write a report in the format asked for, and its metrics to --textfile."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import msgspec

from auditor.cli import render
from auditor.cli.audit import now
from auditor.cli.choices import Format, ReportFormat
from auditor.cli.options import Common, colour
from auditor.cli.output import deliver, print_error
from auditor.cli.render import RenderOptions
from auditor.errors import AuditorError, OutputError, UsageError
from auditor.formats import table
from auditor.model.findings import FailOn, Report
from auditor.regular_file import read_regular

#: Maximum of bytes of earlier metrics that are read.
_METRICS = 16 << 20
#: Widest text, in columns.
_WIDEST = 110
COULD_NOT = 3


def publish(
    report: Report,
    options: Common,
    output_format: Format | ReportFormat,
    *,
    status: int,
    fail_on: FailOn = FailOn.ERROR,
    command: str = "check",
    textfile: Path | None = None,
) -> int:
    """Print or write the report and the metrics.

    Returns:
        The exit status: `status`, or 3 if that is 0 and an output could not be written; the error is printed.

    """
    render_options = RenderOptions(style=style(options), fail_on=fail_on, command=command, status=status)
    ways: list[Callable[[], None]] = []
    if textfile is not None:
        ways.append(partial(_write_metrics, report, textfile, render_options))
    if not (options.quiet and status == 0 and options.output is None):
        ways.append(partial(_deliver, report, options, ReportFormat(output_format), render_options))
    # Each output is written even if the other fails.
    for way in ways:
        try:
            way()
        except OutputError as error:
            print_error(error)
            status = status or COULD_NOT
    return status


def _write_metrics(report: Report, textfile: Path, render_options: RenderOptions) -> None:
    write_metrics(textfile, render.metrics(report, _after(render_options, textfile)))


def write_metrics(path: Path, text: str) -> None:
    """Write metrics so that the collector, another user, may read them. Raises OutputError."""
    from auditor.atomic_write import write_whole

    write_whole(path, text.encode(), mode=0o644)


def _deliver(report: Report, options: Common, output_format: ReportFormat, render_options: RenderOptions) -> None:
    to_file = options.output is not None and str(options.output) != "-"
    if output_format is ReportFormat.NDJSON and options.stream:
        # Start and progress were printed during the run.
        from auditor.formats import ndjson

        deliver("".join(ndjson.results(report)), None)
        return
    deliver(render.one(report, output_format, _after(render_options, options.output)), options.output)
    if to_file and not options.quiet:
        deliver(table.counts(report) + "\n", None)


def style(options: Common) -> table.Style:
    """The layout of a table for the output of the options."""
    to_terminal = options.output is None and sys.stdout.isatty()
    width = _terminal_width() if to_terminal else _WIDEST
    return table.Style(
        colour=colour(to_terminal), verbose=options.verbose, width=width, complete=options.output is not None
    )


def _terminal_width() -> int:
    import shutil

    return min(shutil.get_terminal_size((_WIDEST, 0)).columns, _WIDEST)


def _after(render_options: RenderOptions, path: Path | None) -> RenderOptions:
    return msgspec.structs.replace(render_options, earlier=earlier(path))


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

    at = now().timestamp()
    text = prometheus.failed(earlier(place), command=command, address=address, at=at, exit_status=COULD_NOT)
    try:
        write_metrics(place, text)
    except OutputError as error:
        print_error(error)
