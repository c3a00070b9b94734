"""The rules: pure functions from Evidence to findings, one file a family, listed here and not discovered."""

from __future__ import annotations

from auditor.checks import absent_layers, blobs, documents, garbage_collection, snapshots, suspect_storage
from auditor.checks.evidence import Evidence
from auditor.checks.rule import Rule, merge
from auditor.model.findings import Finding, order
from auditor.model.store import SourceKind

CHECKS = (documents.check, absent_layers.check, blobs.check, snapshots.check, garbage_collection.check)
#: What is asked of an archive: it has no snapshots, and nobody collects garbage in it.
ARCHIVE_CHECKS = (documents.check, absent_layers.check, blobs.check)

RULES: tuple[Rule, ...] = tuple(
    sorted(
        (
            *documents.RULES,
            *absent_layers.RULES,
            *blobs.RULES,
            *snapshots.RULES,
            *garbage_collection.RULES,
            *suspect_storage.RULES,
        ),
        key=lambda rule: (rule.severity.rank, rule.code),
    )
)


def judge(evidence: Evidence) -> tuple[Finding, ...]:
    """Run every rule and make one finding of each cause, the worst first."""
    chosen = ARCHIVE_CHECKS if evidence.info.kind is SourceKind.ARCHIVE else CHECKS
    found = merge(hit for check in chosen for hit in check(evidence))
    return order((*found, *suspect_storage.check(found)))
