"""What is known of a blob's file and bytes, in words; pure."""

from __future__ import annotations

from collections.abc import Iterable

from auditor.diagnose.evidence_index import Catalogue
from auditor.model.digest import Digest
from auditor.model.image_graph import Broken, Flaw
from auditor.model.store import FileKind, Proof, ProofKind

RIGHT = "right"


def path(catalogue: Catalogue, digest: Digest) -> str:
    """Where the blob's file is or would be; empty where this process cannot see it."""
    root = catalogue.evidence.info.content_root
    return str(root / "blobs" / digest.algorithm / digest.hex) if root is not None else ""


def file(catalogue: Catalogue, digest: Digest) -> str:
    """What lies where the blob's file should be."""
    state = catalogue.evidence.files.get(digest)
    if state is None:
        return ""
    if state.kind is FileKind.REGULAR:
        size = f"{state.size} bytes" if state.size is not None else "there"
        return size + (" or more (the API shows no more than the record says)" if state.at_least else "")
    return str(state.kind) + (f" ({state.error})" if state.error else "")


def bytes_of(catalogue: Catalogue, digest: Digest) -> str:
    """How reading the blob to its end came out."""
    proof = catalogue.evidence.proofs.get(digest)
    if proof is not None:
        return _proof(proof)
    if not catalogue.recorded(digest):
        return ""
    for (named, _), loaded in catalogue.evidence.documents.items():
        if named == digest:
            return _document(loaded) if isinstance(loaded, Broken) else "right: read whole, they hash to the digest"
    return "not read: the time for reading was over" if digest in catalogue.unread else "not read"


def _document(flaw: Broken) -> str:
    if flaw.flaw is Flaw.CORRUPT:
        return f"wrong: {flaw.detail or 'they hash to something else'}"
    if flaw.flaw is Flaw.MALFORMED:
        return f"right, and unusable as published: {flaw.detail}"
    return f"not readable: {flaw.detail}" if flaw.detail else "not readable"


def _proof(proof: Proof) -> str:
    match proof.kind:
        case ProofKind.SOUND:
            return "right: read to the end, they hash to the digest"
        case ProofKind.CORRUPT:
            return "wrong: " + (proof.detail or f"they hash to {proof.actual}")
        case ProofKind.UNSTEADY:
            return "right at the second reading, not at the first"
        case ProofKind.GONE:
            return "the record went while they were read"
        case ProofKind.MISSING:
            return "there are none: the file is missing"
        case _:
            return f"not readable: {proof.detail}" if proof.detail else "not readable"


def bytes_of_all(catalogue: Catalogue, digests: Iterable[Digest]) -> str:
    """How reading all of an image's blobs that are here came out."""
    told = {digest: bytes_of(catalogue, digest) for digest in digests if catalogue.recorded(digest)}
    if not told:
        return ""
    bad = {d.short: text for d, text in told.items() if not text.startswith((RIGHT, "not read"))}
    unread = sum(text.startswith("not read") for text in told.values())
    if bad:
        return f"{len(bad)} of {len(told)} blobs: " + "; ".join(f"{d} {text}" for d, text in list(bad.items())[:3])
    if unread:
        return f"right as far as they were read: {len(told) - unread} of {len(told)} blobs"
    return f"right: all {len(told)} blobs that are here were read, and hash to their digests"
