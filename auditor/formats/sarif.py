"""Reports as SARIF 2.1.0, for code scanning in forges and editors; one run a report, nothing of severity info."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, Final
from urllib.parse import quote

from auditor.checks.rule import Rule
from auditor.formats.json_report import to_json
from auditor.formats.sanitize import plain
from auditor.model.findings import Finding, Report, Severity

_SCHEMA: Final = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
_LEVELS: Final = {
    Severity.CRITICAL: "error",
    Severity.ERROR: "error",
    Severity.WARNING: "warning",
    Severity.INFO: "note",
}
_TEXT_WIDTH: Final = 1_000


def render(reports: Sequence[Report], *, advice: Mapping[str, Rule]) -> str:
    """A SARIF log with a newline at its end."""
    return to_json({"$schema": _SCHEMA, "version": "2.1.0", "runs": [_run(report, advice) for report in reports]})


def told(report: Report) -> list[Finding]:
    """The findings over info; findings of severity info are normal."""
    return [finding for finding in report.findings if finding.severity is not Severity.INFO]


def fingerprint(finding: Finding) -> str:
    """The identity of a finding in two reports: code, namespace and subject; the node is left out."""
    return hashlib.sha256(
        "\n".join((finding.code, finding.namespace, *map(str, _subject(finding)))).encode()
    ).hexdigest()


def path(report: Report, finding: Finding) -> str:
    """A relative URI for a finding: the archive, or the namespace and image; neither is a file of a repository."""
    if report.source.kind == "archive":
        return quote(plain(report.source.address).lstrip("/"), safe="/")
    name = finding.images[0].name if finding.images else finding.subject.id
    return quote(plain(f"{finding.namespace or 'store'}/{name}"), safe="/@")


def _subject(finding: Finding) -> tuple[str, str]:
    return finding.subject.kind, finding.subject.id


def _run(report: Report, advice: Mapping[str, Rule]) -> dict[str, Any]:
    found = told(report)
    codes = list(dict.fromkeys(finding.code for finding in found))
    return {
        "tool": {
            "driver": {
                "name": report.tool.name,
                "version": report.tool.version,
                "rules": [_rule(code, advice.get(code)) for code in codes],
            }
        },
        "invocations": [
            {
                "executionSuccessful": report.complete,
                "startTimeUtc": report.started_at,
                "endTimeUtc": report.finished_at,
                "machine": plain(report.host),
                "toolExecutionNotifications": [
                    {"level": "error", "message": {"text": plain(why, width=_TEXT_WIDTH)}} for why in report.incomplete
                ],
            }
        ],
        "results": [_result(report, finding, codes.index(finding.code)) for finding in found],
    }


def _rule(code: str, known: Rule | None) -> dict[str, Any]:
    if known is None:
        return {"id": plain(code)}
    return {
        "id": code,
        "shortDescription": {"text": known.means},
        "fullDescription": {"text": f"{known.means} {known.impact}"},
        "help": {"text": known.remedy},
        "defaultConfiguration": {"level": _LEVELS[known.severity]},
    }


def _result(report: Report, finding: Finding, rule: int) -> dict[str, Any]:
    do = f" Do: {finding.hint}" if finding.hint else ""
    names = dict.fromkeys(image.name for image in finding.images)
    logical = [{"fullyQualifiedName": plain(name), "kind": "resource"} for name in names]
    return {
        "ruleId": plain(finding.code),
        "ruleIndex": rule,
        "level": _LEVELS[finding.severity],
        "message": {"text": plain(f"{finding.message}{do}", width=_TEXT_WIDTH)},
        "locations": [
            {
                "physicalLocation": {"artifactLocation": {"uri": path(report, finding)}},
                "logicalLocations": logical,
            }
        ],
        "partialFingerprints": {"finding/v1": fingerprint(finding)},
        "properties": {
            "severity": finding.severity,
            "namespace": plain(finding.namespace),
            "subject": plain(finding.subject.id),
            "cause": plain(finding.cause or ""),
        },
    }
