"""Which tests may be repeated: those of the lab that say why, once, and no others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.conftest import LAB, pytest_collection_modifyitems

REASON = pytest.mark.repeat_once(reason="the daemon answers late").mark


class Item:
    """A collected test with markers."""

    def __init__(self, path: Path, *marks: pytest.Mark) -> None:
        self.path = path
        self.nodeid = f"{path.name}::test"
        self.marks = list(marks)

    def get_closest_marker(self, name: str) -> pytest.Mark | None:
        return next((mark for mark in self.marks if mark.name == name), None)

    def add_marker(self, marker: pytest.MarkDecorator) -> None:
        self.marks.append(marker.mark)


def collect(*items: Any) -> None:
    pytest_collection_modifyitems(list(items))


def test_a_test_of_the_lab_with_a_reason_is_repeated_once() -> None:
    marked, plain = Item(LAB / "test_a.py", REASON), Item(LAB / "test_b.py")
    collect(marked, plain)
    assert [mark.kwargs for mark in marked.marks[1:]] == [{"reruns": 1, "reruns_delay": 1}]
    assert plain.marks == []


@pytest.mark.parametrize(
    ("folder", "mark"),
    [
        pytest.param(LAB, pytest.mark.repeat_once().mark, id="no reason"),
        pytest.param(LAB, pytest.mark.repeat_once(reason="").mark, id="an empty reason"),
        pytest.param(LAB, pytest.mark.flaky(reruns=3).mark, id="the plugin's own marker"),
        pytest.param(LAB.parent / "unit", REASON, id="a unit test"),
    ],
)
def test_every_other_repetition_is_refused(folder: Path, mark: pytest.Mark) -> None:
    with pytest.raises(pytest.UsageError):
        collect(Item(folder / "test_a.py", mark))
