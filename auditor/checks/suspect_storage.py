"""Damage to several unrelated blobs: then it is not the images, it is what they lie on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from auditor.checks.rule import Rule
from auditor.model.findings import Finding, Severity, Subject

#: How many blobs without an image in common make a pattern; two can be one accident.
UNRELATED = 3
_DAMAGE = frozenset({"digest-mismatch", "size-mismatch", "blob-file-missing", "blob-unreadable", "read-unsteady"})

SUSPECT_STORAGE = Rule(
    code="suspect-storage",
    severity=Severity.CRITICAL,
    means="Several blobs that share no image are damaged.",
    matters="The disk, the memory or the file system is failing, or a power cut lost writes; more is likely damaged.",
    do="Look at the kernel's log, SMART data and memory before repairing; repair writes to the same disk.",
)
RULES = (SUSPECT_STORAGE,)


def check(found: Sequence[Finding]) -> Iterator[Finding]:
    """Look over the other rules' findings for a pattern."""
    damaged = [f for f in found if f.code in _DAMAGE and f.cause != "records-disagree"]
    unrelated = _unrelated(damaged)
    if len(unrelated) < UNRELATED:
        return
    first = damaged[0]
    text = f"{len(damaged)} blobs are damaged, {len(unrelated)} of which share no image: suspect the disk or the memory"
    yield SUSPECT_STORAGE.hit(
        first.namespace,
        Subject(kind="store", name="content"),
        text,
        facts={"blobs": len(damaged), "unrelated": len(unrelated)},
    )


def _unrelated(damaged: Sequence[Finding]) -> list[Finding]:
    seen: set[str] = set()
    chosen = []
    for finding in damaged:
        images = {image.target for image in finding.images}
        if not images & seen:
            chosen.append(finding)
            seen |= images
    return chosen
