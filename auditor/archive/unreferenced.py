"""Let go of intact blobs to which no image of an archive leads, so that an audit needs no memory for them."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from auditor.archive.catalog import Catalog
from auditor.archive.seen import Seen
from auditor.errors import MalformedDocument
from auditor.model import image_graph, oci
from auditor.model.digest import Digest
from auditor.model.oci import Descriptor


class Unreferenced(msgspec.Struct, frozen=True):
    """Intact blobs to which no image leads: their number and bytes."""

    blobs: int = 0
    bytes: int = 0


#: Reads a document that was not kept; None where it cannot be read.
Read = Callable[[Seen], bytes | None]


def let_go(catalog: Catalog, read: Read) -> Unreferenced:
    """Hold the packed blobs that the images lead to, and remove intact blobs to which they do not from `held`.

    Args:
        catalog: the catalog.
        read: reads a document that was not kept in memory.

    Returns:
        The blobs that the catalog does not hold.

    """
    reached, packed = _reached(catalog, read), catalog.files.packed
    spare = _spare(catalog, reached) if catalog.layout == "oci" else {}
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


def _reached(catalog: Catalog, read: Read) -> set[Digest]:
    """Return the blobs that the images lead to, all of which are held then."""
    roots = {image.target.digest for image in catalog.images}
    waiting, reached = [image.target for image in catalog.images], set(catalog.made)
    while waiting:
        descriptor = waiting.pop()
        if descriptor.digest in reached:
            continue
        reached.add(descriptor.digest)
        seen = catalog.blob(descriptor.digest)
        document = catalog.document(descriptor)
        if document is None and seen is not None and seen.size <= oci.MAX_DOCUMENT:
            document = _document(descriptor, seen, read, root=descriptor.digest in roots)
        waiting += image_graph.children(document) if document is not None else ()
    return reached


def _document(descriptor: Descriptor, seen: Seen, read: Read, *, root: bool) -> oci.Document | None:
    """Return a document that was not kept, or a root without a type; None for what is neither."""
    if image_graph.key(descriptor) is None and not root:
        return None
    raw = seen.kept if seen.kept is not None else read(seen)
    try:
        if raw is None or image_graph.key(descriptor) is not None:
            return None if raw is None else oci.parse(raw, descriptor.media_type)
        return oci.parse_untyped(raw)
    except MalformedDocument:
        return None
