"""Detect how an archive is compressed, and decompress gzip and zstd in chunks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

from backports import zstd

from auditor.archive.problems import ArchiveProblem, StopReading
from auditor.checks.archive_faults import MALFORMED, TRAILING, TRUNCATED
from auditor.concurrency import CHUNK
from auditor.errors import Unsupported
from auditor.layers import gzip_member

_ERRORS: tuple[type[Exception], ...] = (*gzip_member.ERRORS, zstd.ZstdError, EOFError)
_GZIP = b"\x1f\x8b"
_ZSTD = b"\x28\xb5\x2f\xfd"
#: zstd's skippable frames, of which pzstd and others put one first; RFC 8878, section 3.1.2.
_SKIPPABLE = frozenset(bytes([0x50 + n, 0x2A, 0x4D, 0x18]) for n in range(16))
_FOREIGN = {b"\xfd7zX": "xz", b"BZh": "bzip2", b"\x04\x22\x4d\x18": "lz4", b"PK\x03\x04": "zip"}


class _Inflater(Protocol):
    """The common interface of the gzip and zstd decompressors, that of Python's BZ2Decompressor."""

    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    @property
    def needs_input(self) -> bool: ...
    def decompress(self, data: bytes, /, max_length: int = -1) -> bytes: ...


def compression(head: bytes) -> str:
    """Return the compression by the first bytes: `gzip`, `zstd` or `none`.

    Raises:
        Unsupported: a compression that containerd does not read either.

    """
    if head.startswith(_GZIP):
        return "gzip"
    if head.startswith(_ZSTD) or head[:4] in _SKIPPABLE:
        return "zstd"
    for magic, name in _FOREIGN.items():
        if head.startswith(magic):
            raise Unsupported(f"the archive is packed with {name}, which is not read", hint=f"unpack the {name} first")
    return "none"


def decompress(chunks: Iterator[bytes]) -> tuple[str, Iterator[bytes]]:
    """Decompress an archive.

    Args:
        chunks: the bytes of the file.

    Returns:
        The compression, and the decompressed chunks; iterating over them raises StopReading where the compressed stream
        is damaged, truncated, or followed by other bytes.

    Raises:
        Unsupported: a compression that containerd does not read either.

    """
    head, chunks = _peek(chunks)
    kind = compression(head)
    match kind:
        case "gzip":
            return kind, _inflated(
                chunks, kind, gzip_member.GzipMember, lambda rest: rest.startswith(_GZIP[: len(rest)])
            )
        case "zstd":
            return kind, _inflated(chunks, kind, zstd.ZstdDecompressor, _zstd_follows)
        case _:
            return kind, chunks


def _zstd_follows(rest: bytes) -> bool:
    head = rest[:4]
    return any(magic.startswith(head) for magic in (_ZSTD, *_SKIPPABLE))


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


def _inflated(
    chunks: Iterator[bytes], kind: str, fresh: Callable[[], _Inflater], follows: Callable[[bytes], bool]
) -> Iterator[bytes]:
    """Yield the content of all frames of a stream; zeros may follow the last."""
    rest = b""
    while True:
        inflater = fresh()
        yield from _one_frame(inflater, chunks, rest, kind)
        rest = inflater.unused_data
        while len(rest) < 4 and (chunk := next(chunks, b"")):  # noqa: PLR2004 - the longest magic number
            rest += chunk
        if not rest:
            return
        if not follows(rest):
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
