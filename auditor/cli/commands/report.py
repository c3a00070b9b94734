"""`auditor report`: convert saved reports, merge those of several nodes, compare them with older ones."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from auditor.cli import options as o
from auditor.cli.arguments import Argument, Option
from auditor.cli.choices import FailOn, ReportFormat

if TYPE_CHECKING:
    from auditor.model.findings import FailOn as Failing
    from auditor.model.findings import Finding, Report

#: Largest report read, in bytes; a store of 20,000 images makes a tenth of it.
_MOST = 1 << 30


def report(
    files: Annotated[
        list[Path], Argument(metavar="FILE", help="Reports written by --format json; - reads standard input.")
    ],
    against: Annotated[
        list[Path] | None,
        Option(
            "--against",
            metavar="OLDER",
            help="List new, gone and unchanged findings since this report; repeatable, one per node.",
            show_default=False,
        ),
    ] = None,
    fail_on: Annotated[
        FailOn, Option("--fail-on", help="Lowest severity that makes the exit status 1.")
    ] = FailOn.ERROR,
    output_format: o.ReportFormats = ReportFormat.TABLE,
    output: o.Output = None,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
) -> int:
    """Convert saved reports to another format; merge the reports of several nodes into one view.

    The merged view lists the damaged nodes, each bad digest with its nodes, and the nodes that have a good copy.
    Exit status: as of check, for all reports together; with --against, only new findings count.
    """
    from auditor.cli import render
    from auditor.cli.options import Common
    from auditor.cli.output import check_target, deliver
    from auditor.cli.publish import style
    from auditor.model.findings import FailOn as Failing
    from auditor.report import compare

    check_target(output)
    failing = Failing(fail_on)
    reports = [_load(path) for path in files]
    look = render.Look(style=style(Common(output=output, verbose=verbose)), fail_on=failing)
    if against:
        compared = compare.pair(reports, [_load(path) for path in against])
        text = render.changes(reports, compared, output_format)
        found = [finding for change in compared for finding in change.new]
    else:
        single = len(reports) == 1
        text = render.one(reports[0], output_format, look) if single else render.many(reports, output_format, look)
        found = [finding for loaded in reports for finding in loaded.findings]
    status = _status(reports, found, failing)
    if not (quiet and status == 0 and output is None):
        deliver(text, output)
    return status


def _load(path: Path) -> Report:
    """Read a saved report. Raises UsageError if the file cannot be read or is not a report."""
    import sys

    from auditor.errors import UsageError
    from auditor.formats.json_report import load

    try:
        if str(path) == "-":
            return load(sys.stdin.buffer.read(_MOST), name="standard input")
        with path.open("rb") as file:
            return load(file.read(_MOST), name=str(path))
    except OSError as error:
        raise UsageError(
            f"{path} cannot be read: {error.strerror}", hint="auditor check --format json --output FILE writes a report"
        ) from None


def _status(reports: list[Report], found: list[Finding], failing: Failing) -> int:
    from msgspec.structs import replace

    from auditor.model.findings import exit_status

    together = replace(reports[0], findings=tuple(found), complete=all(loaded.complete for loaded in reports))
    return exit_status(together, failing)
