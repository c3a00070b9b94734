"""Where an archive goes: a file that the kernel may copy into, a pipe, a compressor before either."""

from __future__ import annotations

import errno
import os
import queue
import threading
import zlib
from collections.abc import Callable
from contextlib import suppress
from typing import Final, Protocol

from backports import zstd
from isal import isal_zlib

from auditor.model.digest import Measured, Meter

Data = bytes | memoryview

#: Bytes between two rounds of writing back: the disk works while we read on, and the last sync is short.
WRITE_BACK: Final = 64 << 20
#: Bytes that one call lets the kernel copy: small enough for an interrupt to be heard, and for whoever reads back to
#: find them in the processor's cache.
_COPY: Final = 4 << 20
#: igzip's level 2 of 0 to 3: 4 % larger than gzip -6 at six times its speed.
_GZIP_LEVEL: Final = 2
_ZSTD_LEVEL: Final = 3
_NO_KERNEL_COPY = frozenset({errno.EXDEV, errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP, errno.EPERM, errno.EBADF})


class Sink(Protocol):
    """What an archive is written to."""

    def write(self, data: Data) -> None:
        """Take the next bytes. Raises OSError."""

    def finish(self) -> None:
        """Take the end: everything has been handed over when it returns. Raises OSError."""

    def abandon(self) -> None:
        """Stop without an end; whatever was written is of no use."""


class FileSink:
    """A file, written back to the disk as it grows; `on_grown` hears how much was added, and may raise."""

    def __init__(self, fd: int, *, on_grown: Callable[[int], None] | None = None) -> None:
        self.fd = fd
        self._on_grown = on_grown
        self._back = WriteBack(fd)

    def write(self, data: Data) -> None:
        """Write all of `data`."""
        _write_all(self.fd, data)
        self._grew(len(data))

    def copy(self, source: int, size: int, *, on_bytes: Callable[[int], None]) -> int:
        """Let the kernel copy the first `size` bytes of a file; returns how many it found. Raises OSError.

        `on_bytes` hears of them as they are copied.
        """
        offset = 0
        while offset < size:
            moved = _kernel_copy(source, self.fd, min(_COPY, size - offset), offset)
            if not moved:
                break
            offset += moved
            self._grew(moved)
            on_bytes(moved)
        return offset

    def _grew(self, size: int) -> None:
        self._back.grew(size)
        if self._on_grown is not None:
            self._on_grown(size)

    def finish(self) -> None:
        """Stop writing back; the caller syncs."""
        self._back.stop()

    def abandon(self) -> None:
        """Stop writing back."""
        with suppress(OSError):
            self._back.stop()


def _kernel_copy(source: int, target: int, size: int, offset: int) -> int:
    """copy_file_range, or sendfile where the file systems will not; both leave the bytes to the kernel."""
    try:
        return os.copy_file_range(source, target, size, offset_src=offset)
    except OSError as error:
        if error.errno not in _NO_KERNEL_COPY:
            raise
    return os.sendfile(target, source, offset, size)


def _write_all(fd: int, data: Data) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(fd, rest) :]


class WriteBack:
    """A thread that syncs a growing file now and then, so that the disk is not idle until the end."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._pending = 0
        self._wake = threading.Event()
        self._stopped = False
        self._error: OSError | None = None
        self._thread: threading.Thread | None = None

    def grew(self, size: int) -> None:
        """Hear of bytes written. Raises the OSError of an earlier sync."""
        self._pending += size
        if self._error is not None:
            raise self._error
        if self._pending < WRITE_BACK:
            return
        self._pending = 0
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="archive-write-back", daemon=True)
            self._thread.start()
        self._wake.set()

    def stop(self) -> None:
        """End the thread. Raises the OSError of an earlier sync: the kernel tells it once only."""
        self._stopped = True
        if self._thread is not None:
            self._wake.set()
            self._thread.join()
        if self._error is not None:
            raise self._error

    def _work(self) -> None:
        while self._wake.wait() and not self._stopped:
            self._wake.clear()
            try:
                os.fdatasync(self._fd)
            except OSError as error:
                self._error = error
                return


class PipeSink:
    """A pipe or a terminal-free standard output; `measured` is what went through."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._meter = Meter()

    @property
    def measured(self) -> Measured:
        """Digest and size of all bytes so far."""
        return self._meter.result()

    def write(self, data: Data) -> None:
        """Write all of `data`."""
        _write_all(self.fd, data)
        self._meter.update(data)

    def finish(self) -> None:
        """Nothing is held back."""

    def abandon(self) -> None:
        """Nothing runs behind it."""


class _Compressor(Protocol):
    def compress(self, data: Data, /) -> bytes: ...
    def flush(self) -> bytes: ...


class CompressingSink:
    """Compresses into another sink, in a thread beside the hashing; the same bytes for the same bytes."""

    def __init__(self, behind: Sink, compressor: _Compressor) -> None:
        self._behind = behind
        self._compressor = compressor
        self._line: queue.Queue[Data | None] = queue.Queue(4)
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._work, name="archive-compress", daemon=True)
        self._thread.start()

    def write(self, data: Data) -> None:
        """Hand the next bytes over; raises what went wrong with earlier ones."""
        if self._error is not None:
            raise self._error
        self._line.put(data)

    def finish(self) -> None:
        """Compress what is left, and finish the sink behind."""
        self._join()
        if self._error is not None:
            raise self._error
        self._behind.write(self._compressor.flush())
        self._behind.finish()

    def abandon(self) -> None:
        """End the thread without an end of the stream."""
        self._join()
        self._behind.abandon()

    def _join(self) -> None:
        self._line.put(None)
        self._thread.join()

    def _work(self) -> None:
        while (data := self._line.get()) is not None:
            if self._error is None:
                self._one(data)

    def _one(self, data: Data) -> None:
        try:
            packed = self._compressor.compress(data)
            if packed:
                self._behind.write(packed)
        except BaseException as error:  # noqa: BLE001 - it is raised again in the thread that writes
            self._error = error


def _gzip() -> _Compressor:
    compressor: _Compressor = isal_zlib.compressobj(_GZIP_LEVEL, isal_zlib.DEFLATED, zlib.MAX_WBITS | 16)
    return compressor


def _zstd() -> _Compressor:
    """With the checksum of the content, so that any reader notices damage."""
    parameter = zstd.CompressionParameter
    return zstd.ZstdCompressor(options={parameter.compression_level: _ZSTD_LEVEL, parameter.checksum_flag: 1})


COMPRESSORS: Final[dict[str, Callable[[], _Compressor]]] = {"gzip": _gzip, "zstd": _zstd}
