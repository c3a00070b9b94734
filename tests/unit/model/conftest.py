"""Tests of the model begin with nothing remembered, so that each of them asks the code, also in a mutation run."""

from __future__ import annotations

import pytest

from auditor.model import platforms


@pytest.fixture(autouse=True)
def _nothing_remembered() -> None:
    platforms.normalise.cache_clear()
