"""The rules: pure functions from Evidence to findings, one file a family, listed here and not discovered."""

from __future__ import annotations

from auditor.checks import blobs, documents, housekeeping, layers, snapshots, storage
from auditor.checks.rule import Rule, merge
from auditor.evidence import Evidence
from auditor.findings import Finding, order
from auditor.store import SourceKind

CHECKS = (documents.check, layers.check, blobs.check, snapshots.check, housekeeping.check)
#: What is asked of an archive: it has no snapshots, and nobody collects garbage in it.
ARCHIVE_CHECKS = (documents.check, layers.check, blobs.check)

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
    chosen = ARCHIVE_CHECKS if evidence.info.kind is SourceKind.ARCHIVE else CHECKS
    found = merge(hit for check in chosen for hit in check(evidence))
    return order((*found, *storage.check(found)))
