"""Many files in several processes: every file gives its report or its reason, also where a process is killed."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from auditor.fleet.read_file import FileContent, read_file
from auditor.fleet.read_reports import read_reports
from tests import fleet_nodes


def deadly(path: Path, *, limit: int) -> FileContent:
    """Read a file, as the kernel lets a process that takes too much memory."""
    if path.name.endswith("0007.json"):
        os.kill(os.getpid(), signal.SIGKILL)
    return read_file(path, limit=limit)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("reports")
    whole = next(raw for _, raw in fleet_nodes.fleet(1))
    for number in range(150):
        raw = whole.replace(b"node-00000", f"node-{number:05}".encode())
        (folder / f"{number:05}.json").write_bytes(raw if number != 11 else raw[:-9])
    return sorted(folder.iterdir())


@pytest.mark.parametrize("jobs", [1, 3])
def test_every_file_has_its_outcome(files: list[Path], jobs: int) -> None:
    found = list(read_reports(files, limit=1 << 26, jobs=jobs))
    assert sorted(report.file for content in found for report in content.reports) == [
        str(path) for path in files if path.name != "00011.json"
    ]
    assert [unread.file for content in found for unread in content.unread] == [str(files[11])]


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_process_that_is_killed_costs_its_file_alone(files: list[Path]) -> None:
    found = list(read_reports(files, limit=1 << 26, jobs=2, read=deadly))
    unread = {unread.file: unread.reason for content in found for unread in content.unread}
    assert unread.keys() == {str(files[7]), str(files[11])}
    assert "was killed" in unread[str(files[7])]
    assert sum(len(content.reports) for content in found) == len(files) - 2
