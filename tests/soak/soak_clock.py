"""Wall clocks that jump in the middle of a command, by an hour or ten years, forward or back: nothing waits for them.

The jump is that of a preloaded library (clock_jump.c), of the command's process alone: a clock that differs from the
daemon's from then on.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from tests import images
from tests.lab.checked import auditor_here
from tests.lab.kit import faults
from tests.lab.kit.binaries import VERSIONS
from tests.lab.kit.daemon import Containerd
from tests.lab.kit.registry import Registry
from tests.lab.repaired import ours
from tests.program import ROOT, environment
from tests.soak.record import Ended, Failed, Outcome, Recorder, peak_mib, run_auditor

IMAGE: Final = images.image([images.layer(images.files(f"soak-clock-{n}", kilobytes=700)) for n in range(3)])
_HOUR: Final = 3600
JUMPS: Final = (_HOUR, -_HOUR, 10 * 365 * 24 * _HOUR, -10 * 365 * 24 * _HOUR)
#: Milliseconds after the start in which the clock jumps: a command takes about as long.
SPAN: Final = 2500
#: Seconds in which a command that waits for no clock ends on a busy machine.
_PATIENCE: Final = 60.0


def run(seconds: float, folder: Path) -> Outcome:
    """Let the clock of commands jump, on one daemon of a random release."""
    recorder = Recorder("clock", seconds)
    compiler = shutil.which("cc")
    if compiler is None:
        recorder.add("no C compiler")
        return recorder.outcome()
    library = folder / "clock_jump.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, Path(__file__).with_name("clock_jump.c")], check=True)
    chance = random.SystemRandom()
    with Registry(folder / "registry") as registry, Containerd(chance.choice(VERSIONS), folder) as daemon:
        daemon.cri_pull(registry.push(IMAGE, "lab/soak-clock:1"))
        for _ in recorder.rounds():
            name, jump, after = chance.choice(list(CASES)), chance.choice(JUMPS), chance.randrange(SPAN)
            clock = {"LD_PRELOAD": str(library), "JUMP": str(jump), "AFTER": str(after)}
            label = f"{name}, {jump:+} s after {after} ms, {daemon.version}"
            with recorded(recorder, daemon, label, f"{name}, {jump:+} s"):
                CASES[name](daemon, folder, clock)
    recorder.peak_mib = peak_mib()
    return recorder.outcome()


@contextmanager
def recorded(recorder: Recorder, daemon: Containerd, label: str, kind: str) -> Iterator[None]:
    """Record a case that runs in the block, after which the daemon's store has to be whole."""
    with recorder.timed(label):
        try:
            yield
            require_whole(daemon)
            recorder.add(kind)
        except Failed as error:
            recorder.fail(f"{label}: {error}", label.encode(), suffix=".txt")


def require_whole(daemon: Containerd) -> None:
    """Nothing is damaged any more, and nothing is left of a repair."""
    if (checked := auditor_here("check", "--verify", "digests", "--address", daemon.socket)).status:
        raise Failed(f"the store is damaged: {checked.out[-1500:]}")
    if left := ours(daemon):
        raise Failed(f"left behind: {left}")


def _run(daemon: Containerd, folder: Path, clock: Mapping[str, str], *words: str | Path, status: int = 0) -> Ended:
    line = (words[0], "--address", daemon.socket, *words[1:])
    ended = run_auditor(*line, folder=folder, seconds=_PATIENCE, variables=clock)
    if ended.status != status:
        raise Failed(f"status {ended.status}: {(ended.out + ended.err)[-1500:].decode(errors='replace')}")
    return ended


def _check(daemon: Containerd, folder: Path, clock: Mapping[str, str]) -> None:
    ended = _run(daemon, folder, clock, "check", "--verify", "digests", "--format", "json")
    if not 0 <= json.loads(ended.out)["duration_seconds"] <= ended.seconds:
        raise Failed(f"a duration of {json.loads(ended.out)['duration_seconds']} s in {ended.seconds} s")
    report = folder / "report.json"
    report.write_bytes(ended.out)
    health = auditor_here("health", "nagios", report)
    if " -" in health.out.partition("|")[0]:
        raise Failed(f"a negative age: {health.out}")


def _repair(daemon: Containerd, folder: Path, clock: Mapping[str, str], *more: str) -> None:
    faults.flip(daemon, IMAGE.layers[0].digest)
    faults.delete_file(daemon, IMAGE.layers[1].digest)
    _run(daemon, folder, clock, "repair", "--yes", "--verify", "digests", *more)


def _repair_by_api(daemon: Containerd, folder: Path, clock: Mapping[str, str]) -> None:
    _repair(daemon, folder, clock, "--content-root", "none")


def _scrub(daemon: Containerd, folder: Path, clock: Mapping[str, str]) -> None:
    for variables in (clock, {}):
        _run(daemon, folder, variables, "scrub", "--state", folder / "scrub.db", "--max-age", "1d")


def _export(daemon: Containerd, folder: Path, clock: Mapping[str, str]) -> None:
    target = folder / "image.tar"
    name = next(name for name in daemon.images() if name.endswith("lab/soak-clock:1"))
    _run(daemon, folder, clock, "export", name, "-o", target)
    if auditor_here("verify", "--quiet", target).status:
        raise Failed("the archive is not whole")


def _every(daemon: Containerd, folder: Path, clock: Mapping[str, str]) -> None:
    with _lasting(daemon, folder, clock, "check", "--every", "1s", "--format", "ndjson", "--no-progress") as lines:
        _wait_for(lines, lambda line: line["type"] == "summary", "a third round", times=3)


def _watch(daemon: Containerd, folder: Path, clock: Mapping[str, str]) -> None:
    digest = IMAGE.layers[2].digest
    with _lasting(daemon, folder, clock, "watch", "--format", "json") as lines:
        time.sleep(SPAN / 1000)
        faults.delete_file(daemon, digest)
        name = next(name for name in daemon.images() if name.endswith("lab/soak-clock:1"))
        daemon.ctr("images", "tag", "--force", name, f"{name}-tagged")  # an event
        try:
            _wait_for(lines, lambda line: digest in json.dumps(line), "a lost file")
        finally:
            _run(daemon, folder, {}, "repair", "--yes")


CASES: Final[Mapping[str, Callable[[Containerd, Path, Mapping[str, str]], None]]] = {
    "check": _check,
    "repair": _repair,
    "repair over the API": _repair_by_api,
    "scrub": _scrub,
    "export": _export,
    "check --every": _every,
    "watch": _watch,
}


@contextmanager
def _lasting(daemon: Containerd, folder: Path, clock: Mapping[str, str], *words: str) -> Iterator[Path]:
    """Run a command until the end of the block; the file of its output."""
    out, log = folder / "lasting.out", folder / "lasting.log"
    line = [sys.executable, "-m", "auditor", words[0], "--address", str(daemon.socket), *words[1:]]
    with out.open("wb") as to, log.open("wb") as also:
        process = subprocess.Popen(
            line, cwd=ROOT, env=environment() | dict(clock), stdin=subprocess.DEVNULL, stdout=to, stderr=also
        )
    try:
        yield out
        os.kill(process.pid, signal.SIGTERM)
        status = process.wait(_PATIENCE)
    except subprocess.TimeoutExpired:
        raise Failed(f"{words[0]} does not end") from None
    finally:
        process.kill()
        process.wait()
    if status or b"Traceback" in log.read_bytes():
        raise Failed(f"status {status}: {log.read_text()[-1500:]}")


def _wait_for(output: Path, wanted: Callable[[dict[str, Any]], bool], what: str, *, times: int = 1) -> None:
    """Wait until a line of JSON has come some times."""
    end = time.monotonic() + _PATIENCE
    while time.monotonic() < end:
        lines = (line for line in output.read_text().splitlines(keepends=True) if line.endswith("\n"))
        if sum(wanted(json.loads(line)) for line in lines) >= times:
            return
        time.sleep(0.05)
    raise Failed(f"{what} did not come within {_PATIENCE:.0f} s")
