"""Thousands of reports as one picture: `python -m tests.bench.bench_fleet [--nodes N] [--peer-nodes N]`.

Nodes with 100 images each, as JSON on one line, once out of 400 images for all nodes, once with images of their own.
`auditor fleet` runs as a whole process; DuckDB reads a part of the same files (`read_json` of host, findings and images
with their trees) as a peer, and the ratio is of processor time for each node. Exit status 1 where a goal is missed.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from tests import fleet_nodes
from tests.bench.peers import cores
from tests.program import ROOT, command, environment

#: Goals for 10,000 nodes: seconds on the clock, and MiB of all processes together.
SECONDS, MEMORY = 20, 200
SCRATCH = Path("/dev/shm")
PEER = """
import duckdb, sys
engine = duckdb.connect(config={"memory_limit": "1GB"})
engine.execute("SET preserve_insertion_order = false")
print(engine.execute(
    "SELECT count(*), sum(len(findings)), sum(len(images)) FROM read_json(?, maximum_object_size = 67108864,"
    " columns = {host: 'VARCHAR', findings: 'STRUCT(code VARCHAR, severity VARCHAR, cause VARCHAR)[]',"
    " images: 'STRUCT(target VARCHAR, status VARCHAR, tree JSON)[]'})", [sys.argv[1] + "/*.json"]).fetchone())
"""


class Used(NamedTuple):
    """Seconds on the clock, seconds of processor time, and the most memory of all processes together in MiB."""

    wall: float
    cpu: float
    memory: float


def run(line: Sequence[str]) -> Used:
    """Run a command and its children to the end."""
    before, start, most = os.times(), time.perf_counter(), 0.0
    with subprocess.Popen(line, stdout=subprocess.DEVNULL, cwd=ROOT, env=environment()) as process:
        while process.poll() is None:
            most = max(most, sum(map(_proportional, _family(process.pid))))
            time.sleep(0.1)
    after = os.times()
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    if process.returncode not in (0, 1):
        raise SystemExit(f"a run ended with status {process.returncode}")
    return Used(time.perf_counter() - start, cpu, most / 1024)


def _family(pid: int) -> list[int]:
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return [pid]
    return [pid, *(each for child in children for each in _family(int(child)))]


def _proportional(pid: int) -> float:
    """The memory of a process in KiB, shared pages divided among those that share them."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next((float(line.split()[1]) for line in lines if line.startswith("Pss:")), 0)


def measured(folder: Path, nodes: int) -> bool:
    """Time the program on a folder, print, and say whether the goals are met."""
    used = run(command("fleet", folder, "--format", "json"))
    met = used.wall <= SECONDS * nodes / 10_000 and used.memory <= MEMORY
    said = f"{used.wall:.1f} s, {used.cpu:.1f} s of processor time, {used.memory:.0f} MiB in all"
    goal = f"wanted at most {SECONDS * nodes / 10_000:.0f} s and {MEMORY} MiB"
    print(f"  auditor fleet: {said}; {'ok' if met else goal}")
    return met


def peer(folder: Path, nodes: int, ours: float, everyone: int) -> None:
    """Time DuckDB on the first of the nodes and print the ratio of processor time for each node."""
    few = folder.parent / "few"
    few.mkdir()
    for path in sorted(folder.iterdir())[:nodes]:
        (few / path.name).hardlink_to(path)
    used = run([sys.executable, "-c", PEER, str(few)])
    ratio = (used.cpu / nodes) / (ours / everyone)
    print(f"  DuckDB, {nodes} nodes: {used.wall:.1f} s, {used.cpu:.1f} s of processor time, {used.memory:.0f} MiB")
    print(f"  processor time for each node, DuckDB's to ours: {ratio:.1f}")


def main() -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", type=int, default=10_000)
    parser.add_argument("--peer-nodes", type=int, default=1_000)
    options = parser.parse_args()
    print(f"{cores()} cores, load {os.getloadavg()[0]:.1f}")
    met = True
    for own in (False, True):
        with tempfile.TemporaryDirectory(dir=SCRATCH) as scratch:
            folder = Path(scratch) / "reports"
            made = fleet_nodes.fleet(options.nodes, images=100, catalogue=400, own=own)
            fleet_nodes.write(folder, made)
            total = sum(path.stat().st_size for path in folder.iterdir())
            print(f"{options.nodes} nodes{', images of their own' if own else ''}: {total / 1e9:.1f} GB")
            met = measured(folder, options.nodes) and met
            if not own:
                ours = run(command("fleet", folder, "--format", "json"))
                peer(folder, min(options.peer_nodes, options.nodes), ours.cpu, options.nodes)
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
