"""A forked program is what `python -m auditor` is: output, exit status, environment, and nothing else that is open."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests import program

LINES = [["--help"], ["chek"], ["check", "--address", "/nope"], ["rules", "blob-lazy"], ["diagnose", "-"]]


@pytest.mark.parametrize("arguments", LINES, ids=" ".join)
def test_a_fork_does_what_a_start_does(arguments: list[str]) -> None:
    env = {"COLUMNS": "70", "AUDITOR_DEBUG": ""}
    forked = program.run(*arguments, env=env)
    started = subprocess.run(
        program.command(*arguments),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        cwd=program.ROOT,
        env=program.environment(env),
    )
    assert (forked.returncode, forked.stdout, forked.stderr) == (started.returncode, started.stdout, started.stderr)


def test_variables_that_python_reads_at_its_start_start_python() -> None:
    done = program.run("check", "--address", "/nope", env={"PYTHONVERBOSE": "1"})
    assert "import 'auditor.cli.app'" in done.stderr


def test_a_fork_reads_its_standard_input(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("open /run/containerd/containerd.sock: permission denied")
    with (tmp_path / "text").open("rb") as text:
        done = program.run("diagnose", "-", "--message-only", stdin=text)
    assert (done.returncode, done.stderr) == (3, "")  # the text names nothing that is known
    assert "permission denied" in done.stdout
