"""Lay out a diagnosis as a page: the verdict, its evidence, the commands, the facts about each object."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

from auditor.diagnose.model import Diagnosis, Member, ObjectFacts, Use, Where
from auditor.formats.diagnosis import Page, Section, bytes_of
from auditor.model import reference
from auditor.model.plural import plural

_SOURCE = "containerd.io/distribution.source."
_USES = 6
_LABELS = 12
_ASKED = 600
#: Maximum of lines that are shown without a summary.
_FEW = 5


def page(diagnosis: Diagnosis) -> Page:
    """Return the page of a diagnosis."""
    verdict = diagnosis.verdict
    code = f" [{verdict.code}]" if verdict.code else ""
    return Page(
        line=diagnosis.line[:_ASKED],
        cause=verdict.cause + code,
        sure=f"{verdict.sure}: {verdict.because}",
        next=next((command for command in verdict.commands if not command.startswith("#")), ""),
        sections=tuple(section for section in _sections(diagnosis) if section.lines),
        hosts=tuple(dict.fromkeys(_hosts(diagnosis))),
    )


def _hosts(diagnosis: Diagnosis) -> Iterator[str]:
    """Yield the registries in all names and labels of the diagnosis."""
    for known in diagnosis.objects:
        names = (
            *known.names,
            known.asked,
            *(name for use in known.uses for name in (use.image.name, *use.image.names)),
        )
        yield from (found.host for name in names if (found := reference.find(name)) is not None)
        for where in known.where:
            yield from (n.removeprefix(_SOURCE) for n in where.labels if n.startswith(_SOURCE))


def _sections(diagnosis: Diagnosis) -> Iterator[Section]:
    verdict = diagnosis.verdict
    yield Section("Why", verdict.evidence)
    impact = [f"breaks: {verdict.breaks}"] if verdict.breaks else []
    impact += [f"does not break: {verdict.fine}"] if verdict.fine else []
    yield Section("Impact", tuple(impact))
    yield Section("Commands, the safest first", verdict.commands, code=True)
    yield Section("Candidates", tuple(f"{c.digest}: {c.what}" for c in diagnosis.candidates))
    for known in diagnosis.objects:
        yield Section(_title(known), tuple(_facts(known)))
    if len(diagnosis.messages) > 1 or diagnosis.lines > _FEW:
        yield Section(f"Messages in {plural(diagnosis.lines, 'line')}", tuple(_messages(diagnosis)))
    yield Section("Not found", diagnosis.missing)
    yield Section("Not known", diagnosis.unknown)
    sources = [verdict.source, *(message.source for message in diagnosis.messages[:1])]
    yield Section("Sources", tuple(dict.fromkeys(source for source in sources if source)))


def _messages(diagnosis: Diagnosis) -> Iterator[str]:
    for message in diagnosis.messages:
        yield f"{plural(message.lines, 'line')}: {message.says} ({message.id})"


def _title(known: ObjectFacts) -> str:
    if known.kind == "image":
        namespace, _, name = known.id.partition("/")
        return f"The image {name} in {namespace}"
    return f"The {known.kind} {known.id}"


def _facts(known: ObjectFacts) -> Iterator[str]:
    if known.findings:
        yield f"findings: {', '.join(known.findings)}"
    if known.by_design:
        yield f"absent by design: {known.by_design}"
    if len(known.names) > 1:
        yield f"names: {', '.join(known.names)}"
    kind = ", ".join(part for part in (known.media_type, bytes_of(known.size)) if part)
    yield from (f"{name}: {value}" for name, value in (("is", kind),) if value)
    for use in known.uses[:_USES] if known.kind != "image" else ():
        yield _use(use)
    hidden = len(known.uses) + known.more_uses - _USES
    if known.kind != "image" and hidden > 0:
        yield f"and {plural(hidden, 'more use')}"
    yield from _platforms(known)
    for where in known.where:
        yield from _where(where)
    yield from _bytes(known)
    yield from _snapshots(known.snapshots)
    if known.twins:
        yield f"the same layer exists with another compression: {', '.join(known.twins)}"


def _bytes(known: ObjectFacts) -> Iterator[str]:
    where = f" at {known.path}" if known.path and known.file else ""
    ids = (("diffID", known.diff_id), ("chainID", known.chain_id))
    facts = [("file", known.file and known.file + where), ("bytes", known.bytes)]
    facts += [(name, text) for name, text in ids if text != known.id]
    yield from (f"{name}: {value}" for name, value in facts if value)


def _platforms(known: ObjectFacts) -> Iterator[str]:
    for one in known.platforms:
        present = f"{one.layers_present} of {one.layers} layers have a blob" if one.present else "absent"
        unpacked = f", unpacked on {', '.join(one.unpacked)}" if one.unpacked else ""
        yield f"{one.platform or 'no platform'}: {present}{unpacked}" + (" (the node's)" if one.wanted else "")


def _use(use: Use) -> str:
    image = use.image
    role = image.role if image.layer is None else f"layer {image.layer + 1} of {use.layers}"
    platform = f" for {image.platform}" if image.platform else ""
    # The tree calls a blob with a record present; this page lists file and content separately.
    state = f": {'has a record' if use.state == 'present' else use.state}" if use.state else ""
    return f"used as {role} of {image.name}{platform} in {image.namespace}{state}"


def _where(where: Where) -> Iterator[str]:
    if where.recorded:
        protected = {None: "", True: ", protected", False: ", unprotected"}[where.protected]
        since = f" since {where.created_at[:19]}" if where.created_at else ""
        yield f"record in {where.namespace}: {where.size} bytes{since}{protected}"
    else:
        yield f"no record in {where.namespace}"
    labels = list(where.labels.items())
    yield from (f"label {name} = {value}" for name, value in labels[:_LABELS])
    if len(labels) > _LABELS:
        yield f"and {plural(len(labels) - _LABELS, 'more label')}"
    yield from (f"held by lease {lease}" for lease in where.leases)
    yield from (f"ingest {ingest}" for ingest in where.ingests)


def _snapshots(members: Sequence[Member]) -> Iterator[str]:
    for (namespace, snapshotter), chain in groupby(members, key=lambda m: (m.namespace, m.snapshotter)):
        found = list(chain)
        there = sum(member.present for member in found)
        yield f"snapshots on {snapshotter} in {namespace}: {there} of {len(found)} of the chain up to here"
        for member in found:
            if not member.present:
                yield f"{member.chain_id[:19]} (layer {member.layer + 1}) is absent"
            elif member.holders:
                lazy = ", remote" if member.remote else ""
                yield f"{member.chain_id[:19]} (layer {member.layer + 1}{lazy}) is held by {', '.join(member.holders)}"
