"""Metrics: what node_exporter takes, what must not be a label, and that a failed run is no success."""

from __future__ import annotations

from datetime import timedelta

import pytest
from msgspec.structs import replace
from prometheus_client.parser import text_string_to_metric_families

from auditor.formats import prometheus
from auditor.model.findings import Coverage, Report, Severity
from tests.unit import reports

CODES = {
    "digest-mismatch": Severity.CRITICAL,
    "snapshot-without-blob": Severity.ERROR,
    "stale-ingest": Severity.WARNING,
}
MINE = {"command": "check", "store": "/run/containerd/containerd.sock"}
NAME = "containerd_auditor_"


def text(report: Report, **options: object) -> str:
    return prometheus.render([prometheus.Run(report=report, exit_status=0, **options)], codes=CODES)  # type: ignore[arg-type]


def samples(written: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    return {
        (s.name.removeprefix(NAME), tuple(sorted(s.labels.items()))): s.value
        for family in text_string_to_metric_families(written)
        for s in family.samples
    }


def value(written: str, name: str, **labels: str) -> float:
    return samples(written)[name, tuple(sorted({**MINE, **labels}.items()))]


def test_each_family_has_help_and_type_once_and_no_sample_has_a_time() -> None:
    lines = text(reports.damaged()).splitlines()
    names = {line.partition("{")[0] for line in lines if not line.startswith("#")}
    assert [line for line in lines if line.startswith("# TYPE")] == [
        f"# TYPE {n} gauge" for n in dict.fromkeys(line.partition("{")[0] for line in lines if not line.startswith("#"))
    ]
    assert sum(line.startswith("# HELP") for line in lines) == len(names)
    assert all(len(line.rpartition("}")[2].split()) == 1 for line in lines if not line.startswith("#"))
    assert all(name.startswith(NAME) for name in names)


def test_counts_by_code_and_severity_and_a_rule_that_found_nothing_says_zero() -> None:
    written = text(reports.damaged())
    assert value(written, "findings", severity="error", code="snapshot-without-blob") == 2
    assert value(written, "findings", severity="critical", code="digest-mismatch") == 1
    assert value(written, "findings", severity="warning", code="stale-ingest") == 0


def test_blobs_are_counted_in_states_that_do_not_overlap() -> None:
    report = reports.damaged()
    written = text(report)
    states = ("verified", "unproven", "corrupt", "unreadable")
    assert sum(value(written, "blobs", state=state) for state in states) == report.summary.blobs.present
    assert value(written, "images", state="damaged") == 3
    assert value(written, "images", state="sound") == 12


def test_no_name_and_no_digest_of_an_image_is_in_the_file() -> None:
    written = text(reports.damaged())
    assert "sha256" not in written
    assert "shop" not in written


def test_a_code_that_no_rule_has_is_bounded() -> None:
    hostile = replace(reports.damaged().findings[0], code='x"} 1\nevil 2')
    written = text(replace(reports.damaged(), findings=(hostile,)))
    assert value(written, "findings", severity="critical", code="other") == 1
    assert "evil" not in written


def test_a_complete_run_is_a_success_even_with_findings() -> None:
    written = text(reports.damaged())
    assert value(written, "last_success_timestamp_seconds") == reports.AT.timestamp()
    assert value(written, "last_run_complete") == 1


def test_an_incomplete_run_keeps_the_success_of_before() -> None:
    before = text(reports.sound())
    later = replace(reports.sound(), finished_at=reports.AT + timedelta(hours=6), complete=False)
    kept = prometheus.last_success(before, mine=MINE)
    written = text(later, last_success=kept)
    assert value(written, "last_run_timestamp_seconds") == reports.AT.timestamp() + 6 * 3600
    assert value(written, "last_success_timestamp_seconds") == reports.AT.timestamp()
    assert value(written, "last_run_complete") == 0


def test_where_no_run_ever_succeeded_there_is_no_success_to_read() -> None:
    written = text(replace(reports.sound(), complete=False))
    assert "last_success" not in written


def test_a_run_without_a_report_keeps_what_was_known_and_tells_of_itself() -> None:
    before = text(reports.damaged())
    at = reports.AT.timestamp() + 60
    after = prometheus.failed(before, command="check", address="elsewhere", at=at, exit_status=3)
    assert value(after, "last_run_timestamp_seconds") == at
    assert value(after, "last_run_exit_status") == 3
    assert value(after, "last_run_complete") == 0
    assert value(after, "last_success_timestamp_seconds") == reports.AT.timestamp()
    assert value(after, "findings", severity="critical", code="digest-mismatch") == 1


def of_two_daemons() -> str:
    other = reports.damaged()
    other = replace(other, source=replace(other.source, address="/other.sock"))
    runs = [prometheus.Run(report=report, exit_status=1) for report in (reports.damaged(), other)]
    return prometheus.render(runs, codes=CODES)


def test_of_several_daemons_only_the_one_that_failed_changes() -> None:
    at = reports.AT.timestamp() + 60
    after = prometheus.failed(of_two_daemons(), command="check", address="/other.sock", at=at, exit_status=3)
    assert value(after, "last_run_exit_status") == 1
    assert value(after, "last_run_exit_status", store="/other.sock") == 3
    assert value(after, "findings", store="/other.sock", severity="critical", code="digest-mismatch") == 1


def test_where_no_daemon_could_be_found_all_of_the_earlier_run_failed() -> None:
    at = reports.AT.timestamp() + 60
    after = prometheus.failed(of_two_daemons(), command="check", address="", at=at, exit_status=3)
    assert value(after, "last_run_exit_status") == value(after, "last_run_exit_status", store="/other.sock") == 3
    assert ("last_run_exit_status", (("command", "check"), ("store", ""))) not in samples(after)


def test_a_daemon_that_failed_is_added_with_its_earlier_findings() -> None:
    now = text(reports.sound())
    after = prometheus.with_failed(
        now, of_two_daemons(), command="check", addresses=["/other.sock"], at=5.0, exit_status=3
    )
    assert value(after, "findings", severity="critical", code="digest-mismatch") == 0
    assert value(after, "findings", store="/other.sock", severity="critical", code="digest-mismatch") == 1
    assert value(after, "last_run_exit_status", store="/other.sock") == 3
    assert value(after, "last_run_timestamp_seconds", store="/other.sock") == 5


@pytest.mark.parametrize(
    "earlier", ["", "half a li", "# HELP other x\n# TYPE other gauge\nother 1\n", "\x00" * 50, "}{\n"]
)
def test_a_first_failure_or_a_damaged_file_gives_a_file_about_the_run_alone(earlier: str) -> None:
    after = prometheus.failed(earlier, command="check", address=MINE["store"], at=5.0, exit_status=3)
    assert {name for name, _ in samples(after)} == {
        "last_run_timestamp_seconds",
        "last_run_complete",
        "last_run_exit_status",
    }
    assert prometheus.last_success(earlier, mine=MINE) is None


def test_a_scrub_tells_the_age_of_the_oldest_proof_and_never_collides_with_a_check() -> None:
    oldest = reports.AT - timedelta(days=3)
    coverage = Coverage(blobs=9, bytes=900, proven_blobs=8, proven_bytes=800, known_bad=1, oldest_proof_at=oldest)
    scrub = text(replace(reports.sound(), coverage=coverage), command="scrub")
    assert value(scrub, "oldest_proof_timestamp_seconds", command="scrub") == oldest.timestamp()
    assert value(scrub, "oldest_proof_age_seconds", command="scrub") == 3 * 86400
    assert value(scrub, "scrub_bad_blobs", command="scrub") == 1
    assert not samples(scrub).keys() & samples(text(reports.sound())).keys()


def test_hostile_words_of_a_report_are_label_values_and_nothing_else() -> None:
    written = text(reports.hostile())
    assert {store for (_, labels) in samples(written) for key, store in labels if key == "store"} == {
        'x"} 1\\n# HELP evil evil\\nevil{a="b"} 2'
    }
    assert not any(line.startswith(("# HELP evil", "evil")) for line in written.splitlines())


def test_several_nodes_are_told_apart() -> None:
    runs = [prometheus.Run(report=reports.sound(), exit_status=0, node=node) for node in ("a", "b")]
    written = prometheus.render(runs, codes=CODES)
    assert value(written, "images", state="sound", node="a") == value(written, "images", state="sound", node="b") == 2
