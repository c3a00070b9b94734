"""Daemons killed in pulls and removals: their disk reads as they list it after a restart."""

from __future__ import annotations

import random
import time
from pathlib import Path

from tests.lab import interrupted
from tests.lab.kit.binaries import VERSIONS
from tests.lab.kit.daemon import Containerd
from tests.lab.kit.registry import Registry
from tests.soak.record import Outcome, Recorder


def run(seconds: float, folder: Path) -> Outcome:
    """Kill a daemon of each release in turn."""
    recorder = Recorder("interrupted", seconds)
    seed = random.SystemRandom().getrandbits(32)
    with Registry(folder / "registry") as registry:
        names = interrupted.pushed(registry)
        for number in recorder.rounds():
            version = VERSIONS[number % len(VERSIONS)]
            base = folder / f"{version}-{number}"
            base.mkdir()
            started = time.monotonic()
            chance = random.Random(seed + number)
            with Containerd(version, base) as daemon:
                found = interrupted.differences(daemon, names, chance, gently=number % 4 == 0)
            label = f"round {number} of seed {seed} on {version}"
            for why in found:
                recorder.fail(f"{label}: {why}", why.encode(), suffix=".diff")
            recorder.add("differs" if found else "equal", seconds=(time.monotonic() - started) / 10, label=label)
    return recorder.outcome()
