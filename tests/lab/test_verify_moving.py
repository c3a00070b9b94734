"""A store that changes, or whose daemon dies, while its bytes are read."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

from tests import images
from tests.lab.checked import check, signalled
from tests.lab.kit.daemon import Containerd
from tests.lab.kit.registry import Registry

LARGE = images.image([images.layer({"noise": images.noise(f"moving-{n}", 700_000)}) for n in range(3)])
SMALL = images.image([images.layer(images.files("moving-small", kilobytes=16))])
#: Slow enough to do something to the store meanwhile: some four seconds for the layers above.
SLOWLY = ("--limit-rate", "500KiB", "--jobs", "1", "--no-progress")


@contextmanager
def verifying(daemon: Containerd, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Run a check and hand it over once it has read the first of the large layers; two more are to come."""
    how = ("--format", "ndjson", "--verify", "digests", *SLOWLY, *arguments)
    with signalled("check", "--address", daemon.socket, *how) as run:
        assert run.stdout is not None
        assert any('"reading bytes"' in line for line in run.stdout)
        yield run


@dataclass(frozen=True)
class Told:
    """What a run said after it was handed over."""

    status: int
    loud: set[tuple[str, str]]
    complete: bool
    blobs: dict[str, int]


def ended(run: subprocess.Popen[str]) -> Told:
    out, err = run.communicate()
    assert err == "auditor: limits: reading 500.0 KiB/s\n"
    lines = [json.loads(line) for line in out.splitlines()]
    findings = [line for line in lines if line["type"] == "finding" and line["severity"] != "info"]
    (summary,) = (line for line in lines if line["type"] == "summary")
    named = {(line["code"], line["subject"]["digest"]) for line in findings}
    return Told(run.returncode, named, summary["complete"], summary["summary"]["blobs"])


def refused(run: subprocess.Popen[str]) -> str:
    """Give the sentence of a run that could not audit; it has no summary, and says nothing but this and a hint."""
    out, err = run.communicate()
    assert run.returncode == 3
    assert not any('"summary"' in line for line in out.splitlines())
    _, sentence, hint = err.splitlines()
    assert hint == "hint: is containerd running? systemctl status containerd"
    return sentence


ROOTS = pytest.mark.parametrize("root", ["auto", "none"], ids=["files", "api"])


@ROOTS
def test_what_is_collected_meanwhile_is_gone_and_not_missing(daemon: Containerd, registry: Registry, root: str) -> None:
    daemon.cri_pull(registry.push(SMALL, "lab/moving-small:1"))
    reference = registry.push(LARGE, "lab/moving-large:1")
    daemon.cri_pull(reference)
    with verifying(daemon, "--content-root", root) as run:
        daemon.cri_remove_image(reference)
        daemon.force_gc()
        assert not any(daemon.blob_path(layer.digest).exists() for layer in LARGE.layers)
        told = ended(run)
    assert (told.status, told.loud, told.complete) == (0, set(), True)
    assert told.blobs["verified"] < told.blobs["present"]


@ROOTS
def test_what_appears_meanwhile_is_left_for_the_next_time(daemon: Containerd, registry: Registry, root: str) -> None:
    daemon.cri_pull(registry.push(LARGE, "lab/moving-large:1"))
    with verifying(daemon, "--content-root", root) as run:
        daemon.cri_pull(registry.push(SMALL, "lab/moving-small:1"))
        told = ended(run)
    assert (told.status, told.loud) == (0, set())
    assert told.blobs["verified"] == len(LARGE.blobs)
    later = check(daemon, "--verify", "digests", "--content-root", root).report
    assert later.summary.blobs.verified == len(LARGE.blobs) + len(SMALL.blobs)


def test_a_daemon_that_is_killed_while_it_serves_the_bytes_ends_the_run(daemon: Containerd, registry: Registry) -> None:
    daemon.cri_pull(registry.push(LARGE, "lab/moving-large:1"))
    with verifying(daemon, "--content-root", "none") as run:
        daemon.kill()
        assert refused(run).startswith("auditor: cannot read sha256:")


def test_files_are_read_to_the_end_without_the_daemon(daemon: Containerd, registry: Registry) -> None:
    """All records were listed before; what the files hold does not depend on who would serve them."""
    daemon.cri_pull(registry.push(LARGE, "lab/moving-large:1"))
    with verifying(daemon) as run:
        daemon.kill()
        told = ended(run)
    assert (told.status, told.loud) == (0, set())
    assert told.blobs["verified"] == len(LARGE.blobs)


def test_a_finding_needs_the_daemon_for_its_second_look(daemon: Containerd, registry: Registry) -> None:
    daemon.cri_pull(registry.push(LARGE, "lab/moving-large:1"))
    with verifying(daemon) as run:
        for layer in LARGE.layers:
            daemon.blob_path(layer.digest).unlink()
        daemon.kill()
        refused(run)
