"""Read the entries of a tar stream forwards, as Go's archive/tar gives them to containerd.

`tar_checker` checks the same stream for faults; here only what is needed to go on is checked.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Final, Protocol

from auditor.layers.tar_checker import BLOCK, number, pax_record

REGULAR, OLD_REGULAR, HARD_LINK, SYMLINK = b"0", b"\0", b"1", b"2"
CHARACTER, BLOCK_DEVICE, DIRECTORY, FIFO = b"3", b"4", b"5", b"6"
_PAX, _GLOBAL, _LONG_NAME, _LONG_LINK = b"x", b"g", b"L", b"K"
_SPECIAL: Final = frozenset({_PAX, _GLOBAL, _LONG_NAME, _LONG_LINK})
_WITH_DATA: Final = frozenset({REGULAR, OLD_REGULAR})
_ZERO: Final = bytes(BLOCK)
#: Largest extended header or long name; archive/tar `maxSpecialFileSize`.
_LARGEST: Final = 1 << 20
#: mode, uid, gid, size and mtime as nearly every writer writes them.
_USUAL: Final = re.compile(rb"([0-7]{7})[ \0]([0-7]{7})[ \0]([0-7]{7})[ \0]([0-7]{11})[ \0]([0-7]{11})[ \0]")
_FIELDS: Final = ((100, 108), (108, 116), (116, 124), (124, 136), (136, 148))
_XATTR: Final = b"SCHILY.xattr."
_SPARSE: Final = b"GNU.sparse."
_SECOND: Final = 10**9
#: Digits of a second's fraction.
_DIGITS: Final = 9
_CODEC: Final = "utf-8", "surrogateescape"

#: Offset and length of each part with data; the rest of the file is zeros.
SparseMap = list[tuple[int, int]]


class TarUnreadable(Exception):
    """The tar cannot be read further."""


class Stream(Protocol):
    """Bytes that are read forwards."""

    def read(self, size: int, /) -> bytes:
        """Return the next `size` bytes, fewer at the end."""

    def tell(self) -> int:
        """Return the position."""

    def skip(self, size: int, /) -> None:
        """Pass over the next `size` bytes."""


class Entry:
    """An entry's header; `mtime` is in ns since 1970, `size` that of the file with its holes.

    `sparse` is None for a file without holes.
    """

    __slots__ = ("device", "gid", "kind", "link", "mode", "mtime", "path", "size", "sparse", "uid", "xattrs")

    def __init__(self, kind: bytes, path: bytes) -> None:
        self.kind = kind
        self.path = path
        self.link = b""
        self.mode = self.uid = self.gid = self.size = self.mtime = 0
        #: Major and minor number.
        self.device = (0, 0)
        self.xattrs: dict[str, bytes] = {}
        self.sparse: SparseMap | None = None


def entries(stream: Stream) -> Iterator[Entry]:
    """Yield each entry; the caller may read its data, or leave it.

    Args:
        stream: The decompressed layer. What is left of an entry's data is skipped.

    Raises:
        TarUnreadable: A header or a sparse map is not valid.

    """
    return _Reader(stream).entries()


class _Reader:
    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._records: dict[bytes, bytes] = {}
        self._map: list[bytes] = []
        self._name = self._link = b""

    def entries(self) -> Iterator[Entry]:
        stream = self._stream
        while len(block := stream.read(BLOCK)) == BLOCK and block != _ZERO:
            numbers = _numbers(block)
            kind = block[156:157]
            if kind in _SPECIAL:
                self._special(kind, numbers[3])
                continue
            size = self._size(numbers[3]) if kind in _WITH_DATA else 0
            end = stream.tell() + size + -size % BLOCK
            yield self._entry(block, kind, numbers, size)
            stream.skip(end - stream.tell())
            self._records, self._map = {}, []
            self._name = self._link = b""

    def _special(self, kind: bytes, size: int) -> None:
        if not 0 <= size <= _LARGEST:
            raise TarUnreadable("an extended header of an impossible size")
        data = self._stream.read(size)
        self._stream.skip(-size % BLOCK)
        if kind == _PAX:
            self._read_records(data)
        elif kind == _LONG_NAME:
            self._name = data.partition(b"\0")[0]
        elif kind == _LONG_LINK:
            self._link = data.partition(b"\0")[0]

    def _read_records(self, data: bytes) -> None:
        """Read PAX records; those of sparse format 0.0 repeat their keys."""
        self._records, self._map = {}, []
        at = 0
        while at < len(data):
            parsed = pax_record(data, at)
            if parsed is None:
                raise TarUnreadable("a malformed extended header")
            key, value, at = parsed
            if key in (b"GNU.sparse.offset", b"GNU.sparse.numbytes"):
                self._map.append(value)
            else:
                self._records[key] = value

    def _size(self, stated: int) -> int:
        return _integer(self._records.get(b"size"), stated)

    def _entry(self, block: bytes, kind: bytes, numbers: tuple[int, ...], size: int) -> Entry:
        records = self._records
        mode, uid, gid, _, mtime = numbers
        entry = Entry(kind, self._name or (records and records.get(b"path")) or _path(block))
        if kind == OLD_REGULAR:
            entry.kind = DIRECTORY if entry.path.endswith(b"/") else REGULAR
        elif kind in (HARD_LINK, SYMLINK):
            entry.link = self._link or records.get(b"linkpath") or _text(block[157:257])
        elif kind in (CHARACTER, BLOCK_DEVICE):
            entry.device = number(block[329:337]) or 0, number(block[337:345]) or 0
        entry.size, entry.mode, entry.uid, entry.gid, entry.mtime = size, mode, uid, gid, mtime * _SECOND
        if records:
            _merge(entry, records)
        if self._map or (records and any(key.startswith(_SPARSE) for key in records)):
            self._fill_sparse(entry)
        return entry

    def _fill_sparse(self, entry: Entry) -> None:
        """Read the map of a sparse file; archive/tar `readGNUSparsePAXHeaders`."""
        records = self._records
        version = records.get(b"GNU.sparse.major", b""), records.get(b"GNU.sparse.minor", b"")
        text = b",".join(self._map) or records.get(b"GNU.sparse.map", b"")
        if version == (b"1", b"0"):
            numbers = self._map_in_data()
        elif version in ((b"0", b"0"), (b"0", b"1")) or (version == (b"", b"") and text):
            numbers = [_integer(part, 0) for part in text.split(b",")] if text else []
        else:
            return
        entry.path = records.get(b"GNU.sparse.name") or entry.path
        size = records.get(b"GNU.sparse.size") or records.get(b"GNU.sparse.realsize")
        entry.size = _integer(size, entry.size)
        if len(numbers) % 2 or any(value < 0 for value in numbers):
            raise TarUnreadable("a sparse map of impossible numbers")
        entry.sparse = list(zip(numbers[::2], numbers[1::2], strict=True))

    def _map_in_data(self) -> list[int]:
        """Read lines of digits: the number of parts, then offset and length of each; padded to a block."""
        text = b""
        wanted = 1
        while (lines := text.count(b"\n")) < wanted:
            if len(text) > _LARGEST or len(block := self._stream.read(BLOCK)) < BLOCK:
                raise TarUnreadable("a sparse map that does not end")
            text += block
            if not lines and b"\n" in text:
                wanted = 1 + 2 * _integer(text.partition(b"\n")[0], 0)
        return [_integer(line, 0) for line in text.split(b"\n")[1:wanted]]


def _numbers(block: bytes) -> tuple[int, ...]:
    """Return mode, uid, gid, size and mtime."""
    usual = _USUAL.match(block, 100)
    if usual:
        return tuple([int(digits, 8) for digits in usual.groups()])
    found = [number(block[start:end]) for start, end in _FIELDS]
    if None in found:
        raise TarUnreadable("a header with a malformed number")
    return tuple(value for value in found if value is not None)


def _path(block: bytes) -> bytes:
    """Return the name of a header; only POSIX headers have a prefix."""
    name = _text(block[:100])
    if block[257:263] == b"ustar\0" and block[345]:
        return _text(block[345:500]) + b"/" + name
    return name


def _text(field: bytes) -> bytes:
    return field.partition(b"\0")[0]


def _integer(value: bytes | None, otherwise: int) -> int:
    if not value:
        return otherwise
    try:
        return int(value)
    except ValueError:
        raise TarUnreadable("an extended header with a malformed number") from None


def _merge(entry: Entry, records: Mapping[bytes, bytes]) -> None:
    """Take owner, time and xattrs from PAX records; archive/tar `mergePAX`."""
    entry.uid = _integer(records.get(b"uid"), entry.uid)
    entry.gid = _integer(records.get(b"gid"), entry.gid)
    if mtime := records.get(b"mtime"):
        entry.mtime = _nanoseconds(mtime)
    for key, value in records.items():
        if key.startswith(_XATTR):
            entry.xattrs[key[len(_XATTR) :].decode(*_CODEC)] = value


def _nanoseconds(text: bytes) -> int:
    whole, _, fraction = text.partition(b".")
    digits = fraction[:_DIGITS].ljust(_DIGITS, b"0")
    found = abs(_integer(whole, 0)) * _SECOND + _integer(digits, 0)
    return -found if whole.startswith(b"-") else found
