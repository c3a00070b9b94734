"""No false alarm on unpacked files: images with every oddity, pulled over CRI and by ctr, on each release."""

from __future__ import annotations

from pathlib import Path

from tests import images
from tests.lab.checked import check, loud
from tests.lab.conftest import StartDaemon
from tests.lab.kit.daemon import Containerd
from tests.lab.kit.registry import Registry
from tests.lab.odd_layers import LAYERS, by_gnu_tar


def test_no_odd_image_is_a_finding(daemon: Containerd, registry: Registry, base: Path) -> None:
    odd = {**LAYERS, **by_gnu_tar(base)}
    assert len(odd) > 30
    for number, (name, layers) in enumerate(odd.items()):
        reference = registry.push(images.image(layers), f"odd/{name}:1")
        if number % 2:
            daemon.ctr("images", "pull", "--plain-http", reference)
        else:
            daemon.cri_pull(reference)
    daemon.kill()
    daemon.start()  # all that was unpacked before is suspect now
    for level in ("presence", "snapshots-quick", "snapshots"):
        run = check(daemon, "--verify", level)
        found = [(finding.code, finding.message) for finding in run.report.findings]
        assert not found, "\n".join(map(str, found))
        assert (run.status, run.report.incomplete) == (0, ())


def test_layers_that_were_discarded_are_said_and_not_accused(start_daemon: StartDaemon, registry: Registry) -> None:
    daemon = start_daemon("2.1", discard_unpacked_layers=True)
    odd = images.image(LAYERS["whiteouts"])
    daemon.cri_pull(registry.push(odd, "odd/discarded:1"))
    for layer in odd.layers:  # the garbage collection may come later
        daemon.ctr("content", "rm", layer.digest, check=False)
    daemon.kill()
    daemon.start()
    for arguments in (("--since-crash",), ("--verify", "snapshots-quick")):
        run = check(daemon, *arguments)
        assert not [finding for finding in run.report.findings if finding.code.startswith("snapshot-u")]
    run = check(daemon, "--verify", "snapshots")
    found = {finding.subject.name for finding in run.report.findings if finding.code == "snapshot-unverifiable"}
    assert (len(found), loud(run.report)) == (2, set())
