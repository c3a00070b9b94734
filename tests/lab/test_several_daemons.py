"""`auditor check` of several daemons of one node: one report each, and one exit status."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests import images
from tests.lab.checked import Run, auditor, auditor_here
from tests.lab.kit import faults
from tests.lab.kit.binaries import VERSIONS
from tests.lab.kit.daemon import Containerd
from tests.lab.kit.process import scratch
from tests.lab.kit.registry import Registry

IMAGE = images.image([images.layer(images.files(f"several-{number}", kilobytes=16)) for number in range(2)])
STATUS = "containerd_auditor_last_run_exit_status"


@pytest.fixture(scope="module")
def node(registry: Registry) -> Iterator[tuple[Containerd, Containerd]]:
    """Two daemons with the same image; a file is missing in the first one."""
    with scratch() as base, ExitStack() as running:
        daemons = []
        for name in ("damaged", "intact"):
            (base / name).mkdir()
            daemon = running.enter_context(Containerd(VERSIONS[-1], base / name))
            daemon.cri_pull(registry.push(IMAGE, "lab/several:1"))
            daemons.append(daemon)
        faults.delete_file(daemons[0], IMAGE.layers[0].digest)
        yield daemons[0], daemons[1]


def check_both(node: tuple[Containerd, Containerd], *more: str | Path) -> Run:
    addresses = [word for daemon in node for word in ("--address", daemon.socket)]
    return auditor_here("check", "--no-progress", *addresses, *more)


def statuses(text: str) -> dict[str, float]:
    """The exit status of each store in a text of metrics."""
    found = (sample for family in text_string_to_metric_families(text) for sample in family.samples)
    return {sample.labels["store"]: sample.value for sample in found if sample.name == STATUS}


def test_tables_follow_each_other_and_the_worst_status_counts(node: tuple[Containerd, Containerd]) -> None:
    ran = check_both(node)
    damaged, intact = ran.out.split("\n\nNo problems found")
    assert (ran.status, ran.err) == (1, "")
    assert f"auditor repair --address {node[0].socket} " in damaged
    assert str(node[1].socket) in intact


def test_other_formats_are_those_of_report(node: tuple[Containerd, Containerd], base: Path) -> None:
    output = base / "report.json"
    ran = check_both(node, "--format", "json", "--output", output)
    document = json.loads(output.read_text())
    assert [(row["source"]["address"], row["status"]) for row in document["nodes"]] == [
        (str(node[0].socket), "damaged"),
        (str(node[1].socket), "sound"),
    ]
    assert [line.partition(": ")[0] for line in ran.out.splitlines()] == [str(daemon.socket) for daemon in node]
    lines = [json.loads(line) for line in check_both(node, "--format", "ndjson").out.splitlines()]
    summaries = [line for line in lines if line["type"] == "summary"]
    assert [line["source"]["address"] for line in summaries] == [str(daemon.socket) for daemon in node]


def test_a_daemon_that_cannot_be_checked_leaves_the_others(node: tuple[Containerd, Containerd], base: Path) -> None:
    _, intact = node
    absent, metrics = base / "absent.sock", base / "node.prom"
    ran = auditor_here("check", "--address", intact.socket, "--address", absent, "--textfile", metrics)
    assert ran.status == 3
    assert f"there is no socket at {absent}" in ran.err
    assert "2 images: 2 sound" in ran.out or "1 image: 1 sound" in ran.out
    assert statuses(metrics.read_text()) == {str(intact.socket): 0, str(absent): 3}


def test_all_daemons_and_those_of_a_user_among_them(node: tuple[Containerd, Containerd], base: Path) -> None:
    for daemon, name in zip(node, ("containerd", "docker/containerd"), strict=True):
        (base / name).mkdir(parents=True)
        (base / name / "containerd.sock").symlink_to(daemon.socket)
    ran = auditor("check", "--address", "all", "--format", "prometheus", env={"XDG_RUNTIME_DIR": str(base)})
    found = statuses(ran.out)
    assert found[f"{base}/containerd/containerd.sock"] == 1
    assert found[f"{base}/docker/containerd/containerd.sock"] == 0
    assert ran.status == 1


@pytest.mark.parametrize("command", [("scrub",), ("repair", "--dry-run"), ("tree", "image"), ("quarantine", "list")])
def test_commands_of_one_daemon_say_so(command: tuple[str, ...]) -> None:
    for given in (("--address", "/a.sock", "-a", "/b.sock"), ("--address", "all")):
        ran = auditor_here(*command, *given)
        assert (ran.status, ran.out) == (2, "")
        assert ran.err.splitlines() == [
            "auditor: this command works on one daemon",
            "hint: give one --address; only auditor check takes several, or all",
        ]


def test_repetition_is_for_one_daemon(node: tuple[Containerd, Containerd]) -> None:
    ran = check_both(node, "--every", "1h")
    assert (ran.status, ran.out) == (2, "")
    assert "--every checks one daemon" in ran.err
