"""The bytes of an archive as chunks: read ahead by a thread, and out of gzip or zstd where they are in it."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from typing import Final, Generic, Protocol, Self, TypeVar

from backports import zstd
from isal.igzip_lib import DECOMP_GZIP, IgzipDecompressor, IsalError

from auditor.archive.problems import MALFORMED, TRAILING, TRUNCATED, ArchiveProblem, PassError
from auditor.errors import Unsupported

#: Bytes asked for at a time.
CHUNK = 1 << 20
#: How many chunks are read ahead.
AHEAD = 4
#: Seconds after which a thread that waits looks whether anybody still wants it.
_WAKE: Final = 0.1

_GZIP = b"\x1f\x8b"
_ZSTD = b"\x28\xb5\x2f\xfd"
#: zstd's skippable frames, of which pzstd and others put one first; RFC 8878, section 3.1.2.
_SKIPPABLE = frozenset(bytes([0x50 + n, 0x2A, 0x4D, 0x18]) for n in range(16))
_FOREIGN = {b"\xfd7zX": "xz", b"BZh": "bzip2", b"\x04\x22\x4d\x18": "lz4", b"PK\x03\x04": "zip"}

_Item = TypeVar("_Item")


class _Inflater(Protocol):
    """What the gzip and the zstd decompressor have in common; it is Python's own BZ2Decompressor's."""

    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    @property
    def needs_input(self) -> bool: ...
    def decompress(self, data: bytes, /, max_length: int = -1) -> bytes: ...


def compression(head: bytes) -> str:
    """What the first bytes say: `gzip`, `zstd`, `none`.

    Raises Unsupported for a compression that containerd does not read either.
    """
    if head.startswith(_GZIP):
        return "gzip"
    if head.startswith(_ZSTD) or head[:4] in _SKIPPABLE:
        return "zstd"
    for magic, name in _FOREIGN.items():
        if head.startswith(magic):
            raise Unsupported(f"the archive is packed with {name}, which is not read", hint=f"unpack the {name} first")
    return "none"


def plain(chunks: Iterator[bytes]) -> tuple[str, Iterator[bytes]]:
    """The kind of compression of `chunks`, and the chunks without it.

    The iterator raises PassError where the compressed stream is damaged, cut or followed by garbage.
    """
    head, chunks = _peek(chunks)
    kind = compression(head)
    match kind:
        case "gzip":
            return kind, _inflated(chunks, kind, _gunzip, lambda rest: rest.startswith(_GZIP[: len(rest)]))
        case "zstd":
            return kind, _inflated(chunks, kind, zstd.ZstdDecompressor, _zstd_follows)
        case _:
            return kind, chunks


def _gunzip() -> _Inflater:
    inflater: _Inflater = IgzipDecompressor(flag=DECOMP_GZIP)
    return inflater


def _zstd_follows(rest: bytes) -> bool:
    head = rest[:4]
    return any(magic.startswith(head) for magic in (_ZSTD, *_SKIPPABLE))


def _peek(chunks: Iterator[bytes]) -> tuple[bytes, Iterator[bytes]]:
    """The first bytes, four or as many as there are, and an iterator that still has them."""
    head = b""
    for chunk in chunks:
        head += chunk
        if len(head) >= 4:  # noqa: PLR2004 - the longest magic number
            break

    def again() -> Iterator[bytes]:
        if head:
            yield head
        yield from chunks

    return head, again()


def _inflated(
    chunks: Iterator[bytes], kind: str, fresh: Callable[[], _Inflater], follows: Callable[[bytes], bool]
) -> Iterator[bytes]:
    """All frames of a compressed stream, one behind the other, and zeros as padding behind the last."""
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
                raise PassError(ArchiveProblem(TRUNCATED, f"the {kind} stream ends before its end"))
        try:
            out = inflater.decompress(data, max_length=CHUNK)
        except (IsalError, zstd.ZstdError, EOFError) as error:  # type: ignore[misc] # isal's stub
            raise PassError(ArchiveProblem(MALFORMED, f"the {kind} stream is damaged: {error}")) from None
        data = b""
        if out:
            yield out


def _only_zeros(rest: bytes, chunks: Iterator[bytes], kind: str) -> None:
    """Tapes and some tools pad with zeros; gzip itself takes those silently, and nothing else."""
    while rest:
        if rest.count(0) != len(rest):
            raise PassError(ArchiveProblem(TRAILING, f"bytes that are not {kind} follow the {kind} stream"))
        rest = next(chunks, b"")


class _End:
    """The end of what a thread reads ahead; with the error that ended it, if any."""

    def __init__(self, error: BaseException | None) -> None:
        self.error = error


class Ahead(Generic[_Item]):
    """An iterator whose items a thread draws from `chunks`, at most AHEAD of them early.

    Exceptions of `chunks` arrive here in their place. Reading, decompressing and hashing release the interpreter lock,
    so that they overlap. `close` must be called before what `chunks` reads from is closed: it waits for the thread,
    unless `endless` says that it may hang in a pipe that nobody writes to.
    """

    def __init__(self, chunks: Iterator[_Item], *, endless: bool = False) -> None:
        self._chunks = chunks
        self._endless = endless
        self._line: queue.Queue[_Item | _End] = queue.Queue(AHEAD)
        self._left = threading.Event()
        # A daemon thread: one that waits for a pipe must not keep the program alive.
        self._thread = threading.Thread(target=self._draw, name="archive-read-ahead", daemon=True)
        self._thread.start()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> _Item:
        while not self._left.is_set():
            try:
                item = self._line.get(timeout=_WAKE)
            except queue.Empty:
                continue
            if not isinstance(item, _End):
                return item
            self._left.set()
            if item.error is not None:
                raise item.error
        raise StopIteration

    def close(self) -> None:
        """Draw no more."""
        self._left.set()
        if not self._endless:
            self._thread.join()

    def _draw(self) -> None:
        error: BaseException | None = None
        try:
            for chunk in self._chunks:
                if not self._put(chunk):
                    return
        except BaseException as caught:  # noqa: BLE001 - it is raised again in the thread that asked
            error = caught
        self._put(_End(error))

    def _put(self, item: _Item | _End) -> bool:
        while not self._left.is_set():
            try:
                self._line.put(item, timeout=_WAKE)
            except queue.Full:
                continue
            return True
        return False
