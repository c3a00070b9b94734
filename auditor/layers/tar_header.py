"""Parse the blocks of a tar's headers as Go's archive/tar does, with which containerd unpacks."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from struct import Struct
from typing import Final, TypeVar

from isal.isal_zlib import adler32

BLOCK: Final = 512
ZERO: Final = bytes(BLOCK)
#: Largest extended header or long name; archive/tar `maxSpecialFileSize`.
MAX_SPECIAL: Final = 1 << 20
INT64: Final = 1 << 63
#: Nanoseconds.
SECOND: Final = 10**9
#: Bits of an id of chown(2), and of a mode of chmod(2).
ID: Final = 0xFFFFFFFF
_MODE: Final = 0o7777

#: Headers that describe the next one: extended, global extended, long name, long link target.
PAX, GLOBAL, LONG_NAME, LONG_LINK = b"x", b"g", b"L", b"K"
SPECIAL: Final = frozenset({PAX, GLOBAL, LONG_NAME, LONG_LINK})
#: What containerd unpacks, pkg/archive/tar.go `createTarFile`; old sparse files and contiguous files it refuses.
UNPACKED: Final = frozenset({b"\0", b"0", b"1", b"2", b"3", b"4", b"5", b"6"})

IMPOSSIBLE_SPECIAL: Final = "an extended header of an impossible size"
IMPOSSIBLE_SIZE: Final = "an entry of an impossible size"
NO_HEADER: Final = "no valid header"
NOT_THE_END: Final = "a zero block is followed by something else"
MALFORMED_HEADER: Final = "a malformed extended header"
MALFORMED_NUMBER: Final = "an entry whose extended header has a malformed number"

_OCTAL: Final = re.compile(rb"[0-7]+")
#: A record's length has at most so many digits here, and counts at least "5 k=\n".
_LONGEST_LENGTH: Final = 20
_SHORTEST_RECORD: Final = 5
_SIMPLE: Final = re.compile(rb"([0-9]{1,4}) ([^=\0\n]+)=([^\0\n]*)\n")
#: Largest extended header that is parsed at once, in bytes.
_SMALL_HEADER: Final = 4096
_NEWLINE: Final = ord("\n")
_INTEGER: Final = re.compile(rb"[+-]?[0-9]{1,19}")
_TIME: Final = re.compile(rb"[+-]?[0-9]{1,19}(?:\.[0-9]*)?")
#: What an entry's extended header must have as numbers, by key; an empty value stands for none.
NUMBERS: Final = dict.fromkeys((b"size", b"uid", b"gid"), _INTEGER) | dict.fromkeys(
    (b"atime", b"mtime", b"ctime"), _TIME
)
_STRINGS: Final = frozenset({b"path", b"linkpath", b"uname", b"gname"})
#: Results of `_Known` that are kept.
_KEPT: Final = 1 << 12

#: Mode, uid and gid; size; mtime; checksum; format, names of the owner, device numbers.
_FIELDS: Final = Struct("100x 24s 12s 12s 8s 101x 88s 167x").unpack

_Result = TypeVar("_Result")
#: Mode, uid and gid as chmod(2) and chown(2) take them, then size, and mtime in ns.
Header = tuple[tuple[int, int, int], int, int]


class Malformed(Exception):
    """The records of an extended header cannot be parsed."""


class _Known(dict[bytes, _Result]):
    """The latest results of a pure function: most headers have the same modes, owners, times."""

    def __init__(self, read: Callable[[bytes], _Result]) -> None:
        super().__init__()
        self._read = read

    def __missing__(self, field: bytes) -> _Result:
        if len(self) >= _KEPT:
            self.clear()
        found = self[field] = self._read(field)
        return found


def unsupported(kind: bytes) -> str:
    """Return the fault of an entry of a type that is not in UNPACKED."""
    return f"an entry of type {kind.decode('latin-1')!r}, which containerd does not unpack,"


def cut_off(missing: int) -> str:
    """Return the fault of a tar that ends before an entry's data do."""
    return f"the tar is cut off: {missing} bytes of an entry's data are missing"


def cut_header(offset: int) -> str:
    """Return the fault of a tar that ends inside the header at `offset`."""
    return f"the tar is cut off inside a header at byte {offset}"


def unreadable(words: str, offset: int) -> str:
    """Return the fault of the header at `offset`."""
    return f"not a readable tar: {words} at byte {offset}"


def header(block: bytes) -> Header | None:
    """Return mode, owner, size and time; None where the checksum or a number is wrong."""
    owners, sizes, times, checksum, tail = _FIELDS(block)
    owner, size, mtime = _OWNERS[owners], _COUNTS[sizes], _TIMES[times]
    if owner is None or size is None or mtime is None:
        return None
    # The low half of adler32 is one more than the sum modulo 65521, which neither 512 bytes of ASCII nor 256 bytes can
    # reach; sum() is much slower.
    total = (adler32(block) & 0xFFFF) - 1 if block.isascii() else _sum(block)
    if total != _TOTALS[checksum] and not _sums_signed(block, total):
        return None
    return (owner, size, mtime) if _TAILS[tail] else None


def records(data: bytes) -> Iterable[tuple[bytes, bytes]]:
    """Return the keys and values of an extended header; archive/tar `parsePAXRecord`.

    Raises:
        Malformed: A record is not valid. Those of a large header raise it when they are taken.

    """
    found = _simple(data) if len(data) <= _SMALL_HEADER else None
    return found if found is not None else _records(data)


def _simple(data: bytes) -> list[tuple[bytes, bytes]] | None:
    """Return the records where none has a newline or a zero in it, as is usual; None for others."""
    at = 0
    found = []
    for digits, key, value in _SIMPLE.findall(data):
        length = len(digits) + len(key) + len(value) + 3
        if int(digits) != length:
            return None
        at += length
        found.append((key, value))
    return found if at == len(data) else None


def _records(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield the records; nothing is copied but the one at hand: a header may hold some hundred thousand."""
    at, size = 0, len(data)
    while at < size:
        digits = data[at : at + _LONGEST_LENGTH].partition(b" ")[0]
        end = at + (int(digits) if digits.isdigit() else 0)
        if end < at + _SHORTEST_RECORD or end > size or data[end - 1] != _NEWLINE:
            raise Malformed
        key, equals, value = data[at + len(digits) + 1 : end - 1].partition(b"=")
        if not equals or b"\0" in (value if key in _STRINGS else key):
            raise Malformed
        yield key, value
        at = end


def well_formed(found: Mapping[bytes, bytes]) -> bool:
    """Return whether the records that have to be numbers are; archive/tar `mergePAX`."""
    for key, value in found.items():
        pattern = NUMBERS.get(key)
        if pattern is not None and value and not pattern.fullmatch(value):
            return False
    return True


def number(field: bytes) -> int | None:
    """Return a numeric field, octal or base-256; None where it is neither. archive/tar `parseNumeric`."""
    if not field[0] & 0x80:
        return _octal(field)
    value = int.from_bytes(field, "big", signed=True) if field[0] & 0x40 else _positive(field)
    return value if -INT64 <= value < INT64 else None


def _positive(field: bytes) -> int:
    return int.from_bytes(bytes([field[0] & 0x7F]) + field[1:], "big")


def _octal(field: bytes) -> int | None:
    digits = field.strip(b" \0").partition(b"\0")[0]
    if not digits:
        return 0
    return int(digits, 8) if _OCTAL.fullmatch(digits) else None


def _owner(fields: bytes) -> tuple[int, int, int] | None:
    mode, uid, gid = number(fields[:8]), number(fields[8:16]), number(fields[16:])
    return None if mode is None or uid is None or gid is None else (mode & _MODE, uid & ID, gid & ID)


def _nanoseconds(field: bytes) -> int | None:
    seconds = number(field)
    return None if seconds is None else bounded(seconds * SECOND)


def bounded(mtime: int) -> int:
    """Return a time in ns as containerd sets it: 0 where 64 bits do not hold it; pkg/archive/time.go `boundTime`."""
    return mtime if 0 <= mtime < INT64 else 0


def _total(field: bytes) -> int | None:
    """Return the sum of the bytes of a header whose checksum is `field`, which counts as spaces; None for no number."""
    stated = _octal(field)
    return None if stated is None else stated + sum(field) - 8 * 32


def _sum(block: bytes) -> int:
    return (adler32(block[:256]) & 0xFFFF) + (adler32(block[256:]) & 0xFFFF) - 2


def _sums_signed(block: bytes, total: int) -> bool:
    """Return whether the checksum is that of Sun's tar, which summed the bytes as signed ones."""
    wanted = _total(block[148:156])
    return wanted is not None and wanted == total - 256 * sum(byte >> 7 for byte in block[:148] + block[156:])


def _tail(fields: bytes) -> bool:
    """Return whether the device numbers behind a format's mark and the names of the owner are numbers."""
    return not fields.startswith(b"ustar") or None not in (number(fields[72:80]), number(fields[80:]))


_OWNERS: Final = _Known(_owner)
_COUNTS: Final = _Known(number)
_TIMES: Final = _Known(_nanoseconds)
_TOTALS: Final = _Known(_total)
_TAILS: Final = _Known(_tail)
