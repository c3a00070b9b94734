"""From what a message says and what the store holds to the whole answer; pure."""

from __future__ import annotations

from collections.abc import Iterator

from auditor.diagnose import verdicts
from auditor.diagnose.commands import Place
from auditor.diagnose.describe import known
from auditor.diagnose.evidence_index import Catalogue
from auditor.diagnose.extract import READ, Mentions
from auditor.diagnose.model import Diagnosis, Known, Message, Outcome, Verdict
from auditor.diagnose.resolve import Named, find
from auditor.model.digest import Digest
from auditor.model.findings import Severity
from auditor.model.store import SourceKind

#: Characters of what was asked that are told back.
_SHOWN = 4_000


def explain(said: Mentions, catalogue: Catalogue | None, *, place: Place, looked_at: str) -> Diagnosis:
    """Explain a message with a store's evidence, or alone where there is none (`catalogue` is None)."""
    named = find(said, catalogue) if catalogue is not None else Named()
    verdict = verdicts.judge(said, named, catalogue, place)
    return Diagnosis(
        line=said.line[:_SHOWN],
        lines=said.lines,
        looked_at=looked_at,
        namespaces=tuple(view.name for view in catalogue.evidence.views) if catalogue is not None else (),
        verdict=verdict,
        messages=tuple(
            Message(id=m.id, lines=said.seen.get(m.id, 1), says=m.says, cause=m.cause, source=m.source)
            for m in said.known
        ),
        objects=_with_subject(named, verdict, catalogue),
        candidates=named.candidates,
        missing=named.missing,
        unknown=tuple(_limits(said, catalogue, verdict)),
    )


def _with_subject(named: Named, verdict: Verdict, catalogue: Catalogue | None) -> tuple[Known, ...]:
    """The objects, and before them what the verdict is about, should the text not name it."""
    if catalogue is None or not verdict.subject.startswith(("sha256:", "sha384:", "sha512:")):
        return named.objects
    if any(entry.id == verdict.subject for entry in named.objects):
        return named.objects
    entry = known(catalogue, Digest(verdict.subject))
    return (entry, *named.objects) if entry is not None else named.objects


def exit_status(diagnosis: Diagnosis, catalogue: Catalogue | None, *, alone: bool) -> int:
    """1 where a fault over warning was found, 3 where nothing was examined, else 0.

    Where no store could be looked at, nothing was examined, unless that is what was asked for (`alone`) and the text
    is known.
    """
    if catalogue is None:
        return 0 if alone and diagnosis.messages else 3
    told = {code for entry in diagnosis.objects for code in entry.findings} | {diagnosis.verdict.code}
    if any(f.code in told and f.severity.rank <= Severity.ERROR.rank for f in catalogue.findings):
        return 1
    in_vain = diagnosis.verdict.outcome is Outcome.MESSAGE and bool(diagnosis.missing) and not diagnosis.objects
    return 3 if in_vain or diagnosis.verdict.outcome is Outcome.UNKNOWN else 0


def _limits(said: Mentions, catalogue: Catalogue | None, verdict: Verdict) -> Iterator[str]:
    """What this answer cannot know, as sentences."""
    if max(said.seen.values(), default=0) > READ:
        yield f"of more than {READ} lines of one kind only the first {READ} were read for names; counts are about right"
    if catalogue is None:
        yield "no store was looked at: this is what the text alone tells"
        return
    evidence = catalogue.evidence
    yield from evidence.incomplete
    if catalogue.unread:
        yield f"{len(catalogue.unread)} blobs were not read, since the time for reading was over: raise --max-duration"
    if said.known and not said.digests and not said.guesses and not said.names:
        yield "the message names no object of the store, so what is at fault was looked for in all of it"
    if verdict.outcome is Outcome.FAULT:
        yield "when and by whom this was done: the store keeps no record of that"
    if evidence.info.kind is SourceKind.CONTAINERD and verdict.outcome in (Outcome.FAULT, Outcome.SOUND):
        yield "whether the unpacked files of snapshots are right: only blobs are read"
