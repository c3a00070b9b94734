"""Find image records on the pages of meta.db itself, where the tree above them is lost.

The record of an image has a page of its own, because it has a bucket inside. Its name is the key of a leaf element that
points to this page. Pages that are no longer used keep their old content, so a record may be older than the tree, or be
of an image that was removed.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import msgspec

from auditor.bbolt import pages
from auditor.bbolt.bolt import Walk
from auditor.bbolt.pages import BUCKET_HEADER, Database
from auditor.model.store import Image
from auditor.offline import salvage, schema

_TARGET: Final = b"target"
_CREATED: Final = b"createdat"


class LeafImage(msgspec.Struct, frozen=True):
    """An image record on a page: `image` has no namespace, `updated` orders two records of one name."""

    image: Image
    updated: bytes
    page: int


def leaf_images(data: pages.Buffer) -> tuple[LeafImage, ...]:
    """Return the image records on all valid pages; of two with the same name the newer.

    A page to which elements with different names point is left out.
    """
    found: dict[str, LeafImage] = {}
    for database in _databases(data):
        for each in _records(database):
            known = found.get(each.image.name)
            if known is None or known.updated < each.updated:
                found[each.image.name] = each
        break
    return tuple(found[name] for name in sorted(found))


def _databases(data: pages.Buffer) -> Iterator[Database]:
    valid = pages.metas(data)
    if valid:
        yield Database(data, page_size=valid[0].page_size)
    else:
        yield from salvage.databases(data)


def _records(database: Database) -> Iterator[LeafImage]:
    names: dict[int, set[bytes]] = {}
    records: list[int] = []
    for number, entries in salvage.leaves(database):
        if {_TARGET, _CREATED} <= {key for key, _, _ in entries}:
            records.append(number)
        for key, is_bucket, value in entries:
            if is_bucket and len(value) >= BUCKET_HEADER.size:
                names.setdefault(BUCKET_HEADER.unpack_from(value)[0], set()).add(key)
    for number in records:
        if len(names.get(number, ())) == 1:
            (name,) = names[number]
            yield from _record(database, number, name.decode("utf-8", "replace"))


def _record(database: Database, number: int, name: str) -> Iterator[LeafImage]:
    found = schema.Records("")
    walk = Walk(database, number)
    schema.add_image(found, name, walk.top)
    updated = next((value for key, value in Walk(database, number).top.items() if key == b"updatedat"), b"")
    for image in found.images if not walk.lost else ():
        yield LeafImage(image, updated[1:13] if isinstance(updated, bytes) else b"", number)
