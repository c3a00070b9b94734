"""Push decoders for what a layer may be compressed with. They never raise: what is wrong stands in `fault`.

The judge is containerd's own reader (pkg/archive/compression): compression is told by the first bytes, a gzip stream is
any number of members, a zstd stream any number of frames, skippable ones included, and neither may be followed by
anything else. Go's gzip refuses zeros behind the last member too, which gzip(1) takes for padding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple, Protocol, cast

from backports.zstd import ZstdDecompressor, ZstdError
from isal.igzip_lib import DECOMP_GZIP, IgzipDecompressor, IsalError

#: Compressed bytes that go into one call, and the most that comes out of one: a bomb costs time, not memory.
PIECE = 256 << 10
OUTPUT = 1 << 20
#: The same where members are small, as in estargz: what lies behind the end of a member is copied, once a member.
SMALL_PIECE = 32 << 10
#: How many first bytes tell the compression; a skippable zstd frame needs eight.
SNIFF = 8

# isal's stubs declare its exception as an instance.
_ERRORS: tuple[type[Exception], ...] = (cast("type[Exception]", IsalError), ZstdError)
_GZIP_MAGIC = b"\x1f\x8b\x08"
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"


class Decoder(Protocol):
    """A decompressor that is fed as bytes arrive."""

    #: "gzip", "zstd" or "none".
    name: str
    #: What is wrong with the compressed bytes, as a sentence without subject; empty while nothing is.
    fault: str
    #: Why decoding was given up although nothing is wrong.
    refusal: str

    def feed(self, data: memoryview) -> Iterator[bytes | memoryview]:
        """Take the next compressed bytes, give what they decompress to in pieces of at most OUTPUT bytes."""

    def finish(self) -> None:
        """There is no more: a stream that should go on is now a fault."""


class Plain:
    """No compression: what comes in goes out."""

    name = "none"

    def __init__(self) -> None:
        self.fault = self.refusal = ""

    def feed(self, data: memoryview) -> Iterator[bytes | memoryview]:
        """Give `data` itself."""
        yield data

    def finish(self) -> None:
        """Nothing can be missing."""


class _Engine(Protocol):
    """What gzip's and zstd's decompressors have in common: one object decodes one member or frame."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes | memoryview, /, max_length: int = -1) -> bytes: ...


class _Format(NamedTuple):
    name: str
    #: How one part of the stream is called.
    part: str
    #: How many bytes of a part's head are looked at, and whether they are one.
    head: int
    opens: Callable[[bytes], bool]
    engine: Callable[[], _Engine]


class Framed:
    """A stream of members (gzip) or frames (zstd), one after the other until the end."""

    def __init__(self, form: _Format, *, piece: int) -> None:
        self.name = form.name
        self.fault = self.refusal = ""
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
        while at < len(data) and not (self.fault or self.refusal):
            ended = self._parts
            yield from self._decode(data[at : at + step])
            at += step
            step = min(self._piece, SMALL_PIECE) if self._parts > ended else self._piece

    def _decode(self, rest: memoryview) -> Iterator[bytes]:
        while rest and not (self.fault or self.refusal):
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
            if self.fault or self.refusal or engine.eof or engine.needs_input:
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
        except _ERRORS as error:
            self._judge(str(error), self._read + len(data))
            return b""

    def _judge(self, words: str, by: int) -> None:
        if "too much memory" in words:
            self.refusal = "its zstd window is larger than the 128 MiB that are spent on one layer"
        elif "checksum" in words:
            self.fault = f"a {self.name} checksum does not match what was decoded by byte {by}"
        else:
            self.fault = f"its {self.name} data cannot be decoded beyond byte {by}"

    def finish(self) -> None:
        """Say what is missing or too much."""
        if self.fault or self.refusal:
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
    # Reserved flags are not looked at: containerd 1.6 to 2.1 unpack such a layer; only newer ones refuse it.
    return head.startswith(_GZIP_MAGIC)


def _opens_frame(head: bytes) -> bool:
    return head.startswith(_ZSTD_MAGIC) or (head[0] & 0xF0 == 0x50 and head[1:4] == b"\x2a\x4d\x18")  # noqa: PLR2004 - RFC 8878, 3.1.2


def _igzip() -> _Engine:
    return IgzipDecompressor(flag=DECOMP_GZIP)


_GZIP = _Format(name="gzip", part="member", head=10, opens=_opens_member, engine=_igzip)
_ZSTD = _Format(name="zstd", part="frame", head=4, opens=_opens_frame, engine=ZstdDecompressor)


def decoder(start: bytes, *, piece: int = PIECE) -> Decoder:
    """Choose by the first SNIFF bytes, or all there are; pkg/archive/compression `DetectCompression`."""
    if start.startswith(_GZIP_MAGIC):
        return Framed(_GZIP, piece=piece)
    if start.startswith(_ZSTD_MAGIC) or (len(start) >= SNIFF and _opens_frame(start[:4])):
        return Framed(_ZSTD, piece=piece)
    return Plain()
