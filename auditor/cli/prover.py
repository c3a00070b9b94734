"""Reading blobs for `check --verify`: threads, rate limit, progress."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

import msgspec

from auditor.audit.audit import Reading
from auditor.audit.undeletable import undeletable
from auditor.checks.evidence import Evidence
from auditor.cli.audit import Reader
from auditor.cli.progress import Meter
from auditor.model.findings import Verify
from auditor.model.snapshot_files import SnapshotFiles, SnapshotKey
from auditor.model.store import SourceKind, Store, StoreInfo

if TYPE_CHECKING:
    from auditor.scrub.rate_limit import RateLimit
    from auditor.snapshots.layer_files import LayerFiles, LayerTask
    from auditor.snapshots.presence import Looked


#: The levels that compare the files of snapshots; the others look at their directories.
COMPARING = (Verify.SNAPSHOTS, Verify.SNAPSHOTS_QUICK)


def default_jobs() -> int:
    """The number of cores that this process may use; hashing releases the interpreter lock."""
    return len(os.sched_getaffinity(0))


def reader(
    store: Store,
    verify: Verify,
    *,
    jobs: int | None = None,
    limit: RateLimit | None = None,
    max_layer: int | None = None,
    intact: Mapping[SnapshotKey, SnapshotFiles] = MappingProxyType({}),
    look: SnapshotLook | None = None,
) -> Reader:
    """Return the function that reads the audited blobs and examines the snapshots' files.

    Args:
        store: The store to read.
        verify: The verification level.
        jobs: Number of threads; one per core by default.
        limit: Rate limit.
        max_layer: Largest decompressed size of a layer, in bytes, that is checked.
        intact: Snapshots that were compared before and are not compared again.
        look: What `look_at_snapshots` found a moment ago.

    """

    def files(meter: Meter, evidence: Evidence) -> Reading:
        reading = _snapshots(
            store,
            meter,
            evidence,
            limit=limit,
            max_layer=max_layer,
            intact=intact,
            look=look,
            jobs=jobs or default_jobs(),
        )
        root = evidence.info.content_root
        if root is None or evidence.archive or any(view.selected for view in evidence.views):
            return reading
        return msgspec.structs.replace(reading, undeletable=undeletable(root, evidence.unrecorded))

    if verify in (Verify.SINCE_CRASH, Verify.PRESENCE, Verify.SNAPSHOTS_QUICK):
        return files

    from auditor import scrub

    def read(meter: Meter, evidence: Evidence) -> Reading:
        reading = files(meter, evidence)
        known = {**store.verifications(), **reading.verifications}
        targets = [target for target in scrub.wanted(evidence) if target.digest not in known]
        verifications = scrub.verify_blobs(
            store,
            targets,
            jobs=jobs or default_jobs(),
            layers=verify in (Verify.LAYERS, Verify.SNAPSHOTS),
            max_layer=max_layer,
            known=frozenset(target.digest for target in targets),
            pace=limit,
            on_bytes=meter.reading(sum(target.size for target in targets)),
        )
        found = {**reading.verifications, **{verification.digest: verification for verification in verifications}}
        return msgspec.structs.replace(reading, verifications=found)

    return read


class SnapshotLook(msgspec.Struct, frozen=True):
    """When the machine or the daemon ended, in ns since 1970, and what the directories of snapshotters look like."""

    ends: tuple[int, ...]
    directories: Mapping[str, Looked]


def look_at_snapshots(info: StoreInfo) -> SnapshotLook:
    """Look at the directories of all snapshots; to be used at once."""
    from auditor.snapshots.crashes import crashes, crashes_of_disk
    from auditor.snapshots.presence import look_at_all

    offline = info.kind is SourceKind.OFFLINE
    return SnapshotLook(crashes_of_disk(Path(info.address)) if offline else crashes(info.address), look_at_all(info))


def _snapshots(
    store: Store,
    meter: Meter,
    evidence: Evidence,
    *,
    limit: RateLimit | None,
    max_layer: int | None,
    intact: Mapping[SnapshotKey, SnapshotFiles],
    look: SnapshotLook | None,
    jobs: int,
) -> Reading:
    """Return what is found of the snapshots' files, and the verifications of the layers that were read for it."""
    if evidence.archive:
        return Reading()
    from auditor.snapshots.presence import unowned

    if not any(view.inventory.snapshots for view in evidence.views):
        return Reading(leftovers=unowned(evidence))
    admit = _admit(meter, limit)
    if evidence.verify not in COMPARING:
        return _presence(store, evidence, admit, look or look_at_snapshots(evidence.info))
    from auditor.snapshots.examine import examine
    from auditor.snapshots.presence import unpaired

    def ahead(tasks: Mapping[SnapshotKey, LayerTask]) -> Mapping[SnapshotKey, LayerFiles]:
        from auditor.cli.compare_processes import compare_ahead

        root = evidence.info.content_root
        # A limited rate is that of one process.
        return {} if root is None or limit is not None else compare_ahead(root, tasks, jobs=jobs, admit=admit)

    found = examine(store, evidence, pause=time.sleep, admit=admit, max_layer=max_layer, known=intact, ahead=ahead)
    return Reading(
        found.verifications,
        snapshot_files=found.files,
        unpaired=unpaired(evidence, pause=time.sleep),
        leftovers=unowned(evidence),
        incomplete=found.incomplete,
    )


def _admit(meter: Meter, limit: RateLimit | None) -> Callable[[int], None]:
    """Return a function that waits for the rate limit, and counts bytes for the progress bar."""
    count = meter.reading(0, "comparing unpacked files")

    def admit(size: int) -> None:
        if limit is not None:
            time.sleep(limit.reserve(size))
        count(size)

    return admit


def _presence(store: Store, evidence: Evidence, admit: Callable[[int], None], look: SnapshotLook) -> Reading:
    """Look for missing directories and the damage of a crash.

    A check of nothing else is incomplete without them; any other only where the disk does not answer.
    """
    from auditor.snapshots.presence import presence, unowned, unpaired

    found = presence(evidence, pause=time.sleep, ends=look.ends, looked=look.directories)
    incomplete = found.incomplete if evidence.verify is Verify.SINCE_CRASH else found.failed
    files = found.files
    if found.suspects:
        from auditor.snapshots.examine import examine_suspects

        examined = examine_suspects(store, evidence, found.suspects, admit=admit)
        files = {**files, **examined.files}
        incomplete = (*incomplete, *examined.incomplete)
    return Reading(
        snapshot_files=files,
        unpaired=unpaired(evidence, pause=time.sleep),
        leftovers=unowned(evidence, found.folders),
        incomplete=incomplete,
    )
