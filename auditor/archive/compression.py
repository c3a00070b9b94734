"""Detect how an archive is compressed, and decompress gzip, zstd, xz and bzip2 in chunks."""

from __future__ import annotations

import bz2
import lzma
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Final, Protocol

import msgspec
from backports import zstd

from auditor.archive.problems import ArchiveProblem, StopReading
from auditor.checks.archive_faults import COMPRESSION, MALFORMED, TRAILING, TRUNCATED
from auditor.concurrency import CHUNK
from auditor.errors import Unsupported
from auditor.layers import gzip_member

_ERRORS: tuple[type[Exception], ...] = (*gzip_member.ERRORS, zstd.ZstdError, lzma.LZMAError, OSError, EOFError)
#: zstd's skippable frames, of which pzstd and others put one first; RFC 8878, section 3.1.2.
_SKIPPABLE: Final = tuple(bytes([0x50 + n, 0x2A, 0x4D, 0x18]) for n in range(16))
_FOREIGN: Final = {b"\x04\x22\x4d\x18": "lz4", b"PK\x03\x04": "zip"}
#: Memory that an xz stream may ask for, in bytes; `xz -9` asks for 65 MiB, a hostile stream for up to 4 GiB.
_XZ_MEMORY: Final = 128 << 20


class _Inflater(Protocol):
    """The common interface of the decompressors, that of Python's BZ2Decompressor."""

    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    @property
    def needs_input(self) -> bool: ...
    def decompress(self, data: bytes, /, max_length: int = -1) -> bytes: ...


class _Format(msgspec.Struct, frozen=True):
    """The first bytes of a compressed stream, and what decompresses one frame of it."""

    magics: tuple[bytes, ...]
    fresh: Callable[[], _Inflater]

    def begins(self, data: bytes) -> bool:
        """Whether `data`, which may be shorter than a magic number, begins a frame."""
        return any(data.startswith(magic) or magic.startswith(data) for magic in self.magics)


#: Formats of archives; `ctr images import` reads none of them in 1.6 and 1.7, gzip and zstd in 2.1.
_FORMATS: Final[Mapping[str, _Format]] = {
    "gzip": _Format((b"\x1f\x8b",), gzip_member.GzipMember),
    "zstd": _Format((b"\x28\xb5\x2f\xfd", *_SKIPPABLE), zstd.ZstdDecompressor),
    "xz": _Format((b"\xfd7zX",), partial(lzma.LZMADecompressor, lzma.FORMAT_XZ, memlimit=_XZ_MEMORY)),
    "bzip2": _Format((b"BZh",), bz2.BZ2Decompressor),
}


def compression(head: bytes) -> str:
    """Return the compression by the first bytes: a key of _FORMATS, or `none`.

    Raises:
        Unsupported: a compression that is not read.

    """
    for name, known in _FORMATS.items():
        if head.startswith(known.magics):
            return name
    for magic, name in _FOREIGN.items():
        if head.startswith(magic):
            raise Unsupported(f"the archive is packed with {name}, which is not read", hint=f"unpack the {name} first")
    return "none"


def decompress(
    chunks: Iterator[bytes], report: Callable[[ArchiveProblem], None] = lambda _: None
) -> tuple[str, Iterator[bytes]]:
    """Decompress an archive.

    Args:
        chunks: the bytes of the file.
        report: called with a problem that does not end the reading.

    Returns:
        The compression, and the decompressed chunks; iterating over them raises StopReading where the compressed stream
        is damaged, truncated, or followed by other bytes.

    Raises:
        Unsupported: a compression that is not read.

    """
    head, chunks = _peek(chunks)
    kind = compression(head)
    if head.startswith(_SKIPPABLE):
        message = "the archive begins with a skippable frame of zstd, as pzstd writes it: podman and skopeo refuse it"
        report(ArchiveProblem(COMPRESSION, message))
    return kind, chunks if kind == "none" else _inflated(chunks, kind)


def _peek(chunks: Iterator[bytes]) -> tuple[bytes, Iterator[bytes]]:
    """Return the first bytes, at least four where there are so many, and an iterator that includes them."""
    head = b""
    for chunk in chunks:
        head += chunk
        if len(head) >= 4:  # noqa: PLR2004 - the longest magic number
            break

    def all_chunks() -> Iterator[bytes]:
        if head:
            yield head
        yield from chunks

    return head, all_chunks()


def _inflated(chunks: Iterator[bytes], kind: str) -> Iterator[bytes]:
    """Yield the content of all frames of a stream; zeros may follow the last."""
    rest = b""
    while True:
        inflater = _FORMATS[kind].fresh()
        yield from _one_frame(inflater, chunks, rest, kind)
        rest = inflater.unused_data
        while len(rest) < 4 and (chunk := next(chunks, b"")):  # noqa: PLR2004 - the longest magic number
            rest += chunk
        if not rest:
            return
        if not _FORMATS[kind].begins(rest):
            _only_zeros(rest, chunks, kind)
            return


def _one_frame(inflater: _Inflater, chunks: Iterator[bytes], first: bytes, kind: str) -> Iterator[bytes]:
    data = first
    while not inflater.eof:
        if inflater.needs_input and not data:
            data = next(chunks, b"")
            if not data:
                raise StopReading(ArchiveProblem(TRUNCATED, f"the {kind} stream ends before its end"))
        try:
            out = inflater.decompress(data, max_length=CHUNK)
        except _ERRORS as error:
            if isinstance(error, lzma.LZMAError) and "limit" in str(error):
                why = f"the xz stream needs more than {_XZ_MEMORY >> 20} MiB to unpack, and is not read"
                raise Unsupported(why, hint="unpack the xz first") from None
            raise StopReading(ArchiveProblem(MALFORMED, f"the {kind} stream is damaged: {error}")) from None
        data = b""
        if out:
            yield out


def _only_zeros(rest: bytes, chunks: Iterator[bytes], kind: str) -> None:
    """Raise StopReading for bytes other than zeros, with which tapes and some tools pad; gzip(1) ignores zeros too."""
    while rest:
        if rest.count(0) != len(rest):
            raise StopReading(ArchiveProblem(TRAILING, f"bytes that are not {kind} follow the {kind} stream"))
        rest = next(chunks, b"")
