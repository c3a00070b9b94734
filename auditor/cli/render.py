"""Render reports in the format asked for.

Formats are imported when they are used: prometheus_client alone would take a tenth of the time of a check.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import msgspec

from auditor import checks
from auditor.checks.rule import Rule
from auditor.cli.choices import ReportFormat
from auditor.errors import UsageError
from auditor.formats import json_report, table
from auditor.model.findings import FailOn, Report, Severity, exit_status

if TYPE_CHECKING:
    from auditor.formats import prometheus
    from auditor.report.compare import Comparison
    from auditor.report.fleet import UnreadFile


_COULD_NOT = 3


class RenderOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What formats need besides the report.

    `earlier` is the text of the metrics file to replace; `unread` are the files without a report.
    """

    style: table.Style = table.Style()
    fail_on: FailOn = FailOn.ERROR
    command: str = "check"
    status: int | None = None
    earlier: str = ""
    unread: tuple[UnreadFile, ...] = ()


def tells_trees(output_format: ReportFormat) -> bool:
    """Whether a format shows image trees; for others they need not be built."""
    return output_format in (ReportFormat.JSON, ReportFormat.NDJSON, ReportFormat.HTML)


def one(report: Report, output_format: ReportFormat, options: RenderOptions) -> str:
    """One report."""
    return _ONE[output_format](report, options)


def many(reports: Sequence[Report], output_format: ReportFormat, options: RenderOptions) -> str:
    """The reports of several nodes: merged if the format supports it, else one after the other."""
    return _MANY[output_format](reports, options)


def changes(
    reports: Sequence[Report], compared: Sequence[Comparison], output_format: ReportFormat, *, width: int = 100
) -> str:
    """The changes since older reports. Raises UsageError for a format that cannot show them."""
    from auditor.formats import comparison

    match output_format:
        case ReportFormat.TABLE:
            return comparison.render(compared, width=width)
        case ReportFormat.MARKDOWN:
            return comparison.markdown(compared)
        case ReportFormat.NDJSON:
            return comparison.lines(compared)
        case ReportFormat.JSON:
            return json_report.to_json(compared[0] if len(compared) == 1 else compared)
        case ReportFormat.HTML:
            return _html_changes(reports, compared)
        case _:
            raise UsageError(f"{output_format} cannot show changes", hint="use table, json, ndjson, markdown or html")


def codes() -> dict[str, Severity]:
    """The severity of each rule by code."""
    return {rule.code: rule.severity for rule in checks.RULES}


def metrics(report: Report, options: RenderOptions) -> str:
    """One report as metrics; the time of the last success is kept from the earlier file if this run is none."""
    from auditor.formats import prometheus

    mine = prometheus.labels(command=options.command, kind=report.source.kind, address=report.source.address)
    return prometheus.render(
        [_run(report, options, success=prometheus.last_success(options.earlier, mine=mine))], codes=codes()
    )


def metrics_of(runs: Sequence[tuple[Report, int]], options: RenderOptions, *, failed: Sequence[str], at: float) -> str:
    """The metrics of several daemons of one node.

    Args:
        runs: The reports with their exit statuses.
        options: The command, and the text of the metrics file to replace.
        failed: The addresses of daemons that could not be checked.
        at: When that was, in seconds since 1970.

    """
    from auditor.formats import prometheus

    done = []
    for report, status in runs:
        mine = prometheus.labels(command=options.command, kind=report.source.kind, address=report.source.address)
        success = prometheus.last_success(options.earlier, mine=mine)
        done.append(_run(report, msgspec.structs.replace(options, status=status), success=success))
    text = prometheus.render(done, codes=codes())
    return prometheus.with_failed(
        text, options.earlier, command=options.command, addresses=failed, at=at, exit_status=_COULD_NOT
    )


def _run(report: Report, options: RenderOptions, *, success: float | None = None, node: str = "") -> prometheus.Run:
    from auditor.formats import prometheus

    status = exit_status(report, options.fail_on) if options.status is None else options.status
    command = "scrub" if report.coverage is not None else options.command
    return prometheus.Run(report=report, exit_status=status, command=command, last_success=success, node=node)


def _html(report: Report, _render: RenderOptions) -> str:
    from auditor.formats import html

    return html.render(report, advice=advice(report))


def _html_fleet(reports: Sequence[Report], options: RenderOptions) -> str:
    from auditor.formats import html
    from auditor.report import fleet

    return html.render_fleet(fleet.join(reports, options.unread), advice=advice())


def _html_changes(reports: Sequence[Report], compared: Sequence[Comparison]) -> str:
    from auditor.formats import html

    if len(reports) != 1:
        raise UsageError(
            "the page shows the changes of one node only", hint="give one report, or use table or markdown"
        )
    return html.render(reports[0], advice=advice(reports[0]), comparison=compared[0])


def _prometheus_fleet(reports: Sequence[Report], options: RenderOptions) -> str:
    from auditor.formats import prometheus
    from auditor.report import fleet

    runs = [_run(report, options, node=name) for name, report in fleet.named(reports)]
    return prometheus.render(runs, codes=codes())


def _ndjson(reports: Sequence[Report], _render: RenderOptions) -> str:
    from auditor.formats import ndjson

    return "".join(map(ndjson.render, reports))


def _junit(reports: Sequence[Report], options: RenderOptions) -> str:
    from auditor.formats import junit

    return junit.render(reports, fail_on=options.fail_on)


def _sarif(reports: Sequence[Report], _render: RenderOptions) -> str:
    from auditor.formats import sarif

    return sarif.render(reports, advice=advice())


def _gitlab(reports: Sequence[Report], _render: RenderOptions) -> str:
    from auditor.formats import gitlab

    return gitlab.render(reports)


def _markdown(report: Report, _render: RenderOptions) -> str:
    from auditor.formats import markdown

    return markdown.render(report)


def _table_fleet(reports: Sequence[Report], options: RenderOptions) -> str:
    from auditor.formats import fleet as fleet_text
    from auditor.report import fleet

    return fleet_text.render(fleet.join(reports, options.unread), width=options.style.width)


def _json_fleet(reports: Sequence[Report], options: RenderOptions) -> str:
    from auditor.report import fleet

    return json_report.to_json(fleet.join(reports, options.unread))


def _markdown_fleet(reports: Sequence[Report], options: RenderOptions) -> str:
    from auditor.formats import fleet as fleet_text
    from auditor.report import fleet

    return fleet_text.markdown(fleet.join(reports, options.unread))


_ONE: Mapping[ReportFormat, Callable[[Report, RenderOptions], str]] = {
    ReportFormat.TABLE: lambda report, options: table.render(report, advice=advice(report), style=options.style),
    ReportFormat.JSON: lambda report, _: json_report.render(report),
    ReportFormat.NDJSON: lambda report, options: _ndjson([report], options),
    ReportFormat.PROMETHEUS: metrics,
    ReportFormat.JUNIT: lambda report, options: _junit([report], options),
    ReportFormat.MARKDOWN: _markdown,
    ReportFormat.HTML: _html,
    ReportFormat.SARIF: lambda report, options: _sarif([report], options),
    ReportFormat.GITLAB: lambda report, options: _gitlab([report], options),
}
_MANY: Mapping[ReportFormat, Callable[[Sequence[Report], RenderOptions], str]] = {
    ReportFormat.TABLE: _table_fleet,
    ReportFormat.JSON: _json_fleet,
    ReportFormat.NDJSON: _ndjson,
    ReportFormat.PROMETHEUS: _prometheus_fleet,
    ReportFormat.JUNIT: _junit,
    ReportFormat.MARKDOWN: _markdown_fleet,
    ReportFormat.HTML: _html_fleet,
    ReportFormat.SARIF: _sarif,
    ReportFormat.GITLAB: _gitlab,
}


def advice(report: Report | None = None) -> Mapping[str, Rule]:
    """Return the rule of each code, for formats that explain findings, in the words of the report's kind of store."""
    archive = report is not None and report.source.kind == "archive"
    return checks.ARCHIVE_RULEBOOK if archive else checks.RULEBOOK
