"""Compare two reports: new, gone and unchanged findings. No I/O."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Literal

import msgspec

from auditor.model.findings import Finding, Report

SCHEMA: Literal["containerd-auditor/comparison/v1"] = "containerd-auditor/comparison/v1"


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """The difference of two reports; `notes` state why findings may be gone or new without a change of the store."""

    schema: Literal["containerd-auditor/comparison/v1"] = SCHEMA
    host: str
    older_at: datetime | None
    newer_at: datetime
    notes: tuple[str, ...] = ()
    new: tuple[Finding, ...] = ()
    gone: tuple[Finding, ...] = ()
    unchanged: tuple[Finding, ...] = ()


def compare(newer: Report, older: Report | None) -> Comparison:
    """Compare two reports by the code, namespace and subject of their findings.

    Args:
        newer: The newer report.
        older: The older report; without one, all findings are new.

    """
    before = {finding.key for finding in older.findings} if older is not None else set()
    after = {finding.key for finding in newer.findings}
    return Comparison(
        host=newer.host,
        older_at=older.finished_at if older is not None else None,
        newer_at=newer.finished_at,
        notes=tuple(_notes(newer, older)),
        new=tuple(f for f in newer.findings if f.key not in before),
        gone=tuple(f for f in older.findings if f.key not in after) if older is not None else (),
        unchanged=tuple(f for f in newer.findings if f.key in before),
    )


def pair(newer: Sequence[Report], older: Sequence[Report]) -> tuple[Comparison, ...]:
    """Compare each report with the latest older one of the same host and store.

    A single pair is compared regardless of host and store.
    """
    if len(newer) == len(older) == 1:
        return (compare(newer[0], older[0]),)
    known = {(report.host, report.source.address): report for report in sorted(older, key=lambda r: r.finished_at)}
    return tuple(compare(report, known.get((report.host, report.source.address))) for report in newer)


def _notes(newer: Report, older: Report | None) -> Iterator[str]:
    if older is None:
        yield "there is no older report of this node, so all of its findings count as new"
        return
    if (newer.host, newer.source.address) != (older.host, older.source.address):
        yield f"the older report is of another store: {older.source.address} on {older.host}"
    if newer.finished_at < older.finished_at:
        yield "the older report was finished after the newer one"
    if newer.verify.depth < older.verify.depth:
        yield f"the newer run verified less ({newer.verify}, before: {older.verify}): gone findings may still exist"
    if newer.verify.depth > older.verify.depth:
        yield f"the newer run verified more ({newer.verify}, before: {older.verify}): new findings may be old"
    if not newer.complete:
        yield "the newer run could not examine everything: gone findings may still exist"
