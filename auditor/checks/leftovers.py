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
RULES = (LEFTOVER_FILES,)

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
    """Yield a hit for each folder with leftovers."""
    for found in evidence.leftovers:
        what = _TEXTS[found.kind].format(folder=found.folder, owner=found.owner)
        text = f"{found.count} {what}: {'at least ' if found.at_least else ''}{found.size} bytes"
        facts: dict[str, Fact] = {"files": found.count, "bytes": found.size, "first": found.first}
        subject = Subject(kind="store", name=found.folder)
        yield LEFTOVER_FILES.hit("", subject, text, facts=facts, hint=_HINTS.get(found.kind, ""))
