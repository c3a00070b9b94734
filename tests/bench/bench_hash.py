"""How fast blobs are hashed from files, and whether a rate limit holds: `python -m tests.bench.bench_hash [--mib N]`.

Beside as many parallel `openssl dgst -sha256` as there are cores, in the same run; exit status 1 where we are slower
than nine tenths of that.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from auditor.digest import Digest
from auditor.pace import Pace
from auditor.scrub import largest_first, prove, targets_of
from auditor.store import ProofKind
from tests.bench.peers import best, cores, random_files, verdict
from tests.unit.fakes import FolderStore

LIMIT = 20 << 20
SECONDS = 10


def openssl(folder: Path, digests: list[Digest]) -> None:
    """All files, one process for each core with an even share of them."""
    share = [digests[number :: cores()] for number in range(cores())]

    def run(some: list[Digest]) -> None:
        files = [str(folder / digest.hex) for digest in some]
        subprocess.run(["openssl", "dgst", "-sha256", *files], stdout=subprocess.DEVNULL, check=True)

    with ThreadPoolExecutor(cores()) as pool:
        list(pool.map(run, share))


def ours(store: FolderStore) -> None:
    """The same files, proven."""
    targets = largest_first(targets_of([store.inventory("default")]))
    assert all(proof.kind is ProofKind.SOUND for proof in prove(store, targets, jobs=cores()))


def limited(store: FolderStore) -> float:
    """The rate held over ten seconds, as a part of the limit."""
    pace = Pace(LIMIT, clock=time.monotonic)
    end = time.monotonic() + SECONDS
    read: list[int] = []
    targets = targets_of([store.inventory("default")])
    list(prove(store, targets, jobs=cores(), pace=pace, over=lambda: time.monotonic() > end, on_bytes=read.append))
    return sum(read) / (LIMIT * SECONDS)


def memory(store: FolderStore) -> int:
    """The most that Python held while proving, in bytes."""
    tracemalloc.start()
    ours(store)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return peak


def main() -> int:
    """Measure, print, and say by the status whether it is fast enough."""
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--mib", type=int, default=1024, help="how much to hash")
    mib = arguments.parse_args().mib
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        store = FolderStore(folder)
        digests = random_files(folder, [mib << 17] * 4 + [mib << 14] * 32)
        for digest in digests:
            store.add_file(digest)
        hashing, peer = best(lambda: ours(store), lambda: openssl(folder, digests))
        fast = verdict(f"{mib} MiB hashed from files", ours=hashing, theirs=peer, wanted=0.9)
        held = limited(store)
        print(f"{held:.3f} of the rate limit over {SECONDS} seconds, wanted 0.95 to 1.05")
        print(f"{memory(store) / (1 << 20):.1f} MiB held at most")
    return 0 if fast and 0.95 <= held <= 1.05 else 1


if __name__ == "__main__":
    sys.exit(main())
