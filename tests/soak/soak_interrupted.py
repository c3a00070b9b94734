"""Daemons killed or stopped, and disks after a power cut, in pulls and removals: the disk reads as after a restart."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tests.lab import interrupted
from tests.lab.kit.binaries import VERSIONS
from tests.lab.kit.daemon import Containerd
from tests.lab.kit.power_cut import node
from tests.lab.kit.registry import Registry
from tests.soak.record import Outcome, Recorder, peak_mib

#: Ways to end a daemon, by turns.
_ENDS: Final = ("kill", "power cut", "kill", "power cut", "stop")


def run(seconds: float, folder: Path) -> Outcome:
    """End a daemon of each release in turn."""
    recorder = Recorder("interrupted", seconds)
    seed = random.SystemRandom().getrandbits(32)
    with Registry(folder / "registry") as registry:
        names = interrupted.pushed(registry)
        for number in recorder.rounds():
            version, end = VERSIONS[number % len(VERSIONS)], _ENDS[number % len(_ENDS)]
            base = folder / f"{version}-{number}"
            base.mkdir()
            started = time.monotonic()
            found = _round(version, end, base, names, random.Random(seed + number))
            label = f"round {number} of seed {seed}, {end} on {version}"
            for why in found:
                recorder.fail(f"{label}: {why}", why.encode(), suffix=".diff")
            recorder.add(f"{end} on {version}: {'differs' if found else 'equal'}")
            recorder.slowest_seconds = max(recorder.slowest_seconds, time.monotonic() - started)
            recorder.slowest = "a whole round by the clock: pulls, two checks, a restart"
    recorder.peak_mib = peak_mib()
    return recorder.outcome()


def _round(version: str, end: str, base: Path, names: Sequence[str], chance: random.Random) -> list[str]:
    if end == "power cut":
        with node(version, base) as made:
            return interrupted.differences(made.daemon, names, chance, end=lambda: made.change(made.cut()))
    with Containerd(version, base) as daemon:
        return interrupted.differences(daemon, names, chance, end=daemon.kill if end == "kill" else daemon.stop)
