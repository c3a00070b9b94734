"""What monitoring is told: each protocol's own statuses and lengths, and unknown for what cannot be relied on."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from msgspec.structs import replace

from auditor.cli.app import main
from auditor.formats import health, json_report
from auditor.model.findings import Report, Status, Verify
from auditor.report.health import State, Thresholds, judge
from tests import program
from tests.unit import reports

NOW = reports.AT + timedelta(hours=2)
DAY = Thresholds(max_age=timedelta(days=1))
PERFORMANCE = re.compile(r"('[^'|=]+'=\d+s?;;;0)( '[^'|=]+'=\d+s?;;;0)*")


def state_of(report: Report, *, now: datetime = NOW, thresholds: Thresholds = DAY) -> State:
    return judge(json_report.render(report).encode(), now=now, thresholds=thresholds).state


def only(severity: str) -> Report:
    found = [f for f in reports.damaged().findings if f.severity == severity]
    return reports.report(reports.sound().images, found)


def test_images_that_are_not_known_to_be_sound_are_not_called_so() -> None:
    images = reports.sound().images
    unknown = tuple(replace(image, status=Status.UNKNOWN) if n == 0 else image for n, image in enumerate(images))
    for held, told in ((images, f"{len(images)} images"), (unknown, f"{len(images) - 1} of {len(images)} images")):
        saved = json_report.render(reports.report(held, ())).encode()
        assert judge(saved, now=NOW, thresholds=DAY).text.startswith(f"{told} sound")


@pytest.mark.parametrize(
    ("report", "state"),
    [
        (reports.sound(), State.OK),
        (only("info"), State.OK),
        (only("warning"), State.WARNING),
        (only("error"), State.WARNING),
        (only("critical"), State.CRITICAL),
        (replace(reports.sound(), complete=False, incomplete=("why",)), State.UNKNOWN),
        (replace(only("critical"), complete=False, incomplete=("why",)), State.CRITICAL),
    ],
)
def test_the_state(report: Report, state: State) -> None:
    assert state_of(report) is state


@pytest.mark.parametrize(("verify", "unread"), [(Verify.PRESENCE, True), (Verify.DIGESTS, False)])
def test_a_sound_node_states_whether_contents_were_read(verify: Verify, unread: bool) -> None:
    saved = json_report.render(replace(reports.sound(), verify=verify)).encode()
    assert ("contents not read" in judge(saved, now=NOW, thresholds=DAY).text) is unread


def test_thresholds_move_what_is_critical() -> None:
    error = Thresholds(critical="error", warning="error", max_age=timedelta(days=1))
    assert state_of(only("error"), thresholds=error) is State.CRITICAL
    assert state_of(only("warning"), thresholds=error) is State.OK


SOUND = json_report.render(reports.sound()).encode()
UNRELIABLE = {
    "empty": (b"", NOW, "empty"),
    "half-written": (SOUND[: len(SOUND) // 2], NOW, "truncated"),
    "not JSON": (b"\x00" * 100, NOW, "truncated or not a report"),
    "another document": (b'{"a": 1}', NOW, "not a report"),
    "another version": (SOUND.replace(b"report/v1", b"report/v9"), NOW, "another schema version"),
    "a time without a zone": (SOUND.replace(b"05:06:07Z", b"05:06:07"), NOW, "not a report"),
    "nested without end": (b"[" * 1_000_000, NOW, "not a report"),
    "stale": (SOUND, NOW + timedelta(days=3), "stale: 3d old, the limit is 24h"),
    "future": (SOUND, reports.AT - timedelta(hours=7), "from the future, by 7h"),
}


@pytest.mark.parametrize("name", UNRELIABLE)
def test_what_cannot_be_relied_on_is_unknown_with_the_reason_in_each_protocol(name: str) -> None:
    raw, now, why = UNRELIABLE[name]
    found = judge(raw, now=now, thresholds=DAY)
    assert found.state is State.UNKNOWN
    assert why in found.text
    assert health.NAGIOS_STATUS[found.state] == 3
    assert why in health.render_nagios(found)
    assert health.NPD_STATUS[found.state] == 2
    assert why[:40] in health.render_npd(found)


def test_clocks_may_differ_a_little() -> None:
    assert state_of(reports.sound(), now=reports.AT - timedelta(minutes=4)) is State.OK


@pytest.mark.parametrize(
    "report", [reports.sound(), reports.damaged(), reports.hostile()], ids=["sound", "damaged", "hostile"]
)
def test_the_plugin_output_has_the_form_that_relays_carry(report: Report) -> None:
    found = judge(json_report.render(report).encode(), now=NOW, thresholds=DAY)
    written = health.render_nagios(found)
    assert len(written.encode()) <= health.NAGIOS_MOST
    assert written.isascii()
    assert written.replace("\n", "").isprintable()
    first, *others = written.splitlines()
    assert first.startswith(f"CONTAINERD {found.state.name}: ")
    assert first.count("|") == 1
    assert PERFORMANCE.fullmatch(first.partition(" | ")[2])
    assert not any("|" in line for line in others)


@pytest.mark.parametrize(
    "report", [reports.sound(), reports.damaged(), reports.hostile()], ids=["sound", "damaged", "hostile"]
)
def test_the_problem_detector_gets_one_line_of_80_bytes_with_the_worst_first(report: Report) -> None:
    written = health.render_npd(judge(json_report.render(report).encode(), now=NOW, thresholds=DAY))
    assert 0 < len(written.encode()) <= 80
    assert written.isascii()
    assert written.isprintable()


def test_the_problem_detector_is_told_which_rule_and_which_digest() -> None:
    found = judge(json_report.render(reports.damaged()).encode(), now=NOW, thresholds=DAY)
    assert health.render_npd(found).startswith("digest-mismatch sha256:bf6e781: 3 of 15 images damaged")


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return program.run(*arguments)


@pytest.fixture
def fresh(tmp_path: Path) -> Path:
    path = tmp_path / "report.json"
    path.write_text(json_report.render(replace(reports.damaged(), finished_at=datetime.now(UTC))))
    return path


def test_the_command_line_answers_with_the_protocol_s_statuses(fresh: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["health", "nagios", str(fresh)]) == 2
    assert capfd.readouterr().out.startswith("CONTAINERD CRITICAL: 3 of 15 images damaged")
    assert main(["health", "npd", str(fresh)]) == 1
    assert main(["health", "nagios", "--max-age", "0s", str(fresh)]) == 3
    assert main(["health", "npd", "--max-age", "0s", str(fresh)]) == 2


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--no-such"],
        ["/nowhere/at/all.json"],
        ["/dev/null"],
        ["/dev/zero"],
        ["/proc"],
        ["x", "--max-age", "soon"],
        ["x", "y"],
    ],
)
def test_a_question_that_cannot_be_answered_is_unknown_by_its_own_number(
    arguments: Sequence[str], capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["health", "nagios", *arguments]) == 3
    assert main(["health", "npd", *arguments]) == 2
    said = capfd.readouterr()
    assert said.out or said.err


def test_a_pipe_does_not_keep_monitoring_waiting(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert main(["health", "npd", str(tmp_path / "pipe")]) == 2
    assert "not a regular file" in capfd.readouterr().out


def test_an_answer_loads_nothing_of_the_audit(fresh: Path) -> None:
    script = (
        "import sys; from auditor.cli.app import main; status = main(sys.argv[1:]); "
        "print(status, [m for m in ('grpc', 'jinja2', 'rich.progress', 'auditor.audit.collect', 'prometheus_client') "
        "if m in sys.modules])"
    )
    for protocol, status in (("nagios", 2), ("npd", 1)):
        command = [sys.executable, "-c", script, "health", protocol, str(fresh)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert done.stdout.splitlines()[-1] == f"{status} []"


def test_a_report_of_thousands_of_images_is_answered_from(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "large.json"
    path.write_text(json_report.render(replace(reports.large(2_000), finished_at=datetime.now(UTC))))
    assert main(["health", "npd", str(path)]) == 1
    assert "20 of 2000 images damaged" in capfd.readouterr().out
