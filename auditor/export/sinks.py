"""Sinks of an archive: a file that the kernel may copy into, a pipe, a compressor in front of either."""

from __future__ import annotations

import errno
import os
import zlib
from collections.abc import Callable
from contextlib import suppress
from typing import Final, Protocol

from backports import zstd
from isal import isal_zlib

from auditor.concurrency import Worker
from auditor.model.digest import Measured, Meter

Data = bytes | memoryview

#: Bytes between two syncs of a growing file: the disk works meanwhile, and the last sync is short.
WRITE_BACK: Final = 64 << 20
#: Bytes that the kernel copies in one call: few enough to be interruptible, and to be in the processor's cache when
#: they are read back.
_COPY: Final = 4 << 20
#: igzip's level 2 of 0 to 3: 4 % larger than gzip -6 at six times its speed.
_GZIP_LEVEL: Final = 2
_ZSTD_LEVEL: Final = 3
_NO_KERNEL_COPY = frozenset({errno.EXDEV, errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP, errno.EPERM, errno.EBADF})


class Sink(Protocol):
    """The target of an archive's bytes."""

    def write(self, data: Data) -> None:
        """Take the next bytes. Raises OSError."""

    def finish(self) -> None:
        """Flush; all bytes have been written on return. Raises OSError."""

    def abandon(self) -> None:
        """Stop; the output is incomplete and of no use."""


class FileSink:
    """A file that is synced now and then as it grows.

    Args:
        fd: descriptor of the file.
        on_written: called with the number of bytes of each write; may raise.

    """

    def __init__(self, fd: int, *, on_written: Callable[[int], None] | None = None) -> None:
        self.fd = fd
        self._on_written = on_written
        self._back = WriteBack(fd)

    def write(self, data: Data) -> None:
        """Write all of `data`."""
        _write_all(self.fd, data)
        self._grew(len(data))

    def copy(self, source: int, size: int, *, on_bytes: Callable[[int], None]) -> int:
        """Copy the first `size` bytes of a file by the kernel.

        Args:
            source: descriptor of the file.
            size: bytes to copy.
            on_bytes: progress callback: bytes that were copied since the last call.

        Returns:
            The bytes copied; fewer than `size` where the file is shorter.

        Raises:
            OSError: the source cannot be read or the target cannot be written.

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
        if self._on_written is not None:
            self._on_written(size)

    def finish(self) -> None:
        """Stop the syncs; the caller does the last one."""
        self._back.stop()

    def abandon(self) -> None:
        """Stop the syncs."""
        with suppress(OSError):
            self._back.stop()


def _kernel_copy(source: int, target: int, size: int, offset: int) -> int:
    """Copy by copy_file_range(2), or by sendfile(2) where the file systems do not support that."""
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
    """Sync a growing file now and then in a thread, so that the disk is not idle until the end."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._pending = 0
        self._worker: Worker[int] | None = None

    def grew(self, size: int) -> None:
        """Count bytes written; start a sync once there are enough.

        Raises:
            OSError: an earlier sync failed.

        """
        self._pending += size
        if self._pending < WRITE_BACK:
            return
        self._pending = 0
        if self._worker is None:
            self._worker = Worker(os.fdatasync, name="archive-write-back", limit=1)
        self._worker.offer(self._fd)

    def stop(self) -> None:
        """End the thread.

        Raises:
            OSError: an earlier sync failed; the kernel reports that once only.

        """
        if self._worker is not None:
            self._worker.finish()


class PipeSink:
    """A pipe; its bytes are hashed."""

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
        """Do nothing: no byte is buffered."""

    def abandon(self) -> None:
        """Do nothing: no thread runs."""


class _Compressor(Protocol):
    def compress(self, data: Data, /) -> bytes: ...
    def flush(self) -> bytes: ...


class CompressingSink:
    """Compress into another sink in a thread; the same input gives the same output."""

    def __init__(self, target: Sink, compressor: _Compressor) -> None:
        self._target = target
        self._compressor = compressor
        self._worker: Worker[Data] = Worker(self._compress, name="archive-compress")

    def write(self, data: Data) -> None:
        """Hand over the next bytes. Raises the error of earlier ones."""
        self._worker.put(data)

    def finish(self) -> None:
        """Compress what is left, and finish the target."""
        self._worker.finish()
        self._target.write(self._compressor.flush())
        self._target.finish()

    def abandon(self) -> None:
        """End the thread without an end of the stream."""
        self._worker.abandon()
        self._target.abandon()

    def _compress(self, data: Data) -> None:
        if packed := self._compressor.compress(data):
            self._target.write(packed)


def _gzip() -> _Compressor:
    compressor: _Compressor = isal_zlib.compressobj(_GZIP_LEVEL, isal_zlib.DEFLATED, zlib.MAX_WBITS | 16)
    return compressor


def _zstd() -> _Compressor:
    """With the content checksum, so that any reader detects damage; RFC 8878, section 3.1.1.1.1."""
    parameter = zstd.CompressionParameter
    return zstd.ZstdCompressor(options={parameter.compression_level: _ZSTD_LEVEL, parameter.checksum_flag: 1})


COMPRESSORS: Final[dict[str, Callable[[], _Compressor]]] = {"gzip": _gzip, "zstd": _zstd}
