"""The rules: pure functions from Evidence to findings, one file a family, listed here and not discovered."""

from __future__ import annotations

from auditor.checks import blobs, documents, housekeeping, layers, snapshots, storage
from auditor.checks.rule import Rule, merge
from auditor.evidence import Evidence
from auditor.findings import Finding, order

CHECKS = (documents.check, layers.check, blobs.check, snapshots.check, housekeeping.check)

RULES: tuple[Rule, ...] = tuple(
    sorted(
        (
            *documents.RULES,
            *layers.RULES,
            *blobs.RULES,
            *snapshots.RULES,
            *housekeeping.RULES,
            *storage.RULES,
        ),
        key=lambda rule: (rule.severity.rank, rule.code),
    )
)


def judge(evidence: Evidence) -> tuple[Finding, ...]:
    """Run every rule and make one finding of each cause, the worst first."""
    found = merge(hit for check in CHECKS for hit in check(evidence))
    return order((*found, *storage.check(found)))
