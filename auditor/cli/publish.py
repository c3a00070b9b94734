"""Write a report in the format asked for, and its metrics to --textfile."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import msgspec

from auditor.cli import render
from auditor.cli.choices import Format, ReportFormat
from auditor.cli.metrics_files import COULD_NOT, earlier, write_metrics
from auditor.cli.options import Common, colour
from auditor.cli.output import deliver, print_error
from auditor.cli.render import RenderOptions
from auditor.errors import OutputError
from auditor.formats import table
from auditor.model.findings import FailOn, Report

#: Widest text, in columns.
_WIDEST = 110


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
