"""Power cuts at random instants of pulls, on all releases: who lacks files is named, and repaired without a network."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import grpc

from tests.lab.checked import auditor
from tests.lab.kit.binaries import VERSIONS
from tests.lab.kit.power_cut import Node, node
from tests.lab.kit.process import scratch
from tests.lab.kit.registry import Registry
from tests.lab.power_cuts import OFFLINE, Stocked, damaged, named, stocked
from tests.soak.record import Outcome, Recorder

#: Longest time from the first pull to the cut, in seconds.
_LATEST = 4.0


def run(seconds: float, folder: Path) -> Outcome:
    """Cut the power until the time is over."""
    recorder = Recorder("power_cuts", seconds)
    chance = random.SystemRandom()
    with Registry(folder / "registry") as registry:
        everything = [stocked(registry, f"cut-{n}", layers=1 + n % 3, files=10 + 30 * n) for n in range(5)]
        for number in recorder.rounds():
            version = VERSIONS[number % len(VERSIONS)]
            label = f"cut {number} of {version}"
            try:
                with scratch() as base, node(version, base) as made:
                    recorder.add(_once(made, everything, chance), label=label)
            except AssertionError as error:
                recorder.fail(f"{label}: {error}", label.encode(), suffix=".txt")
    return recorder.outcome()


def _once(made: Node, everything: Sequence[Stocked], chance: random.Random) -> str:
    order = chance.sample(everything, k=len(everything))
    with _pulling(made, order, chance):
        time.sleep(chance.uniform(0.2, _LATEST))
        disk = made.cut()
        made.daemon.kill()
    made.boot(disk)
    found = damaged(made.daemon, everything)
    assert named(made.daemon) == set(found), (named(made.daemon), found)
    line = ("repair", "--snapshots", "--yes", "--address", made.daemon.socket)
    done = auditor(*line, through=OFFLINE)
    assert done.status in (0, 1), done.err
    if damaged(made.daemon, everything):
        done = auditor(*line)  # blobs were lost, too
    assert damaged(made.daemon, everything) == {}, done.out
    assert named(made.daemon) == set(), done.out
    return f"{len(found)} images damaged"


@contextmanager
def _pulling(made: Node, order: Sequence[Stocked], chance: random.Random) -> Iterator[None]:
    """Pull one image after another, and sync now and then, until the daemon is taken down."""

    def work() -> None:
        with suppress(grpc.RpcError):
            for each in order:
                made.daemon.cri_pull(each.name)
                if chance.randrange(4) == 0:
                    made.sync()

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        thread.join()
