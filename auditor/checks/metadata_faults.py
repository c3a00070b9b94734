"""Faults of the databases of a store that is read from its disk."""

from __future__ import annotations

from collections.abc import Iterator

from auditor.checks.evidence import Evidence
from auditor.checks.rule import Hit, Rule
from auditor.model.findings import Severity, Subject
from auditor.model.store import DamageKind

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
RULES = (METADATA_DAMAGED, METADATA_LOST, FILE_WITHOUT_RECORD, SNAPSHOT_WITHOUT_BACKEND)
#: The codes of findings that rest on the absence of records of other objects.
NEED_ALL_RECORDS = frozenset({"container-orphaned", "gc-unprotected", "orphan-blob", "stale-ingest"})
_RULES = {DamageKind(rule.code): rule for rule in RULES}


def check(evidence: Evidence) -> Iterator[Hit]:
    """Yield a hit for each fault of a database."""
    for fault in evidence.info.damage:
        subject = Subject(kind="store", name=fault.subject)
        yield _RULES[fault.kind].hit("", subject, fault.message, facts=dict(fault.facts))
