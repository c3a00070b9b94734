"""Putting a report out in the format that was asked for."""

from __future__ import annotations

import shutil
import sys

from auditor.cli.choices import Format
from auditor.cli.options import Common, colour
from auditor.cli.output import complain, deliver
from auditor.cli.run import advice
from auditor.errors import OutputError
from auditor.findings import Report
from auditor.formats import jsonreport, table

#: The widest text that is still read with ease.
_WIDEST = 110


def publish(report: Report, options: Common, output_format: Format, *, status: int) -> int:
    """Print or write the report and return the exit status.

    A report that cannot be delivered is said, and makes 3 of what would have been 0; findings stay 1.
    """
    if options.quiet and status == 0 and options.output is None:
        return status
    try:
        deliver(render(report, options, output_format), options.output)
        if options.output is not None and str(options.output) != "-" and not options.quiet:
            deliver(table.counts(report) + "\n", None)
    except OutputError as error:
        complain(error)
        return status or 3
    return status


def render(report: Report, options: Common, output_format: Format) -> str:
    """The report as text."""
    if output_format is Format.JSON:
        return jsonreport.render(report)
    to_terminal = options.output is None and sys.stdout.isatty()
    width = min(shutil.get_terminal_size((_WIDEST, 0)).columns, _WIDEST) if to_terminal else _WIDEST
    style = table.Style(colour=colour(to_terminal), verbose=options.verbose, width=width)
    return table.render(report, advice=advice(), style=style)
