"""A repair as text and as JSON: the plan, the outcomes, and the findings without an action."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Literal

import msgspec

from auditor.formats.repair_snapshots import (
    SnapshotOutcomeRow,
    SnapshotRow,
    image_cell,
    outcome_lines,
    plan_lines,
    snapshot_outcome_row,
    snapshot_row,
    table_lines,
)
from auditor.formats.sanitize import plain, size
from auditor.model.findings import Report
from auditor.model.plural import plural
from auditor.repair.apply import Outcome, Result
from auditor.repair.needs import Need, Skip
from auditor.repair.plan import Action, Plan
from auditor.repair.plan_snapshots import REBUILT, SnapshotPlan
from auditor.repair.snapshot_session import SnapshotOutcome

SCHEMA: Literal["containerd-auditor/repair/v1"] = "containerd-auditor/repair/v1"
#: Maximum of skips that are listed one by one; the others are counted by reason.
LISTED = 20
_PLACE_WIDTH = 44


class ActionRow(msgspec.Struct, frozen=True, kw_only=True):
    """JSON of an action; `sources` are tried in order, `size` is in bytes."""

    kind: str
    way: str
    digest: str
    role: str
    size: int
    codes: tuple[str, ...]
    namespaces: tuple[str, ...]
    images: tuple[str, ...]
    sources: tuple[str, ...]
    touches: tuple[str, ...] = ()
    holds: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


class OutcomeRow(msgspec.Struct, frozen=True, kw_only=True):
    """JSON of an outcome; `aside` is the path of the quarantined copy."""

    digest: str
    role: str
    size: int
    kind: str
    way: str
    result: str
    message: str
    namespaces: tuple[str, ...] = ()
    images: tuple[str, ...] = ()
    source: str = ""
    hint: str = ""
    aside: str = ""
    notes: tuple[str, ...] = ()


class PlanRows(msgspec.Struct, frozen=True, kw_only=True):
    """JSON of a plan; `snapshots` with --snapshots."""

    actions: tuple[ActionRow, ...] = ()
    snapshots: tuple[SnapshotRow, ...] = ()
    skips: tuple[Skip, ...] = ()
    notes: tuple[str, ...] = ()


class RepairDocument(msgspec.Struct, frozen=True, kw_only=True):
    """JSON of a repair; `after` is the report of the last audit."""

    schema: Literal["containerd-auditor/repair/v1"] = SCHEMA
    dry_run: bool
    plan: PlanRows
    outcomes: tuple[OutcomeRow, ...] = ()
    snapshots: tuple[SnapshotOutcomeRow, ...] = ()
    skips: tuple[Skip, ...] = ()
    notes: tuple[str, ...] = ()
    after: Report


def plan_rows(plan: Plan, snapshots: SnapshotPlan | None = None) -> PlanRows:
    """Return the JSON record of a plan; with a plan for snapshots, of both."""
    rows = PlanRows(actions=tuple(map(_action_row, plan.actions)), skips=plan.skips, notes=plan.notes)
    if snapshots is None:
        return rows
    return msgspec.structs.replace(
        rows,
        snapshots=tuple(map(snapshot_row, snapshots.actions)),
        skips=all_skips(plan.skips, snapshots),
        notes=(*plan.notes, *snapshots.notes),
    )


def all_skips(skips: Sequence[Skip], snapshots: SnapshotPlan) -> tuple[Skip, ...]:
    """Return the skips of a repair of blobs and snapshots: those of its snapshots are in their own plan."""
    return tuple(sorted((*(skip for skip in skips if skip.code not in REBUILT), *snapshots.skips)))


def snapshot_rows(outcomes: Sequence[SnapshotOutcome]) -> tuple[SnapshotOutcomeRow, ...]:
    """Return the JSON records of rebuilds."""
    return tuple(map(snapshot_outcome_row, outcomes))


def _action_row(action: Action) -> ActionRow:
    need = action.need
    return ActionRow(
        kind=action.kind,
        way=action.way,
        digest=str(need.digest),
        role=need.role,
        size=need.size,
        codes=need.codes,
        namespaces=_namespaces(need),
        images=need.images,
        sources=tuple(
            f"{offer.source}: {offer.place}" if offer.place != offer.source else offer.source for offer in action.offers
        ),
        touches=action.touches,
        holds=tuple(f"{held.namespace} {kept.type} {kept.id}" for held in need.holders for kept in held.keeps),
        warnings=action.warnings,
    )


def outcome_row(outcome: Outcome) -> OutcomeRow:
    """Return the JSON record of an outcome."""
    need = outcome.action.need
    return OutcomeRow(
        digest=str(need.digest),
        role=need.role,
        size=need.size,
        kind=outcome.action.kind,
        way=outcome.way,
        result=outcome.result,
        message=outcome.message,
        namespaces=_namespaces(need),
        images=need.images,
        source=outcome.place,
        hint=outcome.hint,
        aside=str(outcome.quarantined or ""),
        notes=(*outcome.action.warnings, *outcome.notes),
    )


def _namespaces(need: Need) -> tuple[str, ...]:
    return tuple(dict.fromkeys([*(p.namespace for p in need.places), *(h.namespace for h in need.holders)]))


def render_plan(plan: PlanRows, *, verbose: bool = False) -> str:
    """Render a plan as text that ends with a newline."""
    lines: list[str] = []
    if plan.actions:
        lines += ["plan:", *table_lines([_planned(row) for row in plan.actions], _PLAN_HEAD)]
        if verbose:
            lines += [f"  {line}" for row in plan.actions for line in _details(row)]
        lines += [f"  warning: {warning}" for warning in _warnings(plan.actions)]
        total = sum(row.size for row in plan.actions)
        lines.append(f"{plural(len(plan.actions), 'action')}, {size(total)}")
    lines += plan_lines(plan.snapshots, verbose=verbose)
    if not lines:
        lines.append("plan: nothing that can be repaired")
    lines += [f"note: {plain(note)}" for note in plan.notes]
    lines += _skips(plan.skips, verbose=verbose)
    return "\n".join(lines) + "\n"


def render_outcomes(
    outcomes: Sequence[OutcomeRow],
    skips: Sequence[Skip],
    *,
    snapshots: Sequence[SnapshotOutcomeRow] = (),
    verbose: bool = False,
) -> str:
    """Render outcomes as text that ends with a newline."""
    lines = ["done:", *table_lines([_ended(row) for row in outcomes], _DONE_HEAD)] if outcomes else []
    for row in outcomes:
        lines += [f"  {row.digest[:19]}: {plain(line)}" for line in _remarks(row)]
    counted = Counter(row.result for row in outcomes)
    if counted or not snapshots:
        lines.append(
            ", ".join(f"{number} {result}" for result, number in sorted(counted.items())) or "nothing was done"
        )
    lines += outcome_lines(snapshots)
    lines += _skips(skips, verbose=verbose)
    return "\n".join(lines) + "\n"


_PLAN_HEAD = ("do", "what", "digest", "size", "from", "by", "image")
_DONE_HEAD = ("result", "did", "what", "digest", "size", "from", "image")


def _planned(row: ActionRow) -> tuple[str, ...]:
    source = plain(row.sources[0], width=_PLACE_WIDTH) if row.sources else ""
    return (row.kind, row.role, row.digest[:19], size(row.size), source, row.way, image_cell(row.images))


def _ended(row: OutcomeRow) -> tuple[str, ...]:
    source = plain(row.source, width=_PLACE_WIDTH)
    return (row.result, row.kind, row.role, row.digest[:19], size(row.size), source, image_cell(row.images))


def _details(row: ActionRow) -> Iterator[str]:
    yield f"{row.kind} {row.digest}"
    yield from (f"  tried in turn: {plain(source)}" for source in row.sources[1:])
    yield from (f"  touches {plain(line)}" for line in row.touches)
    yield from (f"  holds {plain(line)}" for line in row.holds)


def _warnings(rows: Sequence[ActionRow]) -> Iterator[str]:
    for warning, number in Counter(w for row in rows for w in row.warnings).items():
        yield f"{plain(warning)} ({plural(number, 'action')})"


def _remarks(row: OutcomeRow) -> Iterator[str]:
    if row.result != Result.REPAIRED:
        yield row.message
    if row.hint:
        yield f"hint: {row.hint}"
    if row.aside:
        yield f"the damaged copy is in {row.aside}"
    yield from row.notes


def _skips(skips: Sequence[Skip], *, verbose: bool) -> list[str]:
    """List skips above severity info; count the others by reason."""
    shown = [skip for skip in skips if verbose or skip.severity != "info"]
    lines = [f"left alone: {_skipped(skip)}" for skip in shown[:LISTED]]
    rest = [*shown[LISTED:], *(skip for skip in skips if not (verbose or skip.severity != "info"))]
    for (code, reason), number in sorted(Counter((skip.code, skip.reason) for skip in rest).items()):
        lines.append(f"left alone: {code}, {plural(number, 'time')}: {plain(reason)}")
    return lines


def _skipped(skip: Skip) -> str:
    what = skip.id[:19] if skip.id.startswith("sha256:") else plain(skip.id, width=40)
    whose = f" of {image_cell(skip.images)}" if skip.images else ""
    return f"{skip.kind} {what}{whose} ({skip.code}): {plain(skip.reason)}"
