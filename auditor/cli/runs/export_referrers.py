"""Add referrers to an export: read the documents of the namespace, and plan those that refer to the images."""

from __future__ import annotations

import msgspec

from auditor.checks.evidence import NamespaceView
from auditor.errors import ObjectError
from auditor.export.model import ExportPlan, LeftOut, Role
from auditor.export.plan import plan
from auditor.export.referrers import referrers
from auditor.model import oci
from auditor.model.digest import Digest
from auditor.model.image_graph import Family
from auditor.model.oci import Index, Manifest
from auditor.model.store import Store

_START = b"{"


def with_referrers(planned: ExportPlan, store: Store, view: NamespaceView) -> ExportPlan:
    """Return the plan with the referrers of its images, as images without a name.

    Raises:
        StoreError: the store failed.

    """
    candidates, unread = _candidates(store, view)
    blobs = view.inventory.blobs
    found = referrers(planned, candidates, size=lambda digest: blobs[digest].size, has=view.has)
    documents = dict(view.documents) | {(d, _family(x)): x for d, x in candidates.items()}
    more = plan(found.groups, documents=documents, has=view.has, names=lambda _: ())
    known = {blob.digest for blob in planned.blobs}
    return msgspec.structs.replace(
        planned,
        images=(*planned.images, *more.images),
        blobs=tuple(sorted((*planned.blobs, *(blob for blob in more.blobs if blob.digest not in known)))),
        left_out=(*planned.left_out, *found.left_out, *unread),
        missing=(*planned.missing, *more.missing),
    )


def _family(document: Index | Manifest) -> Family:
    return Family.INDEX if isinstance(document, Index) else Family.MANIFEST


def _candidates(store: Store, view: NamespaceView) -> tuple[dict[Digest, Index | Manifest], tuple[LeftOut, ...]]:
    """Return the manifests and indexes with a subject in a namespace, and the blobs that failed to read.

    A referrer need not have an image record: containerd keeps content by labels of other content too.
    """
    found: dict[Digest, Index | Manifest] = {}
    unread = []
    for digest, blob in sorted(view.inventory.blobs.items()):
        try:
            parsed = oci.parse_untyped(_document(store, view.name, digest)) if blob.size <= oci.MAX_DOCUMENT else None
        except ObjectError as error:
            unread.append(LeftOut("", Role.CONTENT, f"may be a referrer, and cannot be read: {error}", digest=digest))
            continue
        if parsed is not None and parsed.subject is not None:
            found[digest] = parsed
    return found, tuple(unread)


def _document(store: Store, namespace: str, digest: Digest) -> bytes:
    """Return the bytes of a blob that may be JSON; nothing where it is not, or does not match its digest."""
    with store.stream(namespace, digest) as pieces:
        head = bytes(next(pieces, b""))
        raw = b"".join((head, *pieces)) if head.lstrip().startswith(_START) else b""
    return raw if raw and Digest.of(raw, algorithm=digest.algorithm) == digest else b""
