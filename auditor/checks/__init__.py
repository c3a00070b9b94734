"""The rules: pure functions from Evidence to hits, one module per topic; all of them are listed here."""

from __future__ import annotations

from auditor.checks import (
    absent_layers,
    archive_faults,
    blobs,
    documents,
    garbage_collection,
    snapshot_files,
    snapshots,
)
from auditor.checks import suspect_storage as storage
from auditor.checks.evidence import Evidence
from auditor.checks.rule import Rule, merge
from auditor.model.findings import Finding, order

CHECKS = (
    documents.check,
    absent_layers.check,
    blobs.check,
    snapshots.check,
    snapshot_files.check,
    garbage_collection.check,
)
#: The checks of an archive, which has no snapshots and no garbage collection.
ARCHIVE_CHECKS = (documents.check, absent_layers.check, blobs.check)


def _sorted(*rules: Rule) -> tuple[Rule, ...]:
    return tuple(sorted(rules, key=lambda rule: (rule.severity.rank, rule.code)))


#: The rules about stores, the most severe first.
RULES = _sorted(
    *documents.RULES,
    *absent_layers.RULES,
    *blobs.RULES,
    *snapshots.RULES,
    *snapshot_files.RULES,
    *garbage_collection.RULES,
    *storage.RULES,
)
#: All rules, those about archives included, by code; the most severe first.
RULEBOOK = {rule.code: rule for rule in _sorted(*RULES, *archive_faults.RULES)}


def judge(evidence: Evidence) -> tuple[Finding, ...]:
    """Run every rule that applies to the kind of store.

    Args:
        evidence: All that was read of the store.

    Returns:
        One finding for each code and subject, sorted by `order`.

    """
    chosen = ARCHIVE_CHECKS if evidence.archive else CHECKS
    found = merge((hit for check in chosen for hit in check(evidence)), archive=evidence.archive)
    return order((*found, *storage.check(found)))
