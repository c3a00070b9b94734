"""Faults of a store's databases: read from its disk, or seen by the files that a live daemon has no record of."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from auditor.checks.evidence import Evidence
from auditor.checks.rule import Hit, Rule
from auditor.model.digest import Digest
from auditor.model.findings import Fact, Severity, Subject
from auditor.model.plural import plural
from auditor.model.store import DamageKind, FileState

METADATA_DAMAGED = Rule(
    code="metadata-damaged",
    severity=Severity.CRITICAL,
    means="A page of meta.db, or of a snapshotter's metadata.db, is damaged; the records in it are lost.",
    impact="containerd panics at the damaged page, or starts with fewer records; its garbage collection can then "
    "delete blobs and snapshots.",
    remedy="Do not start containerd on this root. Copy it; `auditor recover --meta-db` makes a sound database where "
    "that is possible, `auditor recover -o` takes the images out.",
)
METADATA_LOST = Rule(
    code="metadata-lost",
    severity=Severity.CRITICAL,
    means="Most blob files have no record in meta.db, as after the database was deleted.",
    impact="The next garbage collection that removes a record also deletes every file without one.",
    remedy="Do not start containerd on this root. Copy it; put back a copy of meta.db if there is one, else take the "
    "images out with `auditor recover`.",
)
FILE_WITHOUT_RECORD = Rule(
    code="file-without-record",
    severity=Severity.WARNING,
    means="Files in blobs/ have no record in meta.db, as after a power cut.",
    impact="Images are not affected. The next garbage collection that removes a record also deletes these files.",
    remedy="Nothing, unless an image is missing: then copy the root before containerd starts.",
)
SNAPSHOT_WITHOUT_BACKEND = Rule(
    code="snapshot-without-backend",
    severity=Severity.CRITICAL,
    means="meta.db records a snapshot that its snapshotter's metadata.db does not have.",
    impact="containerd does not find the snapshot: images that need it neither run nor pull.",
    remedy="Copy the root, remove the images concerned after containerd started, and pull them again.",
)
#: What to do on a live daemon, which deletes the files at its next collection.
_KEEP: Final = (
    "Pull and delete nothing, and do not restart containerd: that ends with a garbage collection. Copy its root folder "
    "now; then `auditor recover` takes the images out of the copy."
)
_LOOK: Final = (
    "Nothing, unless an image is missing: then copy the blob files before anything is deleted on this node; "
    "`auditor recover` takes images out of a copy of the root folder."
)
_PAIR: Final = (
    "Stop containerd, copy its root folder, and put back the snapshotter's metadata.db from a copy of the same time as "
    "meta.db; without one, drain the node, remove its images and containers, and pull again."
)
RULES = (METADATA_DAMAGED, METADATA_LOST, FILE_WITHOUT_RECORD, SNAPSHOT_WITHOUT_BACKEND)
#: The codes of findings that rest on the absence of records of other objects.
NEED_ALL_RECORDS = frozenset({"container-orphaned", "gc-unprotected", "orphan-blob", "stale-ingest"})
_RULES = {DamageKind(rule.code): rule for rule in RULES}


def check(evidence: Evidence) -> Iterator[Hit]:
    """Yield a hit for each fault of a database, and one for the files without record of a live daemon."""
    for fault in evidence.info.damage:
        subject = Subject(kind="store", name=fault.subject)
        yield _RULES[fault.kind].hit("", subject, fault.message, facts=dict(fault.facts))
    yield from _unrecorded(evidence)
    yield from _unpaired(evidence)


def _unpaired(evidence: Evidence) -> Iterator[Hit]:
    """Report the snapshotters of a live store whose database lacks snapshots that meta.db records."""
    for snapshotter in sorted({name for _, name, _ in evidence.unpaired}):
        lone = sorted(key for key in evidence.unpaired if key[1] == snapshotter)
        text = f"{plural(len(lone), 'snapshot')} of {snapshotter} recorded in meta.db and not in its metadata.db"
        facts: dict[str, Fact] = {"snapshots": len(lone), "first": lone[0][2]}
        yield SNAPSHOT_WITHOUT_BACKEND.hit("", Subject(kind="store", name=snapshotter), text, facts=facts, hint=_PAIR)


def _unrecorded(evidence: Evidence) -> Iterator[Hit]:
    """Report the files of a live store that no record names; METADATA_LOST where they are most of the store.

    A file of a blob that an image references is left out: the absent blob is a finding of its own, and a record that
    was deleted leaves its file until the next collection.
    """
    if not evidence.unrecorded:
        return
    named = set().union(*(view.named for view in evidence.views))
    spare = {digest: state for digest, state in evidence.unrecorded.items() if digest not in named}
    recorded = set().union(*(view.inventory.blobs for view in evidence.views))
    rule = METADATA_LOST if len(spare) > len(recorded) else FILE_WITHOUT_RECORD
    if spare:
        yield _files(evidence, rule, spare, len(spare) + len(recorded))


def _files(evidence: Evidence, rule: Rule, spare: Mapping[Digest, FileState], total: int) -> Hit:
    size = sum(state.size or 0 for state in spare.values())
    text = f"{len(spare)} of {total} blob files ({size} bytes) have no record in meta.db"
    facts: dict[str, Fact] = {"files": len(spare), "bytes": size, "first": str(next(iter(spare)))}
    hint = _KEEP if rule is METADATA_LOST else _LOOK
    return rule.hit("", Subject(kind="store", name=str(evidence.info.content_root)), text, facts=facts, hint=hint)
