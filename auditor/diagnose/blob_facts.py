"""Describe a blob's file and content in words; pure."""

from __future__ import annotations

from collections.abc import Iterable

from auditor.diagnose.evidence_index import EvidenceIndex
from auditor.model.digest import Digest
from auditor.model.image_graph import Broken, Flaw
from auditor.model.store import FileKind, Verification, VerificationKind

RIGHT = "right"


def path(index: EvidenceIndex, digest: Digest) -> str:
    """Return the path of a blob's file; empty where the content root is not visible."""
    root = index.evidence.info.content_root
    return str(root / "blobs" / digest.algorithm / digest.hex) if root is not None else ""


def file(index: EvidenceIndex, digest: Digest) -> str:
    """Describe the file at the blob's path: size, or kind and error; empty where it was not examined."""
    state = index.evidence.files.get(digest)
    if state is None:
        return ""
    if state.kind is FileKind.REGULAR:
        size = f"{state.size} bytes" if state.size is not None else "there"
        return size + (" or more (the API shows no more than the recorded size)" if state.at_least else "")
    return str(state.kind) + (f" ({state.error})" if state.error else "")


def bytes_of(index: EvidenceIndex, digest: Digest) -> str:
    """Describe the result of reading the blob; empty for a blob without a record."""
    verification = index.evidence.verifications.get(digest)
    if verification is not None:
        return _verification(verification)
    if not index.recorded(digest):
        return ""
    for (named, _), loaded in index.evidence.documents.items():
        if named == digest:
            return _document(loaded) if isinstance(loaded, Broken) else "right: read whole, they match the digest"
    return "not read: the time limit for reading was reached" if digest in index.unread else "not read"


def _document(flaw: Broken) -> str:
    if flaw.flaw is Flaw.CORRUPT:
        return f"wrong: {flaw.detail or 'they do not match the digest'}"
    if flaw.flaw is Flaw.MALFORMED:
        return f"right, and unusable as published: {flaw.detail}"
    return f"not readable: {flaw.detail}" if flaw.detail else "not readable"


def _verification(verification: Verification) -> str:
    match verification.kind:
        case VerificationKind.SOUND:
            return "right: read whole, they match the digest"
        case VerificationKind.CORRUPT:
            return "wrong: " + (verification.detail or f"they hash to {verification.actual}")
        case VerificationKind.UNSTEADY:
            return "right at the second reading, not at the first"
        case VerificationKind.GONE:
            return "the record disappeared while they were read"
        case VerificationKind.MISSING:
            return "absent: the file is missing"
        case _:
            return f"not readable: {verification.detail}" if verification.detail else "not readable"


def bytes_of_all(index: EvidenceIndex, digests: Iterable[Digest]) -> str:
    """Describe the result of reading an image's blobs, those with a record."""
    results = {digest: bytes_of(index, digest) for digest in digests if index.recorded(digest)}
    if not results:
        return ""
    bad = {d.short: text for d, text in results.items() if not text.startswith((RIGHT, "not read"))}
    unread = sum(text.startswith("not read") for text in results.values())
    if bad:
        return f"{len(bad)} of {len(results)} blobs: " + "; ".join(f"{d} {text}" for d, text in list(bad.items())[:3])
    if unread:
        return f"right as far as they were read: {len(results) - unread} of {len(results)} blobs"
    return f"right: all {len(results)} existing blobs were read, and match their digests"
