"""Rows of the repair report from a plan, its actions and their outcomes."""

from __future__ import annotations

from auditor.formats.repair import ActionRow, OutcomeRow, PlanRows, SkipRow
from auditor.repair.apply import Outcome
from auditor.repair.needs import Need, Skip
from auditor.repair.plan import Action, Plan


def plan_rows(plan: Plan) -> PlanRows:
    """A plan as text and numbers."""
    return PlanRows(
        actions=tuple(map(action_row, plan.actions)), skips=tuple(map(skip_row, plan.skips)), notes=plan.notes
    )


def action_row(action: Action) -> ActionRow:
    """An action as text and numbers."""
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


def skip_row(skip: Skip) -> SkipRow:
    """What is left alone, as text."""
    return SkipRow(
        code=skip.code,
        severity=skip.severity,
        namespace=skip.namespace,
        kind=skip.kind,
        id=skip.id,
        reason=skip.reason,
        images=skip.images,
    )


def outcome_row(outcome: Outcome) -> OutcomeRow:
    """An outcome as text and numbers."""
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
        aside=str(outcome.aside or ""),
        notes=(*outcome.action.warnings, *outcome.notes),
    )


def _namespaces(need: Need) -> tuple[str, ...]:
    return tuple(dict.fromkeys([*(p.namespace for p in need.places), *(h.namespace for h in need.holders)]))
