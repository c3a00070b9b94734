"""Choose the most likely cause and the confidence in it; pure.

Candidates in order: a fault of a blob that the text names; its absence by design; a fault of the image that the text
names; a fault whose wrong content hashes to a digest in the text; faults of the store that lead to the message; the
known message alone. A fault counts only if it leads to the message: a damaged image does not explain a 401 of a
registry.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from auditor import checks
from auditor.checks.rule import selector
from auditor.diagnose import commands
from auditor.diagnose.case import Case
from auditor.diagnose.certainty import doubt, evidence, headline, proven, unaffected
from auditor.diagnose.commands import CommandTarget
from auditor.diagnose.describe import complete_platforms, known
from auditor.diagnose.evidence_index import EvidenceIndex
from auditor.diagnose.extract import Mentions
from auditor.diagnose.message_verdicts import from_message
from auditor.diagnose.messages import Confidence, KnownMessage
from auditor.diagnose.model import ObjectFacts, Outcome, Verdict
from auditor.diagnose.resolve import Named
from auditor.model.digest import EMPTY, Digest
from auditor.model.findings import Finding, ImageRef, Severity
from auditor.model.store import SourceKind

#: Media type of configs of very old images; core/unpack/unpacker.go Unpack waits for a known config type.
_UNTYPED = "application/octet-stream"
#: Other possible faults that are shown.
_OTHERS = 4
_RIVALS = "{} faults of what the message names lead to it, and nothing in it tells which; this is the most severe"
#: Evidence for an unknown object.
_OTHER_DAEMONS = ("another daemon may have it: k3s, rke2, microk8s and docker run a containerd each (--address)",)


def judge(
    mentions: Mentions,
    named: Named,
    index: EvidenceIndex | None,
    target: CommandTarget,
    *,
    folders: Mapping[str, bool],
) -> Verdict:
    """Return the verdict on a text.

    Args:
        mentions: What the text mentions.
        named: What of it was found in the store.
        index: The evidence; None where no store was examined.
        target: The store that commands act on.
        folders: Whether each snapshot folder in the text exists.

    """
    message = mentions.known[0] if mentions.known else None
    case = Case(mentions=mentions, named=named, index=index, target=target, message=message, folders=folders)
    found = _from_store(case, index) if index is not None else None
    if found is not None:
        return found
    if message is not None:
        return from_message(case, message)
    return _intact(case, named.objects) if named.objects else _nothing(case)


def _from_store(case: Case, index: EvidenceIndex) -> Verdict | None:
    """Return the verdict that the evidence supports, if any."""
    archive = next(_archive_faults(case, index), None)
    if archive is not None:
        return _from_fault(case, archive, direct=False)
    fault = _fault(case, index)
    if fault is not None:
        return _from_fault(case, *fault)
    lost = _lost_folder(case, index)
    if lost is not None:
        return _from_fault(case, lost, direct=True)
    design = next((o for o in case.named.objects if o.by_design), None)
    if design is not None and _allows_design(case.message):
        return _from_design(case, design)
    hidden = _hidden(case, index)
    return _from_hidden(case, hidden) if hidden else None


def _archive_faults(case: Case, index: EvidenceIndex) -> Iterator[Finding]:
    """Yield the faults of the archive as a file that lead to the message; they lead, as they make blobs absent."""
    if case.message is not None and case.target.kind is SourceKind.ARCHIVE:
        yield from (f for f in index.faults if f.code.startswith("archive-") and _fits(f, case.message))


def _lost_folder(case: Case, index: EvidenceIndex) -> Finding | None:
    """Return the fault of the snapshot whose folder the text names."""
    folders = {folder.removesuffix("/fs") for folder in case.mentions.folders}
    here = (f for f in index.faults if str(f.facts.get("directory", "")).removesuffix("/fs") in folders)
    return next((finding for finding in here if _fits(finding, case.message)), None)


def _allows_design(message: KnownMessage | None) -> bool:
    return message is None or message.by_design


def _fits(finding: Finding, message: KnownMessage | None) -> bool:
    return finding.severity is not Severity.INFO if message is None else finding.code in message.findings


def _fault(case: Case, index: EvidenceIndex) -> tuple[Finding, bool] | None:
    """Return the finding about what the text names, and whether the text names its subject itself."""
    message = case.message
    blobs = [entry for entry in case.named.objects if entry.kind != "image"]
    for entry in blobs:
        for finding in _about(entry, index):
            if _fits(finding, message) or case.target.kind is SourceKind.ARCHIVE:
                return finding, True  # importers skip a damaged blob and report it as absent later
    if any(entry.by_design for entry in blobs) and _allows_design(message):
        return None
    for entry in case.named.objects:
        for finding in index.faults:
            if entry.kind == "image" and _fits(finding, message) and _affects(finding, entry):
                return finding, message is None
    return None


def _about(entry: ObjectFacts, index: EvidenceIndex) -> Iterator[Finding]:
    """Yield the faults of an object, and of the layers behind a chainID or a diffID; the most severe first."""
    ids = {entry.id}
    if entry.kind in ("chainID", "diffID"):
        wanted = {entry.id} if entry.kind == "chainID" else set()
        places = index.chain_ids if wanted else index.diff_ids
        ids |= {p.layer.descriptor.digest for d, found in places.items() if d == entry.id for p in found}
    about = [finding for each in ids for finding in index.about(each)]
    yield from (finding for finding in index.faults if finding in about)


def _affects(finding: Finding, entry: ObjectFacts) -> bool:
    return any(f"{image.namespace}/{image.name}" == entry.id for image in finding.images)


def _hidden(case: Case, index: EvidenceIndex) -> tuple[Finding, ...]:
    """Return faults that lead to the message, where the message does not name their subject."""
    if case.message is None or not case.message.findings:
        return ()
    hashed = tuple(f for f in index.faults if _hash(f, index) in case.mentions.computed)
    if len(hashed) == 1:
        return hashed
    if case.mentions.digests or any(entry.kind == "image" for entry in case.named.objects):
        return ()  # the text names its subject, which has no fault
    return tuple(f for f in index.faults if _fits(f, case.message))


def _hash(finding: Finding, index: EvidenceIndex) -> str:
    """Return the digest of a finding's wrong content; empty where it was not read."""
    verification = index.evidence.verifications.get(Digest(finding.subject.digest))
    actual = verification.actual if verification is not None else None
    return str(actual or finding.facts.get("actual") or (EMPTY if finding.cause == "emptied" else ""))


def _from_fault(case: Case, finding: Finding, direct: bool) -> Verdict:
    others = tuple(_rivals(case, finding)) if direct else ()
    sure = Confidence.CERTAIN if direct and not others and proven(finding) else Confidence.LIKELY
    because = _RIVALS.format(len(others) + 1) if others else _why(sure, finding, direct=direct)
    more = (*_untyped(case, finding), *(f"or: {other.message}" for other in others[:_OTHERS]))
    return _verdict(case, finding, sure=sure, because=because, more=more)


def _rivals(case: Case, finding: Finding) -> Iterator[Finding]:
    """Yield other faults of what the text names that lead to the message, in other images.

    A chainID or a diffID is that of several blobs, and a manifest can be published under several indexes.
    """
    if case.index is None:
        return
    for entry in case.named.objects:
        about = tuple(_about(entry, case.index))
        for other in about if finding in about else ():
            apart = other.subject != finding.subject or finding.cause == "published-so"
            if other != finding and apart and _fits(other, case.message) and not {*other.images} & {*finding.images}:
                yield other


def _untyped(case: Case, finding: Finding) -> tuple[str, ...]:
    """Return why containerd never fetched the layers of an image whose config has no image config's type."""
    if case.index is None or finding.code not in {"incomplete-image", "snapshot-without-blob"}:
        return ()
    if case.index.config_type(finding) != _UNTYPED:
        return ()
    why = f"the manifest gives its config the type {_UNTYPED}, which containerd does not take for an image config"
    return (f"{why}, so it never fetched the layers; a pull does not help, auditor repair fetches them",)


def _why(sure: Confidence, finding: Finding, *, direct: bool) -> str:
    if sure is Confidence.CERTAIN:
        return proven(finding)
    if proven(finding) and not direct:
        return "the fault is proven, in the image that the message names; that it caused the message is likely"
    return doubt(finding)


def _from_hidden(case: Case, found: Sequence[Finding]) -> Verdict:
    first = found[0]
    actual = _hash(first, case.index) if case.index is not None else ""
    if actual in case.mentions.computed and len(found) == 1:
        because = f"the message prints {actual[:19]}…, which is the digest of the wrong content"
        return _verdict(case, first, sure=Confidence.CERTAIN, because=because)
    if len(found) == 1:
        because = "the message names no object; this is the only fault of the store that leads to it"
        return _verdict(case, first, sure=Confidence.LIKELY, because=because)
    because = f"the message names no object; {len(found)} faults of the store lead to it, this is the most severe"
    others = tuple(f"or: {finding.message}" for finding in found[1 : _OTHERS + 1])
    return _verdict(case, first, sure=Confidence.POSSIBLE, because=because, more=others)


def _verdict(case: Case, finding: Finding, *, sure: Confidence, because: str, more: Sequence[str] = ()) -> Verdict:
    message, about = case.message, finding.subject.digest
    entry = known(case.index, Digest(about)) if case.index is not None and about else None
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
        fine=unaffected(finding.code),
        commands=tuple(
            dict.fromkeys(filter(None, commands.for_finding(finding, case.target, named=case.mentions.names)))
        ),
        source=message.source if message is not None else "",
    )


def _from_design(case: Case, entry: ObjectFacts) -> Verdict:
    message = case.message
    image = entry.uses[0].image if entry.uses else None
    helps = _for_design(case, entry, image) if image is not None else ()
    discarded = "discards" in entry.by_design
    whose = f" of {image.name}" if image is not None else ""
    return Verdict(
        outcome=Outcome.BY_DESIGN,
        cause=f"no fault: the {entry.kind}{whose} is absent by design: {entry.by_design}",
        sure=Confidence.LIKELY if discarded else Confidence.CERTAIN,
        because="an absent label shows that the layer was discarded; other programs remove the label, too"
        if discarded
        else "records and labels prove it",
        message=message.id if message is not None else "",
        evidence=(f"no namespace has a record of {entry.id}, and none needs it to run the image",)
        if not any(where.recorded for where in entry.where)
        else (f"{entry.id} is absent where {entry.by_design}",),
        breaks="Exporting, pushing or serving this blob from this node.",
        fine="Running the image here. Nothing is damaged.",
        commands=tuple(helps),
        source=message.source if message is not None else "",
    )


def _for_design(case: Case, entry: ObjectFacts, image: ImageRef) -> Iterator[str]:
    here = complete_platforms(case.index, image.namespace, image.name) if case.index is not None else ()
    return commands.for_design(case.target, image.namespace, selector(image), entry.by_design, platforms=here)


def _intact(case: Case, objects: Sequence[ObjectFacts]) -> Verdict:
    entry, target = objects[0], case.target
    foreign = _without_platform(case, entry)
    lines = [f"the {entry.kind} {entry.id} has a record"] if any(where.recorded for where in entry.where) else []
    lines += [f"its bytes: {entry.bytes}"] if entry.bytes else []
    read = entry.bytes.startswith("right") and "as far as" not in entry.bytes
    return Verdict(
        outcome=Outcome.SOUND,
        cause=f"no fault of this {entry.kind} in this store" + (f", but {foreign.message}" if foreign else ""),
        sure=Confidence.CERTAIN if read else Confidence.LIKELY,
        because="its content was read whole and is right"
        if read
        else "its records have no fault; its content was not read",
        evidence=tuple(lines),
        breaks=checks.RULEBOOK[foreign.code].impact if foreign else "",
        commands=(target.auditor("check", "--verify", "layers"),) if not target.archive else (),
    )


def _without_platform(case: Case, entry: ObjectFacts) -> Finding | None:
    """Return the finding that an image has no manifest for the node's platform."""
    found = case.index.findings if case.index is not None and entry.kind == "image" else ()
    return next((f for f in found if f.code == "no-matching-platform" and _affects(f, entry)), None)


def _nothing(case: Case) -> Verdict:
    mentions, looked = case.mentions, case.index is not None
    if case.named.candidates:
        cause = "the prefix matches several digests; they are listed below"
    elif not (mentions.digests or mentions.prefixes or mentions.names):
        cause = "the text contains no known message, no digest and no image name"
    else:
        cause = "the store does not contain it" if looked else "no store was examined"
    return Verdict(
        outcome=Outcome.UNKNOWN,
        cause=f"no cause can be named: {cause}",
        sure=Confidence.UNKNOWN,
        because="no evidence was found",
        evidence=_OTHER_DAEMONS if looked else (),
        commands=(
            case.target.auditor("check") + "  # faults of this store",
            "auditor diagnose 'the whole message'  # as containerd, ctr, crictl, kubelet or docker printed it",
            "journalctl -u containerd --since -1h | auditor diagnose -",
        ),
    )
