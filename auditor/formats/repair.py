"""The report of a repair, as text and as JSON: plan, outcomes, skipped findings with reasons."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Literal

import msgspec
from tabulate import tabulate

from auditor.formats.sanitize import plain, plural, size
from auditor.model.findings import Report

SCHEMA: Literal["containerd-auditor/repair/v1"] = "containerd-auditor/repair/v1"
#: Most skipped findings listed; the rest is counted by reason.
LISTED = 20
_IMAGE_WIDTH = 46
_PLACE_WIDTH = 44


class ActionRow(msgspec.Struct, frozen=True, kw_only=True):
    """One action; `sources` are tried in order, `size` is in bytes."""

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


class SkipRow(msgspec.Struct, frozen=True, kw_only=True):
    """A finding that the repair does not act on."""

    code: str
    severity: str
    namespace: str
    kind: str
    id: str
    reason: str
    images: tuple[str, ...] = ()


class OutcomeRow(msgspec.Struct, frozen=True, kw_only=True):
    """The outcome of one action; `aside` is the path of the quarantined copy."""

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
    """A plan."""

    actions: tuple[ActionRow, ...] = ()
    skips: tuple[SkipRow, ...] = ()
    notes: tuple[str, ...] = ()


class RepairDocument(msgspec.Struct, frozen=True, kw_only=True):
    """The JSON of a repair; `after` is the report of the last check, or of the only one if nothing was written."""

    schema: Literal["containerd-auditor/repair/v1"] = SCHEMA
    dry_run: bool
    plan: PlanRows
    outcomes: tuple[OutcomeRow, ...] = ()
    skips: tuple[SkipRow, ...] = ()
    notes: tuple[str, ...] = ()
    after: Report


def render_plan(plan: PlanRows, *, verbose: bool = False) -> str:
    """The plan as text with a newline at its end."""
    lines: list[str] = []
    if plan.actions:
        lines += ["plan:", *_table([_planned(row) for row in plan.actions], _PLAN_HEAD)]
        if verbose:
            lines += [f"  {line}" for row in plan.actions for line in _details(row)]
        lines += [f"  warning: {warning}" for warning in _warnings(plan.actions)]
        total = sum(row.size for row in plan.actions)
        lines.append(f"{plural(len(plan.actions), 'action')}, {size(total)}")
    else:
        lines.append("plan: nothing to repair")
    lines += [f"note: {plain(note)}" for note in plan.notes]
    lines += _left(plan.skips, verbose=verbose)
    return "\n".join(lines) + "\n"


def render_outcomes(outcomes: Sequence[OutcomeRow], skips: Sequence[SkipRow], *, verbose: bool = False) -> str:
    """The outcomes as text with a newline at its end."""
    lines = ["done:", *_table([_ended(row) for row in outcomes], _DONE_HEAD)] if outcomes else []
    for row in outcomes:
        lines += [f"  {row.digest[:19]}: {plain(line)}" for line in _remarks(row)]
    counted = Counter(row.result for row in outcomes)
    lines.append(", ".join(f"{number} {result}" for result, number in sorted(counted.items())) or "nothing was done")
    lines += _left(skips, verbose=verbose)
    return "\n".join(lines) + "\n"


_PLAN_HEAD = ("do", "what", "digest", "size", "from", "by", "image")
_DONE_HEAD = ("result", "did", "what", "digest", "size", "from", "image")


def _planned(row: ActionRow) -> tuple[str, ...]:
    source = plain(row.sources[0], width=_PLACE_WIDTH) if row.sources else ""
    return (row.kind, row.role, row.digest[:19], size(row.size), source, row.way, _image(row.images))


def _ended(row: OutcomeRow) -> tuple[str, ...]:
    source = plain(row.source, width=_PLACE_WIDTH)
    return (row.result, row.kind, row.role, row.digest[:19], size(row.size), source, _image(row.images))


def _image(images: Sequence[str]) -> str:
    if not images:
        return "none"
    more = f" and {len(images) - 1} more" if len(images) > 1 else ""
    return plain(images[0], width=_IMAGE_WIDTH) + more


def _table(rows: Sequence[tuple[str, ...]], head: tuple[str, ...]) -> list[str]:
    drawn = tabulate(rows, headers=head, tablefmt="plain", disable_numparse=True)
    return [f"  {line}".rstrip() for line in drawn.splitlines()]


def _details(row: ActionRow) -> Iterator[str]:
    yield f"{row.kind} {row.digest}"
    yield from (f"  tried in turn: {plain(source)}" for source in row.sources[1:])
    yield from (f"  touches {plain(line)}" for line in row.touches)
    yield from (f"  holds {plain(line)}" for line in row.holds)


def _warnings(rows: Sequence[ActionRow]) -> Iterator[str]:
    for warning, number in Counter(w for row in rows for w in row.warnings).items():
        yield f"{plain(warning)} ({plural(number, 'action')})"


def _remarks(row: OutcomeRow) -> Iterator[str]:
    if row.result != "repaired":
        yield row.message
    if row.hint:
        yield f"hint: {row.hint}"
    if row.aside:
        yield f"quarantined copy: {row.aside}"
    yield from row.notes


def _left(skips: Sequence[SkipRow], *, verbose: bool) -> list[str]:
    """List skipped findings; those of severity info are only counted."""
    shown = [skip for skip in skips if verbose or skip.severity != "info"]
    lines = [f"skipped: {_skipped(skip)}" for skip in shown[:LISTED]]
    rest = [*shown[LISTED:], *(skip for skip in skips if not (verbose or skip.severity != "info"))]
    for (code, reason), number in sorted(Counter((skip.code, skip.reason) for skip in rest).items()):
        lines.append(f"skipped: {code}, {number} times: {plain(reason)}")
    return lines


def _skipped(skip: SkipRow) -> str:
    what = skip.id[:19] if skip.id.startswith("sha256:") else plain(skip.id, width=40)
    return f"{skip.kind} {what} of {_image(skip.images)} ({skip.code}): {plain(skip.reason)}"
