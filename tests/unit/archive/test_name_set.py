"""The set of names: what was added is in it, at every size of its table."""

from __future__ import annotations

from auditor.archive.name_set import NameSet


def test_names_that_were_added_are_in_it_and_others_are_not() -> None:
    names = NameSet()
    for number in range(10_000):
        names.add(f"file-{number}")
        names.add(f"file-{number // 2}")
    assert len(names) == 10_000
    assert all(f"file-{number}" in names for number in range(10_000))
    assert not any(f"file-{number}" in names for number in range(10_000, 20_000))
