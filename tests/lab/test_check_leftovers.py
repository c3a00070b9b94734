"""Files that no record leads to, on real daemons: counted live and from the disk, and never while they change."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from auditor import containerd
from auditor.audit import audit, collect
from auditor.audit.leftovers import SETTLED
from auditor.cli import prover
from auditor.cli.progress import Meter
from auditor.model.findings import Finding, Severity, Verify
from auditor.model.store import Store
from auditor.offline.store import OfflineStore
from tests import images
from tests.lab.checked import auditor_here, check, the
from tests.lab.kit import faults
from tests.lab.kit.binaries import VERSIONS
from tests.lab.kit.daemon import Containerd
from tests.lab.kit.process import scratch
from tests.lab.kit.registry import Registry

IMAGE = images.image([images.layer(images.files(f"left-{number}", kilobytes=16)) for number in range(2)])


@pytest.fixture(scope="module", params=VERSIONS)
def node(request: pytest.FixtureRequest, registry: Registry) -> Iterator[Containerd]:
    """Pull an image, and interrupt an upload that the daemon lists."""
    with scratch() as base, Containerd(request.param, base) as daemon:
        daemon.cri_pull(registry.push(IMAGE, "lab/left:1"))
        faults.interrupted_ingest(daemon, "living", data=b"half")
        yield daemon


def leftovers(store: Store, *, later: timedelta) -> dict[str, Finding]:
    """Audit as `check` does, by a clock that is ahead: what is new counts as settled."""
    meter = Meter(shown=False)
    read = prover.reader(store, Verify.PRESENCE)
    result = audit.audit(
        store,
        collect.Request(),
        clock=lambda: datetime.now(UTC) + later,
        pause=time.sleep,
        read=lambda evidence: read(meter, evidence),
    )
    assert {f.code for f in result.findings if f.severity is not Severity.INFO} == set()
    return {Path(f.subject.name).name: f for f in result.findings if f.code == "leftover-files"}


def plant(daemon: Containerd) -> None:
    """Leave behind what a power cut and a careless hand do."""
    dead = daemon.content_root / "ingest" / ("ab" * 32)
    dead.mkdir()
    (dead / "ref").touch()
    (dead / "data").write_bytes(b"x" * 1000)
    (daemon.content_root / "blobs/sha256" / "copy-of-a-blob").write_bytes(b"x" * 10)
    lost = daemon.root / "io.containerd.snapshotter.v1.overlayfs/snapshots/4711/fs"
    lost.mkdir(parents=True)
    (lost / "file").write_bytes(b"x" * 100)


def test_leftovers_are_counted_live_and_from_the_disk(node: Containerd) -> None:
    settled = timedelta(seconds=SETTLED + 1)
    with containerd.connect(node.socket) as store:
        assert leftovers(store, later=settled) == {}
        plant(node)
        assert leftovers(store, later=timedelta()) == {}
        live = leftovers(store, later=settled)
    assert {name: (f.facts["files"], f.facts["bytes"]) for name, f in live.items()} == {
        "blobs": (1, 10),
        "ingest": (1, 1000),
        "snapshots": (1, 100),
    }
    node.stop()
    try:
        assert leftovers(OfflineStore(node.root), later=settled) == live
        assert auditor_here("check", "--root", node.root).status == 0
    finally:
        node.start()


def test_an_immutable_file_that_stops_every_collection_is_named(daemon: Containerd) -> None:
    faults.add_blob(daemon, b"another")
    digest = faults.add_blob(daemon, b"immutable")
    path = daemon.blob_path(digest)
    subprocess.run(["chattr", "+i", path], check=True)
    try:
        assert "undeletable-files" not in {finding.code for finding in check(daemon).report.findings}
        faults.remove_record(daemon, digest)
        found = the(check(daemon).report, "undeletable-files")
    finally:
        subprocess.run(["chattr", "-i", path], check=True)
    assert (found.facts["files"], found.facts["bytes"], found.facts["first"]) == (1, 9, str(path))
