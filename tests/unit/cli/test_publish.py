"""A report goes out by every way that was asked for, and a way that fails is said."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from msgspec.structs import replace

from auditor.cli.choices import ReportFormat
from auditor.cli.metrics_files import failure_told, metrics_places
from auditor.cli.options import Common
from auditor.cli.publish import publish
from auditor.errors import StoreUnreachable, UsageError
from tests.unit import reports


def test_metrics_that_cannot_be_written_do_not_keep_the_report(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    gone = tmp_path / "no folder" / "a.prom"
    assert publish(reports.sound(), Common(), ReportFormat.JSON, status=0, textfile=gone) == 3
    said = capfd.readouterr()
    assert '"schema"' in said.out
    assert "a.prom could not be written" in said.err
    assert publish(reports.damaged(), Common(), ReportFormat.JSON, status=1, textfile=gone) == 1


def test_a_quiet_sound_node_still_leaves_its_metrics(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "a.prom"
    assert publish(reports.sound(), Common(quiet=True), ReportFormat.TABLE, status=0, textfile=target) == 0
    assert capfd.readouterr() == ("", "")
    assert stat.S_IMODE(target.stat().st_mode) == 0o644


def test_an_incomplete_run_does_not_refresh_the_success_in_either_file(tmp_path: Path) -> None:
    files = (tmp_path / "out.prom", tmp_path / "text.prom")
    options = Common(output=files[0], quiet=True)
    publish(reports.sound(), options, ReportFormat.PROMETHEUS, status=0, textfile=files[1])
    later = replace(reports.sound(), complete=False, finished_at=reports.AT.replace(year=2027))
    publish(later, options, ReportFormat.PROMETHEUS, status=3, textfile=files[1])
    for file in files:
        lines = [line for line in file.read_text().splitlines() if "_timestamp_seconds{" in line]
        assert [float(line.rpartition(" ")[2]) for line in lines] == [
            later.finished_at.timestamp(),
            reports.AT.timestamp(),
        ]


def test_a_run_without_a_report_is_told_and_wrong_usage_is_not(tmp_path: Path) -> None:
    target = tmp_path / "a.prom"
    places = metrics_places(Common(), ReportFormat.TABLE, target)
    with pytest.raises(UsageError), failure_told(places, command="check", address="/s"):
        raise UsageError("never meant")
    assert not target.exists()
    with pytest.raises(StoreUnreachable), failure_told(places, command="check", address="/s"):
        raise StoreUnreachable("nobody answers")
    assert 'last_run_complete{command="check",store="/s"} 0.0' in target.read_text()
