"""The samples of diagnoses are what the program says today, and a newcomer finds cause and next command at the top."""

from __future__ import annotations

import pytest

from tests.lab import diagnose_samples, samples


@pytest.fixture(scope="module")
def made() -> dict[str, str]:
    return diagnose_samples.make()


def test_the_samples_are_what_the_program_says(made: dict[str, str]) -> None:
    kept = {path.name: path.read_text() for path in samples.FOLDER.glob("diagnose-*")}
    assert kept.keys() == made.keys()
    for name, text in made.items():
        assert kept[name] == text, f"{name} is old: python -m tests.lab.diagnose_samples"


def test_cause_sureness_and_next_command_stand_at_the_top(made: dict[str, str]) -> None:
    for name, text in made.items():
        if name.endswith(".txt"):
            top = [line.split(" ")[0] for line in text.partition("\nWhy\n")[0].splitlines() if line[:1].strip()]
            assert top[:4] == ["asked:", "cause:", "confidence:", "next:"], name


def test_markdown_names_no_host(made: dict[str, str]) -> None:
    text = made["diagnose-bug.md"]
    assert "registry.example/shop/orders" in text
    assert "127.0.0.1" not in text
