"""The summary of `auditor recover`, as text and as JSON."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain, groupby
from typing import Literal

import msgspec

from auditor.formats.json_report import to_json
from auditor.formats.sanitize import plain, size
from auditor.model.command_line import command, path
from auditor.model.plural import plural


class RecoveredRow(msgspec.Struct, frozen=True, kw_only=True):
    """An image under one name.

    `certainty` of the name: proven, asserted, possible, none. `status`: intact or damaged; `why` says what is damaged.
    `written`: whether it is in an archive or in the daemon now.
    """

    namespace: str
    name: str
    digest: str
    certainty: str
    source: str = ""
    status: str
    why: str = ""
    written: bool = False
    note: str = ""


class WrittenRow(msgspec.Struct, frozen=True, kw_only=True):
    """An archive or a layout that was written and read back; or the daemon that images were written to.

    `kind`: archive, layout or daemon.
    """

    kind: str
    path: str
    namespace: str
    images: int
    bytes: int = 0
    digest: str | None = None


class Recovered(msgspec.Struct, frozen=True, kw_only=True):
    """The result of a run; `verified`: every byte of the images was hashed and every layer decompressed."""

    schema: Literal["containerd-auditor/recover/v1"] = "containerd-auditor/recover/v1"
    root: str
    dry_run: bool
    verified: bool
    images: tuple[RecoveredRow, ...]
    written: tuple[WrittenRow, ...] = ()
    #: What was not read, which names lead nowhere, and names that were taken already.
    notes: tuple[str, ...] = ()
    duration_seconds: float = 0.0


class CopiedDatabase(msgspec.Struct, frozen=True, kw_only=True):
    """A sound copy of meta.db; `newest`: no transaction is missing. `path` is empty for a dry run."""

    schema: Literal["containerd-auditor/recover-database/v1"] = "containerd-auditor/recover-database/v1"
    root: str
    path: str
    newest: bool
    images: int
    blobs: int
    snapshots: int


def as_json(recovered: Recovered | CopiedDatabase) -> str:
    """The summary as JSON."""
    return to_json(recovered)


def as_text(recovered: Recovered | CopiedDatabase) -> str:
    """The summary as lines."""
    lines = _copied(recovered) if isinstance(recovered, CopiedDatabase) else _lines(recovered)
    return "\n".join(lines) + "\n"


def _lines(recovered: Recovered) -> Iterator[str]:
    for namespace, rows in groupby(recovered.images, key=lambda row: row.namespace):
        yield f"namespace {plain(namespace)}"
        by: dict[str, list[RecoveredRow]] = {}
        for row in rows:
            by.setdefault(row.digest, []).append(row)
        yield from chain.from_iterable(_image(same) for same in by.values())
    yield from (f"note: {plain(note, width=400)}" for note in recovered.notes)
    yield _counts(recovered)
    for written in recovered.written:
        yield from _written(written)


def _image(rows: Sequence[RecoveredRow]) -> Iterator[str]:
    """Yield an image's digest and state, and its names with their sources."""
    first = rows[0]
    why = f": {plain(first.why, width=300)}" if first.why else ""
    yield f"  {first.digest}  {first.status}{why}"
    for row in rows:
        source = f"{row.certainty}, {plain(row.source)}" if row.source else "no source names it"
        note = f"; {plain(row.note, width=300)}" if row.note else ""
        yield f"    {plain(row.name, width=200)}  ({source}{note})"


def _counts(recovered: Recovered) -> str:
    targets = {(row.namespace, row.digest): row.status == "intact" for row in recovered.images}
    intact = sum(targets.values())
    how = "every byte hashed, every layer decompressed" if recovered.verified else "contents not read"
    damaged = f", {len(targets) - intact} damaged" if intact < len(targets) else ""
    return (
        f"{plural(len(targets), 'image')} with {plural(len(recovered.images), 'name')}: {intact} intact{damaged}; {how}"
    )


def _written(row: WrittenRow) -> Iterator[str]:
    if row.kind == "daemon":
        yield f"wrote {plural(row.images, 'image')} to namespace {plain(row.namespace)} of {plain(row.path)}"
        return
    digest = f", {row.digest}" if row.digest else ""
    yield f"wrote {plain(row.path)}: {plural(row.images, 'image')}, {size(row.bytes)}{digest}, read back and hashed"
    yield f"load it: {_load(row)}"


def _load(row: WrittenRow) -> str:
    written = path(plain(row.path))
    load = command("ctr", "-n", plain(row.namespace), "images", "import", written if row.kind == "archive" else "-")
    return load if row.kind == "archive" else f"{command('tar', '-C', written, '-cf', '-', '.')} | {load}"


def _copied(copied: CopiedDatabase) -> Iterator[str]:
    counts = ((copied.images, "image record"), (copied.blobs, "blob"), (copied.snapshots, "snapshot"))
    held = ", ".join(plural(number, what) for number, what in counts)
    age = "nothing is missing" if copied.newest else "the last transactions may be missing"
    if not copied.path:
        yield f"a sound copy can be made: {held}; {age}"
        return
    yield f"wrote {plain(copied.path)}: {held}; {age}"
    target = f"{plain(copied.root)}/io.containerd.metadata.v1.bolt/meta.db"
    yield f"keep the damaged database elsewhere, then: {command('cp', path(plain(copied.path)), path(target))}"
    yield "make the first start of containerd without kubelet and without network"
