"""`auditor report`: saved reports in another format, several as one view, or against older ones."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from auditor.cli import options as o
from auditor.cli.arguments import Argument, Option
from auditor.cli.choices import FailOn, ReportFormat

if TYPE_CHECKING:
    from auditor.model.findings import FailOn as Failing
    from auditor.model.findings import Finding, Report

#: No report is larger: a store of 20,000 images makes a tenth of it.
_MOST = 1 << 30


def report(
    files: Annotated[list[Path], Argument(metavar="FILE", help="Reports, as --format json writes them; - is stdin.")],
    against: Annotated[
        list[Path] | None,
        Option(
            "--against",
            metavar="OLDER",
            help="Show what is new, gone and unchanged since this report; may be repeated for several nodes.",
            show_default=False,
        ),
    ] = None,
    fail_on: Annotated[FailOn, Option("--fail-on", help="From which severity on to exit with 1.")] = FailOn.ERROR,
    output_format: o.ReportFormats = ReportFormat.TABLE,
    output: o.Output = None,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
) -> int:
    """Render saved reports; the files of several nodes become one view.

    It shows which nodes are damaged, which digest is bad where, and which node holds a good copy. Exit status as of
    check, for all reports together; with --against, only findings that are new count.
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
    """Read a saved report. Raises UsageError where it cannot be read or is none."""
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
