"""Audit a store: collect the evidence, judge it, and collect it again before a finding is reported."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from types import MappingProxyType

import msgspec

from auditor import checks
from auditor.audit.collect import Progress, Request, collect, no_progress
from auditor.checks.evidence import Evidence
from auditor.model.digest import Digest
from auditor.model.findings import Finding, Severity
from auditor.model.image_graph import Documents
from auditor.model.snapshot_files import SnapshotFiles, SnapshotKey
from auditor.model.store import FileState, Inventory, Leftovers, Store, Verification

#: How often the store is looked at before a finding is reported; the last two looks must agree.
LOOKS = 4
#: Seconds between two looks: longer than a commit takes.
PAUSE = 0.1
#: Seconds between two looks at what may be a pull: long enough for a slow one to move.
PULL_PAUSE = 1.5
#: The codes of findings that need the longer pause: what causes them may be a pull or a garbage collection.
_SLOW = frozenset({"pull-in-progress", "file-without-record", "metadata-lost"})


class Reading(msgspec.Struct, frozen=True):
    """The result of reading blobs and snapshots.

    A verification for each blob read, the blobs left unread for lack of time, what was found of the snapshots' files,
    the snapshots that their snapshotter does not know, folders without a snapshot, files that cannot be deleted, and
    sentences about what could not be examined.
    """

    verifications: Mapping[Digest, Verification] = {}
    unread: frozenset[Digest] = frozenset()
    snapshot_files: Mapping[SnapshotKey, SnapshotFiles] = {}
    unpaired: frozenset[SnapshotKey] = frozenset()
    leftovers: tuple[Leftovers, ...] = ()
    undeletable: Mapping[str, int] = {}
    incomplete: tuple[str, ...] = ()


#: Reads the blobs that an audit wants verified.
Read = Callable[[Evidence], Reading]


class AuditResult(msgspec.Struct, frozen=True):
    """The findings of an audit, the evidence that they rest on, and the blobs that were wanted and left unread."""

    evidence: Evidence
    findings: tuple[Finding, ...]
    unread: frozenset[Digest] = frozenset()


def audit(
    store: Store,
    request: Request,
    *,
    clock: Callable[[], datetime],
    pause: Callable[[float], None],
    documents: Documents = MappingProxyType({}),
    read: Read | None = None,
    on_progress: Progress = no_progress,
) -> AuditResult:
    """Audit a store.

    A finding is reported only if two consecutive looks at the store agree on it, so that an image that is removed or
    pulled meanwhile is no finding.

    Args:
        store: The store to read.
        request: The part of the store to audit, and the verification level.
        clock: Returns the current time, in UTC.
        pause: Sleeps for a number of seconds.
        documents: Documents of the store that were read and parsed before.
        read: Reads blobs after the first look; None leaves contents unread.
        on_progress: Progress callback.

    Returns:
        The findings and the evidence of the last look.

    Raises:
        StoreError: The store cannot be audited.
        NothingExamined: The request selects nothing.

    """
    known = dict(documents)
    evidence = collect(store, request, known=known, now=clock(), on_progress=on_progress)
    reading = read(evidence) if read is not None else Reading()
    verifications = {**store.verifications(), **reading.verifications}
    evidence = _with_reading(evidence, reading, verifications)
    found = checks.judge(evidence)
    earlier: dict[str, Inventory] = {}
    for _ in range(LOOKS - 1):
        if not any(_needs_second_look(finding, evidence) for finding in found):
            break
        pause(PULL_PAUSE if any(finding.code in _SLOW for finding in found) else PAUSE)
        before = {finding.key for finding in found}
        again = collect(store, request, known=known, now=clock(), leases=True, before=earlier, on_progress=on_progress)
        earlier = earlier or {view.name: view.inventory for view in again.views}
        again = msgspec.structs.replace(again, unrecorded=_settled(evidence.unrecorded, again.unrecorded))
        bytes_read = evidence.bytes_read + again.bytes_read
        evidence = _with_reading(msgspec.structs.replace(again, bytes_read=bytes_read), reading, verifications)
        found = checks.judge(evidence)
        if all(finding.key in before for finding in found):
            break
    else:
        found = tuple(finding for finding in found if finding.key in before)
    return AuditResult(evidence, found, reading.unread)


def _with_reading(evidence: Evidence, reading: Reading, verifications: Mapping[Digest, Verification]) -> Evidence:
    return msgspec.structs.replace(
        evidence,
        verifications=verifications,
        snapshot_files=reading.snapshot_files,
        unpaired=reading.unpaired,
        leftovers=(*evidence.leftovers, *reading.leftovers),
        undeletable=reading.undeletable,
        incomplete=(*evidence.incomplete, *reading.incomplete),
    )


def _settled(before: Mapping[Digest, FileState], after: Mapping[Digest, FileState]) -> Mapping[Digest, FileState]:
    """Return the files without record of both looks; none where some went: a commit or a collection is under way."""
    return {digest: after[digest] for digest in before} if before.keys() <= after.keys() else {}


def _needs_second_look(finding: Finding, evidence: Evidence) -> bool:
    """Whether a second look, with the resources of the leases, could remove this finding."""
    if finding.code == "orphan-blob":
        return any(view.inventory.leases for view in evidence.views)
    return finding.severity is not Severity.INFO or finding.code == "pull-in-progress"
