"""The rules that are listed: their codes and severities, and which of them are asked of which store."""

from __future__ import annotations

from auditor import checks
from auditor.checks import (
    absent_layers,
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
from tests.unit.cases import SEVERITY


def test_the_rules_are_these_the_worst_first() -> None:
    found = [(rule.code, rule.severity) for rule in checks.RULES]
    assert found == sorted(SEVERITY.items(), key=lambda each: (each[1].rank, each[0]))


def test_each_rule_says_what_it_means_and_what_to_do() -> None:
    assert all(rule.means and rule.impact and rule.remedy for rule in checks.RULES)


def test_an_archive_is_not_asked_about_snapshots_and_garbage() -> None:
    assert set(checks.CHECKS) - set(checks.ARCHIVE_CHECKS) == {
        snapshots.check,
        snapshot_files.check,
        containers.check,
        garbage_collection.check,
        metadata_faults.check,
        layer_types.check,
        leftovers.check,
    }
    assert set(checks.ARCHIVE_CHECKS) == {documents.check, index_children.check, absent_layers.check, blobs.check}
