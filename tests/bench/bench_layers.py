"""How fast layers are proven to their diffIDs: `python -m tests.bench.bench_layers [--mib N] [--from FOLDER…]`.

Beside `gzip -dc | sha256sum` on the same layers in the same run, one after the other as a script would; exit status 1
where we are not twice as fast. In a real store, from its files, with --verify layers' own reading. With one thread of
ours as well, for what the threads do not explain.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from auditor.containerd.store import ContainerdStore
from auditor.model.digest import Digest
from auditor.model.store import LayerVerificationKind
from auditor.scrub import verify_blobs
from tests.bench.peers import best, cores, layers, spent, verdict
from tests.bench.stocked import stocked, targets


def pipes(files: Sequence[Path]) -> None:
    """Each layer through gzip and sha256sum."""
    for file in files:
        with subprocess.Popen(["gzip", "-dc", str(file)], stdout=subprocess.PIPE) as gzip:
            subprocess.run(["sha256sum"], stdin=gzip.stdout, stdout=subprocess.DEVNULL, check=True)


def ours(store: ContainerdStore, digests: Sequence[Digest], *, jobs: int) -> None:
    """The same layers, proven to be their digests, gzip, and tars."""
    verifications = list(verify_blobs(store, targets(store, digests, layers=True), jobs=jobs, layers=True))
    assert len(verifications) == len(digests)
    for verification in verifications:
        assert verification.layer is not None
        assert verification.layer.kind is LayerVerificationKind.SOUND, verification


def main() -> int:
    """Measure, print, and say by the status whether it is fast enough."""
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--mib", type=int, default=128, help="size of a layer before compression")
    arguments.add_argument("--layers", type=int, default=4)
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--from", dest="sources", nargs="+", default=["/usr/lib", "/usr/bin"])
    given = arguments.parse_args()
    print(f"{cores()} cores, load {os.getloadavg()[0]:.1f}")
    with stocked() as stock:
        digests = layers(stock.scratch, sources=given.sources, count=given.layers, size=given.mib << 20)
        files = stock.take(digests)
        with stock.store() as store:
            many, one, peer = best(
                lambda: ours(store, digests, jobs=cores()),
                lambda: ours(store, digests, jobs=1),
                lambda: pipes(files),
                rounds=given.rounds,
            )
            mine_spent, peer_spent = spent(lambda: ours(store, digests, jobs=1), lambda: pipes(files), rounds=2)
        verdict(f"{given.layers} layers of {given.mib} MiB, one thread", ours=one, theirs=peer, wanted=1)
        verdict("  processor time of it", ours=mine_spent, theirs=peer_spent, wanted=1)
        fast = verdict(f"{given.layers} layers of {given.mib} MiB", ours=many, theirs=peer, wanted=2)
    return 0 if fast else 1


if __name__ == "__main__":
    sys.exit(main())
