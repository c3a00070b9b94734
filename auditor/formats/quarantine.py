"""The quarantine of rebuilt snapshots as text and as JSON."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Literal

import msgspec

from auditor.formats import json_report
from auditor.formats.repair_snapshots import table_lines
from auditor.formats.sanitize import plain, size

SCHEMA: Literal["containerd-auditor/quarantine/v1"] = "containerd-auditor/quarantine/v1"


class EntryRow(msgspec.Struct, frozen=True, kw_only=True):
    """JSON of an entry; `reason` is why it is kept, empty where its files are proven unused; `size` is in bytes."""

    id: str
    namespace: str
    snapshotter: str
    chain_id: str
    layer: str
    path: str
    size: int
    since: datetime
    containers: tuple[str, ...] = ()
    reason: str = ""
    dropped: bool = False


class QuarantineDocument(msgspec.Struct, frozen=True, kw_only=True):
    """JSON of the quarantine; `action` is `list`, `drop`, or `dry-run` of a drop."""

    schema: Literal["containerd-auditor/quarantine/v1"] = SCHEMA
    action: str
    entries: tuple[EntryRow, ...] = ()


def render(document: QuarantineDocument, *, as_json: bool = False) -> str:
    """Render the document as text or JSON that ends with a newline."""
    if as_json:
        return json_report.to_json(document)
    return "\n".join(_lines(document)) + "\n"


_HEAD = ("id", "since", "size", "layer", "snapshot", "state")


def _lines(document: QuarantineDocument) -> Iterator[str]:
    if not document.entries:
        yield "the quarantine is empty"
        return
    yield from (line.removeprefix("  ") for line in table_lines([_cells(row) for row in document.entries], _HEAD))
    unused = [row for row in document.entries if not row.reason]
    number = "1 entry" if len(document.entries) == 1 else f"{len(document.entries)} entries"
    yield f"{number}, {_total(document.entries)}; {_summary(document, unused)}"


def _summary(document: QuarantineDocument, unused: Sequence[EntryRow]) -> str:
    if document.action == "drop":
        return f"{len(unused)} deleted, {_total(unused)} freed"
    then = ": auditor quarantine drop" if unused and document.action == "list" else ""
    return f"{len(unused)} unused, {_total(unused)}{then}"


def _total(rows: Sequence[EntryRow]) -> str:
    return size(sum(row.size for row in rows))


def _cells(row: EntryRow) -> tuple[str, ...]:
    state = f"kept: {plain(row.reason)}" if row.reason else "deleted" if row.dropped else "unused"
    since = row.since.strftime("%Y-%m-%d %H:%M:%S")
    return (row.id, since, size(row.size), plain(row.layer)[:19], plain(row.chain_id)[:19], state)
