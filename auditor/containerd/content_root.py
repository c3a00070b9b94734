"""The content root seen from this process: blobs as files, read without following or waiting for anything."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import msgspec

from auditor.errors import InvalidDigest, MalformedDocument, ReadFailed
from auditor.model.digest import HEX_LENGTH, Digest
from auditor.model.store import FileKind, FileState

#: Bytes read at once: few calls, and what a hash takes without leaving the cache.
PIECE = 1 << 20
_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY


class Absent(LookupError):
    """There is no file; whether that is a fault only the record can tell."""


class ContentRoot(msgspec.Struct, frozen=True):
    """`io.containerd.content.v1.content` of a daemon; `blobs/<algorithm>/<hex>` below it."""

    path: Path

    def blob_path(self, digest: Digest) -> Path:
        """Where the file of a blob is, or would be."""
        return self.path / "blobs" / digest.algorithm / digest.hex

    def open(self, digest: Digest) -> int:
        """A descriptor of the blob's file, a regular one for sure; the caller closes it.

        Raises Absent, and ReadFailed for anything else that stands in the way.
        """
        return self._regular(digest)[0]

    @contextmanager
    def opened(self, digest: Digest) -> Iterator[int]:
        """As `open`, for the length of a block."""
        descriptor = self.open(digest)
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    def _regular(self, digest: Digest) -> tuple[int, int]:
        """A descriptor, and the file's size in bytes."""
        descriptor = self._open(digest)
        looked = os.fstat(descriptor)
        if stat.S_ISREG(looked.st_mode):
            return descriptor, looked.st_size
        os.close(descriptor)
        found = kind_of(looked.st_mode)
        raise ReadFailed(f"cannot read {digest}: its file is a {found}", hint=str(self.blob_path(digest)))

    def _open(self, digest: Digest) -> int:
        try:
            return os.open(f"{self.path}/blobs/{digest.algorithm}/{digest.hex}", _FLAGS)
        except FileNotFoundError:
            raise Absent from None
        except OSError as error:
            raise _unreadable(digest, error) from None

    def read(self, digest: Digest, *, limit: int) -> bytes:
        """The whole file. Raises Absent, ReadFailed; MalformedDocument where it has more than `limit` bytes."""
        descriptor, size = self._regular(digest)
        try:
            # A read that asks for one byte more than there should be, and does not get it, has met the end.
            data = _piece(descriptor, digest, min(size, limit) + 1)
            if len(data) != size:
                data += b"".join(_pieces(descriptor, digest, limit=limit + 1 - len(data)))
        finally:
            os.close(descriptor)
        if len(data) > limit:
            raise MalformedDocument(f"{digest} has more than the {limit} bytes that a document may have")
        return data

    def pieces(self, descriptor: int, digest: Digest, *, fresh: bool) -> Iterator[bytes]:
        """The file in pieces; with `fresh`, from the medium where the kernel lets go of its copy.

        Pages that are dirty or mapped stay in the cache whatever is asked; blobs are neither for long. What reading
        brought into the cache is dropped again behind us, so that a node's programs are not pushed out of memory.
        """
        from auditor.containerd.page_cache import Guest  # noqa: PLC0415 - brings ctypes, for large blobs only

        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_SEQUENTIAL)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_NOREUSE)
        if fresh:
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        guest = Guest(descriptor, drop_all=fresh)
        offset = 0
        for piece in _pieces(descriptor, digest):
            yield piece
            guest.leave(offset, len(piece))
            offset += len(piece)

    def states(self) -> Mapping[Digest, FileState]:
        """Kind and size of every blob's file; names that are no digests are not blobs. Raises ReadFailed."""
        found: dict[Digest, FileState] = {}
        for algorithm, length in HEX_LENGTH.items():
            try:
                with os.scandir(self.path / "blobs" / algorithm) as entries:
                    found.update(_states(entries, algorithm, length))
            except (FileNotFoundError, NotADirectoryError):
                continue
            except OSError as error:
                raise ReadFailed(
                    f"cannot list the blobs in {self.path}: {error.strerror or error}", hint="dmesg may say more"
                ) from None
        return found


def _states(entries: Iterator[os.DirEntry[str]], algorithm: str, length: int) -> Iterator[tuple[Digest, FileState]]:
    for entry in entries:
        if len(entry.name) != length:
            continue
        try:
            digest = Digest.parse(f"{algorithm}:{entry.name}")
            looked = entry.stat(follow_symlinks=False)
        except (InvalidDigest, FileNotFoundError):
            continue
        except OSError as error:
            yield digest, FileState(FileKind.UNREADABLE, error=error.strerror or str(error))
            continue
        kind = kind_of(looked.st_mode)
        yield digest, FileState(kind, looked.st_size if kind is FileKind.REGULAR else None)


def kind_of(mode: int) -> FileKind:
    """What a file is, by its mode."""
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
