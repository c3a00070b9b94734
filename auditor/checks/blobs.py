"""Blobs that have a record: their file, their size, their bytes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec

from auditor.checks import layer_content
from auditor.checks.blob_case import Case, cases, described, judged
from auditor.checks.evidence import Evidence
from auditor.checks.rule import Rule
from auditor.model.digest import EMPTY, Digest
from auditor.model.findings import Fact, Finding, Severity, Verify
from auditor.model.image_graph import Broken, Flaw
from auditor.model.store import FileKind, FileState, Proof, ProofKind

_RESTORE = "auditor repair puts the right bytes back without touching record, labels or snapshots."
BLOB_FILE_MISSING = Rule(
    code="blob-file-missing",
    severity=Severity.CRITICAL,
    means="The database has the blob, the disk has no regular file for it: typically a power cut between the record "
    "and the rename (containerd#10457), or a file deleted by hand.",
    matters="The image cannot be unpacked, and pulling it again reports success and changes nothing: `blob … expected "
    "at …: blob not found`.",
    do=_RESTORE,
)
SIZE_MISMATCH = Rule(
    code="size-mismatch",
    severity=Severity.CRITICAL,
    means="The descriptor, the record and the file disagree on the blob's size.",
    matters="The bytes cannot be right; the image cannot be unpacked or exported, and pulling it again does not help.",
    do=_RESTORE,
)
DIGEST_MISMATCH = Rule(
    code="digest-mismatch",
    severity=Severity.CRITICAL,
    means="The blob's bytes do not hash to its name; read twice before it is said.",
    matters="Whoever unpacks, exports or serves the blob passes damage on. Pulling the image again does not help.",
    do=_RESTORE,
)
BLOB_UNREADABLE = Rule(
    code="blob-unreadable",
    severity=Severity.ERROR,
    means="Reading the blob failed, so nothing is known of its bytes.",
    matters="The audit is incomplete. An input/output error is the disk's word for trouble.",
    do="Look at the kernel's log for the device; check that the auditor may read the content root.",
)
READ_UNSTEADY = Rule(
    code="read-unsteady",
    severity=Severity.WARNING,
    means="The blob came out wrong or not at all at the first reading, and right at the second, past the page cache.",
    matters="The bytes on the disk are right. The memory or the path to the disk is not to be trusted.",
    do="Test the memory, look at the kernel's log, and check again.",
)
RULES = (BLOB_FILE_MISSING, SIZE_MISMATCH, DIGEST_MISMATCH, BLOB_UNREADABLE, READ_UNSTEADY, *layer_content.RULES)


def check(evidence: Evidence) -> Iterator[Finding]:
    """Judge each blob that was looked at, once for all namespaces that have a record of it."""
    flaws = _document_flaws(evidence)
    only = None if evidence.verify is Verify.LAYERS else _doubtful(evidence) | flaws.keys()
    for digest, case in cases(evidence, only).items():
        found = tuple(_judge(evidence, case, flaws.get(digest)))
        yield from found
        proof = evidence.proofs.get(digest)
        if not found and proof is not None and evidence.verify is Verify.LAYERS:
            yield from _dated(proof, layer_content.judge(case, proof))


def _document_flaws(evidence: Evidence) -> dict[Digest, Broken]:
    return {digest: loaded for (digest, _), loaded in evidence.documents.items() if isinstance(loaded, Broken)}


def _doubtful(evidence: Evidence) -> set[Digest]:
    """The blobs about which anything can be said at all: what looked wrong, and what is described in two ways.

    On a node that is well they are none of many thousands, so nothing is put together for the others.
    """
    found = {digest for digest, proof in evidence.proofs.items() if proof.kind is not ProofKind.SOUND}
    sizes: dict[Digest, int] = {}
    for view in evidence.views:
        blobs = view.inventory.blobs
        for digest in judged(view):
            size, state = blobs[digest].size, evidence.files.get(digest)
            if sizes.setdefault(digest, size) != size or (state is not None and not _as_recorded(state, size)):
                found.add(digest)
    for view in evidence.views:
        found.update(d.digest for d in described(view) if sizes.get(d.digest, d.size) != d.size)
    return found


def _as_recorded(state: FileState, size: int) -> bool:
    return state.kind is FileKind.REGULAR and (state.size == size or (state.at_least and (state.size or 0) >= size))


def _judge(evidence: Evidence, case: Case, flaw: Broken | None) -> Iterator[Finding]:
    """The first thing that is wrong; the rest would only follow from it."""
    state = evidence.files.get(case.digest)
    proof = evidence.proofs.get(case.digest)
    if state is not None and state.kind is FileKind.UNREADABLE:
        yield _unreadable(case, state.error)
    elif state is not None and state.kind is not FileKind.REGULAR:
        yield _no_file(case, state)
    elif (wrong := _sizes(case, state, proof)) is not None:
        yield wrong
    elif proof is not None and proof.kind is not ProofKind.SOUND:
        yield from _dated(proof, _proof(case, proof))
    elif flaw is not None:
        yield from _flaw(case, flaw)


def _unreadable(case: Case, words: str) -> Finding:
    return case.hit(BLOB_UNREADABLE, f"{case.whose} could not be read: {words}", facts={"error": words})


def _no_file(case: Case, state: FileState) -> Finding:
    if state.kind is FileKind.MISSING:
        text = f"{case.whose} has a record and no file on the disk"
    else:
        text = f"{case.whose} has a record, and where its file should be lies a {state.kind}"
    return case.hit(BLOB_FILE_MISSING, text, cause="no-file", facts={"found": str(state.kind)}, repairable=True)


def _sizes(case: Case, state: FileState | None, proof: Proof | None) -> Finding | None:
    size = state.size if state is not None else None
    if proof is not None and proof.kind is ProofKind.CORRUPT and (size is None or (state and state.at_least)):
        size = proof.size
        state = None
    said = case.records | case.descriptors
    fits = size is None or (state is not None and state.at_least and size >= max(case.records))
    if len(said) == 1 and (fits or size in said):
        return None
    facts: dict[str, Fact] = {
        "record_size": min(case.records),
        "descriptor_size": min(case.descriptors) if case.descriptors else None,
        "file_size": size,
    }
    text, cause = _size_text(case, size, fits=fits), _size_cause(case, size)
    return case.hit(SIZE_MISMATCH, text, cause=cause, facts=facts, repairable=True)


def _size_text(case: Case, size: int | None, *, fits: bool) -> str:
    if size == 0 and 0 not in case.records:
        return f"{case.whose} is zero-length on the disk; its record says {min(case.records)} bytes"
    if not fits and size not in case.records:
        return f"{case.whose} has {size} bytes on the disk; its record says {min(case.records)}"
    if case.descriptors - case.records:
        wrong = min(case.descriptors - case.records)
        return f"{case.whose} is recorded with {min(case.records)} bytes; its descriptor says {wrong}"
    return f"{case.whose} is recorded with different sizes: {', '.join(map(str, sorted(case.records)))} bytes"


def _size_cause(case: Case, size: int | None) -> str:
    if size == 0 and 0 not in case.records:
        return "emptied"
    if size is None or size in case.records:
        return "records-disagree"
    return "shortened" if size < min(case.records) else "lengthened"


def _proof(case: Case, proof: Proof) -> Iterator[Finding]:
    match proof.kind:
        case ProofKind.CORRUPT:
            yield _corrupt(case, proof.actual, proof.detail)
        case ProofKind.UNREADABLE:
            yield _unreadable(case, proof.detail)
        case ProofKind.MISSING:
            yield _no_file(case, FileState(FileKind.MISSING))
        case ProofKind.UNSTEADY:
            text = f"{case.whose} came out right at the second reading only: {proof.detail}"
            yield case.hit(READ_UNSTEADY, text, facts={"first": proof.detail or None})
        case _:
            return


def _flaw(case: Case, flaw: Broken) -> Iterator[Finding]:
    if flaw.flaw is Flaw.CORRUPT:
        yield _corrupt(case, flaw.actual, flaw.detail)
    elif flaw.flaw is Flaw.UNREADABLE:
        yield _unreadable(case, flaw.detail)
    elif flaw.flaw is Flaw.NO_FILE:
        yield _no_file(case, FileState(FileKind.MISSING))


def _corrupt(case: Case, actual: Digest | None, detail: str) -> Finding:
    how = f": {detail}" if detail else ""
    text = f"the bytes of {case.whose} do not hash to {case.digest.short}{how}"
    facts: dict[str, Fact] = {"actual": str(actual) if actual else None, "detail": detail or None}
    cause = "emptied" if actual == EMPTY else "bytes-changed"
    return case.hit(DIGEST_MISMATCH, text, cause=cause, facts=facts, repairable=True)


def _dated(proof: Proof, findings: Iterable[Finding]) -> Iterator[Finding]:
    """Say of what an earlier run saw and this one did not look at again, when that was."""
    for finding in findings:
        if proof.fresh or proof.read_at is None:
            yield finding
            continue
        when = f"{proof.read_at:%Y-%m-%dT%H:%M:%SZ}"
        text = f"{finding.message} (read at {when}, not in this run)"
        yield msgspec.structs.replace(finding, message=text, facts={**finding.facts, "read_at": when})
