"""`auditor watch` before it connects, and the commands that it runs."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest

from auditor.cli.app import main
from auditor.cli.arguments import read
from auditor.cli.commands.watch import watch
from auditor.cli.runs import watch as run
from auditor.formats import changes
from auditor.watch.memory import Change, ChangeKind
from tests.unit import reports

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--every", "10s"], "--every must be at least a minute"),
        (["--every", "60"], "60"),
        (["--exec", "'open"], "--exec is not a command"),
        (["--exec", " "], "--exec is empty"),
        (["--state", "nowhere/state"], "there is no folder nowhere"),
        (["--address", "/nowhere.sock", "--content-root", "/nowhere"], "/nowhere has no folder blobs"),
    ],
)
def test_bad_options_are_one_sentence_and_one_hint(
    words: list[str], said: str, capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["watch", *words]) == 2
    err = capfd.readouterr().err
    assert said in err
    assert len(err.splitlines()) == 2


def test_the_state_of_another_program_is_refused(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.write_text("mine")
    assert main(["watch", "--address", "/nowhere.sock", "--state", str(state)]) == 3
    assert "is not a state of auditor watch" in capfd.readouterr().err
    assert state.read_text() == "mine"


def test_the_arguments_of_the_daemonset_are_taken() -> None:
    """Those that docs/watch.md gives for Kubernetes."""
    told = (ROOT / "docs" / "watch.md").read_text().partition("* Kubernetes:")[2].partition("\n* ")[0]
    words = re.findall(r"`(--[^`]+)`", told)
    assert len(words) > 3
    given = read(watch, words, {})
    assert given is not None
    assert len(given) == len([word for word in words if "=" in word])


TAKE = "import sys; open(sys.argv[1], 'w').write(sys.stdin.read()); sys.exit(int(sys.argv[2]))"


@pytest.mark.parametrize(("status", "said"), [("0", ""), ("7", "ended with status 7")])
def test_a_command_gets_the_finding_and_its_failure_is_said(
    tmp_path: Path, status: str, said: str, capfd: pytest.CaptureFixture[str]
) -> None:
    told = json.dumps({"code": "blob-missing"})
    run.run_command((sys.executable, "-c", TAKE, str(tmp_path / "told"), status), told)
    assert (tmp_path / "told").read_text() == told
    err = capfd.readouterr().err
    assert said in err
    assert bool(err) == bool(said)


def test_a_command_that_is_not_there(capfd: pytest.CaptureFixture[str]) -> None:
    run.run_command(("/nowhere/command",), "{}")
    assert "/nowhere/command cannot be run: No such file or directory" in capfd.readouterr().err


def test_a_change_is_a_line_without_control_characters() -> None:
    report = reports.damaged()
    finding = report.findings[0]
    for kind in ChangeKind:
        line = changes.line(Change(kind, finding), at=report.finished_at)
        assert line.isprintable()
        assert f" {kind} {finding.severity} {finding.code} " in line
