"""Sparse files of the PAX kind: the map of what is stored, and the file with its holes as zeros.

GNU tar manual, "Storing Sparse Files", formats 0.0, 0.1 and 1.0; Go archive/tar `readGNUSparsePAXHeaders` reads them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final

import msgspec

#: A range of the file that is stored: offset and length in bytes.
Extent = tuple[int, int]
#: Bytes of holes of one file; a layer is smaller, and each hole is hashed.
MAX_HOLES: Final = 64 << 30
_MAX_EXTENTS: Final = 100_000
_DIGITS: Final = 19  # of 2^63
_BLOCK: Final = 512
_ZEROS: Final = memoryview(bytes(1 << 20))
PREFIX: Final = "GNU.sparse."


class SparseError(Exception):
    """The records or the map of a sparse file are damaged."""


class Sparse(msgspec.Struct, frozen=True):
    """The records of a sparse file: its size in bytes, its name, and its map; no map where the data begins with it."""

    size: int
    name: str
    extents: tuple[Extent, ...] | None


def parse(records: Sequence[tuple[str, str]]) -> Sparse:
    """Parse the PAX records of one file.

    Raises:
        SparseError: they are not those of a known format.

    """
    found = {key.removeprefix(PREFIX): value for key, value in records if key.startswith(PREFIX)}
    version = (found.get("major", "0"), found.get("minor", "0"))
    if version not in (("0", "0"), ("0", "1"), ("1", "0")):
        raise SparseError(f"its format {'.'.join(version)[:40]} is unknown")
    size = _number(found.get("realsize") or found.get("size", ""))
    name = found.get("name", "")
    if version == ("1", "0"):
        return Sparse(size, name, None)
    if "map" in found:
        numbers = found["map"].split(",") if found["map"] else []
    else:
        numbers = [value for key, value in records if key in (f"{PREFIX}offset", f"{PREFIX}numbytes")]
    return Sparse(size, name, _extents([_number(x) for x in numbers]))


def read_map(block: Callable[[], bytes]) -> tuple[tuple[Extent, ...], int]:
    """Read the map at the beginning of the data, format 1.0: lines with the number of extents, and their numbers.

    Args:
        block: returns the next block of 512 bytes.

    Returns:
        The extents, and the number of bytes that the map takes.

    Raises:
        SparseError: it is damaged.

    """
    pieces = [block()]
    first, newline, _ = pieces[0].partition(b"\n")
    if not newline:
        raise SparseError("its map has no count")
    wanted = 1 + 2 * _count(first)
    lines = pieces[0].count(b"\n")
    while lines < wanted:
        if len(pieces) > wanted * (_DIGITS + 1) // _BLOCK:
            raise SparseError("its map is longer than its count")
        pieces.append(block())
        lines += pieces[-1].count(b"\n")
    numbers = [_number(line.decode("latin-1")) for line in b"".join(pieces).split(b"\n")[1:wanted]]
    return _extents(numbers), len(pieces) * _BLOCK


def _count(line: bytes) -> int:
    count = _number(line.decode("latin-1"))
    if count > _MAX_EXTENTS:
        raise SparseError(f"its map has more than {_MAX_EXTENTS} extents")
    return count


def _number(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) <= _DIGITS):
        raise SparseError(f"{text[:40]!r} is no number of bytes")
    return int(text)


def _extents(numbers: Sequence[int]) -> tuple[Extent, ...]:
    if len(numbers) % 2 or len(numbers) > 2 * _MAX_EXTENTS:
        raise SparseError("its map is damaged")
    return tuple(zip(numbers[::2], numbers[1::2], strict=True))


def check(extents: Iterable[Extent], *, size: int, stored: int) -> None:
    """Check that the extents are in order, inside the file, and as long as what is stored.

    Raises:
        SparseError: they are not, or the holes are larger than is read.

    """
    end, held = 0, 0
    for offset, length in extents:
        if offset < end or offset + length > size:
            raise SparseError("its map is out of order or leads out of the file")
        end, held = offset + length, held + length
    if held != stored:
        raise SparseError(f"its map has {held} bytes, and {stored} are stored")
    if size - held > MAX_HOLES:
        raise SparseError(f"it has {size - held} bytes of holes; more than {MAX_HOLES} are not read")


def expand(stored: Iterable[memoryview], extents: Iterable[Extent], size: int) -> Iterator[memoryview]:
    """Yield the file: what is stored at its place, and zeros in between; it ends where `stored` ends early."""
    pieces = iter(stored)
    rest = memoryview(b"")
    position = 0
    for offset, length in (*extents, (size, 0)):
        yield from _zeros(offset - position)
        position = offset
        while position < offset + length:
            rest = rest or next(pieces, rest)
            if not rest:
                return
            piece = rest[: offset + length - position]
            rest = rest[len(piece) :]
            position += len(piece)
            yield piece


def _zeros(count: int) -> Iterator[memoryview]:
    while count > 0:
        yield _ZEROS[:count]
        count -= len(_ZEROS)
