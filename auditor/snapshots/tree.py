"""The expected files of an unpacked layer: nodes by name, below the layer's root."""

from __future__ import annotations

import enum
from collections.abc import Iterator
from copy import copy
from typing import Final

import msgspec

#: Inode and time of change of a file whose content equals that of its entry, and whether all else of it does, too.
Seen = tuple[int, int, bool]
#: The `mtime` of a directory whose time of change cannot be told from the layers.
UNKNOWN: Final = -1
#: The `uid` or `gid` that chown(2) takes for none: the file keeps that of its creation, which is not compared.
UNCHANGED: Final = 0xFFFFFFFF


class NodeKind(enum.StrEnum):
    """The type of a file. A whiteout is the device 0:0 that hides a file of a lower layer."""

    DIRECTORY = "directory"
    FILE = "file"
    SYMLINK = "symlink"
    CHARACTER = "character device"
    BLOCK = "block device"
    FIFO = "fifo"
    WHITEOUT = "whiteout"


class Node(msgspec.Struct, eq=False, gc=False):
    """A file, as an inode: hard links are one node under several names.

    `digest` is the SHA-256 of a regular file's content; empty where the content equals that of the inode `seen`.
    `implicit`: a parent directory without an entry of its own, which gets the attributes of a lower layer. `mtime` is
    in ns, or `UNKNOWN`. `links` is the number of names of this node in the layer. Only directories have `children`. A
    tree has no cycles: the cycle collection need not look at some hundred thousand nodes.
    """

    kind: NodeKind
    mode: int = 0
    uid: int = 0
    gid: int = 0
    mtime: int = 0
    size: int = 0
    device: int = 0
    links: int = 1
    seen: Seen | None = None
    digest: bytes = b""
    target: bytes = b""
    implicit: bool = False
    opaque: bool = False
    xattrs: dict[str, bytes] | None = None
    children: dict[bytes, Node] | None = None


def directory(*, implicit: bool = False) -> Node:
    """Return an empty directory."""
    return Node(NodeKind.DIRECTORY, implicit=implicit, children={})


def parts(path: bytes) -> list[bytes]:
    """Return the components of a cleaned path; `..` does not leave the root."""
    found: list[bytes] = []
    for part in path.split(b"/"):
        if part == b"..":
            del found[-1:]
        elif part not in (b"", b"."):
            found.append(part)
    return found


def below(node: Node) -> Iterator[Node]:
    """Yield all nodes under a directory, once for each name."""
    waiting = [node]
    while waiting:
        for child in (waiting.pop().children or {}).values():
            yield child
            if child.children:
                waiting.append(child)


def count(node: Node) -> int:
    """Return the number of names under a directory."""
    waiting, found = [node], 0
    while waiting:
        children = waiting.pop().children or {}
        found += len(children)
        waiting.extend(child for child in children.values() if child.children)
    return found


def copied(tree: Node) -> Node:
    """Change a tree as the native snapshotter's copy of its parent does (continuity's `fs.CopyDir`), and return it.

    Directories get the time of copying, hard links of other files than regular ones are broken.
    """
    waiting = [tree]
    while waiting:
        children = waiting.pop().children or {}
        for name, child in children.items():
            if child.kind is NodeKind.DIRECTORY:
                child.mtime = UNKNOWN
                waiting.append(child)
            elif child.kind is not NodeKind.FILE and child.links > 1:
                child.links -= 1
                children[name] = copy(child)
    return tree
