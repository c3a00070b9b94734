"""Pages of bbolt databases that may be damaged, hostile, or in use: each is checked before it is used.

The file format is that of go.etcd.io/bbolt: internal/common/page.go, meta.go, inode.go and bucket.go. All integers are
little-endian. Only the meta pages have a checksum. Of each other page, the elements lie one behind the other without a
gap (`WriteInodeToPage`), so that a wrong number of elements is found.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from functools import lru_cache
from operator import lt
from typing import Final

import msgspec

MAGIC: Final = 0xED0CDAED
VERSION: Final = 2
BRANCH, LEAF, META, FREELIST = 1, 2, 4, 16
#: The freelist page of a database that keeps none on disk; bbolt internal/common/types.go `PgidNoFreelist`.
NO_FREELIST: Final = (1 << 64) - 1
#: The count of a freelist page whose first element is the count.
_COUNTED: Final = 0xFFFF
#: A leaf page with so few elements is one of many of the same layout.
_FEW: Final = 16
#: A leaf element with this flag has a bucket as value.
BUCKET: Final = 1
PAGE_HEADER: Final = struct.Struct("<QHHI")
META_BODY: Final = struct.Struct("<IIIIQQQQQQ")
LEAF_ELEMENT: Final = struct.Struct("<IIII")
BRANCH_ELEMENT: Final = struct.Struct("<IIQ")
BUCKET_HEADER: Final = struct.Struct("<QQ")
#: bbolt writes pages of the operating system's size; these are looked for where page 0 is damaged.
PAGE_SIZES: Final = tuple(1024 << shift for shift in range(15))
#: Pages 0 and 1 are the meta pages.
FIRST_PAGE: Final = 2

Buffer = bytes | bytearray


class PageDamaged(Exception):
    """A page that is not what its place in the tree requires."""


class Meta(msgspec.Struct, frozen=True):
    """A valid meta page: page 0 or 1, and what it says of the database."""

    page: int
    page_size: int
    root: int
    high_water: int
    txid: int
    freelist: int = NO_FREELIST


def fnv1a(data: Buffer) -> int:
    """Return the 64-bit FNV-1a hash of `data`, the checksum of a meta page."""
    value = 0xCBF29CE484222325
    for byte in data:
        value = (value ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return value


def meta_at(data: Buffer, offset: int) -> Meta | None:
    """Return the meta page at an offset; None where it is not valid."""
    start = offset + PAGE_HEADER.size
    if start + META_BODY.size > len(data):
        return None
    magic, version, size, _, root, _, freelist, high, txid, checksum = META_BODY.unpack_from(data, start)
    if magic != MAGIC or version != VERSION or checksum != fnv1a(data[start : start + META_BODY.size - 8]):
        return None
    if size not in PAGE_SIZES or offset not in {0, size}:
        return None
    return Meta(page=offset // size, page_size=size, root=root, high_water=high, txid=txid, freelist=freelist)


def metas(data: Buffer) -> tuple[Meta, ...]:
    """Return the valid meta pages, the newest first: none, one or two."""
    first = meta_at(data, 0)
    offsets = PAGE_SIZES if first is None else (first.page_size,)
    others = (meta_at(data, offset) for offset in offsets)
    second = next((meta for meta in others if meta is not None), None)
    return tuple(sorted((m for m in (first, second) if m is not None), key=lambda meta: -meta.txid))


def freelist_fault(data: Buffer, meta: Meta) -> str:
    """Return what is wrong with the list of free pages, in one sentence; empty where nothing is, or there is none.

    A reader does not need the list. bbolt reads it when it opens the database for writing, and panics where it is
    damaged (internal/freelist/shared.go `Read`).
    """
    number, size = meta.freelist, meta.page_size
    if number == NO_FREELIST:
        return ""
    if not FIRST_PAGE <= number < min(meta.high_water, len(data) // size):
        return f"the freelist, page {number}, is outside the database"
    found, kind, count, overflow = PAGE_HEADER.unpack_from(data, number * size)
    if found != number or kind != FREELIST:
        return f"the freelist, page {number}, is not a freelist"
    start = number * size + PAGE_HEADER.size
    if count == _COUNTED:
        (count,) = struct.unpack_from("<Q", data, start)
        start += 8
    if start + count * 8 > min((number + 1 + overflow) * size, len(data)):
        return f"the freelist, page {number}, has more elements than fit"
    ids = struct.unpack_from(f"<{count}Q", data, start)
    odd = next((page for page in ids if not FIRST_PAGE <= page < meta.high_water), None)
    return f"the freelist, page {number}, lists page {odd}" if odd is not None else ""


class Page(msgspec.Struct, frozen=True):
    """The checked header of a page: its id, kind, number of elements, and its first and last byte."""

    id: int
    kind: int
    count: int
    start: int
    end: int


class Database:
    """The pages of a database in memory.

    Args:
        data: The file's content.
        page_size: The size of a page in bytes.
        high_water: The first page id that was never used; pages at or above it are damage.

    """

    def __init__(self, data: Buffer, *, page_size: int, high_water: int | None = None) -> None:
        self.data = bytes(data)
        self.page_size = page_size
        self.pages = len(data) // page_size
        self.high_water = self.pages if high_water is None else high_water

    def page(self, number: int) -> Page:
        """Return the header of a branch or leaf page.

        Raises:
            PageDamaged: The page lies outside the file, or its header is not that of a branch or leaf page.

        """
        if not FIRST_PAGE <= number < self.high_water:
            raise PageDamaged(f"page {number} is outside the database, which has {self.high_water} pages")
        start = number * self.page_size
        if number >= self.pages:
            raise PageDamaged(f"page {number} is past the end of the file")
        found, kind, count, overflow = PAGE_HEADER.unpack_from(self.data, start)
        if found != number:
            raise PageDamaged(f"page {number} has the id {found}")
        if kind not in {BRANCH, LEAF}:
            raise PageDamaged(f"page {number} has the type {kind:#x}, not branch or leaf")
        if number + overflow >= min(self.pages, self.high_water):
            raise PageDamaged(f"page {number} runs past the end of the file")
        return Page(number, kind, count, start, start + (1 + overflow) * self.page_size)

    def children(self, page: Page) -> list[tuple[bytes, int]]:
        """Return the first key and the page id of each child of a branch page.

        Raises:
            PageDamaged: An element lies outside the page, or the keys are not in order.

        """
        found = [
            (key, child) for key, _, child in self._elements(BRANCH_ELEMENT, page.start, page.end, page.count, page.id)
        ]
        if not found:
            raise PageDamaged(f"page {page.id} is a branch page without elements")
        return found

    def entries(self, page: Page) -> list[tuple[bytes, bool, bytes]]:
        """Return key, whether the value is a bucket, and value of each element of a leaf page.

        Raises:
            PageDamaged: An element lies outside the page, or the keys are not in order.

        """
        return list(zip(*_leaf(self.data, page.start, page.end, page.count, f"page {page.id}"), strict=True))

    def _elements(
        self, layout: struct.Struct, start: int, end: int, count: int, number: int
    ) -> Iterator[tuple[bytes, int, int]]:
        first = start + PAGE_HEADER.size
        behind = first + count * layout.size
        if behind > end:
            raise PageDamaged(f"page {number} has more elements than fit")
        previous = None
        for index in range(count):
            at = first + index * layout.size
            position, size, child = layout.unpack_from(self.data, at)
            if at + position != behind or behind + size > end:
                raise PageDamaged(f"page {number} has an element that is not valid")
            key = self.data[behind : behind + size]
            behind += size
            if previous is not None and key <= previous:
                raise PageDamaged(f"page {number} has keys that are not in order")
            previous = key
            yield key, size, child


_Elements = tuple[Sequence[bytes], Sequence[bool], Sequence[bytes]]


class _Layout(msgspec.Struct, frozen=True):
    """The elements of a leaf page by their heads: one field for each key and value, and which values are buckets."""

    fields: struct.Struct
    buckets: tuple[bool, ...]


def _layout(heads: bytes) -> _Layout | None:
    """Return what the heads of a leaf page's elements say; None where an element is not valid."""
    sizes: list[int] = []
    buckets: list[bool] = []
    at, behind = 0, len(heads)
    for flags, position, size, length in LEAF_ELEMENT.iter_unpack(heads):
        if at + position != behind or flags > BUCKET:
            return None
        sizes += (size, length)
        buckets.append(flags == BUCKET)
        behind += size + length
        at += LEAF_ELEMENT.size
    return _Layout(struct.Struct("s".join(map(str, sizes)) + "s" if sizes else ""), tuple(buckets))


#: The records of one kind have the same few layouts.
_layout_of_few: Final = lru_cache(maxsize=256)(_layout)


def _leaf(data: bytes, start: int, end: int, count: int, name: str, *, nested: bool = True) -> _Elements:
    """Return keys, which values are buckets, and values of a leaf page; `nested`: there may be buckets."""
    at = start + PAGE_HEADER.size
    behind = at + count * LEAF_ELEMENT.size
    if behind > end:
        raise PageDamaged(f"{name} has more elements than fit")
    heads = data[at:behind]
    layout = _layout_of_few(heads) if count <= _FEW else _layout(heads)
    if layout is None or behind + layout.fields.size > end or (True in layout.buckets and not nested):
        raise PageDamaged(f"{name} has an element that is not valid")
    fields = layout.fields.unpack_from(data, behind)
    keys = fields[::2]
    if not all(map(lt, keys, keys[1:])):
        raise PageDamaged(f"{name} has keys that are not in order")
    return keys, layout.buckets, fields[1::2]


def inline(value: bytes) -> list[tuple[bytes, bool, bytes]]:
    """Return the elements of an inline bucket, as `Database.entries`; it has no bucket inside."""
    return list(zip(*_inline(value), strict=True))


def inline_values(value: bytes) -> dict[bytes, bytes]:
    """Return the values of an inline bucket by key; raises as `inline`."""
    keys, _, values = _inline(value)
    return dict(zip(keys, values, strict=True))


def _inline(value: bytes) -> _Elements:
    if len(value) < BUCKET_HEADER.size + PAGE_HEADER.size:
        raise PageDamaged("an inline bucket is too short")
    _, kind, count, _ = PAGE_HEADER.unpack_from(value, BUCKET_HEADER.size)
    if kind != LEAF:
        raise PageDamaged(f"an inline bucket has the type {kind:#x}, not leaf")
    return _leaf(value, BUCKET_HEADER.size, len(value), count, "an inline bucket", nested=False)
