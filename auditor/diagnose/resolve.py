"""Resolve the mentions of a text to objects of the store; pure."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from auditor import checks
from auditor.diagnose.describe import images, known
from auditor.diagnose.evidence_index import EvidenceIndex
from auditor.diagnose.extract import Mentions
from auditor.diagnose.model import Candidate, ObjectFacts
from auditor.model.digest import EMPTY, Digest
from auditor.model.findings import Severity

_SEVERITY = {rule.code: rule.severity for rule in checks.RULEBOOK.values()}
#: Maximum of candidates listed for a prefix.
_MOST = 8


class Named(msgspec.Struct, frozen=True, kw_only=True):
    """The objects, those with faults first; `missing` has one sentence for each mention that was not found."""

    objects: tuple[ObjectFacts, ...] = ()
    candidates: tuple[Candidate, ...] = ()
    missing: tuple[str, ...] = ()


def find(mentions: Mentions, index: EvidenceIndex) -> Named:
    """Resolve all mentions; a guessed prefix without a match is dropped."""
    found: dict[str, ObjectFacts] = {}
    candidates: list[Candidate] = []
    missing: list[str] = []
    for digest in mentions.digests:
        entry = known(index, digest)
        if entry is not None:
            found.setdefault(entry.id, entry)
        elif digest != EMPTY:
            missing.append(f"{digest}: not found{_searched(index)}")
    for prefix in (*mentions.prefixes, *mentions.guesses):
        fitting = index.complete(prefix)
        if len(fitting) == 1:
            entry = known(index, fitting[0], asked=prefix)
            found.update({entry.id: entry} if entry is not None else {})
        elif prefix in mentions.prefixes:
            candidates += _candidates(index, prefix, fitting)
            missing.append(_ambiguous(prefix, fitting))
    for name in mentions.names:
        entries = list(images(index, name))
        found.update({entry.id: entry for entry in entries if entry.id not in found})
        if not entries:
            missing.append(f"{name}: no searched namespace has an image of this name")
    return Named(objects=tuple(sorted(found.values(), key=_rank)), candidates=tuple(candidates), missing=tuple(missing))


def _searched(index: EvidenceIndex) -> str:
    where = ", ".join(view.name for view in index.evidence.views)
    return f" (searched records, manifests, configs and snapshots of {where})" if where else ""


def _candidates(index: EvidenceIndex, prefix: str, fitting: tuple[Digest, ...]) -> Iterator[Candidate]:
    for digest in fitting[:_MOST]:
        entry = known(index, digest)
        yield Candidate(prefix=prefix, digest=str(digest), what=_what(entry) if entry is not None else "unknown")


def _what(entry: ObjectFacts) -> str:
    if not entry.uses:
        return entry.kind
    image = entry.uses[0].image
    part = entry.kind if image.layer is None else f"{entry.kind} {image.layer + 1} of {entry.uses[0].layers}"
    others = len(entry.uses) + entry.more_uses - 1
    return f"{part} of {image.name} in {image.namespace}" + (f" and {others} more" if others else "")


def _ambiguous(prefix: str, fitting: tuple[Digest, ...]) -> str:
    if not fitting:
        return f"{prefix}: no digest begins with it"
    return f"{prefix}: begins {len(fitting)} digests; give more digits"


def _rank(entry: ObjectFacts) -> tuple[int, bool]:
    """Sort key: objects with faults first, blobs before images."""
    ranks = [_SEVERITY[code].rank for code in entry.findings if code in _SEVERITY]
    return (min(ranks, default=len(Severity)), entry.kind == "image")
