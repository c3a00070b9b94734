"""Read a tar stream member by member, strictly.

Python's tarfile parses single headers. Its own iteration takes a truncated archive, a missing end-of-archive marker, a
bad header in the middle and trailing bytes for the end of the archive; here each of them is a problem.
"""

from __future__ import annotations

import enum
import re
import tarfile
from collections.abc import Callable, Iterator
from typing import Final

import msgspec

from auditor.archive import sparse, tar_names
from auditor.archive.problems import ArchiveProblem, StopReading, shown
from auditor.archive.sparse import Extent
from auditor.checks.archive_faults import MALFORMED, TRAILING, TRUNCATED
from auditor.model.findings import Severity

BLOCK: Final = 512
#: Bytes of one PAX header or GNU long name; Linux paths end at 4096.
MAX_EXTENSION: Final = 1 << 20
_ZEROS: Final = bytes(BLOCK)


class Kind(enum.StrEnum):
    """The type of a member."""

    FILE = "file"
    FOLDER = "folder"
    SYMLINK = "symbolic link"
    HARDLINK = "hard link"
    SPARSE = "sparse file"
    SPECIAL = "special file"
    LABEL = "volume label of GNU tar"
    LISTING = "folder listing of an incremental backup"
    OTHER = "member of unknown type"


_KINDS = {
    tarfile.REGTYPE: Kind.FILE,
    tarfile.AREGTYPE: Kind.FILE,
    tarfile.CONTTYPE: Kind.FILE,
    tarfile.DIRTYPE: Kind.FOLDER,
    tarfile.SYMTYPE: Kind.SYMLINK,
    tarfile.LNKTYPE: Kind.HARDLINK,
    tarfile.CHRTYPE: Kind.SPECIAL,
    tarfile.BLKTYPE: Kind.SPECIAL,
    tarfile.FIFOTYPE: Kind.SPECIAL,
    tarfile.GNUTYPE_SPARSE: Kind.SPARSE,
    b"V": Kind.LABEL,
    b"D": Kind.LISTING,
}
#: Members without data, whatever their size field says; Go archive/tar `isHeaderOnlyType`, which containerd, docker,
#: podman and skopeo use.
_BODILESS = frozenset({Kind.FOLDER, Kind.SYMLINK, Kind.HARDLINK, Kind.SPECIAL})

#: Records whose value must not have a NUL; Go archive/tar `validPAXRecord`. GNU tar lists folders with NULs.
_TEXTS = frozenset({b"path", b"linkpath", b"uname", b"gname"})
#: Records with a number and with a time, as Go archive/tar `mergePAX` and `parsePAXTime` read them; an empty value
#: keeps that of the header.
_NUMBER: Final = re.compile(r"[+-]?[0-9]{1,19}\Z")
_NUMBERS: Final = {
    **dict.fromkeys(("size", "uid", "gid"), _NUMBER),
    **dict.fromkeys(("mtime", "atime", "ctime"), re.compile(r"[+-]?[0-9]{1,19}(\.[0-9]*)?\Z")),
}


class Header(msgspec.Struct, frozen=True):
    """A member's name as written (bytes that are not UTF-8 as surrogates), type, size, and the offset of its data.

    `extents` are the parts of a sparse file that are stored, one after the other.
    """

    name: str
    kind: Kind
    size: int
    offset: int
    link: str = ""
    extents: tuple[Extent, ...] | None = None

    @property
    def stored(self) -> int:
        """Bytes of data in the archive."""
        return self.size if self.extents is None else sum(length for _, length in self.extents)


Body = Iterator[memoryview]


class Cursor:
    """A position in a stream of chunks."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._rest = memoryview(b"")
        self.position = 0

    def pieces(self, size: int, what: str) -> Body:
        """Yield the next `size` bytes in pieces.

        Args:
            size: the number of bytes.
            what: the part of the archive, for messages.

        Raises:
            StopReading: the stream ends before.

        """
        while size:
            if not self._fill():
                message = f"the archive ends in {what}, {size} bytes before its end"
                raise StopReading(ArchiveProblem(TRUNCATED, message, facts={"offset": self.position}))
            piece = self._rest[:size]
            self._rest = self._rest[len(piece) :]
            self.position += len(piece)
            size -= len(piece)
            yield piece

    def take(self, size: int, what: str) -> bytes:
        """Return the next `size` bytes; raises as `pieces`."""
        return b"".join(self.pieces(size, what))

    def ended(self) -> bool:
        """Whether no byte is left."""
        return not self._fill()

    def remaining(self) -> Body:
        """Yield the rest of the stream."""
        while self._fill():
            piece, self._rest = self._rest, memoryview(b"")
            self.position += len(piece)
            yield piece

    def _fill(self) -> bool:
        while not self._rest:
            chunk = next(self._chunks, None)
            if chunk is None:
                return False
            self._rest = memoryview(chunk)
        return True


class _Extension(msgspec.Struct):
    """The values of PAX and GNU headers for the member that follows them."""

    name: str | None = None
    link: str | None = None
    size: int | None = None
    sparse: list[tuple[str, str]] = []


def walk(cursor: Cursor, report: Callable[[ArchiveProblem], None]) -> Iterator[tuple[Header, Body]]:
    """Yield each member with its bytes; bytes that the caller leaves are skipped.

    Args:
        cursor: the stream, at its start.
        report: called with each problem after which reading goes on.

    Raises:
        StopReading: a problem after which it does not: the stream ends before its end-of-archive marker is complete, or
            a header is damaged.

    """
    extension = _Extension()
    while (block := _next_block(cursor)) != _ZEROS:
        info = _parsed(block, cursor.position - BLOCK)
        if _extended(info, cursor, extension, report):
            continue
        header = _header(info, block, cursor, extension)
        extension = _Extension()
        stored = cursor.pieces(header.stored, f"the member {shown(header.name)}")
        yield header, stored if header.extents is None else sparse.expand(stored, header.extents, header.size)
        for _ in stored:
            pass
        _skip_padding(header, cursor, report)
    _finish(cursor, report)


def _skip_padding(header: Header, cursor: Cursor, report: Callable[[ArchiveProblem], None]) -> None:
    """Skip the padding behind a member's data; readers ignore it, and writers fill it with zeros."""
    padding = cursor.take(-header.stored % BLOCK, f"the padding of {shown(header.name)}")
    if padding.count(0) != len(padding):
        message = f"bytes other than zeros pad the member {shown(header.name)}"
        report(ArchiveProblem(TRAILING, message, member=shown(header.name), level=Severity.WARNING))


def _next_block(cursor: Cursor) -> bytes:
    if cursor.ended():
        message = "the archive ends without its end-of-archive marker"
        raise StopReading(ArchiveProblem(TRUNCATED, message, facts={"offset": cursor.position}))
    return cursor.take(BLOCK, "a header")


def _parsed(block: bytes, offset: int) -> tarfile.TarInfo:
    try:
        info = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except (tarfile.HeaderError, ValueError) as error:
        what = "this is not a tar archive" if offset == 0 else "a header is damaged"
        message = f"{what}: {error} at byte {offset}"
        raise StopReading(ArchiveProblem(MALFORMED, message, facts={"offset": offset})) from None
    if info.size < 0:
        raise StopReading(ArchiveProblem(MALFORMED, f"a header at byte {offset} has a negative size"))
    return info


def _extended(
    info: tarfile.TarInfo, cursor: Cursor, extension: _Extension, report: Callable[[ArchiveProblem], None]
) -> bool:
    """Take in a header that describes the next one; False for a member."""
    match info.type:
        case tarfile.GNUTYPE_LONGNAME:
            extension.name = _text(_extension_data(info, cursor).partition(b"\0")[0])
        case tarfile.GNUTYPE_LONGLINK:
            extension.link = _text(_extension_data(info, cursor).partition(b"\0")[0])
        case tarfile.XHDTYPE | tarfile.SOLARIS_XHDTYPE:
            _apply(_records(_extension_data(info, cursor), cursor), extension)
        case tarfile.XGLTYPE:
            if dict(_records(_extension_data(info, cursor), cursor)).keys() & {"path", "linkpath", "size"}:
                report(ArchiveProblem(MALFORMED, "a global header renames or resizes members, which readers ignore"))
        case _:
            return False
    return True


def _extension_data(info: tarfile.TarInfo, cursor: Cursor) -> bytes:
    if info.size > MAX_EXTENSION:
        raise StopReading(ArchiveProblem(MALFORMED, f"an extended header claims {info.size} bytes"))
    data = cursor.take(info.size, "an extended header")
    cursor.take(-info.size % BLOCK, "an extended header")
    return data


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")


def _records(data: bytes, cursor: Cursor) -> list[tuple[str, str]]:
    """Parse the records of a PAX header, each `<length> <key>=<value>` and a newline; POSIX pax(1)."""
    found = []
    while data:
        digits, _, _ = data[:20].partition(b" ")
        length = int(digits) if digits.isdigit() else 0
        record = data[len(digits) + 1 : length]
        key, equals, value = record.removesuffix(b"\n").partition(b"=")
        if length > len(data) or not record.endswith(b"\n") or not equals or (b"\0" in value and key in _TEXTS):
            message = f"an extended header before byte {cursor.position} is damaged"
            raise StopReading(ArchiveProblem(MALFORMED, message))
        found.append((_text(key), _text(value)))
        data = data[length:]
    return found


def _apply(pairs: list[tuple[str, str]], extension: _Extension) -> None:
    records = dict(pairs)
    extension.name = records.get("path") or extension.name
    extension.link = records.get("linkpath") or extension.link
    extension.sparse = [pair for pair in pairs if pair[0].startswith(sparse.PREFIX)]
    for key, pattern in _NUMBERS.items():
        value = records.get(key)
        if value and not pattern.match(value):
            raise StopReading(ArchiveProblem(MALFORMED, f"an extended header gives the {key} {value[:40]!r}"))
    size = records.get("size")
    if not size:
        return
    extension.size = int(size)
    if extension.size < 0:
        raise StopReading(ArchiveProblem(MALFORMED, f"an extended header gives the size {size!r}"))


def _header(info: tarfile.TarInfo, block: bytes, cursor: Cursor, extension: _Extension) -> Header:
    kind = _KINDS.get(info.type, Kind.OTHER)
    size = info.size if extension.size is None else extension.size
    name = extension.name or tar_names.name(block)
    if info.type == tarfile.GNUTYPE_SPARSE:
        _skip_sparse_map(block, cursor)
    if extension.sparse and kind is Kind.FILE:
        return _sparse_header(name, size, cursor, extension)
    return Header(
        name=name,
        kind=kind,
        size=0 if kind in _BODILESS else size,
        offset=cursor.position,
        link=extension.link or info.linkname,
    )


def _sparse_header(name: str, size: int, cursor: Cursor, extension: _Extension) -> Header:
    """Return the header of a sparse file of the PAX kind, with the file's own name and size."""
    try:
        found = sparse.parse(extension.sparse)
        extents, taken = found.extents, 0
        if extents is None:
            extents, taken = sparse.read_map(lambda: cursor.take(BLOCK, f"the map of {shown(name)}"))
        sparse.check(extents, size=found.size, stored=size - taken)
    except sparse.SparseError as error:
        message = f"the sparse file {shown(name)} cannot be read: {error}"
        raise StopReading(ArchiveProblem(MALFORMED, message, member=shown(name))) from None
    return Header(
        name=found.name or name, kind=Kind.FILE, size=found.size, offset=cursor.position, extents=tuple(extents)
    )


def _skip_sparse_map(block: bytes, cursor: Cursor) -> None:
    """Skip the further blocks of an old GNU sparse header; GNU tar manual, "Old GNU Format"."""
    more = block[482]
    while more:
        more = cursor.take(BLOCK, "a sparse member's map")[504]


def _finish(cursor: Cursor, report: Callable[[ArchiveProblem], None]) -> None:
    """After the first block of zeros: require the second, and report bytes other than zeros after it."""
    if cursor.take(BLOCK, "the end-of-archive marker") != _ZEROS:
        message = "a lone block of zeros is in the middle of the archive; readers stop there or fail"
        raise StopReading(ArchiveProblem(MALFORMED, message, facts={"offset": cursor.position - 2 * BLOCK}))
    for piece in cursor.remaining():
        data = bytes(piece)
        if data.count(0) != len(data):
            offset = cursor.position - len(data.lstrip(b"\0"))
            message = f"bytes other than zeros follow the end of the archive, from byte {offset} on"
            report(ArchiveProblem(TRAILING, message, facts={"offset": offset}))
            return
