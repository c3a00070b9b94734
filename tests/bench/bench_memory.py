"""How much memory proving takes: `python -m tests.bench.bench_memory [--mib N] [--blobs N]`.

The program's own peak, as the kernel counts it, for one blob, for one many times as large and for many; exit status 1
where it grows with the size of a blob, or with their number by more than the lists need.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence

from auditor.model.digest import Digest, measure
from tests.bench.stocked import Stocked, stocked
from tests.program import ROOT, command, environment

FILES = ("--verify", "digests")
API = (*FILES, "--content-root", "none")
#: What two runs of the same may differ by, in KiB.
NOISE = 6 << 10
#: What gRPC buffers by itself, in KiB; more on a busy machine, whatever the size of the blob.
BUFFERED = 48 << 10
#: Size of the blob that others are compared with, in MiB: enough to fill what gRPC reads ahead over the API.
BASE = 64
#: What the lists may need for each blob, in KiB: a record, a file, a target, an outcome and a line of the report.
PER_BLOB = 4


def peak(stock: Stocked, namespace: str, *arguments: str) -> int:
    """The most resident memory of a run over one namespace, in KiB."""
    how = ("--namespace", namespace, "--format", "json", *arguments)
    line = command("check", "--address", stock.daemon.socket, *how)
    with subprocess.Popen(line, stdout=subprocess.DEVNULL, cwd=ROOT, env=environment()) as run:
        _, status, used = os.wait4(run.pid, 0)
        run.returncode = os.waitstatus_to_exitcode(status)
    assert run.returncode == 0, run.returncode
    return used.ru_maxrss


def zeros(stock: Stocked, size: int, *, namespace: str) -> None:
    """Put a blob of this many bytes into a namespace, without ever having it in memory."""
    piece = bytes(1 << 20)
    digest = measure(piece for _ in range(size >> 20)).digest
    with (stock.scratch / digest.hex).open("wb") as file:
        file.truncate(size)
    stock.take([Digest(digest)], namespace=namespace)


def grown(what: str, used: Sequence[int], base: Sequence[int], *, allowed: int) -> bool:
    """Print what a run took over another; whether it is no more than allowed, in KiB."""
    more = min(used) - min(base)
    word = "ok" if more <= allowed else "TOO MUCH"
    print(f"{what}: {min(used) >> 10} MiB, {more / 1024:+.1f} MiB, wanted at most {allowed / 1024:+.1f}: {word}")
    return more <= allowed


def main() -> int:
    """Measure, print, and say by the status whether memory grows."""
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--mib", type=int, default=1024, help="size of the large blob")
    arguments.add_argument("--blobs", type=int, default=5000, help="how many small ones")
    given = arguments.parse_args()
    fine = True
    with stocked() as stock:
        zeros(stock, BASE << 20, namespace="small")
        zeros(stock, given.mib << 20, namespace="large")
        stock.put((b"blob %d" % number for number in range(given.blobs)), namespace="many")
        for way, noise in ((FILES, NOISE), (API, BUFFERED)):
            base, large, many = ([peak(stock, name, *way) for _ in range(2)] for name in ("small", "large", "many"))
            print(f"{' '.join(way)}: {min(base) >> 10} MiB for one blob of {BASE} MiB")
            fine &= grown(f"  one of {given.mib} MiB", large, base, allowed=noise)
            fine &= grown(f"  {given.blobs} blobs", many, base, allowed=noise + PER_BLOB * given.blobs)
    return 0 if fine else 1


if __name__ == "__main__":
    sys.exit(main())
