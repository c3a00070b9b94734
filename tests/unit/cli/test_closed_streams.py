"""Standard streams that the caller closed."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable

import pytest

from tests import program


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&- >&- 2>&-"])
@pytest.mark.parametrize(("arguments", "status"), [("--version", 0), ("rules", 0), ("check --address /nope", 3)])
def test_a_closed_stream_is_no_traceback_and_keeps_the_status(closed: str, arguments: str, status: int) -> None:
    command = f"{sys.executable} -m auditor {arguments} {closed}"
    done = subprocess.run(["/bin/sh", "-c", command], capture_output=True, check=False)
    assert (done.returncode, b"Traceback" in done.stderr, b"bug in auditor" in done.stderr) == (status, False, False)


def _full() -> int:
    return os.open("/dev/full", os.O_WRONLY)


def _unread() -> int:
    reading, writing = os.pipe()
    os.close(reading)
    return writing


@pytest.mark.parametrize("arguments", ["--version", "--help", "rules"])
@pytest.mark.parametrize("target", [_full, _unread])
def test_output_that_nobody_takes_is_no_finding(target: Callable[[], int], arguments: str) -> None:
    out = target()
    done = program.run(arguments, stdout=out)
    os.close(out)
    assert (done.returncode, done.stderr[:9], "Traceback" in done.stderr) == (3, "auditor: ", False), done.stderr
