"""Our metrics through a real node_exporter into a real Prometheus with our rules, from a damaged store to an alert."""

from __future__ import annotations

import json
import os
import re
import signal
import stat
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.checked import auditor
from tests.lab.conftest import StartDaemon
from tests.lab.kit import bug, faults
from tests.lab.kit.daemon import Containerd
from tests.lab.kit.registry import Registry
from tests.lab.watching import Prometheus, fetch, free_place, node_exporter, prometheus, promtool
from tests.program import ROOT, command, environment

REPORTS = ROOT / "reports"


def run_promtool(*arguments: str | Path, stdin: str = "") -> str:
    done = subprocess.run([promtool(), *arguments], input=stdin, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def samples(text: str, name: str) -> dict[str, float]:
    found = re.findall(rf"(?m)^containerd_auditor_{name}(\{{.*\}}) (\S+)$", text)
    return {labels: float(value) for labels, value in found}


@pytest.fixture
def damaged(start_daemon: StartDaemon, registry: Registry) -> Containerd:
    """Give a store with the missing-blobs bug and a flipped bit."""
    daemon = start_daemon("2.1")
    found = bug.reproduce(daemon, registry, name="watched")
    faults.flip(daemon, found.pair.first.layers[-1].digest)
    return daemon


@pytest.fixture
def textfiles(base: Path) -> Path:
    folder = base / "textfiles"
    folder.mkdir()
    return folder


@pytest.fixture
def watched(base: Path, textfiles: Path) -> Iterator[tuple[Prometheus, str]]:
    with node_exporter(base, textfiles) as node, prometheus(base, node=node) as running:
        yield running, node


def test_the_rules_are_rules_and_do_what_their_tests_say() -> None:
    assert "SUCCESS: 14 rules found" in run_promtool("check", "rules", REPORTS / "alerts.yml")
    assert "SUCCESS" in run_promtool("test", "rules", REPORTS / "alerts_test.yml")


def test_the_metrics_of_a_check_and_a_scrub_pass_promtool(damaged: Containerd, textfiles: Path) -> None:
    scrub = ["--snapshots", "--state", str(textfiles / "state.db")]
    for name, options in (("check", ["--verify", "digests"]), ("scrub", scrub)):
        written = auditor(name, "--address", damaged.socket, "--format", "prometheus", *options)
        assert written.status == 1
        assert run_promtool("check", "metrics", stdin=written.out) == ""


def test_a_damaged_store_ends_as_alerts(damaged: Containerd, textfiles: Path, watched: tuple[Prometheus, str]) -> None:
    running, node = watched
    running.wait_for("ContainerdAuditorAbsent")
    old = os.umask(0o077)
    try:
        for name, options in (("check", ["--verify", "digests"]), ("scrub", ["--state", str(textfiles / "state.db")])):
            target = textfiles / f"{name}.prom"
            done = auditor(name, "--address", damaged.socket, "--textfile", target, "--quiet", *options)
            assert done.status == 1
            assert stat.S_IMODE(target.stat().st_mode) == 0o644
    finally:
        os.umask(old)

    running.wait_scraped('ALERTS{alertname="ContainerdStoreDamaged",alertstate="firing",command="scrub"}')
    firing = running.wait_for("ContainerdStoreDamaged", "ContainerdImagesCannotBeMoved")
    assert {labels["command"] for labels in firing["ContainerdStoreDamaged"]} == {"check", "scrub"}
    running.wait_without("ContainerdAuditorAbsent")
    assert set(running.alerts()) == {"ContainerdStoreDamaged", "ContainerdImagesCannotBeMoved"}
    scraped = fetch(f"http://{node}/metrics")
    assert "node_textfile_scrape_error 0" in scraped
    assert 'code="digest-mismatch",command="check",severity="critical"' in scraped


def test_every_panel_of_the_dashboard_asks_what_prometheus_can_answer(
    damaged: Containerd, textfiles: Path, watched: tuple[Prometheus, str]
) -> None:
    for name, options in (("check", []), ("scrub", ["--snapshots", "--state", str(textfiles / "state.db")])):
        auditor(name, "--address", damaged.socket, "--textfile", textfiles / f"{name}.prom", *options)
    running, _ = watched
    running.wait_scraped('containerd_auditor_findings{command="scrub"}')
    dashboard = json.loads((REPORTS / "dashboard.json").read_text())
    places = [(p["gridPos"]["x"], p["gridPos"]["y"]) for p in dashboard["panels"]]
    assert len(set(places)) == len({p["id"] for p in dashboard["panels"]}) == len(places)
    for panel in dashboard["panels"]:
        for target in panel["targets"]:
            asked = target["expr"].replace("$instance", ".*").replace("$command", ".*")
            assert "$" not in asked
            assert running.query(asked), f"{panel['title']}: {asked} gives nothing"


def test_a_run_that_fails_is_no_success_and_what_was_found_stays_known(
    damaged: Containerd, textfiles: Path, watched: tuple[Prometheus, str]
) -> None:
    target = textfiles / "check.prom"
    options = ("check", "--address", damaged.socket, "--verify", "digests", "--textfile", target)
    assert auditor(*options).status == 1
    before = target.read_text()
    damaged.stop()
    assert auditor(*options).status == 3
    after = target.read_text()
    assert samples(after, "last_success_timestamp_seconds") == samples(before, "last_success_timestamp_seconds")
    assert samples(after, "findings") == samples(before, "findings")
    (earlier,), (later,) = (samples(text, "last_run_timestamp_seconds").values() for text in (before, after))
    assert later > earlier
    assert run_promtool("check", "metrics", stdin=after) == ""
    firing = watched[0].wait_for("ContainerdAuditIncomplete", "ContainerdStoreDamaged")
    assert "ContainerdTextfileUnreadable" not in firing


def test_the_loop_serves_metrics_outlives_its_daemon_and_ends_cleanly(
    damaged: Containerd, base: Path, textfiles: Path
) -> None:
    place, report = free_place(), base / "report.json"
    line = command(
        *("check", "--address", damaged.socket, "--verify", "digests", "--every", "1s", "--jitter", "0.2s"),
        *("--listen", place, "--format", "json", "--output", report, "--textfile", textfiles / "a.prom"),
    )
    with (base / "loop.log").open("wb") as log:
        loop = subprocess.Popen(line, cwd=ROOT, env=environment({"AUDITOR_HOST": "node-7"}), stdout=log, stderr=log)
    try:
        with prometheus(base, auditor=place) as running:
            running.wait_for("ContainerdStoreDamaged")
            assert fetch(f"http://{place}/healthz") == "ok; the last round ended with 1\n"
            assert json.loads(report.read_text())["host"] == "node-7"
            assert auditor("health", "npd", report).status == 1
            damaged.kill()
            running.wait_for("ContainerdAuditIncomplete", "ContainerdStoreDamaged")
            assert loop.poll() is None
            damaged.start()
            running.wait_without("ContainerdAuditIncomplete")
        begun = time.monotonic()
        loop.send_signal(signal.SIGTERM)
        assert loop.wait(30) == 0
        assert time.monotonic() - begun < 30
    finally:
        loop.kill()
        loop.wait()
    said = (base / "loop.log").read_text()
    assert "Traceback" not in said
    assert said.count("2 images: ") >= 2
    assert said.rstrip().endswith("auditor: stopped")
    assert not list(base.glob(".*.tmp"))
