"""Read the entries of a tar forwards, and check it as `tar_checker` does: each header is parsed once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import msgspec

from auditor.layers.piece_reader import PieceReader
from auditor.layers.tar_header import (
    BLOCK,
    GLOBAL,
    ID,
    IMPOSSIBLE_SIZE,
    IMPOSSIBLE_SPECIAL,
    INT64,
    LONG_LINK,
    LONG_NAME,
    MALFORMED_HEADER,
    MALFORMED_NUMBER,
    MAX_SPECIAL,
    NO_HEADER,
    NOT_THE_END,
    SECOND,
    SPECIAL,
    UNPACKED,
    ZERO,
    Header,
    Malformed,
    bounded,
    cut_header,
    cut_off,
    header,
    number,
    records,
    unreadable,
    unsupported,
    well_formed,
)

REGULAR, OLD_REGULAR, HARD_LINK, SYMLINK = b"0", b"\0", b"1", b"2"
CHARACTER, BLOCK_DEVICE, DIRECTORY, FIFO = b"3", b"4", b"5", b"6"
#: REGULAR as the number of a byte.
_REGULAR: Final = ord(REGULAR)
_WITH_DATA: Final = frozenset({REGULAR, OLD_REGULAR})
_LINKS: Final = frozenset({HARD_LINK, SYMLINK})
_NODES: Final = frozenset({CHARACTER, BLOCK_DEVICE})
_TIMES: Final = frozenset({b"atime", b"ctime", b"mtime", b"path", b"linkpath"})
_XATTR: Final = b"SCHILY.xattr."
_SPARSE: Final = b"GNU.sparse."
_PARTS: Final = (b"GNU.sparse.offset", b"GNU.sparse.numbytes")
#: Digits of a second's fraction.
_DIGITS: Final = 9
_CODEC: Final = "utf-8", "surrogateescape"

#: Offset and length of each part with data; the rest of the file is zeros.
SparseMap = list[tuple[int, int]]


class TarUnreadable(Exception):
    """The tar cannot be read further; the text is the fault that `TarWalk` finds."""


class Entry(msgspec.Struct, eq=False):
    """An entry's header, as containerd applies it; `mtime` is in ns since 1970, `size` that of the file with its holes.

    `device` has the major and minor number. `sparse` is None for a file without holes; `fault` says why the map of the
    holes cannot be used, empty where it can.
    """

    kind: bytes
    path: bytes
    mode: int = 0
    uid: int = 0
    gid: int = 0
    size: int = 0
    mtime: int = 0
    link: bytes = b""
    device: tuple[int, int] = (0, 0)
    xattrs: dict[str, bytes] | None = None
    sparse: SparseMap | None = None
    fault: str = ""


class _BadMap(Exception):
    """The map of a sparse file cannot be used."""


class _Extended:
    """What the special headers before an entry say of it."""

    __slots__ = ("link", "name", "parts", "records")

    def __init__(self) -> None:
        self.name = self.link = b""
        self.records: dict[bytes, bytes] = {}
        #: Records of sparse format 0.0, which repeat their keys.
        self.parts: list[bytes] = []

    def take(self, kind: bytes, data: bytes, offset: int) -> None:
        """Read the data of the special header at `offset`; raises TarUnreadable."""
        if kind == LONG_NAME:
            self.name = _text(data)
        elif kind == LONG_LINK:
            self.link = _text(data)
        else:
            try:
                self._take_records(data)
            except Malformed:
                raise TarUnreadable(unreadable(MALFORMED_HEADER, offset)) from None
            if kind == GLOBAL:
                # archive/tar returns a global header as an entry: what stood before it is forgotten.
                self.name = self.link = b""
                self.records, self.parts = {}, []

    def _take_records(self, data: bytes) -> None:
        self.records, self.parts = {}, []
        for key, value in records(data):
            if key in _PARTS:
                self.parts.append(value)
            else:
                self.records[key] = value


def entries(stream: PieceReader) -> Iterator[Entry]:
    """Yield each entry; the caller may read its data, or leave it, which skips it.

    Args:
        stream: The decompressed layer.

    Raises:
        TarUnreadable: The tar is not valid.

    """
    extended: _Extended | None = None
    at = padding = 0
    while len(block := stream.read_at(at, BLOCK)) == BLOCK:
        if not block[0] and block == ZERO:
            _expect_end(stream, at)
            return
        at += BLOCK
        found = header(block)
        if found is None:
            raise TarUnreadable(unreadable(NO_HEADER, at - BLOCK))
        (mode, uid, gid), size, mtime = found
        if block[156] == _REGULAR and extended is None and size >= 0:
            path = _path(block) if block[345] else block[:100].partition(b"\0")[0]
            yield Entry(REGULAR, path, mode, uid, gid, size, mtime)
        elif (kind := block[156:157]) in SPECIAL:
            extended = extended or _Extended()
            extended.take(kind, _special(stream, size, at - BLOCK), at - BLOCK)
            at, padding = stream.tell(), 0
            continue
        else:
            size = _size(kind, size, extended, at - BLOCK)
            yield _entry(block, found, size, extended, stream)
            extended = None
        padding = -size % BLOCK
        at += size + padding
    missing = at - stream.tell() - padding
    if missing > 0:
        raise TarUnreadable(cut_off(missing))
    if block:
        raise TarUnreadable(cut_header(at))


def _expect_end(stream: PieceReader, at: int) -> None:
    """Read the block behind a zero block, which may be another one or absent; raises TarUnreadable."""
    block = stream.read(BLOCK)
    if len(block) == BLOCK and block != ZERO:
        raise TarUnreadable(unreadable(NOT_THE_END, at + BLOCK))
    if 0 < len(block) < BLOCK:
        raise TarUnreadable(cut_header(at + BLOCK))


def _special(stream: PieceReader, size: int, offset: int) -> bytes:
    if not 0 <= size <= MAX_SPECIAL:
        raise TarUnreadable(unreadable(IMPOSSIBLE_SPECIAL, offset))
    data = stream.read(size)
    if len(data) < size:
        raise TarUnreadable(cut_off(size - len(data)))
    stream.skip(-size % BLOCK)
    return data


def _size(kind: bytes, stated: int, extended: _Extended | None, offset: int) -> int:
    """Return the number of bytes that follow the header of an entry, without padding."""
    if kind not in UNPACKED:
        raise TarUnreadable(unreadable(unsupported(kind), offset))
    if extended is not None:
        if not well_formed(extended.records):
            raise TarUnreadable(unreadable(MALFORMED_NUMBER, offset))
        stated = int(extended.records.get(b"size") or stated)
    if kind not in _WITH_DATA:
        return 0
    if not 0 <= stated < INT64:
        raise TarUnreadable(unreadable(IMPOSSIBLE_SIZE, offset))
    return stated


def _entry(block: bytes, found: Header, size: int, extended: _Extended | None, stream: PieceReader) -> Entry:
    owner, _, mtime = found
    kind = block[156:157]
    entry = Entry(kind, _path(block), *owner, size, mtime)
    if kind in _LINKS:
        entry.link = _text(block[157:257])
    elif kind in _NODES:
        entry.device = number(block[329:337]) or 0, number(block[337:345]) or 0
    if extended is not None:
        _extend(entry, extended, stream)
    if kind == OLD_REGULAR:
        entry.kind = DIRECTORY if entry.path.endswith(b"/") else REGULAR
    return entry


def _extend(entry: Entry, extended: _Extended, stream: PieceReader) -> None:
    """Take what the special headers have: names, owner, time, xattrs, map of holes; archive/tar `mergePAX`."""
    found = extended.records
    entry.path = extended.name or found.get(b"path") or entry.path
    if entry.kind in _LINKS:
        entry.link = extended.link or found.get(b"linkpath") or entry.link
    if mtime := found.get(b"mtime"):
        entry.mtime = bounded(_nanoseconds(mtime))
    if found.keys() <= _TIMES and not extended.parts:
        return
    entry.uid = int(found.get(b"uid") or entry.uid) & ID
    entry.gid = int(found.get(b"gid") or entry.gid) & ID
    entry.xattrs = {key[len(_XATTR) :].decode(*_CODEC): found[key] for key in found if key.startswith(_XATTR)}
    if extended.parts or any(key.startswith(_SPARSE) for key in found):
        try:
            _fill_sparse(entry, extended, stream)
        except (_BadMap, ValueError):
            entry.fault = "a sparse map that cannot be used"


def _fill_sparse(entry: Entry, extended: _Extended, stream: PieceReader) -> None:
    """Read the map of a sparse file; archive/tar `readGNUSparsePAXHeaders`."""
    found = extended.records
    version = found.get(b"GNU.sparse.major", b""), found.get(b"GNU.sparse.minor", b"")
    text = b",".join(extended.parts) or found.get(b"GNU.sparse.map", b"")
    if version == (b"1", b"0"):
        numbers = _map_in_data(stream, entry.size)
    elif version in ((b"0", b"0"), (b"0", b"1")) or (version == (b"", b"") and text):
        numbers = [int(part) for part in text.split(b",")] if text else []
    else:
        return
    entry.path = found.get(b"GNU.sparse.name") or entry.path
    entry.size = int(found.get(b"GNU.sparse.size") or found.get(b"GNU.sparse.realsize") or entry.size)
    if len(numbers) % 2 or any(value < 0 for value in numbers):
        raise _BadMap
    entry.sparse = list(zip(numbers[::2], numbers[1::2], strict=True))


def _map_in_data(stream: PieceReader, size: int) -> list[int]:
    """Read lines of digits: the number of parts, then offset and length of each; padded to a block."""
    text = b""
    wanted = 1
    while (lines := text.count(b"\n")) < wanted:
        if len(text) + BLOCK > min(size, MAX_SPECIAL) or len(block := stream.read(BLOCK)) < BLOCK:
            raise _BadMap
        text += block
        if not lines and b"\n" in text:
            wanted = 1 + 2 * int(text.partition(b"\n")[0])
    return [int(line) for line in text.split(b"\n")[1:wanted]]


def _path(block: bytes) -> bytes:
    """Return the name of a header; only POSIX headers have a prefix."""
    name = block[:100].partition(b"\0")[0]
    if block[345] and block[257:263] == b"ustar\0":
        return _text(block[345:500]) + b"/" + name
    return name


def _text(field: bytes) -> bytes:
    return field.partition(b"\0")[0]


def _nanoseconds(text: bytes) -> int:
    whole, _, fraction = text.partition(b".")
    found = abs(int(whole)) * SECOND + int(fraction[:_DIGITS].ljust(_DIGITS, b"0"))
    return -found if whole.startswith(b"-") else found
