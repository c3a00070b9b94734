"""How soon the program answers: `python -m tests.bench.bench_start`. Exit status 1 where `--version` takes too long.

Python itself is timed beside it: what is over that is ours. The goal is set for an idle machine.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

from tests.bench.bench_check import run
from tests.bench.peers import cores

ROUNDS = 11
#: Seconds for `auditor --version`.
GOAL = 0.2
COMMANDS = {
    "python, doing nothing": ["-c", "pass"],
    "auditor --version": ["-m", "auditor", "--version"],
    "auditor --help": ["-m", "auditor", "--help"],
    "auditor check --help": ["-m", "auditor", "check", "--help"],
    "auditor rules": ["-m", "auditor", "rules"],
    "auditor check, no daemon": ["-m", "auditor", "check", "--address", "/nonexistent"],
}


def main() -> int:
    """Time each command and print."""
    print(f"{cores()} cores, load {os.getloadavg()[0]:.1f}, Python {sys.version.split()[0]}")
    took = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, command in COMMANDS.items():
            runs = [run([sys.executable, *command], bytecode=Path(folder)) for _ in range(ROUNDS)]
            best = min(runs[1:], key=lambda each: each.wall)  # the first one writes the bytecode
            took[name] = best.wall
            print(f"{name}: {best.wall:.3f} s, {best.cpu:.3f} s cpu")
    return 0 if took["auditor --version"] < GOAL else 1


if __name__ == "__main__":
    sys.exit(main())
