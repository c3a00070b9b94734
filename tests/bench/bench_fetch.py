"""How fast absent layers are brought back: `python -m tests.bench.bench_fetch [--mib N] [--version V]`.

Beside `ctr content fetch` of the same layers into the same daemon from the same registry, in turns. Two things are
timed: fetching, from the source to the commit with every byte proven on the way, which is what ctr does, and exit
status 1 says that it was slower; and the whole of `auditor repair --yes` as a process, which also checks before and
after and reads everything back.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from auditor import containerd
from auditor.containerd.find_content_root import ContentRootOption
from auditor.model.blob_source import Hints
from auditor.model.digest import Digest
from auditor.repair.own_state import ref
from auditor.sources.credentials import load_docker_config
from auditor.sources.registry import RegistrySource
from tests import images
from tests.bench.peers import ROUNDS, best, verdict
from tests.lab.kit import faults
from tests.lab.kit.binaries import VERSIONS
from tests.lab.kit.daemon import CRI_NAMESPACE, Containerd
from tests.lab.kit.process import scratch
from tests.lab.kit.registry import Registry
from tests.program import ROOT, command, environment

#: As `auditor repair --jobs` by default.
JOBS = 4
SHARES = (0.5, 0.25, 0.125, 0.125)


def image(mib: int) -> images.BuiltImage:
    """An image of `mib` MiB in four layers of different sizes, all noise."""
    return images.image(
        [images.layer(_files(number, int(mib * share)), level=1) for number, share in enumerate(SHARES)]
    )


def _files(layer: int, mib: int) -> dict[str, bytes]:
    return {f"data-{part}": images.noise(f"fetch-{layer}-{part}", 8 << 20) for part in range(max(mib // 8, 1))}


def fetch(daemon: Containerd, reference: str, built: images.BuiltImage, *, root: ContentRootOption) -> None:
    """What a repair does between plan and verification, and no more."""
    source = RegistrySource(hosts_dir=None, credentials=load_docker_config(None))
    with (
        containerd.connect_writable(daemon.socket, content_root=root) as store,
        store.lease(CRI_NAMESPACE, seconds=600) as lease,
        ThreadPoolExecutor(JOBS) as pool,
    ):

        def one(layer: images.BuiltLayer) -> None:
            digest = Digest(layer.digest)
            hints = Hints(names=(reference,))
            offer = source.offers(digest, size=layer.size, media_type=layer.media_type, hints=hints)
            assert offer is not None
            with source.open(offer) as chunks:
                store.ingest(lease, ref(digest), chunks, size=layer.size, expected=digest)

        list(pool.map(one, built.layers))


def repair(daemon: Containerd, *, root: str) -> None:
    """The whole program."""
    line = command("repair", "--address", daemon.socket, "--yes", "--quiet", "--content-root", root)
    subprocess.run(line, cwd=ROOT, env=environment(), check=True)


def measure(daemon: Containerd, reference: str, built: images.BuiltImage) -> list[float]:
    """The best times in seconds of ctr, of fetching and of repairing, the two latter with files and without."""
    digests = {layer.digest for layer in built.layers}
    sides: list[Callable[[], object]] = [
        lambda: daemon.ctr("content", "fetch", "--plain-http", reference),
        lambda: fetch(daemon, reference, built, root="auto"),
        lambda: repair(daemon, root="auto"),
        lambda: fetch(daemon, reference, built, root=None),
        lambda: repair(daemon, root="none"),
    ]
    times = [float("inf")] * len(sides)
    for _ in range(ROUNDS):
        for number, side in enumerate(sides):
            for digest in digests & daemon.blobs():
                faults.remove_record(daemon, digest)
            daemon.force_gc()
            assert daemon.blobs().isdisjoint(digests)
            times[number] = min(times[number], *best(side, rounds=1))
            assert daemon.blobs() >= digests
    return times


def main() -> int:
    """Measure, print, and say by the status whether it is fast enough."""
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--mib", type=int, default=512, help="size of the image")
    arguments.add_argument("--version", choices=VERSIONS, default=VERSIONS[-1], help="release of containerd")
    options = arguments.parse_args()
    built = image(options.mib)
    with scratch(on_disk=True) as base, Registry(base / "registry") as registry:
        reference = registry.push(built, "bench/fetch:1")
        folder = Path(base / "containerd")
        folder.mkdir()
        with Containerd(options.version, folder) as daemon:
            daemon.cri_pull(reference)
            theirs, *ours = measure(daemon, reference, built)
    size = f"{options.mib} MiB into containerd {options.version}"
    fetched, repaired, fetched_by_api, repaired_by_api = ours
    fast = [
        verdict(f"{size}, fetched through files", ours=fetched, theirs=theirs, wanted=1.0),
        verdict(f"{size}, fetched through the API alone", ours=fetched_by_api, theirs=theirs, wanted=1.0),
    ]
    for way, seconds in (("through files", repaired), ("through the API alone", repaired_by_api)):
        print(f"{size}, the whole repair {way}: {seconds:.2f} s, {theirs / seconds:.2f} times the rate of ctr")
    return 0 if all(fast) else 1


if __name__ == "__main__":
    sys.exit(main())
