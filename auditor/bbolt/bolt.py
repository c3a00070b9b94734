"""Buckets of a bbolt database, walked from its root; what cannot be read is recorded. See `pages` for the format."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Final, TypeVar

import msgspec

from auditor.bbolt.pages import (
    BRANCH,
    BUCKET_HEADER,
    Buffer,
    Database,
    Meta,
    Page,
    PageDamaged,
    inline,
    inline_values,
    metas,
)

#: The deepest nesting of buckets; containerd's is 8.
MAX_DEPTH: Final = 32
#: Lost parts that a walk names; further ones are counted.
MAX_LOST: Final = 10_000

Path = tuple[bytes, ...]
_Read = TypeVar("_Read")


class Lost(msgspec.Struct, frozen=True):
    """A part of the database that could not be read: the path of its bucket, the page, and the reason."""

    path: Path
    page: int
    reason: str


class Bucket:
    """A bucket of a tree; its pages are read when it is iterated.

    Attributes:
        path: The keys that lead to it.
        root: Its root page; 0 where it is inline.

    """

    __slots__ = ("_value", "_walk", "path", "root")

    def __init__(self, walk: Walk, path: Path, value: bytes) -> None:
        self._walk = walk
        self.path = path
        self._value = value
        self.root: int = BUCKET_HEADER.unpack_from(value)[0]

    def items(self) -> Iterator[tuple[bytes, bytes | Bucket]]:
        """Yield keys, in order, with values and sub-buckets; what is lost is recorded in the walk.

        A walk visits each page once: iterate each bucket once, and start a new walk to iterate it again.
        """
        for key, is_bucket, value in self._walk.entries(self):
            if not is_bucket:
                yield key, value
            elif (held := self._held(key, value)) is not None:
                yield key, held

    def values(self) -> dict[bytes, bytes]:
        """Return the values by key, without sub-buckets; as `items`."""
        if self.is_inline:
            return self._walk.inline(self, inline_values) or {}
        found = {}
        for key, is_bucket, value in self._walk.entries(self):
            if is_bucket:
                self._held(key, value)
            else:
                found[key] = value
        return found

    def _held(self, key: bytes, value: bytes) -> Bucket | None:
        """Return a sub-bucket; None where its header is not valid, which is recorded in the walk."""
        path = (*self.path, key)
        if len(value) < BUCKET_HEADER.size:
            self._walk.lose(path, self.root, "the bucket's header is too short")
        elif len(self.path) >= MAX_DEPTH:
            self._walk.lose(path, self.root, f"buckets are nested deeper than {MAX_DEPTH}")
        else:
            return Bucket(self._walk, path, value)
        return None

    def keys(self) -> Iterator[bytes]:
        """Yield keys, in order; as `items`."""
        return (key for key, _ in self.items())

    @property
    def is_inline(self) -> bool:
        """Whether it has no pages of its own."""
        return not self.root and bool(self.path)

    def read_inline(self, read: Callable[[bytes], _Read]) -> _Read:
        """Return what `read` makes of the value of an inline bucket. Raises PageDamaged."""
        return read(self._value)


class Walk:
    """One reading of a tree: visits each page at most once, and goes on past damaged pages.

    Args:
        database: The pages.
        root: The root page of the top bucket.

    Attributes:
        lost: What could not be read, at most MAX_LOST parts.
        unnamed: The number of further parts.
        visited: The ids of the pages that were read.

    """

    def __init__(self, database: Database, root: int) -> None:
        self._database = database
        self.lost: list[Lost] = []
        self.unnamed = 0
        self.visited: set[int] = set()
        self._taken = bytearray(database.pages)
        self._root = root

    @property
    def top(self) -> Bucket:
        """The top bucket; made anew, since a cycle of references would keep the pages in memory."""
        return Bucket(self, (), BUCKET_HEADER.pack(self._root, 0))

    def lose(self, path: Path, page: int, reason: str) -> None:
        """Record a part that could not be read."""
        if len(self.lost) < MAX_LOST:
            self.lost.append(Lost(path, page, reason))
        else:
            self.unnamed += 1

    def entries(self, bucket: Bucket) -> Iterable[tuple[bytes, bool, bytes]]:
        """Return the elements of a bucket, in order."""
        return (self.inline(bucket, inline) or ()) if bucket.is_inline else self._paged(bucket)

    def inline(self, bucket: Bucket, read: Callable[[bytes], _Read]) -> _Read | None:
        """Read an inline bucket; None where it is damaged, which is recorded."""
        try:
            return bucket.read_inline(read)
        except PageDamaged as error:
            self.lose(bucket.path, 0, str(error))
            return None

    def _paged(self, bucket: Bucket) -> Iterator[tuple[bytes, bool, bytes]]:
        waiting = [bucket.root]
        while waiting:
            number = waiting.pop()
            try:
                page = self._visit(number)
                if page.kind == BRANCH:
                    waiting.extend(child for _, child in reversed(self._database.children(page)))
                    continue
                found = self._database.entries(page)
            except PageDamaged as error:
                self.lose(bucket.path, number, str(error))
                continue
            yield from found

    def _visit(self, number: int) -> Page:
        if number in self.visited:
            raise PageDamaged(f"page {number} is used twice")
        page = self._database.page(number)
        count = (page.end - page.start) // self._database.page_size
        if self._taken.find(1, number, number + count) >= 0:
            raise PageDamaged(f"page {number} overlaps another page")
        self._taken[number : number + count] = b"\1" * count
        self.visited.add(number)
        return page


def open_newest(data: Buffer) -> tuple[Meta, Walk] | None:
    """Return the newest valid meta page and a walk of its tree; None where no meta page is valid."""
    valid = metas(data)
    if not valid:
        return None
    meta = valid[0]
    return meta, Walk(Database(data, page_size=meta.page_size, high_water=meta.high_water), meta.root)
