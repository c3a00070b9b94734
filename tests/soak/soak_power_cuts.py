"""Power cuts in pulls: the disk of one instant is audited, then repaired and pulled to again."""

from __future__ import annotations

import hashlib
import random
import shutil
import subprocess
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

import grpc

from tests import images
from tests.lab.checked import auditor_here
from tests.lab.kit.binaries import VERSIONS
from tests.lab.kit.daemon import Containerd
from tests.lab.kit.power_cut import node
from tests.lab.kit.process import ServerError
from tests.lab.kit.registry import Registry
from tests.soak.record import Failed, Outcome, Recorder, peak_mib

_IMAGES: Final = [
    images.image([images.layer(images.files(f"cut-{number}-{layer}", kilobytes=900)) for layer in range(3)])
    for number in range(4)
]


def run(seconds: float, folder: Path) -> Outcome:
    """Cut the power of one daemon after another."""
    recorder = Recorder("power_cuts", seconds)
    chance = random.SystemRandom()
    with Registry(folder / "registry") as registry:
        references = [registry.push(image, f"lab/cut{number}:1") for number, image in enumerate(_IMAGES)]
        for number in recorder.rounds():
            version = VERSIONS[-1 - number % len(VERSIONS)]
            work = folder / str(number)
            work.mkdir()
            started = time.monotonic()
            label = f"round {number}, containerd {version}"
            try:
                result = _round(work, version, references, chance.random() * 1.5)
                recorder.add(result)
            except (Failed, AssertionError, ServerError, subprocess.SubprocessError) as error:
                recorder.fail(f"{label}: {error}", str(error).encode(), suffix=".txt")
            recorder.slowest_seconds = max(recorder.slowest_seconds, time.monotonic() - started)
            recorder.slowest = "a whole round by the clock: pulls, copy, audit, repair"
            shutil.rmtree(work)
    recorder.peak_mib = peak_mib()
    return recorder.outcome()


def _round(work: Path, version: str, references: list[str], after: float) -> str:
    with node(version, work) as made:
        pulls = threading.Thread(target=_pull, args=(made.daemon, references))
        pulls.start()
        time.sleep(after)
        disk = made.cut()
        made.daemon.kill()
        pulls.join()
        made.change(disk)
        first = _audited(made.daemon.root)
        return f"exit {first}, then {_repaired(made.daemon, references)}"


def _pull(daemon: Containerd, references: list[str]) -> None:
    with suppress(grpc.RpcError):
        for reference in references:
            daemon.cri_pull(reference)


def _audited(root: Path) -> int:
    """Audit the disk of the daemon that is off; exit 0 is right only where every blob of an image is right."""
    done = auditor_here("check", "--root", root, "--verify", "digests", "--format", "json")
    if done.status not in (0, 1, 3):
        return done.status
    if done.status == 0:
        blobs = root / "io.containerd.content.v1.content/blobs/sha256"
        for image in done.report.images:
            held = [path for path in blobs.iterdir() if path.name in str(image)]
            wrong = [path.name for path in held if hashlib.sha256(path.read_bytes()).hexdigest() != path.name]
            if wrong:
                raise Failed(f"exit 0, and wrong content of {wrong}")
    return done.status


def _repaired(daemon: Containerd, references: list[str]) -> str:
    """Start the daemon, repair it, pull everything again, and find it intact."""
    try:
        daemon.start()
    except ServerError:
        return "the daemon does not start"
    _repair(daemon)
    failed = sum(bool(_pull_error(daemon, reference)) for reference in references)
    _repair(daemon)  # containerd's pull does not replace a blob whose record it has
    again = [error for reference in references if (error := _pull_error(daemon, reference))]
    last = auditor_here("check", "--address", daemon.socket, "--verify", "digests", "--format", "json")
    if again or last.status:
        found = [finding.message for finding in last.report.findings]
        raise Failed(f"after repair and pull: exit {last.status}; pulls: {again}; findings: {found}")
    return f"{failed} pulls failed before the second repair, all well after it"


def _repair(daemon: Containerd) -> None:
    done = auditor_here("repair", "--address", daemon.socket, "--yes", "--verify", "digests", "--snapshots")
    if done.status not in (0, 1, 3):
        raise Failed(f"repair ends with {done.status}: {done.err}")


def _pull_error(daemon: Containerd, reference: str) -> str:
    """Pull; return the error, empty for none."""
    try:
        daemon.cri_pull(reference)
    except grpc.RpcError as error:
        return str(error)
    return ""
