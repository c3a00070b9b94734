"""Choosing the most likely cause, and saying how sure that is; pure.

In this order: a fault of a blob that the text names; its absence by design; a fault of the image that it names; a fault
whose wrong bytes hash to a digest that it prints; the only faults of the store that make a program print this; the
known message alone. A fault counts only where it fits the message: an image that is damaged here does not explain why a
registry answered 401.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from auditor import checks
from auditor.diagnose import commands
from auditor.diagnose.certainty import doubt, evidence, fine, headline, proven
from auditor.diagnose.commands import Place
from auditor.diagnose.describe import known
from auditor.diagnose.evidence_index import Catalogue
from auditor.diagnose.extract import Mentions
from auditor.diagnose.messages import Known as KnownMessage
from auditor.diagnose.messages import Sure
from auditor.diagnose.model import Known, Outcome, Verdict
from auditor.diagnose.resolve import Named
from auditor.model.digest import EMPTY, Digest
from auditor.model.findings import Finding
from auditor.model.store import SourceKind


class _Case(msgspec.Struct, frozen=True, kw_only=True):
    """All that a verdict is made of; `message` is the known message that tells most."""

    said: Mentions
    named: Named
    catalogue: Catalogue | None
    place: Place
    message: KnownMessage | None


#: Where else to look for what is not here.
_ELSEWHERE = ("another daemon may know it: k3s, rke2, microk8s and docker run containerds of their own (--address)",)


def judge(said: Mentions, named: Named, catalogue: Catalogue | None, place: Place) -> Verdict:
    """The verdict on a text."""
    message = said.known[0] if said.known else None
    case = _Case(said=said, named=named, catalogue=catalogue, place=place, message=message)
    found = _from_store(case, catalogue) if catalogue is not None else None
    if found is not None:
        return found
    if message is not None:
        return _from_message(case, message)
    return _all_well(named.objects, place) if named.objects else _nothing(case)


def _from_store(case: _Case, catalogue: Catalogue) -> Verdict | None:
    """What the store has to say of it."""
    fault = _fault(case, catalogue)
    if fault is not None:
        return _from_fault(case, *fault)
    design = next((o for o in case.named.objects if o.by_design), None)
    if design is not None and _design_fits(case.message):
        return _from_design(case, design)
    hidden = _hidden(case, catalogue)
    return _from_hidden(case, hidden) if hidden else None


def _design_fits(message: KnownMessage | None) -> bool:
    return message is None or message.by_design


def _fits(finding: Finding, message: KnownMessage | None) -> bool:
    return message is None or finding.code in message.fits


def _fault(case: _Case, catalogue: Catalogue) -> tuple[Finding, bool] | None:
    """The finding about what the text names, and whether that is the very object."""
    message = case.message
    blobs = [entry for entry in case.named.objects if entry.kind != "image"]
    for entry in blobs:
        for finding in _about(entry, catalogue):
            if _fits(finding, message) or case.place.kind is SourceKind.ARCHIVE:
                return finding, True  # importers leave out what is wrong in an archive, and miss it later
    if any(entry.by_design for entry in blobs) and _design_fits(message):
        return None
    for entry in case.named.objects:
        for finding in catalogue.faults:
            if entry.kind == "image" and _fits(finding, message) and _hurts(finding, entry):
                return finding, message is None
    return None


def _about(entry: Known, catalogue: Catalogue) -> Iterator[Finding]:
    """The faults of an object, and of the layers that a chainID or a diffID stands for; the worst first."""
    ids = {entry.id}
    if entry.kind in ("chainID", "diffID"):
        wanted = {entry.id} if entry.kind == "chainID" else set()
        places = catalogue.chain_ids if wanted else catalogue.diff_ids
        ids |= {p.layer.descriptor.digest for d, found in places.items() if d == entry.id for p in found}
    for finding in catalogue.faults:
        if finding.subject.digest in ids or finding.subject.name.rpartition("/")[2] in ids:
            yield finding


def _hurts(finding: Finding, entry: Known) -> bool:
    return any(f"{image.namespace}/{image.name}" == entry.id for image in finding.images)


def _hidden(case: _Case, catalogue: Catalogue) -> tuple[Finding, ...]:
    """The faults that the message does not name and that make a program print it."""
    if case.message is None or not case.message.fits:
        return ()
    hashed = tuple(f for f in catalogue.faults if _hash(f, catalogue) in case.said.computed)
    if len(hashed) == 1:
        return hashed
    if case.said.digests or any(entry.kind == "image" for entry in case.named.objects):
        return ()  # the text says what it is about, and that is not at fault
    return tuple(f for f in catalogue.faults if _fits(f, case.message))


def _hash(finding: Finding, catalogue: Catalogue) -> str:
    """What the wrong bytes that a finding is about hash to; empty where nobody read them."""
    proof = catalogue.evidence.proofs.get(Digest(finding.subject.digest))
    actual = proof.actual if proof is not None else None
    return str(actual or finding.facts.get("actual") or (EMPTY if finding.cause == "emptied" else ""))


def _from_fault(case: _Case, finding: Finding, direct: bool) -> Verdict:
    sure = Sure.CERTAIN if direct and proven(finding) else Sure.LIKELY
    return _verdict(case, finding, sure=sure, because=_why(sure, finding, direct=direct))


def _why(sure: Sure, finding: Finding, *, direct: bool) -> str:
    if sure is Sure.CERTAIN:
        return proven(finding)
    if proven(finding) and not direct:
        return "the fault is proven, and of the image that the message names; that it made the message is likely"
    return doubt(finding)


def _from_hidden(case: _Case, found: Sequence[Finding]) -> Verdict:
    first = found[0]
    actual = _hash(first, case.catalogue) if case.catalogue is not None else ""
    if actual in case.said.computed and len(found) == 1:
        told = f"the message prints {actual[:19]}…, and that is what the wrong bytes hash to"
        return _verdict(case, first, sure=Sure.CERTAIN, because=told)
    if len(found) == 1:
        told = "the message names no object; this is the only fault of the store that makes a program print it"
        return _verdict(case, first, sure=Sure.LIKELY, because=told)
    told = f"the message names no object; {len(found)} faults of the store make a program print it, this is the worst"
    others = tuple(f"or: {finding.message}" for finding in found[1:5])
    return _verdict(case, first, sure=Sure.POSSIBLE, because=told, more=others)


def _verdict(case: _Case, finding: Finding, *, sure: Sure, because: str, more: Sequence[str] = ()) -> Verdict:
    message, about = case.message, finding.subject.digest
    entry = known(case.catalogue, Digest(about)) if case.catalogue is not None and about else None
    return Verdict(
        outcome=Outcome.FAULT,
        cause=headline(finding),
        sure=sure,
        because=because,
        code=finding.code,
        subject=finding.subject.id,
        message=message.id if message is not None else "",
        evidence=(*evidence(finding, entry), *more),
        breaks=checks.RULEBOOK[finding.code].impact,
        fine=fine(finding.code),
        commands=tuple(dict.fromkeys(filter(None, commands.for_finding(finding, case.place)))),
        source=message.source if message is not None else "",
    )


def _from_design(case: _Case, entry: Known) -> Verdict:
    message, place = case.message, case.place
    image = entry.uses[0].image if entry.uses else None
    helps = commands.for_design(place, image.namespace, image.name, entry.by_design) if image is not None else ()
    discarded = "discards" in entry.by_design
    whose = f" of {image.name}" if image is not None else ""
    return Verdict(
        outcome=Outcome.BY_DESIGN,
        cause=f"nothing is broken: the {entry.kind}{whose} is absent by design: {entry.by_design}",
        sure=Sure.LIKELY if discarded else Sure.CERTAIN,
        because="that a layer was discarded and not deleted is told by its absent label, which others remove too"
        if discarded
        else "records and labels show it",
        message=message.id if message is not None else "",
        evidence=(f"no namespace needs {entry.id} to run the image, and none has a record of it",)
        if not any(where.recorded for where in entry.where)
        else (f"{entry.id} is absent where {entry.by_design}",),
        breaks="Exporting, pushing or serving this blob from this node.",
        fine="Running the image here. Nothing is damaged.",
        commands=tuple(helps),
        source=message.source if message is not None else "",
    )


def _from_message(case: _Case, message: KnownMessage) -> Verdict:
    """What the message alone tells; the store has nothing that explains it, or was not looked at."""
    said, named, place = case.said, case.named, case.place
    sure, because = _sure_alone(message, named, looked=case.catalogue is not None)
    image = next((entry for entry in named.objects if entry.kind == "image"), None)
    name = said.names[0] if said.names else ""
    namespace = image.id.partition("/")[0] if image is not None else "k8s.io"
    digest = said.digests[0] if said.digests else ""
    return Verdict(
        outcome=Outcome.MESSAGE,
        cause=message.cause,
        sure=sure,
        because=because,
        message=message.id,
        evidence=(message.says, *_uploads(named)),
        breaks=message.breaks,
        fine=message.fine,
        commands=tuple(
            commands.filled(step, name=name, digest=digest, namespace=namespace, place=place) for step in message.do
        ),
        source=message.source,
    )


def _uploads(named: Named) -> Iterator[str]:
    """Unfinished uploads of what the message names: the next pull goes on where they end, with whatever is in them."""
    for entry in named.objects:
        for where in entry.where:
            yield from (f"an unfinished upload of it is in {where.namespace}: {ingest}" for ingest in where.ingests)


def _sure_alone(message: KnownMessage, named: Named, *, looked: bool) -> tuple[Sure, str]:
    if message.sure is Sure.CERTAIN:
        return Sure.CERTAIN, "the message is its own proof: it passes on what the system or the registry said"
    if looked and message.fits and named.objects:
        return Sure.POSSIBLE, "what the message names is here now and nothing of this kind is wrong with it any more"
    if looked and message.fits:
        return Sure.POSSIBLE, "nothing in the store explains the message now: it was mended since, or is elsewhere"
    return message.sure, "this is what the message usually means; nothing here proves it"


def _all_well(objects: Sequence[Known], place: Place) -> Verdict:
    entry = objects[0]
    told = [f"the {entry.kind} {entry.id} is here"] if any(where.recorded for where in entry.where) else []
    told += [f"its bytes: {entry.bytes}"] if entry.bytes else []
    read = entry.bytes.startswith("right") and "as far as" not in entry.bytes
    return Verdict(
        outcome=Outcome.SOUND,
        cause=f"nothing is wrong with this {entry.kind} in this store",
        sure=Sure.CERTAIN if read else Sure.LIKELY,
        because="its bytes were read to the end and are right" if read else "its records are in order",
        evidence=tuple(told),
        commands=(place.ours("check", "--verify", "layers"),) if not place.archive else (),
    )


def _nothing(case: _Case) -> Verdict:
    said, looked = case.said, case.catalogue is not None
    if case.named.candidates:
        cause = "what was asked about fits several digests; they are listed below"
    elif not (said.digests or said.prefixes or said.names):
        cause = "the text holds no message that is known, no digest and no image's name"
    else:
        cause = "what was asked about is not known here" if looked else "without a store nothing can be told of it"
    return Verdict(
        outcome=Outcome.UNKNOWN,
        cause=f"no cause can be named: {cause}",
        sure=Sure.UNKNOWN,
        because="nothing was found that could be judged",
        evidence=_ELSEWHERE if looked else (),
        commands=(
            "auditor check  # is anything wrong with this store?",
            "auditor diagnose 'the whole message'  # as containerd, ctr, crictl, kubelet or docker printed it",
            "journalctl -u containerd --since -1h | auditor diagnose -",
        ),
    )
