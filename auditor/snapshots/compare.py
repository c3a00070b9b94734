"""Compare a layer's expected tree with the directory that it was unpacked into."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec

from auditor.model.snapshot_files import Difference, Differences, Kind
from auditor.snapshots.beside import DIRECTORY, NOT_COMPARED, Admit, Unsettled, at_once, readable
from auditor.snapshots.tree import UNCHANGED, UNKNOWN, Node, NodeKind, count

_CHUNK: Final = 1 << 20
_OPAQUE: Final = "trusted.overlay.opaque"
_OVERLAY: Final = "trusted.overlay."
_CAPABILITY: Final = "security.capability"
_SECOND: Final = 10**9
#: The last second that 32 bits hold.
_LAST_SECOND: Final = (1 << 31) - 1
_TYPES: Final = {
    stat.S_IFDIR: NodeKind.DIRECTORY,
    stat.S_IFREG: NodeKind.FILE,
    stat.S_IFLNK: NodeKind.SYMLINK,
    stat.S_IFCHR: NodeKind.CHARACTER,
    stat.S_IFBLK: NodeKind.BLOCK,
    stat.S_IFIFO: NodeKind.FIFO,
}


def compare(
    tree: Node, directory: Path, *, privileged: bool = True, contents: bool = True, admit: Admit = at_once
) -> Differences:
    """Compare every file below `directory` with the tree; nothing is written.

    The root's own attributes are not compared: containerd ignores the layer's entry for it.

    Args:
        tree: What the layer unpacks to, from `play`.
        directory: The `fs` directory of the snapshot.
        privileged: Whether `trusted.*` xattrs are visible (CAP_SYS_ADMIN); opaque markers are else not compared.
        contents: Whether files are read; else their sizes are compared.
        admit: Called before content is read; what it raises ends the comparison.

    Raises:
        Unsettled: A file is not the one that was compared while the layer was played.
        FileNotFoundError: There is no directory.
        PermissionError: This process may not read one of the files, which is no damage.
        OSError: The directory cannot be read.

    """
    root = os.fsencode(directory)
    items = tuple(_Comparison(root, privileged=privileged, contents=contents, admit=admit).run(tree))
    skipped = () if privileged else ("opaque markers: reading trusted.* xattrs needs CAP_SYS_ADMIN",)
    return Differences(items, count(tree), skipped)


def agreed(look: Callable[[], Differences]) -> Differences:
    """Return the differences that two looks agree on; the second one only where there are any."""
    found = look()
    if not found.items:
        return found
    again = set(look().items)
    return msgspec.structs.replace(found, items=tuple(item for item in found.items if item in again))


class _Comparison:
    def __init__(self, root: bytes, *, privileged: bool, contents: bool, admit: Admit) -> None:
        self._root = root
        self._admit = admit
        self._contents = contents
        self._privileged = privileged
        #: The inode of each node that was compared: hard links must share it.
        self._inodes: dict[int, int] = {}

    def run(self, tree: Node) -> Iterator[Difference]:
        yield from self._opaque(tree, b"", self._xattrs(self._root + b"/", NodeKind.DIRECTORY))
        waiting = [(b"", tree)]
        while waiting:
            prefix, expected = waiting.pop()
            for path, node in self._children(expected, prefix):
                if isinstance(node, Difference):
                    yield node
                else:
                    found = tuple(self._compared(node, path))
                    yield from found
                    if node.kind is NodeKind.DIRECTORY and not any(d.kind in _STOPS for d in found):
                        waiting.append((path, node))

    def _children(self, expected: Node, prefix: bytes) -> Iterator[tuple[bytes, Node | Difference]]:
        """Yield what differs below a directory, and the nodes that have to be compared in detail."""
        try:
            opened = os.open(self._root + b"/" + prefix, DIRECTORY)
        except PermissionError:
            raise
        except OSError as error:
            yield prefix, _unreadable(prefix, error)
            return
        try:
            yield from self._listed(opened, expected.children or {}, prefix)
        finally:
            os.close(opened)

    def _listed(
        self, opened: int, names: dict[bytes, Node], prefix: bytes
    ) -> Iterator[tuple[bytes, Node | Difference]]:
        try:
            present = set(os.listdir(self._root + b"/" + prefix))  # noqa: PTH208 - names are bytes
        except PermissionError:
            raise
        except OSError as error:
            yield prefix, _unreadable(prefix, error)
            return
        before = prefix + b"/" if prefix else b""
        for name, node in names.items():
            if name not in present:
                yield before + name, _missing(before + name, node)
            elif node.seen is None or not _settled(node, name, opened):
                yield before + name, node
        for name in sorted(present - names.keys()):
            path = before + name
            yield path, Difference(path, Kind.EXTRA, below=self._count(path))

    def _count(self, path: bytes) -> int:
        return sum(len(folders) + len(files) for _, folders, files in os.walk(self._root + b"/" + path))

    def _compared(self, node: Node, path: bytes) -> Iterator[Difference]:
        full = self._root + b"/" + path
        try:
            info = os.lstat(full)
        except FileNotFoundError:
            yield _missing(path, node)
            return
        except PermissionError:
            raise
        except OSError as error:
            yield _unreadable(path, error)
            return
        kind = _kind(info)
        if kind is not node.kind:
            if node.kind is NodeKind.WHITEOUT:
                yield Difference(path, Kind.WHITEOUT_MISSING, f"a {kind or 'socket'} in place of a whiteout")
            else:
                yield Difference(path, Kind.TYPE, f"{kind or 'socket'} in place of {node.kind}")
            return
        first = id(node) not in self._inodes
        yield from self._links(node, path, info)
        if not first and self._inodes[id(node)] == info.st_ino:
            return  # another name of an inode that was compared
        yield from self._body(node, path, full, info)
        yield from self._attributes(node, path, full, info)

    def _links(self, node: Node, path: bytes, info: os.stat_result) -> Iterator[Difference]:
        first = self._inodes.setdefault(id(node), info.st_ino)
        if first != info.st_ino:
            yield Difference(path, Kind.HARD_LINK, "not the same inode as its other name")
        elif node.kind is NodeKind.FILE and info.st_nlink != node.links:
            yield Difference(path, Kind.HARD_LINK, f"{info.st_nlink} links, {node.links} in the layer")

    def _body(self, node: Node, path: bytes, full: bytes, info: os.stat_result) -> Iterator[Difference]:
        if node.kind is NodeKind.FILE:
            yield from _size(node, path, info)
            if self._contents and info.st_size == node.size:
                yield from _content(node, path, full, info, self._admit)
        elif node.kind is NodeKind.SYMLINK and os.readlink(full) != node.target:  # noqa: PTH115 - targets are bytes
            yield Difference(path, Kind.TARGET)
        elif node.kind in (NodeKind.CHARACTER, NodeKind.BLOCK):
            device = os.major(info.st_rdev) << 32 | os.minor(info.st_rdev)
            if device != node.device:
                yield Difference(path, Kind.DEVICE)

    def _attributes(self, node: Node, path: bytes, full: bytes, info: os.stat_result) -> Iterator[Difference]:
        """Compare mode, owner, time and xattrs; of implicit directories and whiteouts only what is known."""
        if node.kind is NodeKind.WHITEOUT:
            return
        if node.kind is NodeKind.DIRECTORY or node.kind is NodeKind.FILE or node.xattrs:
            xattrs = self._xattrs(full, node.kind)
            if node.kind is NodeKind.DIRECTORY:
                yield from self._opaque(node, path, xattrs)
            if not node.implicit:
                yield from _extended(node, path, xattrs)
        if node.implicit:
            return
        if node.kind is not NodeKind.SYMLINK and info.st_mode & 0o7777 != node.mode:
            yield Difference(path, Kind.MODE, f"{info.st_mode & 0o7777:o}, {node.mode:o} in the layer")
        if node.uid not in (UNCHANGED, info.st_uid) or node.gid not in (UNCHANGED, info.st_gid):
            yield Difference(path, Kind.OWNER, f"{info.st_uid}:{info.st_gid}, {node.uid}:{node.gid} in the layer")
        if not _same_time(node.mtime, info.st_mtime_ns):
            yield Difference(path, Kind.MTIME)

    def _xattrs(self, full: bytes, kind: NodeKind) -> dict[str, bytes] | None:
        """Return the xattrs; None where the file system has none. Raises OSError where the disk does not answer."""
        if kind not in (NodeKind.DIRECTORY, NodeKind.FILE, NodeKind.SYMLINK):
            return None
        found = {}
        try:
            for name in os.listxattr(full, follow_symlinks=False):
                with suppress(OSError):
                    found[name] = os.getxattr(full, name, follow_symlinks=False)
        except OSError as error:
            if error.errno == errno.EIO:
                raise
            return None
        return found

    def _opaque(self, node: Node, path: bytes, xattrs: dict[str, bytes] | None) -> Iterator[Difference]:
        if not self._privileged or xattrs is None:
            return
        present = xattrs.get(_OPAQUE) == b"y"
        if present != node.opaque:
            yield Difference(path, Kind.OPAQUE_EXTRA if present else Kind.OPAQUE_MISSING)


#: After these a directory's content is not looked at.
_STOPS: Final = frozenset({Kind.MISSING, Kind.TYPE, Kind.UNREADABLE})


def _kind(info: os.stat_result) -> NodeKind | None:
    kind = _TYPES.get(stat.S_IFMT(info.st_mode))
    return NodeKind.WHITEOUT if kind is NodeKind.CHARACTER and not info.st_rdev else kind


def _settled(node: Node, name: bytes, directory: int) -> bool:
    """Return whether a file is unchanged since it was compared, and nothing of it differed."""
    try:
        info = os.lstat(name, dir_fd=directory)
    except OSError:
        return False
    return node.seen == (info.st_ino, info.st_ctime_ns, True)


def _unreadable(path: bytes, error: OSError) -> Difference:
    return Difference(path, Kind.UNREADABLE, os.strerror(error.errno or errno.EIO))


def _same_time(expected: int, found: int) -> bool:
    """Return whether a file has its time, as far as its file system keeps it.

    ext4 with inodes of 128 bytes keeps no part of a second, XFS without `bigtime` no time after 2038.
    """
    if expected in (UNKNOWN, found) or found == expected - expected % _SECOND:
        return True
    return found // _SECOND == _LAST_SECOND and expected > found


def _missing(path: bytes, node: Node) -> Difference:
    if node.kind is NodeKind.WHITEOUT:
        return Difference(path, Kind.WHITEOUT_MISSING)
    return Difference(path, Kind.MISSING, below=count(node))


def _extended(node: Node, path: bytes, found: dict[str, bytes] | None) -> Iterator[Difference]:
    if found is None:
        return
    wanted = node.xattrs or {}
    for name in sorted(wanted.keys() | found.keys()):
        if name in NOT_COMPARED or name.startswith(_OVERLAY) or wanted.get(name) == found.get(name):
            continue
        yield Difference(path, Kind.CAPABILITY if name == _CAPABILITY else Kind.XATTR, name)


def _size(node: Node, path: bytes, info: os.stat_result) -> Iterator[Difference]:
    size = info.st_size
    if size != node.size:
        kind = Kind.LONGER if size > node.size else Kind.TRUNCATED if size else Kind.EMPTY
        yield Difference(path, kind, f"{size} bytes, {node.size} in the layer")


def _content(node: Node, path: bytes, full: bytes, info: os.stat_result, admit: Admit) -> Iterator[Difference]:
    if not node.size or (node.seen is not None and node.seen[:2] == (info.st_ino, info.st_ctime_ns)):
        return
    if not node.digest:
        raise Unsettled
    try:
        digest, zeros = _measured(full, node.size, admit)
    except PermissionError:
        raise
    except OSError as error:
        yield _unreadable(path, error)
        return
    if digest != node.digest:
        yield Difference(path, Kind.ZEROED if zeros else Kind.CONTENT)


def _measured(full: bytes, size: int, admit: Admit) -> tuple[bytes, bool]:
    """Return a file's SHA-256, and whether all its bytes are zero. Does not change its access time if permitted."""
    descriptor = readable(full, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if size <= _CHUNK:
            admit(size)
            data = os.read(descriptor, size + 1)
            return hashlib.sha256(data).digest(), not data.strip(b"\0")
        return _streamed(descriptor, admit)
    finally:
        os.close(descriptor)


def _streamed(descriptor: int, admit: Admit) -> tuple[bytes, bool]:
    hashed = hashlib.sha256()
    zeros = True
    while piece := os.read(descriptor, _CHUNK):
        admit(len(piece))
        hashed.update(piece)
        zeros = zeros and not piece.strip(b"\0")
    return hashed.digest(), zeros
