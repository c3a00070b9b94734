"""A diagnosis turned into a page: what is told of each object, in which order."""

from __future__ import annotations

from collections.abc import Iterator

from auditor.diagnose.knowledge import Diagnosis, Known, Use, Where
from auditor.formats.diagnosis import Page, Section, bytes_of

_USES = 6


def page(diagnosis: Diagnosis) -> Page:
    """The answer first, the evidence behind it, the commands, and then all that is known of each object."""
    return Page(
        line=diagnosis.line[:2_000],
        cause=diagnosis.verdict.cause,
        sure=str(diagnosis.verdict.sure),
        sections=tuple(section for section in _sections(diagnosis) if section.lines),
    )


def _sections(diagnosis: Diagnosis) -> Iterator[Section]:
    verdict = diagnosis.verdict
    yield Section("why", verdict.evidence)
    harm = [f"breaks: {verdict.breaks}"] if verdict.breaks else []
    harm += [f"does not break: {verdict.fine}"] if verdict.fine else []
    yield Section("what it breaks", tuple(harm))
    yield Section("do, the safe one first", verdict.commands, code=True)
    for known in diagnosis.objects:
        yield Section(f"{known.kind} {known.id}", tuple(_known(known)))
    yield Section("not known", diagnosis.unknown)
    sources = [verdict.source, *(message.source for message in diagnosis.messages)]
    yield Section("where this is known from", tuple(dict.fromkeys(source for source in sources if source)))


def _known(known: Known) -> Iterator[str]:
    if known.findings:
        yield f"findings: {', '.join(known.findings)}"
    if known.by_design:
        yield f"absent by design: {known.by_design}"
    for use in known.uses[:_USES]:
        yield _use(use)
    if len(known.uses) > _USES:
        yield f"and {len(known.uses) - _USES} more uses"
    for where in known.where:
        yield from _where(where)
    ids = (("diffID", known.diff_id), ("chainID", known.chain_id))
    told = [("file:", known.file), ("bytes:", known.bytes), *((name, i) for name, i in ids if i != known.id)]
    yield from (f"{name} {value}" for name, value in told if value)
    for member in known.snapshots:
        there = "there" if member.present else "absent"
        held = f", kept by {', '.join(member.holders)}" if member.holders else ""
        yield f"snapshot on {member.snapshotter} in {member.namespace}: {there}{held}"
    if known.twins:
        yield f"the same layer otherwise compressed: {', '.join(known.twins)}"


def _use(use: Use) -> str:
    image = use.image
    role = image.role if image.layer is None else f"layer {image.layer + 1} of {use.layers}"
    platform = f" for {image.platform}" if image.platform else ""
    kind = ", ".join(part for part in (use.media_type, bytes_of(use.size), use.state) if part)
    return f"{role} of {image.name}{platform} in {image.namespace}" + (f" ({kind})" if kind else "")


def _where(where: Where) -> Iterator[str]:
    if where.recorded:
        safe = "" if where.protected is None else ", kept by labels or leases" if where.protected else ", unprotected"
        yield f"record in {where.namespace}: {where.size} bytes since {where.created_at[:19]}{safe}"
    else:
        yield f"no record in {where.namespace}"
    for name, value in where.labels.items():
        yield f"label {name}={value}"
    for lease in where.leases:
        yield f"held by lease {lease}"
    for ingest in where.ingests:
        yield f"ingest {ingest}"
