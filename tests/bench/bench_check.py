"""How fast a node is checked: `python -m tests.bench.bench_check [--growth 100 1000 5000] [--rounds N]`, as root.

`auditor check` and `ctr images check` of the same containerd 1.7 run as whole processes in turns, on a node of images
of eight layers and on one of images of two small layers; then auditor alone on nodes of growing size. Exit status 1 if
a goal is missed. auditor is installed as users have it, see `installed`. Run nothing else at the same time.

What each does: ctr answers from the database alone, for each of the names reads index, manifest and config through the
daemon, asks for each layer's record, and whether the top snapshot exists. auditor lists the records, reads each
document once and hashes it, looks at every blob's file, and judges chains, sizes, labels and garbage collection. Its
memory is that of the larger of its two processes.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.bench.installed import install, interpreter
from tests.bench.node import Shape, fill, image, node, small_image
from tests.bench.peers import cores
from tests.lab.kit.daemon import Containerd

VERSION = "1.7"
IMAGES = 400
#: How many times as fast as `ctr images check` at IMAGES, and how much memory at most, in MiB.
FASTER, MEMORY = 25, 120
SHAPES: Mapping[str, Shape] = {"eight layers": image, "two layers, small": small_image}


@dataclass(frozen=True)
class Run:
    """One process: seconds on the clock, seconds of its own processor time, most memory in MiB, exit status."""

    wall: float
    cpu: float
    memory: float
    status: int


def run(command: Sequence[str | Path], *, bytecode: Path | None = None) -> Run:
    """Run a command; a program that is not installed has its bytecode in `bytecode`."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    if bytecode is not None:
        env["PYTHONPYCACHEPREFIX"] = str(bytecode)
    start = time.perf_counter()
    process = subprocess.Popen(list(map(str, command)), stdout=subprocess.DEVNULL, env=env)
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    return Run(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024, process.returncode)


def fastest(runs: Sequence[Run]) -> Run:
    """The run that was disturbed least; all have to have ended alike."""
    statuses = {each.status for each in runs}
    if statuses != {0}:
        raise SystemExit(f"a run ended with another status than 0: {statuses}")
    return min(runs, key=lambda each: each.wall)


#: The program of the environment that runs this.
OWN = Path(sys.executable).with_name("auditor")


def ours(daemon: Containerd, auditor: Path = OWN) -> list[str | Path]:
    """The command line of auditor."""
    return [auditor, "check", "--address", daemon.socket]


def beside(auditor: Path, daemon: Containerd, *, rounds: int) -> bool:
    """Time both sides in turns and print; whether the goals are met."""
    our_command, their_command = ours(daemon, auditor), daemon.ctr_command("images", "check")
    run(our_command)
    turns = [(run(our_command), run(their_command)) for _ in range(rounds)]
    our, their = fastest([turn[0] for turn in turns]), fastest([turn[1] for turn in turns])
    ratio = their.wall / our.wall
    for name, best in (("auditor check", our), ("ctr images check", their)):
        print(f"{name}: {best.wall:.2f} s ({best.cpu:.2f} s of its own processor time), {best.memory:.0f} MiB")
    print(f"ratio {ratio:.1f}, wanted {FASTER}; memory {our.memory:.0f} MiB, at most {MEMORY}")
    return ratio >= FASTER and our.memory < MEMORY


def describe(daemon: Containerd) -> str:
    """What the node holds."""
    return f"{len(daemon.images())} records, {len(daemon.blobs())} blobs, {len(daemon.snapshots())} snapshots"


def growth(auditor: Path, daemon: Containerd, sizes: Sequence[int], *, rounds: int) -> None:
    """Check the same node as it grows."""
    done = 0
    for size in sorted(sizes):
        fill(daemon, range(done, size))
        done = size
        best = fastest([run(ours(daemon, auditor)) for _ in range(rounds)])
        print(f"{size} images ({describe(daemon)}): {best.wall:.2f} s, {best.cpu:.2f} s cpu, {best.memory:.0f} MiB")


def main() -> int:
    """Run the benchmarks that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--growth", type=int, nargs="*", default=[100, 1000, 5000], metavar="IMAGES")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    met = True
    with tempfile.TemporaryDirectory() as folder:
        auditor = install(Path(folder))
        print(f"{cores()} cores, load {os.getloadavg()[0]:.1f}, containerd {VERSION}, {interpreter()}")
        for name, shape in SHAPES.items():
            with node(VERSION) as daemon:
                fill(daemon, range(IMAGES), shape=shape)
                print(f"{IMAGES} images of {name}: {describe(daemon)}")
                met = beside(auditor, daemon, rounds=options.rounds) and met
        if options.growth:
            with node(VERSION) as daemon:
                growth(auditor, daemon, options.growth, rounds=options.rounds)
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
