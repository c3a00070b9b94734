"""Copy a database file into memory, without writing, creating or holding anything.

containerd holds an exclusive flock(2) on its databases while it runs. A shared lock is taken for the copy only, because
a starting daemon waits for it.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec

from auditor.bbolt import pages
from auditor.errors import ReadFailed, StoreError

#: Bytes of one read.
PIECE: Final = 1 << 20
#: Bytes that are read alone where a larger read fails.
SECTOR: Final = 4096
#: The largest file that is read; a database of 10,000 images has 134 MB.
LARGEST: Final = 4 << 30
#: How often a database that changes during the copy is copied.
ATTEMPTS: Final = 10
_FLAGS: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY


class Copy(msgspec.Struct, frozen=True):
    """The content of a database file; `holes` are the offsets of sectors that could not be read and are zero here.

    `in_use`: a process holds a lock on the file.
    """

    data: pages.Buffer
    holes: tuple[int, ...] = ()
    in_use: bool = False


def copy(path: Path, *, while_running: bool = False) -> Copy:
    """Copy a database file into memory.

    Args:
        path: The file.
        while_running: Read a file that a daemon has locked; accept the copy only if no transaction ended meanwhile.

    Raises:
        FileNotFoundError: There is no file.
        ReadFailed: The file cannot be opened, is not a regular file, or is too large.
        StoreError: A daemon holds the file, or changed it during each attempt.

    """
    with _opened(path) as descriptor:
        if _locked(descriptor):
            try:
                return _read(descriptor, path)
            finally:
                fcntl.flock(descriptor, fcntl.LOCK_UN)
        if not while_running:
            raise StoreError(
                f"a running daemon holds {path}",
                hint="audit the daemon with --address, or read its files with --while-running",
            )
        return _unchanged(descriptor, path)


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    try:
        descriptor = os.open(path, _FLAGS)
    except FileNotFoundError:
        raise
    except OSError as error:
        why = "it is a symbolic link, which is not followed" if error.errno == errno.ELOOP else error.strerror
        raise ReadFailed(f"cannot open {path}: {why}") from error
    try:
        looked = _status(descriptor, path)
        if not stat.S_ISREG(looked.st_mode):
            raise ReadFailed(f"{path} is not a regular file")
        if looked.st_size > LARGEST:
            raise ReadFailed(f"{path} has {looked.st_size} bytes; at most {LARGEST} are read")
        yield descriptor
    finally:
        os.close(descriptor)


def _status(descriptor: int, path: Path) -> os.stat_result:
    try:
        return os.fstat(descriptor)
    except OSError as error:
        raise ReadFailed(f"cannot read {path}: {error.strerror}") from error


def _locked(descriptor: int) -> bool:
    """Take a shared lock; False where another process holds an exclusive one."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _unchanged(descriptor: int, path: Path) -> Copy:
    """Copy a file in use, again where a transaction ended meanwhile: it may have overwritten pages."""
    for _ in range(ATTEMPTS):
        made = _read(descriptor, path)
        if made.holes:
            return msgspec.structs.replace(made, in_use=True)
        before = pages.metas(made.data)
        head = bytearray(os.pread(descriptor, 2 * before[0].page_size, 0)) if before else bytearray()
        after = pages.metas(head)
        if after and after[0].txid == before[0].txid:
            return msgspec.structs.replace(made, in_use=True)
    raise StoreError(f"{path} changed during each of {ATTEMPTS} copies", hint="audit the running daemon with --address")


def _read(descriptor: int, path: Path) -> Copy:
    """Read to the end of the file, which may grow meanwhile; read around sectors that fail."""
    os.lseek(descriptor, 0, os.SEEK_SET)
    try:
        with os.fdopen(descriptor, "rb", buffering=0, closefd=False) as file:
            return Copy(file.readall())
    except MemoryError:
        raise ReadFailed(
            f"cannot read {path}: not enough memory for its {_status(descriptor, path).st_size} bytes"
        ) from None
    except OSError as error:
        if error.errno != errno.EIO:
            raise ReadFailed(f"cannot read {path}: {error.strerror}") from error
    return _read_around(descriptor)


def _read_around(descriptor: int) -> Copy:
    data, holes = bytearray(), []
    while len(data) <= LARGEST:
        try:
            piece = os.pread(descriptor, PIECE, len(data))
        except OSError:
            piece, failed = _around(descriptor, len(data))
            holes += failed
        if not piece:
            break
        data += piece
    return Copy(data, tuple(holes))


def _around(descriptor: int, start: int) -> tuple[bytes, list[int]]:
    """Read a piece sector by sector; those that fail are zeros, and their offsets are returned."""
    end = min(start + PIECE, os.fstat(descriptor).st_size)
    found, holes = bytearray(), []
    for offset in range(start, end, SECTOR):
        length = min(SECTOR, end - offset)
        try:
            piece = os.pread(descriptor, length, offset)
        except OSError:
            piece = b""
            holes.append(offset)
        found += piece.ljust(length, b"\0")
    return bytes(found), holes
