"""Settings of every test run: signals, temporary folders, Hypothesis, and the one marker that repeats a test."""

from __future__ import annotations

import os
import pwd
import signal
import sys
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis.configuration import set_hypothesis_home_dir

LAB = Path(__file__).parent / "lab"

# `setpriv` and `su -p` keep the caller's name in the environment, and pytest names its temporary folder after it.
try:
    os.environ["LOGNAME"] = pwd.getpwuid(os.getuid()).pw_name
except KeyError:
    os.environ["LOGNAME"] = str(os.getuid())

settings.register_profile("auditor", database=None, deadline=None)
settings.load_profile("auditor")
# Hypothesis keeps the constants of our sources here; where it cannot write, it computes them again.
set_hypothesis_home_dir(Path(sys.prefix) / "hypothesis")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add --wide: sweeps take every step and every combination, where a plain run takes a share of them."""
    parser.addoption("--wide", action="store_true", help="sweep every step and combination, not a share of them")


def pytest_configure() -> None:
    """Let Ctrl-C be heard by us and by what we start, also where a shell began us in the background, deaf to it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Repeat what carries `repeat_once`, once; refuse every other way to repeat a test."""
    for item in items:
        mark = item.get_closest_marker("repeat_once")
        if item.get_closest_marker("flaky") is not None:
            raise pytest.UsageError(f"{item.nodeid}: use repeat_once(reason=...) instead of flaky")
        if mark is None:
            continue
        if LAB not in item.path.parents or not mark.kwargs.get("reason"):
            raise pytest.UsageError(f"{item.nodeid}: repeat_once is for tests of the lab, and needs a reason")
        item.add_marker(pytest.mark.flaky(reruns=1, reruns_delay=1))
