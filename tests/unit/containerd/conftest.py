"""A small containerd for each test."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.contract.daemon import Daemon


@pytest.fixture
def daemon() -> Iterator[Daemon]:
    with tempfile.TemporaryDirectory(prefix="a-") as folder, ExitStack() as stack:
        yield Daemon(stack, Path(folder))
