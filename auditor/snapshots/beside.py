"""Compare files with a layer's entries while the layer is decoded: equal bytes need no hash on either side."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from auditor.snapshots.tree import Node

#: Called before bytes of a blob or a file are read, with their number; waits for a rate limit, and counts progress.
Admit = Callable[[int], None]
#: No part of a path is followed as a symlink, and the directory is not read.
DIRECTORY: Final = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_TYPE: Final = 0o170000
_PERMISSIONS: Final = 0o7777
_FILE: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_UNTOUCHED: Final = _FILE | os.O_NOATIME
#: The path of a file's directory, and its name.
Place = tuple[list[bytes], bytes]
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

    def __enter__(self) -> Self:
        """Open the directory if there is one."""
        with suppress(OSError):
            self._root = os.open(os.fsencode(self._directory) + b"/", DIRECTORY)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the directories."""
        self._leave()
        if self._root >= 0:
            os.close(self._root)
            self._root = -1

    def equal(self, node: Node, place: Place, parts: Iterable[bytes]) -> bool | None:
        """Return whether a file has exactly these bytes, and set `seen` of its node then.

        This runs for each file of a layer: it calls as little as it can.

        Args:
            node: The file.
            place: Its directory's path and its name.
            parts: As many bytes as the node has.

        Returns:
            None, before a part is taken, where there is no regular file of this size that can be opened.

        """
        parent, name = place
        if parent is not self._parent and parent != self._parent:
            self._enter(parent)
        at = self._descriptor
        if at < 0:
            return None
        try:
            info = os.lstat(name, dir_fd=at)
            if info.st_size != node.size or info.st_mode & _TYPE != stat.S_IFREG:
                return None
            try:
                descriptor = os.open(name, _UNTOUCHED, dir_fd=at)
            except PermissionError:
                descriptor = os.open(name, _FILE, dir_fd=at)
        except (OSError, ValueError):
            return None  # a name with a zero byte is no file's
        try:
            for part in parts:
                self._admit(len(part))
                if _read(descriptor, len(part)) != part:
                    return False
            bare = _bare(descriptor)
        finally:
            os.close(descriptor)
        same = (
            bare
            and info.st_mtime_ns == node.mtime
            and info.st_mode & _PERMISSIONS == node.mode
            and info.st_uid == node.uid
            and info.st_gid == node.gid
            and info.st_nlink == 1
            and not node.xattrs
        )
        node.seen = info.st_ino, info.st_ctime_ns, same
        return True

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


def _read(descriptor: int, size: int) -> bytes:
    """Return up to `size` bytes of a file; none where it cannot be read."""
    try:
        return os.read(descriptor, size)
    except OSError:
        return b""


def _bare(descriptor: int) -> bool:
    """Return whether an open file has no xattr that is compared."""
    try:
        names = os.listxattr(descriptor)
    except OSError:
        return False
    return NOT_COMPARED.issuperset(names)


def readable(path: bytes, flags: int, *, at: int | None = None) -> int:
    """Open a file without a change of its access time, if that is permitted."""
    try:
        return os.open(path, flags | os.O_NOATIME, dir_fd=at)
    except PermissionError:
        return os.open(path, flags, dir_fd=at)
