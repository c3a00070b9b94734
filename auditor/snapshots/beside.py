"""Compare files with a layer's entries while the layer is decoded: equal bytes need no hash on either side."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Final, Self

#: Called before bytes of a blob or a file are read, with their number; waits for a rate limit, and counts progress.
Admit = Callable[[int], None]
#: No part of a path is followed as a symlink, and the directory is not read.
DIRECTORY: Final = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_TYPE: Final = 0o170000
_FILE: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
#: The path of a file's directory, and its name.
Place = tuple[list[bytes], bytes]
#: An inode, when it changed last, and whether it has no xattr to compare, as it was before its bytes were read.
Seen = tuple[int, int, bool]
#: xattrs that the node's own security policy writes, and ACLs.
NOT_COMPARED: Final = frozenset(
    {
        "security.selinux",
        "security.ima",
        "security.evm",
        "security.apparmor",
        "system.posix_acl_access",
        "system.posix_acl_default",
    }
)


def at_once(_count: int) -> None:
    """Admit bytes without a limit."""


class Unsettled(Exception):
    """The content of a file must be hashed, and the layer was played without hashing it."""


class Beside:
    """The files of a snapshot's directory, opened one by one in the order of a layer's entries.

    A file that cannot be opened, is of another size or is none has no say here: the comparison with the finished tree
    reports it.

    Args:
        directory: The `fs` directory of the snapshot.
        admit: Called before content is read; what it raises ends the comparison.

    """

    def __init__(self, directory: Path, *, admit: Admit = at_once) -> None:
        self._directory = directory
        self._admit = admit
        self._root = -1
        #: The directory of the last entry, and its path; no descriptor where it cannot be opened.
        self._parent: list[bytes] | None = None
        self._descriptor = -1
        #: Of the file that was opened last.
        self.seen: Seen = (0, 0, False)

    def __enter__(self) -> Self:
        """Open the directory if there is one."""
        with suppress(OSError):
            self._root = os.open(self._directory, DIRECTORY)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the directories."""
        self._leave()
        if self._root >= 0:
            os.close(self._root)
            self._root = -1

    def opened(self, path: Place, size: int) -> int:
        """Open a regular file if it has this size, and set `seen`; the caller closes the descriptor. -1: not opened."""
        parent, name = path
        if parent is not self._parent and parent != self._parent:
            self._enter(parent)
        at = self._descriptor
        if at < 0:
            return -1
        try:
            info = os.stat(name, dir_fd=at, follow_symlinks=False)
            if info.st_size != size or info.st_mode & _TYPE != stat.S_IFREG:
                return -1
            try:
                opened = os.open(name, _FILE | os.O_NOATIME, dir_fd=at)
            except PermissionError:
                opened = os.open(name, _FILE, dir_fd=at)
        except (OSError, ValueError):
            return -1  # a name with a zero byte is no file's
        try:
            names = os.listxattr(opened)
            bare = not names or NOT_COMPARED.issuperset(names)
        except OSError:
            bare = False
        self.seen = info.st_ino, info.st_ctime_ns, bare
        return opened

    def read(self, descriptor: int, size: int) -> bytes:
        """Return up to `size` bytes of a file; none where it cannot be read."""
        self._admit(size)
        try:
            return os.read(descriptor, size)
        except OSError:
            return b""

    def _enter(self, parent: list[bytes]) -> None:
        self._leave()
        self._parent = parent
        try:
            descriptor = os.dup(self._root)
            for part in parent:
                try:
                    inner = os.open(part, DIRECTORY, dir_fd=descriptor)
                finally:
                    os.close(descriptor)
                descriptor = inner
        except (OSError, ValueError):
            return
        self._descriptor = descriptor

    def _leave(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor, self._parent = -1, None


def readable(path: bytes, flags: int, *, at: int | None = None) -> int:
    """Open a file without a change of its access time, if that is permitted."""
    try:
        return os.open(path, flags | os.O_NOATIME, dir_fd=at)
    except PermissionError:
        return os.open(path, flags, dir_fd=at)
