"""Audit a store: collect the evidence, judge it, and look again before anything is reported."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime

import msgspec

from auditor import checks
from auditor.audit.collect import Progress, Request, collect, no_progress
from auditor.checks.evidence import Evidence
from auditor.model.digest import Digest
from auditor.model.findings import Finding, Severity
from auditor.model.image_graph import Key, Loaded
from auditor.model.store import Proof, Store

#: How often the store is looked at before what is found must be believed; the last two looks have to agree.
LOOKS = 3


#: Seconds between two looks: enough for a commit that is under way, too short for anybody to mind.
PAUSE = 0.1


#: Reads the bytes that an audit wants proven.
Prove = Callable[[Evidence], Mapping[Digest, Proof]]


class AuditResult(msgspec.Struct, frozen=True):
    """What an audit found, and the evidence that it was judged by."""

    evidence: Evidence
    findings: tuple[Finding, ...]


def audit(
    store: Store,
    request: Request,
    *,
    clock: Callable[[], datetime],
    pause: Callable[[float], None],
    prove: Prove | None = None,
    on_progress: Progress = no_progress,
) -> AuditResult:
    """Audit a store.

    Whatever is found is looked at again: only what two looks in a row agree on is reported, so that an image that is
    removed or pulled meanwhile is no finding. `prove` reads the bytes where they are wanted. Raises StoreError where
    the store cannot be audited, NothingExamined where the selection matches nothing.
    """
    known: dict[Key, Loaded] = {}
    evidence = collect(store, request, known=known, now=clock(), on_progress=on_progress)
    proofs = {**store.proofs(), **(prove(evidence) if prove is not None else {})}
    evidence.proofs = proofs
    found = checks.judge(evidence)
    for _ in range(LOOKS - 1):
        if not any(_doubtful(finding, evidence) for finding in found):
            break
        pause(PAUSE)
        before, read = {finding.key for finding in found}, evidence.bytes_read
        evidence = collect(store, request, known=known, now=clock(), leases=True, on_progress=on_progress)
        evidence.proofs, evidence.bytes_read = proofs, evidence.bytes_read + read
        found = checks.judge(evidence)
        if all(finding.key in before for finding in found):
            break
    else:
        found = tuple(finding for finding in found if finding.key in before)
    return AuditResult(evidence, found)


def _doubtful(finding: Finding, evidence: Evidence) -> bool:
    """Whether a second look, with what leases hold, could make this go away."""
    if finding.code == "orphan-blob":
        return any(view.inventory.leases for view in evidence.views)
    return finding.severity is not Severity.INFO or finding.code == "pull-in-progress"
