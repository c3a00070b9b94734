"""Decompress one gzip member; its header is parsed here, its data by isal.

isal's decompressor loses its place when a header is split over calls: it then skips neither the comment nor the
checksum of the header, and a damaged header passes for an intact one.
"""

from __future__ import annotations

import zlib
from typing import Final, cast

from isal.igzip_lib import DECOMP_GZIP, IgzipDecompressor, IsalError

#: Flags of a member header; RFC 1952, section 2.3.1.
_FHCRC, _FEXTRA, _FNAME, _FCOMMENT = 0x02, 0x04, 0x08, 0x10
_FIXED: Final = 10
_MAGIC: Final = b"\x1f\x8b\x08"
#: The header that isal gets: no flag, no time.
_PLAIN_HEADER: Final = _MAGIC + bytes(7)
#: Bytes of a name or comment with its zero; Go compress/gzip `readString`, which containerd, docker and podman use.
MAX_TEXT: Final = 512


class GzipHeaderError(ValueError):
    """The header of a member is damaged."""


# isal's stubs declare its exception as an instance.
ERRORS: Final[tuple[type[Exception], ...]] = (GzipHeaderError, cast("type[Exception]", IsalError))


class GzipMember:
    """Decompressor of one gzip member, with the interface of Python's BZ2Decompressor."""

    def __init__(self) -> None:
        self._header: bytearray | None = bytearray()
        self._engine = IgzipDecompressor(flag=DECOMP_GZIP)

    @property
    def eof(self) -> bool:
        """Whether the member has ended."""
        return bool(self._engine.eof)

    @property
    def needs_input(self) -> bool:
        """Whether `decompress` can return nothing more without further input."""
        return self._header is not None or bool(self._engine.needs_input)

    @property
    def unused_data(self) -> bytes:
        """The input behind the member."""
        return bytes(self._engine.unused_data)

    def decompress(self, data: bytes | memoryview, /, max_length: int = -1) -> bytes:
        """Take compressed bytes and return decompressed ones; hold the input back until the header is complete.

        Args:
            data: the next bytes of the stream.
            max_length: the largest number of bytes to return; -1 for no limit.

        Raises:
            GzipHeaderError: the header is damaged; its checksum is verified where it has one.
            IsalError: the data are damaged.

        """
        if self._header is not None:
            self._header += data
            size = header_size(self._header)
            if size is None:
                return b""
            data, self._header = bytes(self._header[size:]), None
            self._engine.decompress(_PLAIN_HEADER)
        return bytes(self._engine.decompress(data, max_length))


def header_size(start: bytes | bytearray) -> int | None:
    """Return the size of a member header in bytes; RFC 1952, section 2.3.

    Args:
        start: the first bytes of the member.

    Returns:
        The size; None where `start` ends inside the header, which is so for at most 67 KB.

    Raises:
        GzipHeaderError: no gzip header, a name or comment that is longer than Go reads, or a wrong header checksum.

    """
    if not start.startswith(_MAGIC[: len(start)]):
        raise GzipHeaderError("no gzip header")
    if len(start) < _FIXED:
        return None
    flags, size = start[3], _after_extra(start)
    for flag in (_FNAME, _FCOMMENT):
        if flags & flag and size is not None:
            size = _after_text(start, size)
    if flags & _FHCRC and size is not None:
        size = _after_checksum(start, size)
    return size if size is not None and size <= len(start) else None


def _after_extra(start: bytes | bytearray) -> int | None:
    if not start[3] & _FEXTRA:
        return _FIXED
    if len(start) < _FIXED + 2:
        return None
    return _FIXED + 2 + int.from_bytes(start[_FIXED : _FIXED + 2], "little")


def _after_text(start: bytes | bytearray, at: int) -> int | None:
    end = start.find(0, at, at + MAX_TEXT)
    if end < 0 and len(start) >= at + MAX_TEXT:
        raise GzipHeaderError(f"a gzip header has a name or comment of over {MAX_TEXT - 1} bytes, which is not read")
    return end + 1 if end >= 0 else None


def _after_checksum(start: bytes | bytearray, at: int) -> int | None:
    if len(start) < at + 2:
        return None
    if int.from_bytes(start[at : at + 2], "little") != zlib.crc32(start[:at]) & 0xFFFF:
        raise GzipHeaderError("the checksum of a gzip header does not match")
    return at + 2
