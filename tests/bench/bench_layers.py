"""How fast layers are proven to their diffIDs: `python -m tests.bench.bench_layers [--mib N] [--from FOLDER…]`.

Beside `gzip -dc | sha256sum` on the same layers in the same run, one after the other as a script would; exit status 1
where we are not twice as fast. With one thread of ours as well, for what the threads do not explain.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from auditor.digest import Digest
from auditor.scrub import largest_first, prove, targets_of
from auditor.store import LayerProofKind
from tests.bench.peers import best, cores, layers, verdict
from tests.unit.fakes import FolderStore


def pipes(folder: Path, digests: list[Digest]) -> None:
    """Each layer through gzip and sha256sum."""
    for digest in digests:
        with subprocess.Popen(["gzip", "-dc", str(folder / digest.hex)], stdout=subprocess.PIPE) as gzip:
            subprocess.run(["sha256sum"], stdin=gzip.stdout, stdout=subprocess.DEVNULL, check=True)


def ours(store: FolderStore, *, jobs: int) -> None:
    """The same layers, proven to be their digests, gzip, and tars."""
    blobs = store.inventory("default")
    targets = largest_first(targets_of([blobs], layers=dict.fromkeys(blobs.blobs)))
    for proof in prove(store, targets, jobs=jobs, layers=True):
        assert proof.layer is not None
        assert proof.layer.kind is LayerProofKind.SOUND, proof


def main() -> int:
    """Measure, print, and say by the status whether it is fast enough."""
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--mib", type=int, default=128, help="size of a layer before compression")
    arguments.add_argument("--layers", type=int, default=4)
    arguments.add_argument("--from", dest="sources", nargs="+", default=["/usr/lib", "/usr/bin"])
    given = arguments.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        store = FolderStore(folder)
        digests = layers(folder, sources=given.sources, count=given.layers, size=given.mib << 20)
        for digest in digests:
            store.add_file(digest)
        many, one, peer = best(
            lambda: ours(store, jobs=cores()), lambda: ours(store, jobs=1), lambda: pipes(folder, digests)
        )
        verdict(f"{given.layers} layers of {given.mib} MiB, one thread", ours=one, theirs=peer, wanted=1)
        fast = verdict(f"{given.layers} layers of {given.mib} MiB", ours=many, theirs=peer, wanted=2)
    return 0 if fast else 1


if __name__ == "__main__":
    sys.exit(main())
