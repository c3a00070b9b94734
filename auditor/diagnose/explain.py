"""Build the diagnosis from what a text mentions and the evidence of a store; pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import msgspec

from auditor.diagnose import commands, verdicts
from auditor.diagnose.commands import CommandTarget
from auditor.diagnose.describe import known
from auditor.diagnose.evidence_index import EvidenceIndex
from auditor.diagnose.extract import READ, Mentions
from auditor.diagnose.model import Diagnosis, Message, ObjectFacts, Outcome, Verdict
from auditor.diagnose.resolve import Named, find
from auditor.model.digest import Digest
from auditor.model.findings import Severity
from auditor.model.plural import plural
from auditor.model.store import SourceKind

#: Maximum length of the question in the diagnosis, in characters.
_SHOWN = 4_000


def explain(
    mentions: Mentions,
    index: EvidenceIndex | None,
    *,
    target: CommandTarget,
    looked_at: str,
    folders: Mapping[str, bool] | None = None,
) -> Diagnosis:
    """Explain a text.

    Args:
        mentions: What the text mentions.
        index: The evidence; None explains the text alone.
        target: The store that commands act on.
        looked_at: Address of the store, or path of the archive.
        folders: Whether each snapshot folder in the text exists on this machine; without those that cannot be known.

    """
    named = find(mentions, index) if index is not None else Named()
    verdict = verdicts.judge(mentions, named, index, target, folders=folders or {})
    if target.root:
        helps = commands.without_daemon(verdict.commands, target)
        verdict = msgspec.structs.replace(verdict, commands=helps)
    return Diagnosis(
        line=mentions.line[:_SHOWN],
        lines=mentions.lines,
        looked_at=looked_at,
        namespaces=tuple(view.name for view in index.evidence.views) if index is not None else (),
        verdict=verdict,
        messages=tuple(
            Message(id=m.id, lines=mentions.seen.get(m.id, 1), says=m.meaning, cause=m.cause, source=m.source)
            for m in mentions.known
        ),
        objects=_with_subject(named, verdict, index),
        candidates=named.candidates,
        missing=named.missing,
        unknown=tuple(_limits(mentions, index, verdict)),
    )


def _with_subject(named: Named, verdict: Verdict, index: EvidenceIndex | None) -> tuple[ObjectFacts, ...]:
    """Return the objects; the subject of the verdict first, if the text does not name it."""
    if index is None or not verdict.subject.startswith(("sha256:", "sha384:", "sha512:")):
        return named.objects
    if any(entry.id == verdict.subject for entry in named.objects):
        return named.objects
    entry = known(index, Digest(verdict.subject))
    return (entry, *named.objects) if entry is not None else named.objects


def exit_status(diagnosis: Diagnosis, index: EvidenceIndex | None, *, alone: bool) -> int:
    """Return the exit status.

    Args:
        diagnosis: The diagnosis.
        index: The evidence; None where no store was examined.
        alone: The user asked to explain the message without a store.

    Returns:
        1 for a finding of severity error or above, 3 where nothing was examined, else 0. Without a store, 0 only for a
        known message and `alone`.

    """
    if index is None:
        return 0 if alone and diagnosis.messages else 3
    codes = {code for entry in diagnosis.objects for code in entry.findings} | {diagnosis.verdict.code}
    if any(f.code in codes and f.severity.rank <= Severity.ERROR.rank for f in index.findings):
        return 1
    not_found = diagnosis.verdict.outcome is Outcome.MESSAGE and bool(diagnosis.missing) and not diagnosis.objects
    return 3 if not_found or diagnosis.verdict.outcome is Outcome.UNKNOWN else 0


def _limits(mentions: Mentions, index: EvidenceIndex | None, verdict: Verdict) -> Iterator[str]:
    """Yield what the diagnosis cannot determine, one sentence each."""
    if max(mentions.seen.values(), default=0) > READ:
        yield f"names were read from the first {READ} lines of each message; the counts are approximate"
    if index is None:
        yield "no store was looked at: the diagnosis uses the text alone"
        return
    evidence = index.evidence
    yield from evidence.incomplete
    if index.unread:
        yield f"within the time limit, {plural(len(index.unread), 'blob')} could not be read: raise --max-duration"
    if mentions.known and not mentions.digests and not mentions.guesses and not mentions.names:
        yield "the message names no object of the store, so the whole store was searched for faults"
    if verdict.outcome is Outcome.FAULT:
        yield "when and by whom it was caused: the store does not record that"
    compared = any(files.differences is not None for files in evidence.snapshot_files.values())
    if (
        evidence.info.kind is SourceKind.CONTAINERD
        and not compared
        and verdict.outcome in (Outcome.FAULT, Outcome.SOUND)
    ):
        yield "whether the unpacked files of snapshots are right: only blobs were read"
