"""Exports that are killed at a random instant: the target is absent, the old one, or a whole archive."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from tests import images
from tests.lab.checked import auditor_here
from tests.lab.kit.binaries import VERSIONS
from tests.lab.kit.daemon import Containerd
from tests.lab.kit.registry import Registry
from tests.program import ROOT, environment
from tests.soak.record import Failed, Outcome, Recorder, peak_mib

_IMAGE: Final = images.image([images.layer(images.files(f"soak-export-{n}", kilobytes=6_000)) for n in range(4)])
_OLD: Final = b"an older file"
#: Seconds in which Python itself starts; a signal before is not ours to handle.
_START: Final = 0.4
#: The option that an export compresses with.
_COMPRESS: Final = ("none", "gzip", "zstd")


def run(seconds: float, folder: Path) -> Outcome:
    """Kill exports of one daemon."""
    recorder = Recorder("exports", seconds)
    chance = random.SystemRandom()
    with Registry(folder / "registry") as registry, Containerd(chance.choice(VERSIONS), folder) as daemon:
        daemon.cri_pull(registry.push(_IMAGE, "lab/soak:1"))
        daemon.force_gc()
        span = _undisturbed(daemon, folder)
        for _ in recorder.rounds():
            number = chance.choice((signal.SIGKILL, signal.SIGTERM, signal.SIGINT))
            after, form = _START + chance.random() * span, chance.choice(_COMPRESS)
            label = f"{number.name} after {after:.2f} s, {form}, {daemon.version}"
            with recorder.timed(label):
                try:
                    result = _round(daemon, folder, number, after=after, form=form)
                    recorder.add(f"{number.name}: {result}")
                except (Failed, AssertionError, subprocess.SubprocessError) as error:
                    recorder.fail(f"{label}: {error}", (folder / "export.log").read_bytes(), suffix=".log")
    recorder.peak_mib = peak_mib()
    return recorder.outcome()


def _undisturbed(daemon: Containerd, folder: Path) -> float:
    """Return the seconds that an export takes."""
    begun = time.monotonic()
    with _started(daemon, folder / "first.tar", folder / "export.log", "none") as process:
        process.wait(60)
    return time.monotonic() - begun


def _round(daemon: Containerd, folder: Path, number: signal.Signals, *, after: float, form: str) -> str:
    targets = folder / "targets"
    targets.mkdir(exist_ok=True)
    target = targets / "out.tar"
    target.write_bytes(_OLD)
    log = folder / "export.log"
    with _started(daemon, target, log, form) as process:
        status = _signalled(process, number, after)
    said = log.read_text(errors="replace")
    if "Traceback" in said or status not in (0, -number, 130, 143):
        raise Failed(f"status {status}: {said[-1000:]}")
    result = _judge(target)
    again = auditor_here("export", "--address", daemon.socket, "--compress", form, "-o", target, *_name(daemon))
    if again.status or _judge(target) != "whole":
        raise Failed(f"the next export ends with {again.status}: {again.err}")
    left = [path.name for path in targets.iterdir() if path != target]
    if left and number != signal.SIGKILL:
        raise Failed(f"left behind: {left}")
    for path in targets.iterdir():
        path.unlink()
    return f"{result}, {len(left)} temporary files left"


def _name(daemon: Containerd) -> tuple[str]:
    return (next(name for name in daemon.images() if name.endswith("lab/soak:1")),)


@contextmanager
def _started(daemon: Containerd, target: Path, log: Path, form: str) -> Iterator[subprocess.Popen[bytes]]:
    words = ["export", "--address", str(daemon.socket), "--compress", form, "-o", str(target), *_name(daemon)]
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "auditor", *words],
            cwd=ROOT,
            env=environment(),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
        )
        try:
            yield process
        finally:
            process.kill()
            process.wait()


def _signalled(process: subprocess.Popen[bytes], number: signal.Signals, after: float) -> int:
    """Send a signal after some time; return the status."""
    with suppress(subprocess.TimeoutExpired):
        process.wait(after)
    process.send_signal(number)
    return process.wait(60)


def _judge(target: Path) -> str:
    """Whether the target is the old file or a whole archive."""
    if target.read_bytes()[: len(_OLD)] == _OLD:
        return "old"
    found = auditor_here("verify", "--quiet", target)
    if found.status:
        raise Failed(f"a part of an archive: {found.out[-500:]}")
    return "whole"
