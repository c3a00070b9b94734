"""`auditor check` of several daemons: one report each; a daemon that cannot be checked does not end the run."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from auditor.cli import audit, render
from auditor.cli.choices import ReportFormat
from auditor.cli.metrics_files import COULD_NOT, earlier, metrics_places, write_metrics
from auditor.cli.options import Common
from auditor.cli.output import deliver, print_error
from auditor.cli.publish import style
from auditor.cli.render import RenderOptions
from auditor.cli.runs.check import Check
from auditor.errors import AuditorError, OutputError, UsageError
from auditor.formats import ndjson, table
from auditor.formats.sanitize import plain
from auditor.model.findings import Report, exit_status
from auditor.model.store import SourceKind, StoreInfo


class Checked(msgspec.Struct, frozen=True, kw_only=True):
    """The outcome for one daemon: its report, an incomplete one where it could not be checked, and the exit status."""

    address: str
    report: Report
    status: int
    failed: bool = False


def check_each(check: Check, daemons: Sequence[Common]) -> int:
    """Check each daemon, publish the reports, and return 1 if one has exit status 1, else the highest.

    Raises:
        UsageError: An option cannot be used.

    """
    checked = [_checked(check, daemon) for daemon in daemons]
    statuses = {each.status for each in checked}
    status = 1 if 1 in statuses else max(statuses)
    common, wish = daemons[0], check.wish
    try:
        for place in metrics_places(common, wish.output_format, wish.textfile):
            write_metrics(place, _metrics(checked, check, earlier(place)))
        _print(checked, check, common, status)
    except OutputError as error:
        print_error(error)
        return status or COULD_NOT
    return status


def _checked(check: Check, daemon: Common) -> Checked:
    address = daemon.address or ""
    try:
        report = check.audit(msgspec.structs.replace(daemon, stream=False))
    except UsageError:
        raise
    except AuditorError as error:
        why = error.message if address in error.message else f"{address}: {error.message}"
        print_error(AuditorError(why, hint=error.hint))
        info = StoreInfo(kind=SourceKind.CONTAINERD, address=address)
        report = audit.empty(info, check.request(daemon), findings=(), incomplete=(why,))
        return Checked(address=address, report=report, status=COULD_NOT, failed=True)
    return Checked(address=address, report=report, status=exit_status(report, check.fail_on))


def _print(checked: Sequence[Checked], check: Check, common: Common, status: int) -> None:
    """Print or write the reports, except as metrics to a file. Raises OutputError."""
    output_format = check.wish.output_format
    if common.quiet and status == 0 and common.output is None:
        return
    if output_format is ReportFormat.PROMETHEUS:
        if not metrics_places(common, output_format, None):
            deliver(_metrics(checked, check, ""), common.output)
        return
    reports = [each.report for each in checked]
    deliver(_rendered(reports, check, common), common.output)
    if common.output is not None and str(common.output) != "-" and not common.quiet:
        deliver("".join(f"{plain(each.source.address)}: {table.counts(each)}\n" for each in reports), None)


def _rendered(reports: Sequence[Report], check: Check, common: Common) -> str:
    options = RenderOptions(style=style(common), fail_on=check.fail_on)
    match check.wish.output_format:
        case ReportFormat.TABLE:
            return "\n".join(render.one(report, ReportFormat.TABLE, options) for report in reports)
        case ReportFormat.NDJSON:
            return "".join(map(ndjson.render, reports))
        case other:
            return render.many(reports, other, options)


def _metrics(checked: Sequence[Checked], check: Check, before: str) -> str:
    """The metrics of all daemons; of one that could not be checked those of its earlier run, with this run's status."""
    return render.metrics_of(
        [(each.report, each.status) for each in checked if not each.failed],
        RenderOptions(fail_on=check.fail_on, earlier=before),
        failed=[each.address for each in checked if each.failed],
        at=audit.now().timestamp(),
    )
