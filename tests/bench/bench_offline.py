"""How fast the disk of a stopped containerd is checked: `python -m tests.bench.bench_offline [--images N]`, as root.

`auditor check` of the running daemon and `auditor check --root` of its disk, as whole processes, right after an end of
the daemon: once when all images, once when one image was unpacked in the last minute before it; both then compare the
files of those. Then `auditor recover --dry-run` with the database and without it. Exit status 1 if a goal is missed.
Run nothing else at the same time.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tests.bench.bench_check import Run, describe, fastest, ours
from tests.bench.node import fill, node, small_image
from tests.bench.peers import cores
from tests.lab.kit.daemon import Containerd
from tests.lab.stopped_node import META

VERSION = "2.1"
#: Processor time of the check of the disk, compared with the client's of the live check; and memory in MiB.
RATIO, MEMORY = 1.5, 300
#: Seconds after which an end of the daemon damages no unpacked file any more: `auditor.snapshots.crashes`, and some.
WINDOW = 65


#: Runs a command from a small process: a child's peak memory includes that of the process that started it.
_MEASURE = """
import json, os, subprocess, sys, time
started = time.perf_counter()
process = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL)
_, status, usage = os.wait4(process.pid, 0)
wall = time.perf_counter() - started
print(json.dumps([wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024, os.waitstatus_to_exitcode(status)]))
"""


def run(command: Sequence[str | Path], *, bytecode: Path) -> Run:
    """Run a command; Python keeps its bytecode in `bytecode`, as an installed program has it."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    env["PYTHONPYCACHEPREFIX"] = str(bytecode)
    line = [sys.executable, "-c", _MEASURE, *map(str, command)]
    return Run(*json.loads(subprocess.run(line, env=env, check=True, capture_output=True).stdout))


def offline(daemon: Containerd, command: str, *more: str) -> list[str | Path]:
    """A command line of auditor for the daemon's root."""
    return [Path(sys.executable).with_name("auditor"), command, "--root", daemon.root, *more]


def timed(name: str, command: Sequence[str | Path], *, bytecode: Path, rounds: int) -> Run:
    """Run a command some times and print the fastest."""
    best = fastest([run(command, bytecode=bytecode) for _ in range(rounds)])
    print(f"{name}: {best.wall:.2f} s, {best.cpu:.2f} s cpu, {best.memory:.0f} MiB")
    return best


def compared(name: str, daemon: Containerd, *, bytecode: Path, rounds: int) -> tuple[Run, float]:
    """Restart and check the daemon, stop it and check its disk; return the latter run and its ratio to the former."""
    # Only an end of the daemon makes the check of a running one look for what that end may have damaged.
    daemon.restart()
    live = timed(f"check of the daemon, {name}", ours(daemon), bytecode=bytecode, rounds=rounds)
    daemon.stop()
    disk = timed(f"check of the disk, {name}", offline(daemon, "check"), bytecode=bytecode, rounds=rounds)
    return disk, disk.cpu / live.cpu


def main() -> int:
    """Fill a node, check it running and stopped."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    print(f"{cores()} cores, load {os.getloadavg()[0]:.1f}, containerd {VERSION}")
    with node(VERSION) as daemon:
        fill(daemon, range(options.images), shape=small_image)
        filled = time.monotonic()
        print(f"{options.images} images: {describe(daemon)}")
        bytecode = daemon.base / "bytecode"
        found = [compared("all just unpacked", daemon, bytecode=bytecode, rounds=options.rounds)]
        daemon.start()
        time.sleep(max(0.0, WINDOW + filled - time.monotonic()))
        fill(daemon, range(options.images, options.images + 1), shape=small_image)
        found.append(compared("one just unpacked", daemon, bytecode=bytecode, rounds=options.rounds))
        print(f"meta.db: {(daemon.root / META).stat().st_size >> 20} MiB")
        recover = offline(daemon, "recover", "--dry-run", "--quiet")
        timed("recover, by the database", recover, bytecode=bytecode, rounds=1)
        (daemon.root / META).unlink()
        timed("recover, by the blobs", recover, bytecode=bytecode, rounds=1)
    for run_, ratio in found:
        print(f"ratio {ratio:.2f}, at most {RATIO}; memory {run_.memory:.0f} MiB, at most {MEMORY}")
    return 0 if all(ratio <= RATIO and each.memory < MEMORY for each, ratio in found) else 1


if __name__ == "__main__":
    sys.exit(main())
