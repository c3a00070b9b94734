"""The samples are what the program says today, and say what the schema promises."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema  # type: ignore[import-untyped]
import pytest

from auditor.formats import json_report
from auditor.model.findings import FailOn, exit_status
from tests.lab import samples
from tests.lab.checked import loud, quiet
from tests.program import ROOT

NAMES = tuple(samples.SCENARIOS)


@pytest.fixture(scope="module")
def made() -> dict[str, str]:
    return samples.make()


def test_the_samples_are_what_the_program_says(made: dict[str, str]) -> None:
    kept = {name: (samples.FOLDER / name).read_text() for name in made}
    for name, text in made.items():
        assert kept[name] == text, f"{name} is old: make samples"


@pytest.mark.parametrize("name", NAMES)
def test_the_samples_keep_to_the_schema(name: str) -> None:
    schema = json.loads((ROOT / "reports" / "schema.json").read_text())
    jsonschema.Draft202012Validator(schema).validate(json.loads((samples.FOLDER / f"{name}.json").read_text()))


@pytest.mark.parametrize("name", NAMES)
def test_the_text_is_the_report_in_words(name: str) -> None:
    report = json_report.load((samples.FOLDER / f"{name}.json").read_bytes(), name=name)
    assert (samples.FOLDER / f"{name}.txt").read_text() == samples.as_text(name, report)


def test_the_samples_show_what_they_are_for() -> None:
    reports = {name: json_report.load((samples.FOLDER / f"{name}.json").read_bytes(), name=name) for name in NAMES}
    codes = {name: {code for code, _ in loud(report)} for name, report in reports.items()}
    assert codes["bug"] == {"snapshot-without-blob"}
    assert codes["healthy"] == codes["discarded"] == set()
    assert codes["damaged"] >= {
        "blob-file-missing",
        "size-mismatch",
        "digest-mismatch",
        "missing-config",
        "incomplete-image",
        "broken-snapshot-chain",
        "gc-unprotected",
        "stale-ingest",
    }
    assert "blob-discarded" in {code for code, _ in quiet(reports["discarded"])}
    assert {name: exit_status(report, FailOn.ERROR) for name, report in reports.items()} == {
        "bug": 1,
        "damaged": 1,
        "healthy": 0,
        "discarded": 0,
    }


def test_the_samples_name_nothing_of_the_machine_that_made_them() -> None:
    for path in samples.FOLDER.iterdir():
        text = path.read_text()
        assert "127.0.0.1" not in text
        assert "/var/tmp" not in text
        assert str(Path.home()) + "/" not in text
