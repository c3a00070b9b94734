"""What is new, what is gone and what stayed between two reports; pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Literal

import msgspec

from auditor.model.findings import Finding, Report

SCHEMA: Literal["containerd-auditor/comparison/v1"] = "containerd-auditor/comparison/v1"


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """Two reports side by side; `notes` say why what is gone may only be unseen."""

    schema: Literal["containerd-auditor/comparison/v1"] = SCHEMA
    host: str
    older_at: datetime | None
    newer_at: datetime
    notes: tuple[str, ...] = ()
    new: tuple[Finding, ...] = ()
    gone: tuple[Finding, ...] = ()
    unchanged: tuple[Finding, ...] = ()


def compare(newer: Report, older: Report | None) -> Comparison:
    """Compare by what makes a finding the same one: code, namespace and subject. Without `older`, all is new."""
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
    """Compare each report with the one of the same host and store; one with one whatever their names."""
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
        yield "the report called older is the later one of the two"
    if newer.verify.depth < older.verify.depth:
        yield f"the newer run looked less hard ({newer.verify}, before: {older.verify}): what is gone may be unseen"
    if newer.verify.depth > older.verify.depth:
        yield f"the newer run looked harder ({newer.verify}, before: {older.verify}): what is new may have been there"
    if not newer.complete:
        yield "the newer run could not examine everything: what is gone may be unseen"
