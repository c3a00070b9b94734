"""Blobs that have a record: their file, their size, their content."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

import msgspec

from auditor.checks import layer_content, lost_file
from auditor.checks.blob_case import Case, audited_blobs, cases
from auditor.checks.evidence import Evidence, NamespaceView, image_ref, uses
from auditor.checks.rule import Hit, Rule
from auditor.model.digest import EMPTY, Digest
from auditor.model.findings import Fact, Severity, Subject, Verify
from auditor.model.image_graph import Broken, Family, Flaw, ImageGraph
from auditor.model.store import FileKind, FileState, Image, Verification, VerificationKind

#: Members of an enum class are looked up slowly by Python 3.11.
_REGULAR: Final = FileKind.REGULAR
_RESTORE = "`auditor repair` restores the file and changes neither the record nor labels nor snapshots."
BLOB_FILE_MISSING = Rule(
    code="blob-file-missing",
    severity=Severity.CRITICAL,
    means="The database has a record of the blob, and there is no regular file for it: typically a power cut between "
    "the record and the rename (containerd#10457), or a file deleted by hand.",
    impact="Pulls that need the blob fail: `blob … expected at …: blob not found`. An image that is unpacked runs; "
    "pulling it again reports success and changes nothing, exporting it fails.",
    remedy=_RESTORE,
)
SIZE_MISMATCH = Rule(
    code="size-mismatch",
    severity=Severity.CRITICAL,
    means="The descriptor, the record and the file disagree on the blob's size.",
    impact="Where the file differs from its record, the content is wrong: the image cannot be unpacked or exported, "
    "and pulling it again does not help. Where only a descriptor differs (an error, or a warning for platforms that "
    "are not wanted), the image runs, and exporting it fails.",
    remedy=_RESTORE,
)
#: Of content that is right.
_WRONG_DESCRIPTOR = msgspec.structs.replace(SIZE_MISMATCH, severity=Severity.ERROR)
_WRONG_UNWANTED = msgspec.structs.replace(SIZE_MISMATCH, severity=Severity.WARNING)
DIGEST_MISMATCH = Rule(
    code="digest-mismatch",
    severity=Severity.CRITICAL,
    means="Content does not match its digest (confirmed by a second read).",
    impact="Unpacking, exporting or serving the blob spreads the damage. Pulling the image again does not help.",
    remedy=_RESTORE,
)
BLOB_UNREADABLE = Rule(
    code="blob-unreadable",
    severity=Severity.ERROR,
    means="Reading the blob failed, or it is a document too large to be read, so its content is not verified.",
    impact="The audit is incomplete. An input/output error points to a failing disk.",
    remedy="Check the kernel's log for the device, and that the auditor may read the content root.",
)
#: containerd runs images with documents of any size.
_TOO_LARGE = "No disk is at fault: this program reads no documents of that size. `ctr images check` reads them."
READ_UNSTEADY = Rule(
    code="read-unsteady",
    severity=Severity.WARNING,
    means="The first read of the blob failed or did not match its digest; the second, past the page cache, matched.",
    impact="The content on disk is right. The memory or the path to the disk is unreliable.",
    remedy="Test the memory, check the kernel's log, and check again.",
)
RULES = (BLOB_FILE_MISSING, SIZE_MISMATCH, DIGEST_MISMATCH, BLOB_UNREADABLE, READ_UNSTEADY, *layer_content.RULES)


def check(evidence: Evidence) -> Iterator[Hit]:
    """Check each audited blob, once for all namespaces that have a record of it."""
    for view in evidence.views:
        yield from _other_sizes(view)
    flaws = _document_flaws(evidence)
    only = None if evidence.verify in (Verify.LAYERS, Verify.SNAPSHOTS) else _doubtful(evidence) | flaws.keys()
    for digest, case in cases(evidence, only).items():
        found = tuple(_judge(evidence, case, flaws.get(digest)))
        yield from found
        verification = evidence.verifications.get(digest)
        if not found and verification is not None and evidence.verify in (Verify.LAYERS, Verify.SNAPSHOTS):
            yield from _dated(verification, layer_content.judge(case, verification))


def _document_flaws(evidence: Evidence) -> dict[Digest, Broken]:
    return {digest: loaded for (digest, _), loaded in evidence.documents.items() if isinstance(loaded, Broken)}


def _doubtful(evidence: Evidence) -> set[Digest]:
    """Return the blobs that may have a fault: an unexpected file or verification, or sizes that disagree.

    On a healthy node these are none of many thousands, so cases are built for these blobs only.
    """
    found = {
        digest
        for digest, verification in evidence.verifications.items()
        if verification.kind is not VerificationKind.SOUND
    }
    sizes: dict[Digest, int] = {}
    for view in evidence.views:
        recorded = {digest: view.inventory.blobs[digest].size for digest in audited_blobs(view)}
        found.update(digest for digest in sizes.keys() & recorded.keys() if sizes[digest] != recorded[digest])
        sizes |= recorded
    described = (descriptor for view in evidence.views for descriptor in view.described)
    found.update([each.digest for each in described if sizes.get(each.digest, each.size) != each.size])
    files = evidence.files.items()
    found.update([digest for digest, state in files if digest in sizes and not _as_recorded(state, sizes[digest])])
    return found


def _as_recorded(state: FileState, size: int) -> bool:
    return state.kind is _REGULAR and (state.size == size or (state.at_least and (state.size or 0) >= size))


def _judge(evidence: Evidence, case: Case, flaw: Broken | None) -> Iterator[Hit]:
    """Yield the first fault; later ones would only follow from it."""
    state = evidence.files.get(case.digest)
    verification = evidence.verifications.get(case.digest)
    if state is not None and state.kind is FileKind.UNREADABLE:
        yield _unreadable(case, state.error)
    elif state is not None and state.kind is not FileKind.REGULAR:
        yield _no_file(evidence, case, state)
    elif case.descriptors - case.records and _as_published(evidence, case):
        yield _wrong_descriptors(evidence, case)
    elif (wrong := _sizes(case, state, verification)) is not None:
        yield wrong
    elif verification is not None and verification.kind is not VerificationKind.SOUND:
        yield from _dated(verification, _verification(evidence, case, verification))
    elif flaw is not None:
        yield from _flaw(evidence, case, flaw)


def _unreadable(case: Case, words: str) -> Hit:
    return case.hit(BLOB_UNREADABLE, f"read failed: {words}", facts={"error": words})


def _no_file(evidence: Evidence, case: Case, state: FileState) -> Hit:
    facts: dict[str, Fact] = {"found": str(state.kind)}
    if case.archive:
        return case.hit(BLOB_FILE_MISSING, "not in the archive", cause="no-file", facts=facts, repairable=True)
    found = "no file on disk" if state.kind is FileKind.MISSING else f"its file is a {state.kind}"
    text = f"record exists, {found}; {lost_file.consequence(evidence, case)}"
    if not case.images:
        facts["fetched_from"] = ", ".join(lost_file.repositories(evidence, case)) or None
    return case.hit(BLOB_FILE_MISSING, text, cause="no-file", facts=facts, repairable=True)


def _sizes(case: Case, state: FileState | None, verification: Verification | None) -> Hit | None:
    size = state.size if state is not None else None
    if (
        verification is not None
        and verification.kind is VerificationKind.CORRUPT
        and (size is None or (state and state.at_least))
    ):
        size = verification.size
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
    if cause == DISAGREE and not case.archive:  # a repair replaces bytes, which may be right
        return case.hit(SIZE_MISMATCH, text, cause=cause, facts=facts, hint=DISAGREE_HINT)
    return case.hit(SIZE_MISMATCH, text, cause=cause, facts=facts, repairable=True)


def _as_published(evidence: Evidence, case: Case) -> bool:
    """Whether the content was read and matches its digest, or the file, the record and a descriptor agree."""
    state, verification = evidence.files.get(case.digest), evidence.verifications.get(case.digest)
    if case.archive or len(case.records) > 1 or (state is not None and not _as_recorded(state, min(case.records))):
        return False
    if verification is not None:
        return verification.kind is VerificationKind.SOUND
    parsed = [evidence.documents.get((case.digest, family)) for family in Family]
    return bool(case.records & case.descriptors) or any(each and not isinstance(each, Broken) for each in parsed)


def _wrong_descriptors(evidence: Evidence, case: Case) -> Hit:
    """Report the images whose descriptor states another size than the content has: containerd exports by it alone.

    Of a platform that is not wanted, only an export of all platforms fails.
    """
    size = min(case.records)
    stated = {
        image: descriptor.size
        for view in evidence.views
        for graph in view.graphs
        for descriptor, image in uses(view, graph)
        if descriptor.digest == case.digest and descriptor.size != size and image in case.images
    }
    limited = case.of_images(stated)
    given = stated[limited.images[0]]
    text = f"{size} bytes in its record, {given} in its descriptor"
    facts: dict[str, Fact] = {"record_size": size, "descriptor_size": given}
    unwanted = {str(node.digest) for view in evidence.views for _, node in view.manifests() if not node.wanted}
    rule = _WRONG_UNWANTED if all(image.manifest in unwanted for image in stated) else _WRONG_DESCRIPTOR
    return limited.hit(rule, text, cause=DISAGREE, facts=facts, hint=DISAGREE_HINT)


#: The cause of sizes that differ where no content is damaged.
DISAGREE = "records-disagree"
DISAGREE_HINT = "Pull the image again, which writes its record; if the sizes still differ, ask the image's publisher."


def _other_sizes(view: NamespaceView) -> Iterator[Hit]:
    """Yield the image records that give the target another size than the first: containerd cannot export by them."""
    for graph in view.graphs:
        size = graph.group.target.size
        for record in graph.group.records:
            if record.target.size != size:
                yield _other_size(view, graph, record)


def _other_size(view: NamespaceView, graph: ImageGraph, record: Image) -> Hit:
    given, size = record.target.size, graph.group.target.size
    message = f"{record.name}: its record gives a size of {given} bytes, another record of the target {size}"
    facts: dict[str, Fact] = {"descriptor_size": given, "target": str(graph.group.target.digest)}
    return SIZE_MISMATCH.hit(
        view.name,
        Subject(kind="image", name=record.name),
        message,
        cause=DISAGREE,
        images=(image_ref(graph.group, "image"),),
        facts=facts,
        hint=DISAGREE_HINT,
    )


def _size_text(case: Case, size: int | None, *, fits: bool) -> str:
    recorded = min(case.records)
    where, record = ("in the archive", "header") if case.archive else ("on disk", "record")
    if size == 0 and 0 not in case.records:
        return f"zero-length {where}, {recorded} bytes in its {record}"
    if not fits and size not in case.records:
        return f"{size} bytes {where}, {recorded} in its {record}"
    if case.descriptors - case.records:
        held = where if case.archive else "in its record"
        return f"{recorded} bytes {held}, {min(case.descriptors - case.records)} in its descriptor"
    return f"records disagree on its size: {', '.join(map(str, sorted(case.records)))} bytes"


def _size_cause(case: Case, size: int | None) -> str:
    if size == 0 and 0 not in case.records:
        return "emptied"
    if size is None or size in case.records:
        return DISAGREE
    return "shortened" if size < min(case.records) else "lengthened"


def _verification(evidence: Evidence, case: Case, verification: Verification) -> Iterator[Hit]:
    match verification.kind:
        case VerificationKind.CORRUPT:
            yield _corrupt(case, verification.actual, verification.detail)
        case VerificationKind.UNREADABLE:
            yield _unreadable(case, verification.detail)
        case VerificationKind.MISSING:
            yield _no_file(evidence, case, FileState(FileKind.MISSING))
        case VerificationKind.UNSTEADY:
            text = f"only the second read matched its digest: {verification.detail}"
            yield case.hit(READ_UNSTEADY, text, facts={"first": verification.detail or None})
        case _:
            return


def _flaw(evidence: Evidence, case: Case, flaw: Broken) -> Iterator[Hit]:
    if flaw.flaw is Flaw.CORRUPT:
        yield _corrupt(case, flaw.actual, flaw.detail)
    elif flaw.flaw is Flaw.UNREADABLE:
        yield _unreadable(case, flaw.detail)
    elif flaw.flaw is Flaw.TOO_LARGE:
        yield case.hit(BLOB_UNREADABLE, f"not verified: {flaw.detail}", facts={"error": flaw.detail}, hint=_TOO_LARGE)
    elif flaw.flaw is Flaw.NO_FILE:
        yield _no_file(evidence, case, FileState(FileKind.MISSING))


def _corrupt(case: Case, actual: Digest | None, detail: str) -> Hit:
    how = f": {detail}" if detail else ""
    text = f"content does not match its digest {case.digest.short}{how}"
    facts: dict[str, Fact] = {"actual": str(actual) if actual else None, "detail": detail or None}
    cause = "emptied" if actual == EMPTY else "bytes-changed"
    return case.hit(DIGEST_MISMATCH, text, cause=cause, facts=facts, repairable=True)


def _dated(verification: Verification, hits: Iterable[Hit]) -> Iterator[Hit]:
    """Add the time of the read to hits that rest on a verification of an earlier run."""
    for hit in hits:
        if verification.fresh or verification.read_at is None:
            yield hit
            continue
        when = f"{verification.read_at:%Y-%m-%dT%H:%M:%SZ}"
        text = f"{hit.text} (read at {when}, not in this run)"
        yield msgspec.structs.replace(hit, text=text, facts={**hit.facts, "read_at": when})
