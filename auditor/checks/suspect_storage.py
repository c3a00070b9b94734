"""Damage to several unrelated blobs, which points to the disk or the memory rather than to the images."""

from __future__ import annotations

from collections.abc import Sequence

from auditor.checks.rule import Rule, merge
from auditor.model.findings import Finding, Severity, Subject

#: How many damaged blobs without an image in common are reported; two may be a coincidence.
UNRELATED = 3
_DAMAGE = frozenset({"digest-mismatch", "size-mismatch", "blob-file-missing", "blob-unreadable", "read-unsteady"})

SUSPECT_STORAGE = Rule(
    code="suspect-storage",
    severity=Severity.CRITICAL,
    means="Several blobs that share no image are damaged.",
    impact="The disk, the memory or the file system is failing, or a power cut lost writes; expect more damage.",
    remedy="Check the kernel's log, SMART data and memory before repairing; a repair writes to the same disk.",
)
RULES = (SUSPECT_STORAGE,)


def check(found: Sequence[Finding]) -> tuple[Finding, ...]:
    """Return a finding about the storage where the other rules' findings show unrelated damage."""
    damaged = [f for f in found if f.code in _DAMAGE and f.cause != "records-disagree"]
    unrelated = _unrelated(damaged)
    if len(unrelated) < UNRELATED:
        return ()
    hit = SUSPECT_STORAGE.hit(
        damaged[0].namespace,
        Subject(kind="store", name="content"),
        f"{len(damaged)} blobs are damaged, {len(unrelated)} of them share no image: suspect the disk or the memory",
        facts={"blobs": len(damaged), "unrelated": len(unrelated)},
    )
    return merge([hit])


def _unrelated(damaged: Sequence[Finding]) -> list[Finding]:
    seen: set[str] = set()
    chosen = []
    for finding in damaged:
        images = {image.target for image in finding.images}
        if not images & seen:
            chosen.append(finding)
            seen |= images
    return chosen
