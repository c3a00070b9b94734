"""Reading blobs for `check --verify`: threads, rate limit, progress."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

import msgspec

from auditor.audit.audit import Reading
from auditor.checks.evidence import Evidence
from auditor.cli.audit import Reader
from auditor.cli.progress import Meter
from auditor.cli.units import rate
from auditor.model.findings import Verify
from auditor.model.snapshot_files import SnapshotFiles, SnapshotKey
from auditor.model.store import Store

if TYPE_CHECKING:
    from auditor.scrub.rate_limit import RateLimit


def default_jobs() -> int:
    """The number of cores that this process may use; hashing releases the interpreter lock."""
    return len(os.sched_getaffinity(0))


def pace(text: str | None) -> RateLimit | None:
    """Parse --limit-rate. Raises UsageError."""
    if not text:
        return None
    from auditor.scrub.rate_limit import RateLimit

    return RateLimit(rate(text), clock=time.monotonic)


def reader(
    store: Store,
    verify: Verify,
    *,
    jobs: int | None = None,
    limit: RateLimit | None = None,
    max_layer: int | None = None,
    intact: Mapping[SnapshotKey, SnapshotFiles] = MappingProxyType({}),
) -> Reader:
    """Return the function that reads the audited blobs and examines the snapshots' files.

    Args:
        store: The store to read.
        verify: The verification level.
        jobs: Number of threads; one per core by default.
        limit: Rate limit.
        max_layer: Largest decompressed size of a layer, in bytes, that is checked.
        intact: Snapshots that were compared before and are not compared again.

    """
    if verify in (Verify.PRESENCE, Verify.SNAPSHOTS_QUICK):
        return lambda _, evidence: _snapshots(store, evidence, Reading(), intact)

    from auditor import scrub

    def read(meter: Meter, evidence: Evidence) -> Reading:
        known = store.proofs()
        targets = [target for target in scrub.wanted(evidence) if target.digest not in known]
        proofs = scrub.prove(
            store,
            targets,
            jobs=jobs or default_jobs(),
            layers=verify in (Verify.LAYERS, Verify.SNAPSHOTS),
            max_layer=max_layer,
            known=frozenset(target.digest for target in targets),
            pace=limit,
            on_bytes=meter.reading(sum(target.size for target in targets)),
        )
        return _snapshots(store, evidence, Reading({proof.digest: proof for proof in proofs}), intact)

    return read


def _snapshots(
    store: Store, evidence: Evidence, reading: Reading, intact: Mapping[SnapshotKey, SnapshotFiles]
) -> Reading:
    """Add what is found of the snapshots' files."""
    if evidence.archive or not any(view.inventory.snapshots for view in evidence.views):
        return reading
    if evidence.verify not in (Verify.SNAPSHOTS, Verify.SNAPSHOTS_QUICK):
        from auditor.snapshots.presence import missing

        return msgspec.structs.replace(reading, snapshot_files=missing(evidence, pause=time.sleep))
    from auditor.snapshots.examine import examine

    found = examine(store, evidence, pause=time.sleep, known=intact)
    return msgspec.structs.replace(reading, snapshot_files=found.files, incomplete=found.incomplete)
