"""Rebuilds of snapshots as text and as JSON: the plan and the outcomes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

import msgspec
from tabulate import tabulate

from auditor.formats.sanitize import plain
from auditor.model.plural import plural
from auditor.repair.plan_snapshots import Rebuild, SnapshotAction
from auditor.repair.snapshot_session import SnapshotOutcome, SnapshotResult

_IMAGE_WIDTH = 46
_HEAD = ("do", "layer", "snapshot", "finding", "containers", "image")
_DONE_HEAD = ("result", "layer", "snapshot", "image")


class SnapshotRow(msgspec.Struct, frozen=True, kw_only=True):
    """JSON of a planned rebuild; `containers` are those on the snapshot, as `namespace/id`."""

    namespace: str
    snapshotter: str
    chain_id: str
    layer: str
    directory: str
    codes: tuple[str, ...]
    message: str
    images: tuple[str, ...]
    containers: tuple[str, ...] = ()
    rebuild: str
    #: Snapshots above it that are unpacked again, too.
    above: tuple[str, ...] = ()
    #: Whether the layer's blob is restored first.
    fetches: bool = False


class SnapshotOutcomeRow(msgspec.Struct, frozen=True, kw_only=True):
    """JSON of a rebuild; `restart` are containers that run on the old files, `quarantine` is where those are.

    `pods` has the pods of those containers, by container, as `namespace/name`.
    """

    namespace: str
    snapshotter: str
    chain_id: str
    layer: str
    result: str
    message: str
    images: tuple[str, ...] = ()
    hint: str = ""
    restart: tuple[str, ...] = ()
    pods: dict[str, str] = {}
    quarantine: str = ""


def snapshot_row(action: SnapshotAction) -> SnapshotRow:
    """Return the JSON record of a planned rebuild."""
    namespace, snapshotter, chain = action.key
    return SnapshotRow(
        namespace=namespace,
        snapshotter=snapshotter,
        chain_id=chain,
        layer=str(action.target.layer.digest),
        directory=str(action.target.folder / "fs"),
        codes=action.codes,
        message=action.message,
        images=action.images,
        containers=action.containers,
        rebuild=action.rebuild,
        above=tuple(target.snapshot.name for target in action.above),
        fetches=action.fetches,
    )


def snapshot_outcome_row(outcome: SnapshotOutcome) -> SnapshotOutcomeRow:
    """Return the JSON record of an outcome."""
    namespace, snapshotter, chain = outcome.action.key
    return SnapshotOutcomeRow(
        namespace=namespace,
        snapshotter=snapshotter,
        chain_id=chain,
        layer=str(outcome.action.target.layer.digest),
        result=outcome.result,
        message=outcome.message,
        images=outcome.action.images,
        hint=outcome.hint,
        restart=outcome.restart,
        pods=dict(outcome.pods),
        quarantine=str(outcome.quarantined or ""),
    )


def plan_lines(rows: Sequence[SnapshotRow], *, verbose: bool) -> Iterator[str]:
    """Yield the lines of planned rebuilds."""
    if not rows:
        return
    yield "rebuild unpacked files:"
    yield from table_lines([_planned(row) for row in rows], _HEAD)
    if verbose:
        for row in rows:
            yield f"  {plain(row.message)}"
            yield f"    {_procedure(row)}"
            yield from (f"    used by container {plain(name)}" for name in row.containers)
    yield f"{plural(len(rows), 'snapshot')}; {_effect(rows)}"


def _procedure(row: SnapshotRow) -> str:
    if row.rebuild == Rebuild.REPLACE:
        more = f", after {plural(len(row.above), 'snapshot')} above it" if row.above else ""
        return f"it is removed{more}; all are unpacked again under the same names"
    return f"new files are unpacked and compared, then change places with {row.directory}; no record changes"


def _effect(rows: Sequence[SnapshotRow]) -> str:
    if rows[0].rebuild == Rebuild.REPLACE:
        above = len({name for row in rows for name in row.above})
        return f"they and {above} above them are removed and unpacked again; nobody uses them"
    return "containers that run keep the old files until they are restarted"


def outcome_lines(rows: Sequence[SnapshotOutcomeRow]) -> Iterator[str]:
    """Yield the lines of outcomes, and what is left to do."""
    if not rows:
        return
    yield "unpacked files:"
    yield from table_lines([_ended(row) for row in rows], _DONE_HEAD)
    for row in rows:
        if row.result != SnapshotResult.REBUILT:
            yield f"  {row.chain_id[:19]}: {plain(row.message)}"
        if row.hint:
            yield f"  {row.chain_id[:19]}: hint: {plain(row.hint)}"
    counted = Counter(row.result for row in rows)
    yield ", ".join(f"{number} {result}" for result, number in sorted(counted.items()))
    yield from _left_to_do(rows)


def _left_to_do(rows: Sequence[SnapshotOutcomeRow]) -> Iterator[str]:
    restart = sorted({name for row in rows for name in row.restart})
    if restart:
        yield f"restart {plural(len(restart), 'container')}; until then the old files are in use:"
        pods = {name: pod for row in rows for name, pod in row.pods.items()}
        yield from (f"  {plain(name)}" + (f" of pod {plain(pods[name])}" if name in pods else "") for name in restart)
    if any(row.quarantine for row in rows):
        yield "old files are kept; `auditor quarantine list` shows them, `auditor quarantine drop` deletes unused ones"


def _planned(row: SnapshotRow) -> tuple[str, ...]:
    do = f"fetch, {row.rebuild}" if row.fetches else row.rebuild
    number = str(len(row.containers) or "none")
    return (do, row.layer[:19], row.chain_id[:19], ", ".join(row.codes), number, image_cell(row.images))


def _ended(row: SnapshotOutcomeRow) -> tuple[str, ...]:
    return (row.result, row.layer[:19], row.chain_id[:19], image_cell(row.images))


def image_cell(images: Sequence[str]) -> str:
    """Return the first image and the number of the others."""
    if not images:
        return "none"
    more = f" and {len(images) - 1} more" if len(images) > 1 else ""
    return plain(images[0], width=_IMAGE_WIDTH) + more


def table_lines(rows: Sequence[tuple[str, ...]], head: tuple[str, ...]) -> list[str]:
    """Draw a table, indented."""
    drawn = tabulate(rows, headers=head, tablefmt="plain", disable_numparse=True)
    return [f"  {line}".rstrip() for line in drawn.splitlines()]
