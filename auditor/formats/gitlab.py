"""Reports as GitLab's Code Quality report, for the widget of merge requests; without findings of severity info."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from auditor.formats.json_report import to_json
from auditor.formats.sanitize import plain
from auditor.formats.sarif import fingerprint, path, told
from auditor.model.findings import Finding, Report, Severity

_SEVERITY: Final = {
    Severity.CRITICAL: "blocker",
    Severity.ERROR: "critical",
    Severity.WARNING: "minor",
    Severity.INFO: "info",
}
_TEXT_WIDTH: Final = 500
#: What the widget needs to show that a run is not complete.
_INCOMPLETE: Final = "not-everything-checked"


def render(reports: Sequence[Report]) -> str:
    """A JSON list of issues with a newline at its end; why a report is not complete is an issue too."""
    issues = [_issue(report, finding) for report in reports for finding in told(report)]
    issues += [_incomplete(report) for report in reports if not report.complete]
    return to_json(list({issue["fingerprint"]: issue for issue in issues}.values()))


def _issue(report: Report, finding: Finding) -> dict[str, Any]:
    return {
        "description": plain(finding.message, width=_TEXT_WIDTH),
        "check_name": plain(finding.code),
        "fingerprint": fingerprint(finding),
        "severity": _SEVERITY[finding.severity],
        "location": {"path": path(report, finding), "lines": {"begin": 1}},
    }


def _incomplete(report: Report) -> dict[str, Any]:
    why = report.incomplete[0] if report.incomplete else "the reason is not recorded"
    return {
        "description": plain(f"not everything could be checked: {why}", width=_TEXT_WIDTH),
        "check_name": _INCOMPLETE,
        "fingerprint": f"{_INCOMPLETE} {plain(report.host)} {plain(report.source.address)}",
        "severity": "critical",
        "location": {"path": "store", "lines": {"begin": 1}},
    }
