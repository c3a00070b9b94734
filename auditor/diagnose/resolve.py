"""What a message names, found in the store: the objects, the candidates of a prefix, and what could not be found."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from auditor import checks
from auditor.diagnose.describe import images, known
from auditor.diagnose.evidence_index import Catalogue
from auditor.diagnose.extract import Mentions
from auditor.diagnose.model import Candidate, Known
from auditor.model.digest import EMPTY, Digest
from auditor.model.findings import Severity

_SEVERITY = {rule.code: rule.severity for rule in checks.RULEBOOK.values()}
#: Digests that are told for a prefix.
_MOST = 8


class Named(msgspec.Struct, frozen=True, kw_only=True):
    """What was found, what is at fault first; `missing` has a sentence for each thing that was not."""

    objects: tuple[Known, ...] = ()
    candidates: tuple[Candidate, ...] = ()
    missing: tuple[str, ...] = ()


def find(said: Mentions, catalogue: Catalogue) -> Named:
    """Find all that is named; a guess from a message that fits nothing was none, and is not mentioned."""
    found: dict[str, Known] = {}
    candidates: list[Candidate] = []
    missing: list[str] = []
    for digest in said.digests:
        entry = known(catalogue, digest)
        if entry is not None:
            found.setdefault(entry.id, entry)
        elif digest != EMPTY:
            missing.append(f"{digest}: nothing here has it or names it{_kind_of_looking(catalogue)}")
    for prefix in (*said.prefixes, *said.guesses):
        fitting = catalogue.complete(prefix)
        if len(fitting) == 1:
            entry = known(catalogue, fitting[0], asked=prefix)
            found.update({entry.id: entry} if entry is not None else {})
        elif prefix in said.prefixes:
            candidates += _candidates(catalogue, prefix, fitting)
            missing.append(_unclear(prefix, fitting))
    for name in said.names:
        entries = list(images(catalogue, name))
        found.update({entry.id: entry for entry in entries if entry.id not in found})
        if not entries:
            missing.append(f"{name}: no namespace that was looked at has an image of this name")
    return Named(
        objects=tuple(sorted(found.values(), key=_interest)), candidates=tuple(candidates), missing=tuple(missing)
    )


def _kind_of_looking(catalogue: Catalogue) -> str:
    where = ", ".join(view.name for view in catalogue.evidence.views)
    return f" (looked through records, manifests, configs and snapshots of {where})" if where else ""


def _candidates(catalogue: Catalogue, prefix: str, fitting: tuple[Digest, ...]) -> Iterator[Candidate]:
    for digest in fitting[:_MOST]:
        entry = known(catalogue, digest)
        yield Candidate(prefix=prefix, digest=str(digest), what=_what(entry) if entry is not None else "unknown")


def _what(entry: Known) -> str:
    if not entry.uses:
        return entry.kind
    image = entry.uses[0].image
    part = entry.kind if image.layer is None else f"{entry.kind} {image.layer + 1} of {entry.uses[0].layers}"
    others = len(entry.uses) + entry.more_uses - 1
    return f"{part} of {image.name} in {image.namespace}" + (f" and {others} more" if others else "")


def _unclear(prefix: str, fitting: tuple[Digest, ...]) -> str:
    if not fitting:
        return f"{prefix}: no digest here begins like this"
    return f"{prefix}: begins {len(fitting)} digests; give more of it"


def _interest(entry: Known) -> tuple[int, bool]:
    """What is at fault comes first, the image as a whole behind the blob that the message names."""
    ranks = [_SEVERITY[code].rank for code in entry.findings if code in _SEVERITY]
    return (min(ranks, default=len(Severity)), entry.kind == "image")
