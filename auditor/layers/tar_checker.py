"""Check header by header, in constant memory, whether containerd could unpack a tar stream.

It accepts what Go's archive/tar accepts, with which containerd unpacks: a stream may end after any entry with or
without the two zero blocks, a single zero block ends it too if nothing follows, the last padding may be cut, and bytes
behind the two zero blocks are ignored (they still count for the diffID). Tried on containerd 1.6.20 and 2.1.9. Not
checked: sparse maps, names and link targets.
"""

from __future__ import annotations

import re
from zlib import adler32

BLOCK = 512
_ZERO = bytes(BLOCK)
#: Largest extended header or long name; archive/tar `maxSpecialFileSize`.
_MAX_SPECIAL = 1 << 20
_INT64 = 1 << 63

#: Entries without data whatever their size field says: links, devices, directories, fifos; `isHeaderOnlyType`.
_HEADER_ONLY = frozenset(b"123456")
_PAX = frozenset(b"xg")
_LOCAL_PAX = ord("x")
_LONG_NAMES = frozenset(b"LK")
#: What containerd unpacks, pkg/archive/tar.go `createTarFile`; old sparse files and contiguous files it refuses.
_UNPACKED = frozenset(b"\x000123456")

#: mode, uid, gid, size, mtime and checksum as nearly every writer writes them: one match instead of six.
_USUAL = re.compile(rb"(?:[0-7]{7}[ \0]){3}([0-7]{11})[ \0][0-7]{11}[ \0]([0-7]{6})\0 ")
_USUAL_DEVICES = re.compile(rb"(?:[0-7]{7}[ \0]|\0{8}){2}")
_NUMBERS = ((100, 108), (108, 116), (116, 124), (124, 136), (136, 148))
_DEVICE_NUMBERS = ((329, 337), (337, 345))
_OCTAL = re.compile(rb"[0-7]+")
#: A record's length has at most so many digits here, and counts at least "5 k=\n".
_LONGEST_LENGTH = 20
_SHORTEST_RECORD = 5
_NEWLINE = ord("\n")
_INTEGER = re.compile(rb"[+-]?[0-9]{1,19}")
_TIME = re.compile(rb"[+-]?[0-9]{1,19}(?:\.[0-9]*)?")
#: What an entry's extended header must have as numbers, by key; an empty value stands for none.
_PAX_NUMBERS = dict.fromkeys((b"size", b"uid", b"gid"), _INTEGER) | dict.fromkeys((b"atime", b"mtime", b"ctime"), _TIME)
_PAX_STRINGS = frozenset({b"path", b"linkpath", b"uname", b"gname"})


class TarWalk:
    """Takes the bytes of a tar in pieces of any size; `finish` returns the fault."""

    def __init__(self) -> None:
        #: The fault so far, as a sentence without subject.
        self.fault = ""
        self.entries = 0
        self._ended = False
        self._zeros = 0
        self._offset = 0
        self._start = 0
        self._skip = 0
        self._padding = 0
        self._block = b""
        self._special: bytearray | None = None
        self._local = False
        self._size: int | None = None
        self._malformed = False

    def feed(self, data: bytes | memoryview) -> None:
        """Take the next bytes."""
        at = 0
        end = len(data)
        while at < end and not (self._ended or self.fault):
            if self._skip:
                step = min(self._skip, end - at)
                if self._special is not None:
                    self._keep(data[at : at + step])
                self._skip -= step
            else:
                step = min(BLOCK - len(self._block), end - at)
                self._fill(data[at : at + step])
            at += step
            self._offset += step
        # The offset is not counted beyond the end: no message has an offset there.

    def finish(self) -> str:
        """End the stream and return the fault; empty where there is none."""
        if self.fault or self._ended:
            return self.fault
        if self._skip > self._padding:
            self.fault = f"the tar is cut off: {self._skip - self._padding} bytes of an entry's data are missing"
        elif self._block:
            self.fault = f"the tar is cut off inside a header at byte {self._offset - len(self._block)}"
        return self.fault

    def _keep(self, data: bytes | memoryview) -> None:
        assert self._special is not None
        wanted = self._skip - self._padding
        if wanted > 0:
            self._special += data[:wanted]
        if len(data) >= wanted:
            self._read_pax(bytes(self._special))
            self._special = None

    def _fill(self, data: bytes | memoryview) -> None:
        block = self._block + data if self._block else bytes(data)
        if len(block) < BLOCK:
            self._block = block
            return
        self._block = b""
        # What came before the last part of a block is counted already; blocks are aligned.
        self._start = self._offset // BLOCK * BLOCK
        if block == _ZERO:
            self._zeros += 1
            self._ended = self._zeros > 1
        elif self._zeros:
            self._fail("a zero block is followed by something else")
        else:
            self._header(block)

    def _fail(self, words: str) -> None:
        self.fault = f"not a readable tar: {words} at byte {self._start}"

    def _header(self, block: bytes) -> None:
        size = _size(block)
        if size is None:
            self._fail("no valid header")
            return
        kind = block[156]
        if kind in _PAX or kind in _LONG_NAMES:
            self._enter_special(kind, size)
        else:
            self._enter_file(kind, size)

    def _enter_special(self, kind: int, size: int) -> None:
        if not 0 <= size <= _MAX_SPECIAL:
            self._fail("an extended header of an impossible size")
            return
        if kind in _PAX:
            # A later extended header replaces an earlier one; a global one says nothing about the next entry's size.
            self._size = None
            self._malformed = False
            self._local = kind == _LOCAL_PAX
            self._special = bytearray() if size else None
        self._expect(size)

    def _enter_file(self, kind: int, size: int) -> None:
        if self._size is not None:
            size, self._size = self._size, None
        if kind in _HEADER_ONLY:
            size = 0
        if kind not in _UNPACKED:
            self._fail(f"an entry of type {chr(kind)!r}, which containerd does not unpack,")
            return
        if self._malformed:
            self._fail("an entry whose extended header has a malformed number")
            return
        if not 0 <= size < _INT64:
            self._fail("an entry of an impossible size")
            return
        self.entries += 1
        self._expect(size)

    def _expect(self, size: int) -> None:
        self._padding = -size % BLOCK
        self._skip = size + self._padding

    def _read_pax(self, records: bytes) -> None:
        at = 0
        while at < len(records):
            parsed = pax_record(records, at)
            if parsed is None:
                self._fail("a malformed extended header")
                return
            key, value, at = parsed
            if self._local and value and (pattern := _PAX_NUMBERS.get(key)):
                # Counts only if an entry follows; archive/tar `mergePAX`.
                self._malformed = self._malformed or not pattern.fullmatch(value)
                if key == b"size" and not self._malformed:
                    self._size = int(value)


def pax_record(records: bytes, at: int) -> tuple[bytes, bytes, int] | None:
    """The key and the value of the record at `at`, and where the next begins; None where it is malformed.

    archive/tar `parsePAXRecord`. Nothing is copied but the record: a header may hold some hundred thousand.
    """
    digits = records[at : at + _LONGEST_LENGTH].partition(b" ")[0]
    length = int(digits) if digits.isdigit() else 0
    end = at + length
    if length < _SHORTEST_RECORD or end > len(records) or records[end - 1] != _NEWLINE:
        return None
    key, equals, value = records[at + len(digits) + 1 : end - 1].partition(b"=")
    if not equals or b"\0" in (value if key in _PAX_STRINGS else key):
        return None
    return key, value, end


def _size(block: bytes) -> int | None:
    """The size field of a header whose checksum and numbers are right; None where they are not."""
    usual = _USUAL.match(block, 100)
    if usual:
        size: int | None = int(usual[1], 8)
        stated: int | None = int(usual[2], 8)
    else:
        size = number(block[124:136])
        stated = _octal(block[148:156])
    if stated is None or not _sums_to(block, stated):
        return None
    sound = (usual or _all_numbers(block, _NUMBERS)) and (
        block[257:262] != b"ustar" or _USUAL_DEVICES.match(block, 329) or _all_numbers(block, _DEVICE_NUMBERS)
    )
    return size if sound else None


def _sums_to(block: bytes, stated: int) -> bool:
    """Whether the bytes of a header, its checksum taken as spaces, sum to `stated`, unsigned or as Sun's tar did it."""
    # The low half of adler32 is one more than the sum modulo 65521, which 256 bytes cannot reach; sum() is much slower.
    parts = adler32(block[:148]) & 0xFFFF, adler32(block[156:404]) & 0xFFFF, adler32(block[404:]) & 0xFFFF
    total = sum(parts) - len(parts) + 8 * 32
    if stated == total:
        return True
    return stated == total - 256 * sum(byte >> 7 for byte in block[:148] + block[156:])


def _all_numbers(block: bytes, fields: tuple[tuple[int, int], ...]) -> bool:
    return all(number(block[start:end]) is not None for start, end in fields)


def number(field: bytes) -> int | None:
    """A numeric field, octal or base-256; None where it is neither. archive/tar `parseNumeric`."""
    if not field[0] & 0x80:
        return _octal(field)
    value = int.from_bytes(field, "big", signed=True) if field[0] & 0x40 else _positive(field)
    return value if -_INT64 <= value < _INT64 else None


def _positive(field: bytes) -> int:
    return int.from_bytes(bytes([field[0] & 0x7F]) + field[1:], "big")


def _octal(field: bytes) -> int | None:
    digits = field.strip(b" \0").partition(b"\0")[0]
    if not digits:
        return 0
    return int(digits, 8) if _OCTAL.fullmatch(digits) else None
