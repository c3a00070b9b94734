"""Find the tree of a database whose meta pages are damaged.

A stale page may point to pages that were used again for another tree, which then looks whole. So a candidate must have
containerd's schema, and every page of it must be valid.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final

import msgspec

from auditor.bbolt import pages
from auditor.bbolt.bolt import Bucket, Walk
from auditor.bbolt.pages import Database, PageDamaged
from auditor.offline import schema

_TIMES: Final = frozenset((b"createdat", b"updatedat"))
#: Bytes of overlapping pages that are read in a search, as a multiple of the file's.
_OVERLAP: Final = 2
#: Pages of whole trees that are read in a search, as a multiple of the file's.
_TREES: Final = 64
#: Length of a Go time without its zone; shorter values are no times.
_TIME: Final = 13


class Root(msgspec.Struct, frozen=True, order=True):
    """A candidate for the root page: the latest time in its records, their number, and the page."""

    latest: bytes
    entries: int
    page: int


def databases(data: pages.Buffer) -> Iterator[Database]:
    """Yield the database under each page size that its pages fit, where no meta page tells the size."""
    for size in pages.PAGE_SIZES:
        numbers = range(2, min(len(data) // size, 34))
        if any(_id_at(data, number * size) == number for number in numbers):
            yield Database(data, page_size=size)


def _id_at(data: pages.Buffer, offset: int) -> int:
    return int(struct.unpack_from("<Q", data, offset)[0])


def leaves(database: Database) -> Iterator[tuple[int, list[tuple[bytes, bool, bytes]]]]:
    """Yield the valid leaf pages, in use or not, with their elements.

    Pages of a hostile file can overlap; those of several pages' length are left out after _OVERLAP times the file.
    """
    left = _OVERLAP * len(database.data)
    for number in range(pages.FIRST_PAGE, database.pages):
        try:
            page = database.page(number)
            size = page.end - page.start
            if page.kind != pages.LEAF or (size > database.page_size and size > left):
                continue
            left -= size
            yield number, database.entries(page)
        except PageDamaged:
            continue


def find_root(database: Database) -> int | None:
    """Return the page of the newest whole tree that has the schema of meta.db; None where there is none.

    Roots that lead to the same pages are examined once, and no more than _TREES times the pages of the file are read.
    """
    best: Root | None = None
    left = _TREES * database.pages
    for page in candidates(database):
        found, read = _examined(database, page)
        best = max(best, found) if best is not None and found is not None else best or found
        left -= read
        if left < 0:
            break
    return best.page if best is not None else None


def candidates(database: Database) -> Iterator[int]:
    """Yield the leaf pages with a bucket `v1`, in use or not; of those with the same bucket the last."""
    found = {bucket: number for number, entries in leaves(database) if (bucket := _v1(entries)) is not None}
    yield from sorted(found.values())


def _v1(entries: list[tuple[bytes, bool, bytes]]) -> bytes | None:
    """Return what leads to the bucket `v1`; None where there is none."""
    return next((value for key, is_bucket, value in entries if key == b"v1" and is_bucket), None)


def examine(database: Database, page: int) -> Root | None:
    """Walk the tree below a page; None where a page of it is damaged or it has not the schema of meta.db."""
    return _examined(database, page)[0]


def _examined(database: Database, page: int) -> tuple[Root | None, int]:
    """Return the root, and how many pages were read."""
    walk = Walk(database, page)
    found = _whole(walk, page)
    return found, len(walk.visited)


def _whole(walk: Walk, page: int) -> Root | None:
    v1 = dict(walk.top.items()).get(b"v1")
    if not isinstance(v1, Bucket):
        return None
    latest, count, version = b"", 0, False
    for key, value in v1.items():
        if not isinstance(value, Bucket):
            version = version or key == b"version"
            continue
        for name, bucket in value.items():
            if name not in schema.NAMESPACE_BUCKETS or not isinstance(bucket, Bucket):
                return None
            newest, entries = _measure(bucket)
            latest, count = max(latest, newest), count + entries
    return Root(latest, count, page) if version and not walk.lost else None


def _measure(bucket: Bucket) -> tuple[bytes, int]:
    """Return the latest time and the number of the entries below a bucket."""
    latest, count, waiting = b"", 0, [bucket]
    while waiting:
        for key, value in waiting.pop().items():
            count += 1
            if isinstance(value, Bucket):
                waiting.append(value)
            elif key in _TIMES and len(value) >= _TIME:
                latest = max(latest, value[1:13])
    return latest, count
