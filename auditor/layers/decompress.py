"""Push decoders for gzip and zstd. They never raise: a fault of the stream is in `fault`.

They accept what containerd's reader accepts (pkg/archive/compression): the first bytes give the compression, a gzip
stream has any number of members, a zstd stream any number of frames, skippable ones included, and no other bytes may
follow. Go's compress/gzip refuses zeros behind the last member too, which gzip(1) ignores as padding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple, Protocol

from backports.zstd import ZstdDecompressor, ZstdError

from auditor.layers import gzip_member

#: Compressed bytes per call, and the largest output of one: a decompression bomb costs time, not memory.
PIECE = 256 << 10
OUTPUT = 1 << 20
#: The same where members are small, as in estargz: each member copies the rest of the input once.
SMALL_PIECE = 32 << 10
#: First bytes that give the compression; a skippable zstd frame needs eight.
SNIFF = 8

_ERRORS: tuple[type[Exception], ...] = (*gzip_member.ERRORS, ZstdError)
_GZIP_MAGIC = b"\x1f\x8b\x08"
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"


class Decoder(Protocol):
    """A decompressor that takes bytes as they arrive."""

    #: "gzip", "zstd" or "none".
    name: str
    #: Fault of the compressed bytes, as a sentence without subject; empty while there is none.
    fault: str

    def feed(self, data: memoryview) -> Iterator[bytes | memoryview]:
        """Take the next compressed bytes, yield the decompressed ones in pieces of at most OUTPUT bytes."""

    def finish(self) -> None:
        """End the stream: a truncated one is now a fault."""


class Plain:
    """No compression: the output is the input."""

    name = "none"

    def __init__(self) -> None:
        self.fault = ""

    def feed(self, data: memoryview) -> Iterator[bytes | memoryview]:
        """Yield `data` itself."""
        yield data

    def finish(self) -> None:
        """Do nothing: no fault is possible."""


class _Engine(Protocol):
    """The common interface of gzip's and zstd's decompressors: one object decodes one member or frame."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes | memoryview, /, max_length: int = -1) -> bytes: ...


class _Format(NamedTuple):
    name: str
    #: Name of one part of the stream.
    part: str
    #: Bytes of a part's header that `opens` needs, and whether they are one.
    head: int
    opens: Callable[[bytes], bool]
    engine: Callable[[], _Engine]


class Framed:
    """A stream of members (gzip) or frames (zstd), one after the other until the end."""

    def __init__(self, form: _Format, *, piece: int) -> None:
        self.name = form.name
        self.fault = ""
        self._form = form
        self._piece = piece
        self._engine: _Engine | None = None
        self._head = b""
        self._parts = 0
        self._read = 0
        self._trailing = _Trailing()

    def feed(self, data: memoryview) -> Iterator[bytes | memoryview]:
        """Decode `data`, in small pieces while parts are short."""
        at = 0
        step = self._piece
        while at < len(data) and not self.fault:
            ended = self._parts
            yield from self._decode(data[at : at + step])
            at += step
            step = min(self._piece, SMALL_PIECE) if self._parts > ended else self._piece

    def _decode(self, rest: memoryview) -> Iterator[bytes]:
        while rest and not self.fault:
            if self._trailing:
                self._trailing.add(rest)
                return
            if self._engine is None:
                rest = self._open(rest)
                continue
            before = len(rest)
            yield from self._run(self._engine, rest)
            rest = self._after(self._engine, rest)
            self._read += before - len(rest)

    def _open(self, rest: memoryview) -> memoryview:
        taken = bytes(rest[: self._form.head - len(self._head)])
        self._head += taken
        self._read += len(taken)
        if len(self._head) < self._form.head:
            return rest[len(taken) :]
        if self._form.opens(self._head):
            self._engine = self._form.engine()
            self._guarded(self._engine, self._head)
        else:
            self._trailing.add(self._head)
        self._head = b""
        return rest[len(taken) :]

    def _run(self, engine: _Engine, data: memoryview) -> Iterator[bytes]:
        output = self._guarded(engine, data)
        while True:
            if output:
                yield output
            if self.fault or engine.eof or engine.needs_input:
                return
            output = self._guarded(engine, b"")

    def _after(self, engine: _Engine, data: memoryview) -> memoryview:
        if not engine.eof:
            return data[len(data) :]
        self._engine = None
        self._parts += 1
        return data[len(data) - len(engine.unused_data) :]

    def _guarded(self, engine: _Engine, data: bytes | memoryview) -> bytes:
        try:
            return engine.decompress(data, OUTPUT)
        except gzip_member.GzipHeaderError as error:
            self.fault = str(error)
        except _ERRORS as error:
            self._set_fault(str(error), self._read + len(data))
        return b""

    def _set_fault(self, words: str, by: int) -> None:
        if "too much memory" in words:
            # Go's decoder (klauspost/compress) refuses what libzstd refuses by default: windows over 2^27 bytes.
            self.fault = "its zstd window is larger than the 128 MiB that containerd accepts"
        elif "checksum" in words:
            self.fault = f"a {self.name} checksum does not match what was decoded by byte {by}"
        else:
            self.fault = f"its {self.name} data cannot be decoded beyond byte {by}"

    def finish(self) -> None:
        """End the stream: set `fault` where it is truncated or other bytes follow."""
        if self.fault:
            return
        if self._head and self._parts:
            self._trailing.add(self._head)
        if self._trailing:
            self.fault = f"{self._trailing} behind the last {self.name} {self._form.part}"
        elif self._engine is not None or self._head:
            self.fault = f"truncated: it ends after {self._read} bytes, inside a {self.name} {self._form.part}"


class _Trailing:
    """Bytes behind the end of the stream: how many, and whether they are all zero."""

    def __init__(self) -> None:
        self._count = 0
        self._zeros = True

    def __bool__(self) -> bool:
        return self._count > 0

    def __str__(self) -> str:
        noun = "zero byte" if self._zeros else "byte of garbage"
        if self._count > 1:
            noun = "zero bytes" if self._zeros else "bytes of garbage"
        return f"{self._count} {noun}"

    def add(self, data: bytes | memoryview) -> None:
        self._count += len(data)
        self._zeros = self._zeros and not any(data)


def _opens_member(head: bytes) -> bool:
    # Reserved flags are ignored, as containerd 1.6 to 2.1 do; newer versions refuse such a layer.
    return head.startswith(_GZIP_MAGIC)


def _opens_frame(head: bytes) -> bool:
    return head.startswith(_ZSTD_MAGIC) or (head[0] & 0xF0 == 0x50 and head[1:4] == b"\x2a\x4d\x18")  # noqa: PLR2004 - RFC 8878, 3.1.2


_GZIP = _Format(name="gzip", part="member", head=10, opens=_opens_member, engine=gzip_member.GzipMember)
_ZSTD = _Format(name="zstd", part="frame", head=4, opens=_opens_frame, engine=ZstdDecompressor)


def decoder(start: bytes, *, piece: int = PIECE) -> Decoder:
    """Choose the decoder of a stream; containerd pkg/archive/compression `DetectCompression`.

    Args:
        start: the first SNIFF bytes, or all where there are fewer.
        piece: compressed bytes per call.

    """
    if start.startswith(_GZIP_MAGIC):
        return Framed(_GZIP, piece=piece)
    if start.startswith(_ZSTD_MAGIC) or (len(start) >= SNIFF and _opens_frame(start[:4])):
        return Framed(_ZSTD, piece=piece)
    return Plain()
