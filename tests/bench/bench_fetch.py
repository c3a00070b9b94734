"""How fast absent layers are brought back: `python -m tests.bench.bench_fetch [--mib N] [--version V]`.

Beside `ctr content fetch` of the same layers into the same daemon from the same registry, in the same run. Ours is the
whole of `auditor repair --yes`: both checks, every byte hashed on the way and read back. Exit status 1 where that is
slower than ctr.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from tests.bench.peers import best, verdict
from tests.lab.checked import ROOT, command, environment
from tests.lab.kit import faults, images
from tests.lab.kit.binaries import VERSIONS
from tests.lab.kit.daemon import Containerd
from tests.lab.kit.process import scratch
from tests.lab.kit.registry import Registry

SHARES = (0.5, 0.25, 0.125, 0.125)


def image(mib: int) -> images.BuiltImage:
    """An image of `mib` MiB in four layers of different sizes, all noise."""
    return images.image(
        [images.layer(_files(number, int(mib * share)), level=1) for number, share in enumerate(SHARES)]
    )


def _files(layer: int, mib: int) -> dict[str, bytes]:
    return {f"data-{part}": images.noise(f"fetch-{layer}-{part}", 8 << 20) for part in range(max(mib // 8, 1))}


def measure(daemon: Containerd, reference: str, built: images.BuiltImage, *, root: str) -> list[float]:
    """The best times of both sides in seconds, each from the same broken state."""

    def lose() -> None:
        for layer in built.layers:
            if layer.digest in daemon.blobs():
                faults.remove_record(daemon, layer.digest)
        daemon.force_gc()
        assert daemon.blobs().isdisjoint(layer.digest for layer in built.layers)

    def theirs() -> None:
        daemon.ctr("content", "fetch", "--plain-http", reference)

    def ours() -> None:
        line = command("repair", "--address", daemon.socket, "--yes", "--quiet", "--content-root", root)
        subprocess.run(line, cwd=ROOT, env=environment(), check=True)

    times: list[float] = [float("inf"), float("inf")]
    for _ in range(3):
        for number, side in enumerate((ours, theirs)):
            lose()
            times[number] = min(times[number], *best(side, rounds=1))
            assert daemon.blobs() >= {layer.digest for layer in built.layers}
    return times


def main() -> int:
    """Measure, print, and say by the status whether it is fast enough."""
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--mib", type=int, default=512, help="size of the image")
    arguments.add_argument("--version", choices=VERSIONS, default=VERSIONS[-1], help="release of containerd")
    options = arguments.parse_args()
    built = image(options.mib)
    with scratch() as base, Registry(base / "registry") as registry:
        reference = registry.push(built, "bench/fetch:1")
        folder = Path(base / "containerd")
        folder.mkdir()
        with Containerd(options.version, folder) as daemon:
            daemon.cri_pull(reference)
            fast = []
            for root in ("auto", "none"):
                ours, theirs = measure(daemon, reference, built, root=root)
                what = f"{options.mib} MiB fetched into containerd {options.version}, content root {root}"
                fast.append(verdict(what, ours=ours, theirs=theirs, wanted=1.0))
    return 0 if all(fast) else 1


if __name__ == "__main__":
    sys.exit(main())
