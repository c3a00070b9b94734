"""`auditor report`: convert saved reports, merge those of several nodes, compare them with older ones."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from auditor.cli import options as o
from auditor.cli.arguments import Argument, Option
from auditor.cli.choices import FailOn, ReportFormat

if TYPE_CHECKING:
    from auditor.cli.saved_reports import Loaded
    from auditor.model.findings import FailOn as Failing
    from auditor.model.findings import Finding

#: Reports from which on `auditor fleet` is the better view.
MANY = 200

EXAMPLES = """\
auditor report report.json --format html --output report.html
auditor report reports/ --format markdown
auditor report today.json --against yesterday.json"""


def report(
    files: Annotated[
        list[Path],
        Argument(metavar="FILE", help="Reports of --format json, plain, gzip or zstd; folders of them; - is stdin."),
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
    fail_on: o.FailsOn = FailOn.ERROR,
    output_format: o.ReportFormats = ReportFormat.TABLE,
    output: o.Output = None,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
) -> int:
    """Convert saved reports to another format; merge the reports of several nodes into one view.

    A file that cannot be read is named, and the others are shown; the exit status is then 3, or 1 with damage.
    The merged view lists the damaged nodes, each bad digest with its nodes, and the nodes that have a good copy.
    Exit status: as of check, for all reports together; with --against, only new findings count.
    """
    from auditor.cli import render
    from auditor.cli.options import Common
    from auditor.cli.output import check_target, deliver
    from auditor.cli.publish import style
    from auditor.cli.saved_reports import load_all, load_one
    from auditor.model.findings import FailOn as Failing
    from auditor.report import compare

    check_target(output)
    failing = Failing(fail_on)
    loaded = load_all(files)
    reports = loaded.reports
    _name(loaded)
    options = render.RenderOptions(
        style=style(Common(output=output, verbose=verbose)), fail_on=failing, unread=loaded.unread
    )
    if against:
        compared = compare.pair(reports, [load_one(path) for path in against])
        text = render.changes(reports, compared, output_format, width=options.style.width)
        found = [finding for change in compared for finding in change.new]
    else:
        single = len(reports) == 1 and not loaded.unread
        text = (
            render.one(reports[0], output_format, options) if single else render.many(reports, output_format, options)
        )
        found = [finding for one in reports for finding in one.findings]
    if len(reports) >= MANY and not quiet:
        _point_to_fleet(len(reports))
    status = _status(loaded, found, failing)
    if not (quiet and status == 0 and output is None):
        deliver(text, output)
    return status


def _point_to_fleet(number: int) -> None:
    from auditor.cli.output import print_message

    print_message(f"note: {number} reports; auditor fleet shows what damaged nodes share, and takes less memory")


def _name(loaded: Loaded) -> None:
    """Name each file that could not be read on stderr."""
    from auditor.cli.output import print_message
    from auditor.formats.sanitize import plain

    for file in loaded.unread:
        print_message(f"auditor: {plain(file.reason)}")


def _status(loaded: Loaded, found: list[Finding], failing: Failing) -> int:
    from msgspec.structs import replace

    from auditor.model.findings import exit_status

    complete = not loaded.unread and all(report.complete for report in loaded.reports)
    return exit_status(replace(loaded.reports[0], findings=tuple(found), complete=complete), failing)
