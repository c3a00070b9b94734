"""How fast archives are written and verified: `python -m tests.bench.bench_export [--mib N]`, as root for the lab.

Exporting stands beside `cp` of the same blobs with `sync`, and beside `ctr images export --local` of a containerd of
the lab; verifying beside hashing the same file with hashlib. Exit status 1 where we are slower than issue 4 wants.
"""

from __future__ import annotations

import argparse
import hashlib
import random
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from auditor import containerd
from auditor.archive.image_layers import documents_of
from auditor.archive.open import open_archive
from auditor.export.model import ExportPlan
from auditor.export.plan import plan
from auditor.export.write import write_archive
from auditor.model import image_graph, platforms
from auditor.model.store import Store
from tests import images
from tests.bench.peers import best, verdict
from tests.lab.kit.daemon import CRI_NAMESPACE, Containerd
from tests.lab.kit.process import scratch
from tests.lab.kit.registry import Registry
from tests.unit import archives

LAYERS = 4
VERSION = "2.1"
#: What verifying may hold in memory, whatever the size of the archive.
MEMORY = 64 << 20


def built(mib: int) -> images.BuiltImage:
    """An image of about that size, of bytes that hardly compress."""
    numbers = range(mib // LAYERS)
    contents = ({f"f{n}": random.Random(f"{layer}-{n}").randbytes(1 << 20) for n in numbers} for layer in range(LAYERS))
    return images.image([images.layer(one) for one in contents])


def real(mib: int, path: Path) -> Path:
    """An archive of an image of this machine's programs, of about that size before compression."""
    files = (file for file in sorted(Path("/usr").rglob("*")) if file.is_file() and not file.is_symlink())
    parts: list[dict[str, bytes]] = [{} for _ in range(LAYERS)]
    sizes = [0] * LAYERS
    for file in files:
        if min(sizes) >= mib << 20 >> 2:
            break
        number = sizes.index(min(sizes))
        parts[number][str(file).lstrip("/")] = data = file.read_bytes()
        sizes[number] += len(data)
    path.write_bytes(archives.tar(archives.oci(images.image([images.layer(part) for part in parts]))))
    return path


def processor(side: Callable[[], object]) -> float:
    """Seconds on processors, by all threads: what other work on the machine hardly changes."""
    start = time.process_time()
    side()
    return time.process_time() - start


@contextmanager
def pulled(mib: int, base: Path) -> Iterator[tuple[Containerd, str]]:
    """A containerd that has pulled such an image, and the image's name."""
    (base / "daemon").mkdir()
    with Registry(base / "registry") as registry, Containerd(VERSION, base / "daemon") as daemon:
        name = registry.push(built(mib), "bench/image:1")
        daemon.cri_pull(name)
        yield daemon, name


def planned(store: Store) -> ExportPlan:
    """All images of the namespace."""
    inventory = store.inventory(CRI_NAMESPACE)
    groups = image_graph.group(inventory.images)
    matcher = platforms.only([platforms.host()])
    documents = documents_of(store, inventory, groups)
    return plan(
        groups,
        documents=documents,
        has=inventory.blobs.__contains__,
        wanted=matcher,
        recorded=lambda digest: inventory.blobs[digest].labels.get("containerd.io/uncompressed"),
    )


def export(daemon: Containerd, target: Path, *, digest: bool = True) -> None:
    """An export as the command does it: planned, written, read back, synced; without `digest`, as with --no-digest."""
    target.unlink(missing_ok=True)
    with closing(containerd.connect(daemon.socket)) as store:
        write_archive(planned(store), store, target, namespace=CRI_NAMESPACE, tag="bench", digest=digest)


def copied(daemon: Containerd, target: Path) -> None:
    """The same blobs in one file, copied and synced, by somebody who checks nothing."""
    target.unlink(missing_ok=True)
    with target.open("wb") as out:
        subprocess.run(["cat", *daemon.content_root.glob("blobs/sha256/*")], stdout=out, check=True)
    subprocess.run(["sync", target], check=True)


def ctr(daemon: Containerd, name: str, target: Path) -> None:
    """containerd's own export."""
    target.unlink(missing_ok=True)
    daemon.ctr("images", "export", "--local", target, name)


def hashed(path: Path) -> None:
    """The file through sha256, a MiB at a time."""
    hasher = hashlib.sha256()
    with path.open("rb", buffering=0) as file:
        while chunk := file.read(1 << 20):
            hasher.update(chunk)


def memory(path: Path) -> int:
    """The most that Python held while verifying, in bytes."""
    tracemalloc.start()
    assert not open_archive(path).problems
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return peak


def main() -> int:
    """Measure, print, and say by the status whether it is fast enough."""
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--mib", type=int, default=1024, help="how large the image is")
    mib = arguments.parse_args().mib
    with scratch(on_disk=True) as base, pulled(mib, base) as (daemon, name):
        ours, copy, theirs = (base / n for n in ("ours.tar", "copy", "ctr.tar"))
        exporting, undigested, copying, exporter = best(
            lambda: export(daemon, ours),
            lambda: export(daemon, ours, digest=False),
            lambda: copied(daemon, copy),
            lambda: ctr(daemon, name, theirs),
        )
        fast = [verdict(f"{mib} MiB exported, beside cp and sync", ours=exporting, theirs=copying, wanted=1 / 1.3)]
        verdict("… with --no-digest", ours=undigested, theirs=copying, wanted=1 / 1.3)
        fast.append(verdict("… beside ctr images export", ours=exporting, theirs=exporter, wanted=5))
        whole, quick, peer = best(
            lambda: open_archive(ours), lambda: open_archive(ours, layers=False), lambda: hashed(ours)
        )
        verdict(f"{mib} MiB verified with diffIDs, beside hashing", ours=whole, theirs=peer, wanted=0.8)
        fast.append(verdict("… digests alone", ours=quick, theirs=peer, wanted=0.8))
        held = memory(ours)
        sides = {"exporting": lambda: export(daemon, ours), "verifying": lambda: open_archive(ours)}
        sides |= {"digests alone": lambda: open_archive(ours, layers=False), "hashing": lambda: hashed(ours)}
        print("seconds of processor:", ", ".join(f"{what} {processor(side):.2f}" for what, side in sides.items()))
        path = real(mib // 2, base / "real.tar")
        whole, quick, peer = best(
            lambda: open_archive(path), lambda: open_archive(path, layers=False), lambda: hashed(path)
        )
        what = f"{path.stat().st_size >> 20} MiB of compressed programs"
        verdict(f"{what} verified with diffIDs, beside hashing", ours=whole, theirs=peer, wanted=0.8)
        verdict("… digests alone", ours=quick, theirs=peer, wanted=0.8)
    print(f"{held >> 20} MiB of Python memory to verify, wanted at most {MEMORY >> 20}")
    return 0 if all(fast) and held <= MEMORY else 1


if __name__ == "__main__":
    sys.exit(main())
