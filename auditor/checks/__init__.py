"""The rules: pure functions from Evidence to hits, one module per topic; all of them are listed here."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import msgspec

from auditor.checks import (
    absent_layers,
    archive_faults,
    blobs,
    containers,
    documents,
    garbage_collection,
    index_children,
    layer_types,
    leftovers,
    metadata_faults,
    snapshot_files,
    snapshots,
)
from auditor.checks import suspect_storage as storage
from auditor.checks.archive_words import IN_ARCHIVE
from auditor.checks.evidence import Evidence
from auditor.checks.rule import ARCHIVE_REMEDY, OFFLINE_REMEDY, Hit, Rule, merge
from auditor.model.findings import Finding, Severity, Verify, order
from auditor.model.store import SourceKind

CHECKS = (
    documents.check,
    index_children.check,
    absent_layers.check,
    blobs.check,
    layer_types.check,
    snapshots.check,
    snapshot_files.check,
    containers.check,
    garbage_collection.check,
    metadata_faults.check,
    leftovers.check,
)
#: The remedy of repairable findings, by the kind of store; a daemon's are repaired by command.
_REMEDIES = {SourceKind.ARCHIVE: ARCHIVE_REMEDY, SourceKind.OFFLINE: OFFLINE_REMEDY}
#: The checks of an archive, which has no snapshots and no garbage collection.
ARCHIVE_CHECKS = (documents.check, index_children.check, absent_layers.check, blobs.check)


#: The codes of blobs that an archive lacks.
ABSENT_IN_ARCHIVE = frozenset({"incomplete-image", "missing-manifest", "missing-config"})


def _sorted(*rules: Rule) -> tuple[Rule, ...]:
    return tuple(sorted(rules, key=lambda rule: (rule.severity.rank, rule.code)))


#: The rules about stores, the most severe first.
RULES = _sorted(
    *documents.RULES,
    *index_children.RULES,
    *absent_layers.RULES,
    *blobs.RULES,
    *layer_types.RULES,
    *snapshots.RULES,
    *snapshot_files.RULES,
    *containers.RULES,
    *garbage_collection.RULES,
    *metadata_faults.RULES,
    *leftovers.RULES,
    *storage.RULES,
)
#: All rules, those about archives included, by code; the most severe first.
RULEBOOK = {rule.code: rule for rule in _sorted(*RULES, *archive_faults.RULES)}


#: The rulebook in the words of an archive.
ARCHIVE_RULEBOOK = RULEBOOK | dict(IN_ARCHIVE)


def judge(evidence: Evidence) -> tuple[Finding, ...]:
    """Run every rule that applies to the kind of store.

    Args:
        evidence: All that was read of the store.

    Returns:
        One finding for each code and subject, sorted by `order`.

    """
    hits = (hit for check in _chosen(evidence) for hit in check(evidence) if not _needs_lost_records(hit, evidence))
    words = IN_ARCHIVE if evidence.archive else {}
    found = merge(hits, remedy=_REMEDIES.get(evidence.info.kind, ""), words=words)
    if evidence.sparse:
        found = tuple(_on_purpose(finding) for finding in found)
    return order((*found, *storage.check(found)))


def _chosen(evidence: Evidence) -> tuple[Callable[[Evidence], Iterator[Hit]], ...]:
    if evidence.verify is Verify.SINCE_CRASH:
        return (snapshot_files.check,)
    return ARCHIVE_CHECKS if evidence.archive else CHECKS


def _needs_lost_records(hit: Hit, evidence: Evidence) -> bool:
    """Whether a hit rests on the absence of records in a namespace that lost some."""
    return hit.namespace in evidence.info.partial and hit.rule.code in metadata_faults.NEED_ALL_RECORDS


def _on_purpose(finding: Finding) -> Finding:
    """Return the finding about an absent blob of an archive that is sparse on purpose as info."""
    if finding.code not in ABSENT_IN_ARCHIVE:
        return finding
    return msgspec.structs.replace(finding, severity=Severity.INFO, hint="Nothing, with --sparse.")
