"""Power cuts at random instants of pulls, on all releases: who lacks files is named, and repaired without a network."""

from __future__ import annotations

import random
import threading
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import grpc

from tests.lab.checked import auditor, signalled
from tests.lab.kit.binaries import VERSIONS
from tests.lab.kit.power_cut import Node, node
from tests.lab.kit.process import scratch
from tests.lab.kit.registry import Registry
from tests.lab.power_cuts import OFFLINE, Stocked, damaged, layer_folders, named, stocked, wrong
from tests.soak.record import Outcome, Recorder

#: Longest time from the first pull to the cut, in seconds.
_LATEST = 4.0


def run(seconds: float, folder: Path) -> Outcome:
    """Cut the power until the time is over."""
    recorder = Recorder("snapshot_power_cuts", seconds)
    chance = random.SystemRandom()
    with Registry(folder / "registry") as registry:
        everything = [stocked(registry, f"cut-{n}", layers=1 + n % 3, files=10 + 30 * n) for n in range(5)]
        for number in recorder.rounds():
            version = VERSIONS[number % len(VERSIONS)]
            label = f"cut {number} of {version}"
            try:
                with scratch() as base, node(version, base) as made:
                    scenario = _during_repair if number % 2 else _during_pulls
                    recorder.add(scenario(made, everything, chance), label=label)
            except AssertionError:
                recorder.fail(f"{label}\n{traceback.format_exc()}", label.encode(), suffix=".txt")
    return recorder.outcome()


def _during_pulls(made: Node, everything: Sequence[Stocked], chance: random.Random) -> str:
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


def _during_repair(made: Node, everything: Sequence[Stocked], chance: random.Random) -> str:
    """Cut the power while a repair runs: no file is worse than before it, and a second repair ends it."""
    each = chance.choice(everything)
    made.daemon.cri_pull(each.name)
    hurt = [
        folder / next(iter(files)) for folder, files in zip(layer_folders(made.daemon, each), each.layers, strict=True)
    ]
    for path in hurt:
        path.write_bytes(b"")
    made.sync()
    with signalled("repair", "--snapshots", "--yes", "--address", made.daemon.socket) as running:
        time.sleep(chance.uniform(0.3, 1.5))
        disk = made.cut()
        running.kill()
    made.boot(disk)
    left = wrong(made.daemon, each)
    assert set(left) <= set(hurt), (left, hurt)
    assert all(path.read_bytes() == b"" for path in left)
    done = auditor("repair", "--snapshots", "--yes", "--address", made.daemon.socket, through=OFFLINE)
    assert done.status == 0, done.out
    assert wrong(made.daemon, each) == []
    assert auditor("quarantine", "drop", "--address", made.daemon.socket).status == 0
    folder = made.daemon.root / "io.containerd.snapshotter.v1.overlayfs/auditor-quarantine"
    assert not folder.exists(), list(folder.rglob("*"))[:9]
    return f"in a repair: {len(hurt) - len(left)} of {len(hurt)} rebuilt before"


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
