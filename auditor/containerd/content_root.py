"""Read blobs as files in the content root; symbolic links are not followed, FIFOs and devices do not block."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import msgspec

from auditor.errors import DocumentTooLarge, InvalidDigest, ReadFailed
from auditor.model.digest import HEX_LENGTH, Digest
from auditor.model.store import FileKind, FileState

#: Bytes of one read(2): few calls, and small enough for the CPU cache while hashing.
PIECE = 1 << 20
_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY


class Absent(LookupError):
    """There is no file; a fault only if there is a record."""


class ContentRoot(msgspec.Struct, frozen=True):
    """A daemon's folder `io.containerd.content.v1.content`; the blobs are `blobs/<algorithm>/<hex>` in it.

    `spare` are files elsewhere that are read in place of blobs.
    """

    path: Path
    spare: Mapping[Digest, Path] = {}

    def blob_path(self, digest: Digest) -> Path:
        """Return the path of a blob's file."""
        return self.spare.get(digest) or self.path / "blobs" / digest.algorithm / digest.hex

    def open(self, digest: Digest) -> int:
        """Open a blob's file, which must be a regular file.

        Returns:
            A file descriptor; the caller closes it.

        Raises:
            Absent: There is no file.
            ReadFailed: It cannot be opened, or is not a regular file.

        """
        return self._regular(digest)[0]

    @contextmanager
    def opened(self, digest: Digest) -> Iterator[int]:
        """Open a blob's file for the duration of a block; errors as for `open`."""
        descriptor = self.open(digest)
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    def _regular(self, digest: Digest) -> tuple[int, int]:
        """Return a file descriptor and the file's size in bytes."""
        try:
            # The path as text: a Path of each part takes longer than open(2).
            descriptor = os.open(self.spare.get(digest) or f"{self.path!s}/blobs/{digest.replace(':', '/')}", _FLAGS)
        except FileNotFoundError:
            raise Absent from None
        except OSError as error:
            raise _unreadable(digest, error) from None
        try:
            looked = os.fstat(descriptor)
        except OSError as error:
            os.close(descriptor)
            raise _unreadable(digest, error) from None
        if stat.S_ISREG(looked.st_mode):
            return descriptor, looked.st_size
        os.close(descriptor)
        found = kind_of(looked.st_mode)
        raise ReadFailed(f"cannot read {digest}: its file is a {found}", hint=str(self.blob_path(digest)))

    def read(self, digest: Digest, *, limit: int) -> bytes:
        """Return the content of a file.

        Raises:
            Absent: There is no file.
            ReadFailed: It cannot be read.
            DocumentTooLarge: It has more than `limit` bytes.

        """
        descriptor, size = self._regular(digest)
        try:
            # Ask for one byte more than the size: a shorter result is the end of the file, without a second call.
            data = os.read(descriptor, min(size, limit) + 1)
            if len(data) != size:
                data += b"".join(_pieces(descriptor, digest, limit=limit + 1 - len(data)))
        except OSError as error:
            raise _unreadable(digest, error) from None
        finally:
            os.close(descriptor)
        if len(data) > limit:
            raise DocumentTooLarge(f"{digest} has more than the {limit} bytes that a document may have")
        return data

    def pieces(self, descriptor: int, digest: Digest, *, fresh: bool) -> Iterator[bytes]:
        """Yield the file in chunks; drop the pages that reading brought into the page cache.

        Args:
            descriptor: The open file.
            digest: The blob, for messages.
            fresh: Drop the file from the page cache first, so that it is read from the disk. Dirty and mapped pages
                stay (posix_fadvise(2)); blobs have neither for long.

        Raises:
            ReadFailed: The file cannot be read.

        """
        from auditor.containerd.page_cache import CacheKeeper  # noqa: PLC0415 - imports ctypes, for large blobs only

        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_SEQUENTIAL)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_NOREUSE)
        if fresh:
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        cache = CacheKeeper(descriptor, drop_all=fresh)
        offset = 0
        for piece in _pieces(descriptor, digest):
            yield piece
            cache.drop(offset, len(piece))
            offset += len(piece)

    def state(self, digest: Digest) -> FileState:
        """Return kind and size of one blob's file."""
        try:
            looked = self.blob_path(digest).lstat()
        except FileNotFoundError:
            return FileState(FileKind.MISSING)
        except OSError as error:
            return FileState(FileKind.UNREADABLE, error=error.strerror or str(error))
        kind = kind_of(looked.st_mode)
        return FileState(kind, looked.st_size if kind is FileKind.REGULAR else None)

    def states(self) -> Mapping[Digest, FileState]:
        """Return kind and size of every blob's file; other file names are ignored.

        Raises:
            ReadFailed: A folder cannot be listed.

        """
        found: dict[Digest, FileState] = {}
        for algorithm, length in HEX_LENGTH.items():
            try:
                found.update(_states(self.path / "blobs" / algorithm, algorithm, length))
            except (FileNotFoundError, NotADirectoryError):
                continue
            except OSError as error:
                raise ReadFailed(
                    f"cannot list the blobs in {self.path}: {error.strerror or error}", hint="dmesg may say more"
                ) from None
        return {**found, **{digest: self.state(digest) for digest in self.spare}}


def _states(folder: Path, algorithm: str, length: int) -> Mapping[Digest, FileState]:
    found: dict[Digest, FileState] = {}
    regular = FileKind.REGULAR  # Python 3.11 takes a microsecond to find a member of an enumeration
    # By its descriptor: the kernel does not look up each folder of the path for each file.
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with os.scandir(descriptor) as entries:
            for entry in entries:
                name = entry.name
                if len(name) != length:
                    continue
                try:
                    digest = Digest.parse(f"{algorithm}:{name}")
                    looked = entry.stat(follow_symlinks=False)
                except (InvalidDigest, FileNotFoundError):
                    continue
                except OSError as error:
                    found[digest] = FileState(FileKind.UNREADABLE, error=error.strerror or str(error))
                    continue
                mode = looked.st_mode
                found[digest] = FileState(regular, looked.st_size) if stat.S_ISREG(mode) else FileState(kind_of(mode))
    finally:
        os.close(descriptor)
    return found


def kind_of(mode: int) -> FileKind:
    """Return the kind of a file by its mode."""
    match stat.S_IFMT(mode):
        case stat.S_IFREG:
            return FileKind.REGULAR
        case stat.S_IFDIR:
            return FileKind.DIRECTORY
        case stat.S_IFLNK:
            return FileKind.LINK
        case _:
            return FileKind.SPECIAL


def _pieces(descriptor: int, digest: Digest, *, limit: int | None = None) -> Iterator[bytes]:
    left = limit
    while left is None or left > 0:
        piece = _piece(descriptor, digest, PIECE if left is None else min(PIECE, left))
        if not piece:
            return
        left = None if left is None else left - len(piece)
        yield piece


def _piece(descriptor: int, digest: Digest, length: int) -> bytes:
    try:
        return os.read(descriptor, length)
    except OSError as error:
        raise _unreadable(digest, error) from None


def _unreadable(digest: Digest, error: OSError) -> ReadFailed:
    if error.errno == errno.ELOOP:
        return ReadFailed(f"cannot read {digest}: its file is a {FileKind.LINK}", hint="containerd makes no links")
    words = error.strerror or str(error)
    return ReadFailed(f"cannot read {digest}: {words}", hint="dmesg may say more" if error.errno == errno.EIO else "")
