"""What a repair was asked for: images, or blobs by their digests; and what it did not look at."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from auditor.audit.audit import AuditResult
from auditor.audit.collect import Request
from auditor.errors import InvalidDigest, NothingExamined, UsageError
from auditor.formats.repair import PlanRows
from auditor.model.command_line import command
from auditor.model.digest import Digest
from auditor.model.findings import Verify
from auditor.model.store import Store

_FILES: Final = "unpacked files were not compared with their layers: --snapshots does that"
#: By level, what a repair that found nothing to do did not look at.
_UNREAD: Final[Mapping[Verify, str]] = {
    Verify.PRESENCE: f"contents were not read: --verify digests reads them; {_FILES}",
    Verify.DIGESTS: _FILES,
    Verify.LAYERS: _FILES,
}


def named_blobs(store: Store, request: Request) -> tuple[Request, frozenset[Digest]]:
    """Return the request for an audit and the blobs to repair.

    A whole digest that is no image's names a blob. The whole store is then audited: the blob may have no image.

    Raises:
        UsageError: Images and blobs are named together.
        StoreError: The store cannot be listed.

    """
    asked = {text: digest for text in request.images if (digest := _digest(text)) is not None}
    if not asked:
        return request, frozenset()
    known = (store.inventory(name, snapshotters=()).images for name in store.namespaces())
    images = {word for found in known for image in found for word in (image.name, str(image.target.digest))}
    blobs = frozenset(digest for text, digest in asked.items() if text not in images)
    if blobs and len(blobs) < len(set(request.images)):
        raise UsageError(f"{min(blobs).short} is a blob and no image", hint="name images or blobs, not both")
    return (msgspec.structs.replace(request, images=()) if blobs else request), blobs


def _digest(text: str) -> Digest | None:
    try:
        return Digest.parse(text)
    except InvalidDigest:
        return None


def only_blobs(seen: AuditResult, blobs: frozenset[Digest]) -> AuditResult:
    """Return the result of an audit with the findings about these blobs alone.

    Raises:
        NothingExamined: Neither a record nor an image names a blob.

    """
    evidence = seen.evidence
    known = {digest for view in evidence.views for digest in view.inventory.blobs} | evidence.users.keys()
    about = {finding.subject.digest for finding in seen.findings}
    for digest in sorted(blobs - known):
        if str(digest) not in about:
            raise NothingExamined(
                f"no image and no record has the digest {digest}", hint=command("auditor", "diagnose", digest)
            )
    return msgspec.structs.replace(seen, findings=tuple(f for f in seen.findings if f.subject.digest in blobs))


def unread(rows: PlanRows, verify: Verify) -> tuple[str, ...]:
    """Return what was not looked at, where nothing is to be done."""
    if rows.actions or rows.snapshots or verify not in _UNREAD:
        return ()
    return (_UNREAD[verify],)
