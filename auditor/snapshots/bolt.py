"""Read a bbolt database, as a file, while its owner may write to it.

The format is that of go.etcd.io/bbolt `internal/common` (page.go, meta.go, bucket.go).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Final

_MAGIC: Final = 0xED0CDAED
_PAGE: Final = struct.Struct("<QHHI")
_META: Final = struct.Struct("<IIIIQQQQQQ")
_LEAF: Final = struct.Struct("<IIII")
_BRANCH: Final = struct.Struct("<IIQ")
_IS_BRANCH: Final = 1
_IS_LEAF: Final = 2
_IS_BUCKET: Final = 1
#: Attempts to read a database between two writes.
_ATTEMPTS: Final = 5
_FNV: Final = 0xCBF29CE484222325, 0x100000001B3, (1 << 64) - 1


class BoltDamaged(ValueError):
    """The file is no readable bbolt database."""


class Bolt:
    """The buckets of one consistent state of a database."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._size, self._root, _ = _meta(data)

    def buckets(self, *path: bytes) -> Iterator[tuple[bytes, dict[bytes, bytes]]]:
        """Yield name and values of each bucket within a bucket. Empty where there is no such bucket.

        Raises:
            BoltDamaged: The pages of the bucket cannot be read.

        """
        try:
            page = self._find(path)
            for flags, key, value in self._walk(page, 0) if page is not None else ():
                if flags & _IS_BUCKET:
                    held = self._walk(self._bucket(value), 0)
                    yield key, {name: field for of, name, field in held if not of & _IS_BUCKET}
        except (struct.error, IndexError) as error:
            raise BoltDamaged(f"a page lies outside the file: {error}") from None

    def _find(self, path: tuple[bytes, ...]) -> bytes | None:
        page: bytes | None = self._page(self._root)
        for name in path:
            held = self._walk(page, 0) if page is not None else ()
            page = next((self._bucket(value) for flags, key, value in held if flags & _IS_BUCKET and key == name), None)
        return page

    def _bucket(self, value: bytes) -> bytes:
        (root,) = struct.unpack_from("<Q", value)
        return self._page(root) if root else value[16:]

    def _page(self, number: int) -> bytes:
        start = number * self._size
        _, _, _, overflow = _PAGE.unpack_from(self._data, start)
        return self._data[start : start + (overflow + 1) * self._size]

    def _walk(self, page: bytes, depth: int) -> Iterator[tuple[int, bytes, bytes]]:
        _, flags, count, _ = _PAGE.unpack_from(page)
        if flags == _IS_LEAF:
            for at in range(16, 16 + 16 * count, 16):
                of, start, key, value = _LEAF.unpack_from(page, at)
                begin = at + start
                yield of, page[begin : begin + key], page[begin + key : begin + key + value]
        elif flags == _IS_BRANCH and depth < 64:  # noqa: PLR2004 - no tree is this deep
            for at in range(16, 16 + 16 * count, 16):
                yield from self._walk(self._page(_BRANCH.unpack_from(page, at)[2]), depth + 1)
        else:
            raise BoltDamaged("a page is of the wrong type")


def open_database(path: Path) -> Bolt:
    """Read a database that no write has changed meanwhile.

    Raises:
        BoltDamaged: The file has no valid meta page, or every read was overtaken by a write, which may reuse its pages.
        OSError: The file cannot be read.

    """
    with path.open("rb") as file:
        for _ in range(_ATTEMPTS):
            file.seek(0)
            data = file.read()
            found = Bolt(data)
            file.seek(0)
            if _meta(file.read(1 << 17))[2] == _meta(data)[2]:
                return found
    raise BoltDamaged(f"{path.name} was written during each of {_ATTEMPTS} reads")


def _meta(data: bytes) -> tuple[int, int, int]:
    """Return page size, root page and transaction of the newest valid meta page."""
    valid = []
    for start in (0, *(1 << n for n in range(10, 17))):
        if len(data) < start + 16 + _META.size:
            break
        magic, _, size, _, root, _, _, _, transaction, checksum = _META.unpack_from(data, start + 16)
        if magic == _MAGIC and start in (0, size) and checksum == _fnv(data[start + 16 : start + 16 + _META.size - 8]):
            valid.append((transaction, size, root))
    if not valid:
        raise BoltDamaged("no valid meta page")
    transaction, size, root = max(valid)
    return size, root, transaction


def _fnv(data: bytes) -> int:
    value, prime, mask = _FNV
    for byte in data:
        value = (value ^ byte) * prime & mask
    return value
