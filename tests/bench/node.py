"""A node full of images for benchmarks: as many as wanted, each named three times as the CRI does, in the lab."""

from __future__ import annotations

import io
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests import images
from tests.lab.kit.daemon import Containerd
from tests.lab.kit.process import PREFIX, remove

#: Images that share their six lowest layers, and half of whom share the seventh; the eighth is an image's own.
FAMILY = 20
BASE = 6
#: Images in one archive: what ctr imports in one go without holding much in memory.
BATCH = 500
#: Memory: unpacking thousands of layers on a disk would take longer than all that is measured.
SCRATCH = Path("/dev/shm")

Shape = Callable[[int], images.BuiltIndex]


def image(number: int) -> images.BuiltIndex:
    """An image of eight small layers below an index that offers one platform: four blobs of its own, seven shared."""
    family, half = number // FAMILY, number // (FAMILY // 2)
    layers = [images.layer({f"base-{n}": f"{family}".encode()}) for n in range(BASE)]
    layers += [images.layer({"half": f"{half}".encode()}), images.layer({"own": f"{number}".encode()})]
    return images.index([images.image(layers)])


def small_image(number: int) -> images.BuiltIndex:
    """An image of two small layers below an index that offers one platform: four blobs of its own, one shared."""
    layers = [images.layer({"base": f"{number // FAMILY}".encode()}), images.layer({"own": f"{number}".encode()})]
    return images.index([images.image(layers)])


def names(number: int, made: images.BuiltIndex) -> tuple[str, ...]:
    """Tag and digest; the CRI hears of them and writes the third record that its own pulls have, the id."""
    repository = f"registry.example.com/team-{number % 40}/service-{number}"
    return f"{repository}:v1.{number}", f"{repository}@{made.digest}"


def archive(path: Path, numbers: range, *, shape: Shape) -> None:
    """Write an OCI archive of images under all their names."""
    entries: list[dict[str, object]] = []
    written: set[str] = set()
    with tarfile.open(path, "w") as tar:
        for number in numbers:
            made = shape(number)
            for digest, data in made.blobs.items():
                if digest not in written:
                    _add(tar, f"blobs/sha256/{digest.partition(':')[2]}", data)
                    written.add(digest)
            notes = ({"io.containerd.image.name": name} for name in names(number, made))
            entries.extend(made.target.json() | {"annotations": note} for note in notes)
        _add(tar, "oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
        _add(tar, "index.json", images.dump({"schemaVersion": 2, "manifests": entries}))


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(data)
    tar.addfile(entry, io.BytesIO(data))


@contextmanager
def node(version: str) -> Iterator[Containerd]:
    """An empty containerd of the lab."""
    base = Path(tempfile.mkdtemp(dir=SCRATCH, prefix=PREFIX))
    try:
        with Containerd(version, base, patience=300) as daemon:
            yield daemon
    finally:
        remove(base)


def fill(daemon: Containerd, numbers: range, *, shape: Shape = image) -> None:
    """Import and unpack images made by `shape`, and wait until each has its three records."""
    path = daemon.base / "bench.tar"
    for start in range(numbers.start, numbers.stop, BATCH):
        archive(path, range(start, min(start + BATCH, numbers.stop)), shape=shape)
        daemon.ctr("images", "import", path)
    path.unlink(missing_ok=True)
    deadline = time.monotonic() + 60
    while len(daemon.images()) < 3 * numbers.stop and time.monotonic() < deadline:
        time.sleep(0.1)
    daemon.force_gc()  # ctr stores each archive's index.json, which belongs to nothing
