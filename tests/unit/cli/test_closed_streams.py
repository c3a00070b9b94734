"""Standard streams that the caller closed."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&- >&- 2>&-"])
@pytest.mark.parametrize(("arguments", "status"), [("--version", 0), ("rules", 0), ("check --address /nope", 3)])
def test_a_closed_stream_is_no_traceback_and_keeps_the_status(closed: str, arguments: str, status: int) -> None:
    command = f"{sys.executable} -m auditor {arguments} {closed}"
    done = subprocess.run(["/bin/sh", "-c", command], capture_output=True, check=False)
    assert (done.returncode, b"Traceback" in done.stderr, b"bug in auditor" in done.stderr) == (status, False, False)
