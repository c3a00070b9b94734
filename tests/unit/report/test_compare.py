"""What is new, gone and unchanged, and when that cannot be told."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
from msgspec.structs import replace

from auditor.formats import comparison
from auditor.model.findings import Report, Verify
from auditor.report.compare import compare, pair
from tests.unit import reports

OLD = reports.damaged()
NEW = replace(OLD, finished_at=OLD.finished_at + timedelta(days=1))


def without(report: Report, code: str) -> Report:
    return replace(report, findings=tuple(f for f in report.findings if f.code != code))


def test_findings_are_the_same_by_code_namespace_and_subject() -> None:
    renamed = replace(NEW, findings=tuple(replace(f, message="said otherwise") for f in NEW.findings))
    found = compare(renamed, OLD)
    assert (found.new, found.gone, found.notes) == ((), (), ())
    assert len(found.unchanged) == len(OLD.findings)


def test_new_and_gone() -> None:
    found = compare(without(NEW, "digest-mismatch"), without(OLD, "gc-unprotected"))
    assert [f.code for f in found.new] == ["gc-unprotected"]
    assert [f.code for f in found.gone] == ["digest-mismatch"]
    assert comparison.counts(found) == "1 new, 1 gone, 2 still there"


@pytest.mark.parametrize(
    ("newer", "note"),
    [
        (replace(NEW, verify=Verify.PRESENCE), "the newer run verified less"),
        (replace(NEW, verify=Verify.LAYERS), "the newer run verified more"),
        (replace(NEW, complete=False), "the newer run could not examine everything"),
        (replace(NEW, host="another"), "the older report is of another store"),
        (replace(NEW, finished_at=OLD.finished_at - timedelta(1)), "the older report was finished after"),
    ],
)
def test_a_comparison_that_may_mislead_says_so(newer: Report, note: str) -> None:
    assert any(said.startswith(note) for said in compare(newer, OLD).notes)
    assert note in comparison.render([compare(newer, OLD)])


def test_several_nodes_are_paired_by_host_and_store() -> None:
    other = replace(reports.sound(), host="other")
    unknown = replace(reports.damaged(), host="never seen")
    first, second, third = pair([NEW, other, unknown], [other, OLD])
    assert (first.new, first.older_at) == ((), OLD.finished_at)
    assert second.older_at == other.finished_at
    assert third.older_at is None
    assert len(third.new) == len(unknown.findings)


def test_lines_of_json_carry_the_change() -> None:
    lines = [
        json.loads(line) for line in comparison.lines([compare(without(NEW, "digest-mismatch"), OLD)]).splitlines()
    ]
    assert [line["change"] for line in lines if line["type"] == "finding"].count("gone") == 1
    assert lines[-1] | {"notes": []} == lines[-1]
    assert (lines[-1]["new"], lines[-1]["gone"]) == (0, 1)


def test_hostile_names_are_plain() -> None:
    written = comparison.render([compare(reports.hostile(), OLD)])
    assert written.replace("\n", "").isprintable()
