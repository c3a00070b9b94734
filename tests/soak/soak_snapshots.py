"""Kills of `repair --snapshots` at random steps, on all releases, while images are pulled, removed and collected."""

from __future__ import annotations

import random
import threading
import traceback
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests import images
from tests.lab.killing import killer
from tests.lab.kit.binaries import VERSIONS
from tests.lab.kit.daemon import Containerd
from tests.lab.kit.registry import Registry
from tests.lab.snapshots_killed import FILES, Sweep, sweep
from tests.soak.record import Outcome, Recorder


def run(seconds: float, folder: Path) -> Outcome:
    """Kill repairs until the time is over."""
    recorder = Recorder("snapshots", seconds)
    chance = random.SystemRandom()
    with ExitStack() as running:
        registry = running.enter_context(Registry(folder / "registry"))
        others = [registry.push(_other(number), f"soak/{number}:1") for number in range(2)]
        sweeps = [_sweep(version, folder / version, registry, running) for version in VERSIONS]
        for number in recorder.rounds():
            made = sweeps[number % len(sweeps)]
            step = chance.randrange(1, 150)
            label = f"{made.daemon.version}, step {step}"
            try:
                if chance.randrange(4) == 0:  # a pull would use what is replaced
                    status, _ = made.replaced(step)
                else:
                    with _churn(made.daemon, others) if chance.randrange(2) else ExitStack():
                        status, _ = made.at(step)
                recorder.add("killed" if status else "ended before the step", label=label)
            except AssertionError:
                recorder.fail(f"{label}\n{traceback.format_exc()}", label.encode(), suffix=".txt")
                break
    return recorder.outcome()


def _other(number: int) -> images.BuiltImage:
    """Return an image that shares the lowest layer with the one that is repaired."""
    return images.image([images.layer(FILES[0]), images.layer({f"other-{number}": images.noise(f"o{number}", 5000)})])


def _sweep(version: str, folder: Path, registry: Registry, running: ExitStack) -> Sweep:
    folder.mkdir()
    daemon = running.enter_context(Containerd(version, folder))
    return sweep(daemon, registry, running.enter_context(killer(folder)), folder)


@contextmanager
def _churn(daemon: Containerd, names: list[str]) -> Iterator[None]:
    """Pull, remove and collect other images in the meantime."""
    over = threading.Event()

    def work() -> None:
        while not over.is_set():
            for name in names:
                daemon.cri_pull(name)
            for name in names:
                daemon.ctr("images", "remove", "--sync", name, check=False)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
