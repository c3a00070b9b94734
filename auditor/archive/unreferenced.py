"""Let go of intact blobs to which no image of an archive leads, so that an audit needs no memory for them."""

from __future__ import annotations

import msgspec

from auditor.archive.catalog import Catalog
from auditor.model import image_graph
from auditor.model.digest import Digest
from auditor.model.oci import Descriptor


class Unreferenced(msgspec.Struct, frozen=True):
    """Intact blobs to which no image leads: their number and bytes."""

    blobs: int = 0
    bytes: int = 0


def let_go(catalog: Catalog) -> Unreferenced:
    """Hold the packed blobs that the images lead to, and remove intact blobs to which they do not from `held`.

    Args:
        catalog: the catalog; it keeps everything where a document cannot be followed.

    Returns:
        The blobs that it does not hold.

    """
    reached, packed = _reached(catalog), catalog.files.packed
    for digest in packed if reached is None else ():
        catalog.blob(digest)
    spare = _spare(catalog, reached) if catalog.layout == "oci" and reached is not None else {}
    for digest in spare:
        del catalog.held[digest]
    taken = [seen.size for digest in catalog.held if (seen := catalog.files.blob(digest)) is not None]
    return Unreferenced(
        blobs=len(spare) + len(packed) - len(taken), bytes=sum(spare.values()) + packed.bytes - sum(taken)
    )


def _spare(catalog: Catalog, reached: set[Digest]) -> dict[Digest, int]:
    """Return the sizes of the blobs that are held, intact, and not reached."""
    return {
        digest: seen.size
        for digest, seen in catalog.held.items()
        if digest not in reached and seen.digest == digest and seen.whole and catalog.files.blob(digest) is None
    }


def _reached(catalog: Catalog) -> set[Digest] | None:
    """Return the blobs that the images lead to, all of which are held then; None if a document was not kept."""
    roots = {image.target.digest for image in catalog.images}
    waiting, reached = [image.target for image in catalog.images], set(catalog.made)
    while waiting:
        descriptor = waiting.pop()
        if descriptor.digest in reached:
            continue
        reached.add(descriptor.digest)
        document = catalog.document(descriptor)
        if document is None and _unfollowed(catalog, descriptor, root=descriptor.digest in roots):
            return None
        waiting += image_graph.children(document) if document is not None else ()
    return reached


def _unfollowed(catalog: Catalog, descriptor: Descriptor, *, root: bool) -> bool:
    """Whether a blob that was not parsed may be a document: it was not kept in memory, or has no type."""
    seen = catalog.blob(descriptor.digest)
    if image_graph.key(descriptor) is None:
        return root
    return seen is not None and seen.kept is None
