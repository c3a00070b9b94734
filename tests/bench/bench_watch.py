"""What watching costs: `python -m tests.bench.bench_watch [--images N] [--pulls N]`, as root.

A containerd 1.7 with many images; `auditor watch` runs while further images are pulled one after the other from a
registry; then it is left alone. Its processor time is printed beside that of one `auditor check` for each pull. Exit
status 1 where a goal is missed.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

from tests import images
from tests.bench.node import fill, node, small_image
from tests.bench.peers import cores
from tests.lab.kit.registry import Registry
from tests.program import ROOT, command, environment

#: Goals: seconds of processor time for 500 pulls, and the share of one processor while nothing happens.
PULLS, IDLE = 5.0, 0.005
#: Seconds without work after which the watch is at rest; an image settles in four.
REST = 5.0


def used(process: subprocess.Popen[bytes]) -> float:
    """Seconds of processor time of a running process."""
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def at_rest(process: subprocess.Popen[bytes]) -> float:
    """Wait until a process did nothing for five seconds, however busy the machine is; the processor time by then."""
    before, since = used(process), time.monotonic()
    while time.monotonic() - since < REST:
        time.sleep(0.5)
        if (now := used(process)) > before + 0.02:
            before, since = now, time.monotonic()
    return used(process)


def main() -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--pulls", type=int, default=500)
    parser.add_argument("--idle", type=float, default=60, metavar="SECONDS")
    options = parser.parse_args()
    print(f"{cores()} cores, load {os.getloadavg()[0]:.1f}")
    with node("1.7") as daemon, Registry(daemon.base / "registry") as registry:
        fill(daemon, range(options.images), shape=small_image)
        made = [
            registry.push(images.image([images.layer({"watch": str(n).encode()})]), f"lab/watch-{n}:1")
            for n in range(options.pulls)
        ]
        line = command("watch", "--address", daemon.socket)
        with subprocess.Popen(line, stdout=subprocess.DEVNULL, cwd=ROOT, env=environment()) as process:
            start = at_rest(process)
            for reference in made:
                daemon.cri_pull(reference)
            pulls = at_rest(process) - start
            start = used(process)
            time.sleep(options.idle)
            idle = (used(process) - start) / options.idle
            process.terminate()
        check = command("check", "--address", daemon.socket)
        before = os.times()
        subprocess.run(check, stdout=subprocess.DEVNULL, cwd=ROOT, env=environment(), check=False)
        after = os.times()
        each = after.children_user + after.children_system - before.children_user - before.children_system
    goal = PULLS * options.pulls / 500
    print(f"{options.pulls} pulls into a store of {options.images} images: {pulls:.1f} s, wanted at most {goal:.1f}")
    every = each * options.pulls
    print(f"a check after each pull would take {every:.0f} s, {every / pulls:.0f} times as much")
    print(f"idle: {idle:.2%} of a processor, wanted at most {IDLE:.1%}")
    return 0 if pulls <= goal and idle <= IDLE else 1


if __name__ == "__main__":
    sys.exit(main())
