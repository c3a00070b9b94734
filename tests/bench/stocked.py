"""A real containerd with blobs that a benchmark puts into it, on a disk, gone when the benchmark ends."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from auditor import containerd
from auditor.containerd.find_content_root import ContentRootOption
from auditor.containerd.store import ContainerdStore
from auditor.model.digest import Digest
from auditor.scrub import Target, largest_first, targets_of
from tests.lab.kit.binaries import VERSIONS
from tests.lab.kit.daemon import Containerd
from tests.lab.kit.faults import GC_ROOT_LABEL
from tests.lab.kit.process import scratch

NAMESPACE = "default"


class Stocked:
    """A daemon and what was put into it. `scratch` is a folder for files that are on their way."""

    def __init__(self, daemon: Containerd, folder: Path) -> None:
        self.daemon = daemon
        self.scratch = folder

    def take(self, digests: Sequence[Digest], *, namespace: str = NAMESPACE) -> list[Path]:
        """Move files from the scratch folder, each named by the hex of its digest, into the store."""
        for digest in digests:
            source = self.scratch / digest.hex
            expected = ("--expected-digest", digest, "--expected-size", str(source.stat().st_size))
            ingest = self.daemon.ctr_command("content", "ingest", *expected, f"bench-{digest}", namespace=namespace)
            with source.open("rb") as data:
                subprocess.run(ingest, stdin=data, check=True)
            self.daemon.ctr("content", "label", digest, f"{GC_ROOT_LABEL}=bench", namespace=namespace)
            source.unlink()
        return [self.daemon.blob_path(digest) for digest in digests]

    def put(self, blobs: Iterable[bytes], *, namespace: str) -> None:
        """Commit many small blobs over one connection."""
        with containerd.connect_writable(self.daemon.socket) as store, store.lease(namespace, seconds=600) as lease:
            for data in blobs:
                digest, labels = Digest.of(data), {GC_ROOT_LABEL: "bench"}
                ref = f"bench-{digest}"
                store.ingest(lease, ref, iter([data]), size=len(data), expected=digest, labels=labels)

    @contextmanager
    def store(self, *, content_root: ContentRootOption = "auto") -> Iterator[ContainerdStore]:
        """The store as the program has it; `content_root=None` for the API alone."""
        with containerd.connect(self.daemon.socket, content_root=content_root) as store:
            yield store


def targets(store: ContainerdStore, digests: Sequence[Digest], *, layers: bool = False) -> list[Target]:
    """What is to be read, in the order in which the program reads it."""
    kinds = dict.fromkeys(digests) if layers else {}
    found = targets_of([store.inventory(NAMESPACE, snapshotters=())], layers=kinds)
    return largest_first(target for target in found if target.digest in digests)


@contextmanager
def stocked() -> Iterator[Stocked]:
    """Start the newest containerd of the lab on a private folder."""
    with scratch(on_disk=True) as base:
        folder = base / "scratch"
        folder.mkdir()
        with Containerd(VERSIONS[-1], base) as daemon:
            yield Stocked(daemon, folder)
