"""`auditor fleet` as people run it."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from auditor.cli.app import main
from auditor.formats import json_report
from auditor.model.findings import Report
from tests import fleet_nodes
from tests.unit import reports


def saved(folder: Path, *made: Report) -> Path:
    folder.mkdir(exist_ok=True)
    for report in made:
        (folder / f"{report.host.replace('/', '_')[:40]}.json").write_text(json_report.render(report))
    return folder


def named(host: str, report: Report | None = None, **fields: object) -> Report:
    return msgspec.structs.replace(report or reports.sound(), host=host, **fields)


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    folder = saved(tmp_path / "reports", named("a"), named("b", reports.damaged()), named("c"))
    (folder / "d.json").write_bytes(b"\x7fELF")
    return folder


def test_the_verdict_is_the_first_line(mixed: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["fleet", str(mixed)]) == 1
    out = capfd.readouterr().out
    assert out.splitlines()[0] == "3 nodes: 1 damaged, 2 without problems; 1 report not read"
    assert f"{mixed}/d.json: it is not a report" in out
    assert "What damaged nodes share:" in out


def test_the_same_as_json_and_as_a_page(mixed: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["fleet", str(mixed), "-f", "json"]) == 1
    found = json.loads(capfd.readouterr().out)
    assert found["schema"] == "containerd-auditor/fleet-picture/v1"
    assert found["counts"] == {"reported": 3, "sound": 2, "damaged": 1, "unknown": 0, "silent": 0, "unread": 1}
    assert [node["name"] for node in found["nodes"]] == ["b"]
    assert main(["fleet", str(mixed), "-f", "html"]) == 1
    page = capfd.readouterr().out
    assert page.startswith("<!doctype html>")
    assert "1 of 3 nodes damaged" in page


@pytest.mark.parametrize(
    ("hosts", "options", "status"),
    [
        (["a"], [], 0),
        (["a"], ["--nodes", "a\n"], 0),
        (["a"], ["--nodes", "a\nb\n"], 3),
        (["a"], ["--max-age", "1h"], 3),
        (["a"], ["--max-age", "5200w"], 0),
        (["a", "damaged"], ["--nodes", "a\nb\n"], 1),
        (["partial"], [], 3),
    ],
)
def test_exit_statuses(tmp_path: Path, hosts: list[str], options: list[str], status: int) -> None:
    made = {
        "a": named("a"),
        "damaged": named("damaged", reports.damaged()),
        "partial": named("partial", complete=False, incomplete=("why",)),
    }
    folder = saved(tmp_path / "reports", *(made[host] for host in hosts))
    if options[:1] == ["--nodes"]:
        (tmp_path / "nodes").write_text(options[1])
        options = ["--nodes", str(tmp_path / "nodes")]
    assert main(["fleet", str(folder), *options]) == status


def test_quiet_says_nothing_of_a_sound_fleet(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["fleet", str(saved(tmp_path / "reports", named("a"))), "--quiet"]) == 0
    assert capfd.readouterr() == ("", "")


def test_patterns_files_and_folders_name_each_file_once(mixed: Path, capfd: pytest.CaptureFixture[str]) -> None:
    words = [str(mixed / "*.json"), str(mixed), str(mixed / "a.json")]
    assert main(["fleet", *words, "-f", "json"]) == 1
    found = json.loads(capfd.readouterr().out)
    assert (found["counts"]["reported"], found["superseded"], len(found["unread"])) == (3, 0, 1)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nowhere"], "there is no file or folder nowhere"),
        (["nothing-*.json"], "no file matches nothing-*.json"),
        (["."], "has no files"),
        (["bad.json"], "no report of a node in 1 file; the first is bad.json: it is not a report"),
        (["bad.json", "--nodes", "nowhere"], "nowhere cannot be read"),
        (["bad.json", "--max-file-size", "many"], "'many' is not a size"),
        ([], "PATH"),
    ],
)
def test_bad_input_is_one_sentence_and_one_hint(
    tmp_path: Path, words: list[str], said: str, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    if "bad.json" in words:
        (tmp_path / "bad.json").write_text("{}")
    assert main(["fleet", *words]) == 2
    err = capfd.readouterr().err
    assert said in err
    assert len(err.splitlines()) == 2


def test_names_of_reports_are_hostile(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    evil = "\x1b[31m../../etc/passwd\u202e<script>alert(1)</script>\n"
    folder = saved(tmp_path / "reports", named(evil, reports.damaged(), facts={evil: evil}), named("a"))
    (folder / "x\x1b[2J.json").write_text("no")
    main(["fleet", str(folder)])
    out = capfd.readouterr().out
    assert "\x1b" not in out
    assert "\u202e" not in out
    main(["fleet", str(folder), "-f", "html"])
    page = capfd.readouterr().out
    assert "<script>alert" not in page
    assert "\x1b" not in page
    main(["fleet", str(folder), "-f", "json"])
    assert evil in {node["name"] for node in json.loads(capfd.readouterr().out)["nodes"]}


def test_a_page_of_a_large_fleet_stays_small(tmp_path: Path) -> None:
    folder = tmp_path / "reports"
    folder.mkdir()
    whole = json_report.render(named("HOST", reports.damaged())).encode()
    for number in range(900):
        (folder / f"{number}.json").write_bytes(whole.replace(b"HOST", f"node-{number}".encode()))
    assert main(["fleet", str(folder), "-f", "html", "-o", str(tmp_path / "page.html"), "-q"]) == 1
    assert (tmp_path / "page.html").stat().st_size < 2_000_000


def test_what_a_stranger_looks_for_is_on_the_first_screen(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """One bad batch of disks, though a mirror and a bug damage more nodes."""
    fleet_nodes.write(tmp_path / "reports", fleet_nodes.fleet(2000))
    assert main(["fleet", str(tmp_path / "reports")]) == 1
    first = capfd.readouterr().out.splitlines()[:24]
    assert any(f"disk_model {fleet_nodes.BAD_DISK}: " in line for line in first)


def test_tables_for_other_engines(mixed: Path, tmp_path: Path) -> None:
    assert main(["fleet", str(mixed), "--export-parquet", str(tmp_path / "tables"), "-q"]) == 1
    assert {path.name for path in (tmp_path / "tables").iterdir()} == {"report", "finding", "image", "copy", "unread"}
