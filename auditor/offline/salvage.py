"""Find the tree of a database whose meta pages are damaged.

A stale page may point to pages that were used again for another tree, which then looks whole. So a candidate must have
containerd's schema, and every page of it must be valid.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final

import msgspec

from auditor.bbolt import bolt
from auditor.bbolt.bolt import Bucket, Database, PageDamaged, Walk
from auditor.offline import schema

_TIMES: Final = frozenset((b"createdat", b"updatedat"))
#: Length of a Go time without its zone; shorter values are no times.
_TIME: Final = 13


class Root(msgspec.Struct, frozen=True, order=True):
    """A candidate for the root page: the latest time in its records, their number, and the page."""

    latest: bytes
    entries: int
    page: int


def databases(data: bolt.Buffer) -> Iterator[Database]:
    """Yield the database under each page size that its pages fit, where no meta page tells the size."""
    for size in bolt.PAGE_SIZES:
        numbers = range(2, min(len(data) // size, 34))
        if any(_id_at(data, number * size) == number for number in numbers):
            yield Database(data, page_size=size)


def _id_at(data: bolt.Buffer, offset: int) -> int:
    return int(struct.unpack_from("<Q", data, offset)[0])


def find_root(database: Database) -> int | None:
    """Return the page of the newest whole tree that has the schema of meta.db; None where there is none."""
    found = [root for page in candidates(database) if (root := examine(database, page)) is not None]
    return max(found).page if found else None


def candidates(database: Database) -> Iterator[int]:
    """Yield the leaf pages with a bucket `v1`, in use or not."""
    for number in range(2, database.pages):
        try:
            page = database.page(number)
            if page.kind == bolt.LEAF and _has_v1(database.entries(page)):
                yield number
        except PageDamaged:
            continue


def _has_v1(entries: list[tuple[bytes, bool, bytes]]) -> bool:
    return any(key == b"v1" and is_bucket for key, is_bucket, _ in entries)


def examine(database: Database, page: int) -> Root | None:
    """Walk the tree below a page; None where a page of it is damaged or it has not the schema of meta.db."""
    walk = Walk(database, page)
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
