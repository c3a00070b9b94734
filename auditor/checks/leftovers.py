"""Files that no record of containerd leads to, folded to one finding per folder."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from auditor.checks.evidence import Evidence
from auditor.checks.rule import Hit, Rule
from auditor.model.findings import Fact, Severity, Subject
from auditor.model.store import LeftoverKind

LEFTOVER_FILES = Rule(
    code="leftover-files",
    severity=Severity.INFO,
    means="A folder of containerd has entries that no record leads to: names in blobs/ that are no digests, folders in "
    "ingest/ that containerd does not list, snapshot folders without a row in the snapshotter's database. Entries that "
    "changed in the last minute are left out.",
    impact="No image is affected. They take disk space.",
    remedy="Nothing, unless the space is needed: then stop containerd, check the folder again with `auditor check "
    "--root`, and move its leftovers away.",
)
UNDELETABLE_FILES = Rule(
    code="undeletable-files",
    severity=Severity.WARNING,
    means="Blob files without a record, or the folder of the blobs, are immutable or append-only (`chattr +i`, `+a`).",
    impact="Each garbage collection fails at them, and no unused content is deleted: `operation not permitted`. In an "
    "immutable folder, pulls fail too.",
    remedy="`lsattr` shows the attributes, `chattr -i -a` removes them. The next collection then deletes files without "
    "a record: copy those that are needed before.",
)
RULES = (LEFTOVER_FILES, UNDELETABLE_FILES)

_TEXTS: Final = {
    LeftoverKind.STRAY: "names in {folder} that are no digests",
    LeftoverKind.INGEST: "folders in {folder} of ingests that containerd does not list",
    LeftoverKind.SNAPSHOT: "folders in {folder} of snapshots that {owner} does not record",
}
_HINTS: Final = {
    LeftoverKind.INGEST: "Nothing, unless a blob's file is missing: a power cut leaves such folders, and the bytes of "
    "the blob may be in a file `data` there.",
}


def check(evidence: Evidence) -> Iterator[Hit]:
    """Yield a hit for each folder with leftovers, and one for files that containerd cannot delete."""
    if evidence.undeletable:
        yield _undeletable(evidence)
    for found in evidence.leftovers:
        what = _TEXTS[found.kind].format(folder=found.folder, owner=found.owner)
        text = f"{found.count} {what}: {'at least ' if found.at_least else ''}{found.size} bytes"
        facts: dict[str, Fact] = {"files": found.count, "bytes": found.size, "first": found.first}
        subject = Subject(kind="store", name=found.folder)
        yield LEFTOVER_FILES.hit("", subject, text, facts=facts, hint=_HINTS.get(found.kind, ""))


def _undeletable(evidence: Evidence) -> Hit:
    count, size, first = len(evidence.undeletable), sum(evidence.undeletable.values()), min(evidence.undeletable)
    text = f"{count} immutable or append-only, first {first}: garbage collections fail, and {size} bytes are not freed"
    facts: dict[str, Fact] = {"files": count, "bytes": size, "first": first}
    subject = Subject(kind="store", name=str(evidence.info.content_root))
    return UNDELETABLE_FILES.hit("", subject, text, facts=facts)
