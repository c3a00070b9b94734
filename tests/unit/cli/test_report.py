"""`auditor report` as people run it."""

from __future__ import annotations

import gzip
import io
import json
import os
from pathlib import Path

import pytest
from backports import zstd
from msgspec.structs import replace

from auditor.cli.app import main
from auditor.cli.commands import report
from auditor.formats import json_report
from auditor.model.findings import Report
from tests.unit import reports


@pytest.fixture
def saved(tmp_path: Path) -> dict[str, str]:
    def save(name: str, report: Report) -> str:
        path = tmp_path / name
        path.write_text(json_report.render(report))
        return str(path)

    return {
        "damaged": save("a.json", reports.damaged()),
        "sound": save("b.json", reports.sound()),
        "partial": save("c.json", replace(reports.sound(), complete=False, incomplete=("why",))),
    }


FORMATS = {
    "table": "3 images damaged",
    "json": '"schema": "containerd-auditor/report/v1"',
    "ndjson": '{"type":"summary"',
    "prometheus": "# TYPE containerd_auditor_findings gauge",
    "junit": "<testsuites",
    "markdown": "## containerd on",
    "html": "<!doctype html>",
}


@pytest.mark.parametrize("name", FORMATS)
def test_a_saved_report_in_each_format(name: str, saved: dict[str, str], capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["report", saved["damaged"], "--format", name]) == 1
    assert FORMATS[name] in capfd.readouterr().out


def test_a_saved_report_comes_back_as_it_was(saved: dict[str, str], capfd: pytest.CaptureFixture[str]) -> None:
    main(["report", saved["damaged"], "--format", "json"])
    assert capfd.readouterr().out == Path(saved["damaged"]).read_text()


@pytest.mark.parametrize("name", FORMATS)
def test_several_reports_in_each_format(name: str, saved: dict[str, str], capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["report", saved["damaged"], saved["sound"], "--format", name]) == 1
    written = capfd.readouterr().out
    assert "worker-07.fra.example" in written
    assert "node-a" in written


def test_the_fleet_as_json_names_its_own_schema(saved: dict[str, str], capfd: pytest.CaptureFixture[str]) -> None:
    main(["report", saved["sound"], saved["damaged"], "-f", "json"])
    fleet = json.loads(capfd.readouterr().out)
    assert fleet["schema"] == "containerd-auditor/fleet/v1"
    assert [node["status"] for node in fleet["nodes"]] == ["sound", "damaged"]


@pytest.mark.parametrize(
    ("files", "options", "status"),
    [
        (["sound"], [], 0),
        (["damaged"], [], 1),
        (["damaged"], ["--fail-on", "never"], 0),
        (["partial"], [], 3),
        (["sound", "partial"], [], 3),
        (["partial", "damaged"], [], 1),
        (["damaged"], ["--against", "damaged"], 0),
        (["damaged"], ["--against", "sound"], 1),
        (["sound"], ["--against", "damaged"], 0),
        (["partial"], ["--against", "damaged"], 3),
    ],
)
def test_the_exit_status(
    files: list[str], options: list[str], status: int, saved: dict[str, str], capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", *(saved[name] for name in files), *(saved.get(word, word) for word in options)]) == status
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("name", ["table", "json", "ndjson", "markdown", "html"])
def test_against_an_older_report(name: str, saved: dict[str, str], capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["report", saved["damaged"], "--against", saved["sound"], "-f", name]) == 1
    assert "another store" in capfd.readouterr().out


@pytest.mark.parametrize("name", ["prometheus", "junit"])
def test_formats_that_cannot_say_what_changed_refuse(
    name: str, saved: dict[str, str], capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", saved["damaged"], "--against", saved["sound"], "-f", name]) == 2
    assert f"{name} cannot show changes" in capfd.readouterr().err


def test_what_is_no_report_is_said_in_a_sentence(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for number, content in enumerate((b"", b"{", b"[]", b'{"schema": "other"}', b"\xff\xfe", b"[" * 100_000)):
        path = tmp_path / f"{number}.json"
        path.write_bytes(content)
        assert main(["report", str(path)]) == 2
        said = capfd.readouterr()
        assert "is not a report of this version" in said.err
        assert said.out == ""
    assert main(["report", str(tmp_path / "absent.json")]) == 2
    assert main(["report", str(tmp_path)]) == 2


def test_standard_input_and_a_file_for_the_output(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(json_report.render(reports.sound()).encode())))
    target = tmp_path / "page.html"
    assert main(["report", "-", "-f", "html", "-o", str(target)]) == 0
    assert target.read_text().startswith("<!doctype html>")
    assert target.stat().st_mode & 0o777 == 0o644
    assert capfd.readouterr().out == ""


def test_quiet_says_nothing_of_a_sound_node(saved: dict[str, str], capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["report", saved["sound"], "--quiet"]) == 0
    assert capfd.readouterr().out == ""
    assert main(["report", saved["damaged"], "--quiet"]) == 1
    assert capfd.readouterr().out


@pytest.mark.parametrize("name", FORMATS)
def test_hostile_names_cannot_move_a_terminal_in_any_format(
    name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "hostile.json"
    path.write_text(json_report.render(reports.hostile()))
    assert main(["report", str(path), "-f", name]) == 1
    written = capfd.readouterr().out
    assert written.replace("\n", "").isprintable()
    assert main(["report", str(path), str(path), "-f", name]) == 1
    assert capfd.readouterr().out.replace("\n", "").isprintable()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a sound report packed with gzip, a damaged one packed with zstd, and a hidden file."""
    made = tmp_path / "day"
    (made / "rack").mkdir(parents=True)
    (made / "a.json.gz").write_bytes(gzip.compress(json_report.render(reports.sound()).encode()))
    (made / "rack" / "b.json.zst").write_bytes(zstd.compress(json_report.render(reports.damaged()).encode()))
    (made / ".partial").write_bytes(b"{")
    return made


def test_a_folder_of_packed_reports(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(folder), "-f", "json"]) == 1
    said = capfd.readouterr()
    assert sorted(node["status"] for node in json.loads(said.out)["nodes"]) == ["damaged", "sound"]
    assert said.err == ""


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"{", "is not a report of this version"),
        (b"", "is not a report of this version"),
        (gzip.compress(b"{}" * 99)[:-9], "the gzip stream ends before its end"),
        (gzip.compress(json_report.render(reports.sound()).encode()) + b"more", "bytes that are not gzip follow"),
        (b"BZh9", "the bzip2 stream ends before its end"),
    ],
    ids=["cut", "empty", "gzip cut", "gzip and more", "bzip2"],
)
def test_a_bad_file_is_named_and_the_rest_is_shown(
    content: bytes, reason: str, folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (folder / "rack" / "b.json.zst").write_bytes(content)
    for name, words in (
        ("table", "1 node: 1 file could not be read"),
        ("markdown", "Files that could not be read"),
        ("html", "Not fully checked"),
        ("json", '"complete": false'),
    ):
        assert main(["report", str(folder), "-f", name]) == 3
        said = capfd.readouterr()
        assert words in said.out
        assert reason in said.err
        assert "b.json.zst" in said.err
        assert "Traceback" not in said.err


def test_a_bad_file_does_not_hide_damage(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (folder / "c.json").write_bytes(b"{")
    assert main(["report", str(folder), "--quiet"]) == 1
    assert "1 damaged, 1 file could not be read" in capfd.readouterr().out


def test_what_is_no_file_in_a_folder_is_named(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    os.mkfifo(folder / "pipe")
    (folder / "link").symlink_to(folder / "rack")
    (folder / "dangling").symlink_to(folder / "absent")
    assert main(["report", str(folder), "-f", "json"]) == 1
    fleet = json.loads(capfd.readouterr().out)
    assert [Path(file["file"]).name for file in fleet["unread"]] == ["dangling", "link", "pipe"]
    assert not fleet["complete"]


def test_a_pipe_without_a_writer_is_refused(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert main(["report", str(tmp_path / "pipe")]) == 2
    assert "it is a pipe\nhint: auditor report - < " in capfd.readouterr().err


@pytest.mark.parametrize(("protocol", "status"), [("nagios", 3), ("npd", 2)])
def test_health_reads_no_file_of_gigabytes(
    tmp_path: Path, protocol: str, status: int, capfd: pytest.CaptureFixture[str]
) -> None:
    with (tmp_path / "large.json").open("wb") as file:
        file.truncate(3 << 30)
    assert main(["health", protocol, str(tmp_path / "large.json")]) == status
    assert "larger than" in capfd.readouterr().out


def test_a_packed_bomb_ends_at_the_limit(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("auditor.cli.saved_reports.MAX_REPORT", 4 << 20)
    (folder / "bomb.gz").write_bytes(gzip.compress(b" " * (8 << 20)))
    assert main(["report", str(folder)]) == 1
    assert "bomb.gz cannot be read: it is larger than 4 MiB" in capfd.readouterr().err


def test_an_empty_folder_is_said(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(tmp_path)]) == 2
    assert "has no files" in capfd.readouterr().err


def test_many_reports_point_to_fleet(
    saved: dict[str, str], capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    main(["report", saved["sound"], saved["partial"]])
    assert "auditor fleet" not in capfd.readouterr().err
    monkeypatch.setattr(report, "MANY", 2)
    main(["report", saved["sound"], saved["partial"]])
    assert "note: 2 reports; auditor fleet shows" in capfd.readouterr().err
