"""The samples of each format are what the program says today; `python -m tests.unit.rendered` writes them."""

from __future__ import annotations

import pytest

from tests.unit import rendered

WRITTEN = rendered.make()


@pytest.mark.parametrize("name", WRITTEN)
def test_a_sample_is_current(name: str) -> None:
    assert (rendered.FOLDER / name).read_text() == WRITTEN[name]
