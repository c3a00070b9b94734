"""The watchdog of a repair runs isolated, and a repair without it stops."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from auditor.cli.repair_watchdog import Watchdog, WatchdogFailed


def test_code_in_the_callers_folder_or_environment_does_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trap = f"open({str(tmp_path / 'ran')!r}, 'w').close()\n"
    for name in ("auditor", "msgspec", "select", "sitecustomize", "usercustomize", "grpc"):
        (tmp_path / f"{name}.py").write_text(trap)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    watchdog = Watchdog(tmp_path / "socket")
    watchdog.start()
    watchdog.stop()
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("program", ["/bin/true", "/bin/does-not-exist"])
def test_a_watchdog_that_does_not_start_is_an_error(program: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", program)
    with pytest.raises(WatchdogFailed, match="did not start"):
        Watchdog(Path("/socket")).start()
