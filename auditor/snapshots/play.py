"""Apply a layer to an empty tree in memory, by the rules of containerd's `archive.Apply` (pkg/archive/tar.go)."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import closing
from typing import Final

import msgspec

from auditor.layers import LayerInspector, tar_entries
from auditor.layers.tar_entries import Entry, TarUnreadable, entries
from auditor.layers.threaded_meter import ThreadedMeter
from auditor.model.digest import Measured
from auditor.model.store import LayerVerification
from auditor.snapshots.beside import Beside
from auditor.snapshots.contents import Unplayable, fill_beside, fill_content
from auditor.snapshots.tree import Node, NodeKind, below, parts

_WHITEOUT: Final = b".wh."
_OPAQUE: Final = b".wh..wh..opq"
_SYMLINKS: Final = 255
#: Seconds outside this range become 0; pkg/archive/time.go `boundTime`, the range of a signed 64-bit count of ns.
_LATEST: Final = (1 << 63) - 1
#: Compressed bytes to decode at a time: bounds the memory that a decompression bomb takes.
_SLICE: Final = 32 << 10

_KINDS: Final = {
    tar_entries.REGULAR: NodeKind.FILE,
    tar_entries.DIRECTORY: NodeKind.DIRECTORY,
    tar_entries.SYMLINK: NodeKind.SYMLINK,
    tar_entries.CHARACTER: NodeKind.CHARACTER,
    tar_entries.BLOCK_DEVICE: NodeKind.BLOCK,
    tar_entries.FIFO: NodeKind.FIFO,
}


class Played(msgspec.Struct, frozen=True):
    """A layer's expected tree and its verification; `refusal` says why the tree cannot be used, empty if it can."""

    tree: Node
    verification: LayerVerification
    refusal: str = ""


def play(
    chunks: Iterable[bytes | memoryview],
    *,
    lowest: bool,
    contents: bool = True,
    base: Node | None = None,
    files: Beside | None = None,
    max_size: int | None = None,
) -> Played:
    """Return the tree that unpacking a layer leaves, from one decoding that also gives the diffID.

    Args:
        chunks: The layer's blob.
        lowest: Whether the layer has no parent: whiteouts then delete and leave nothing.
        contents: Whether to hash the content of each file; the layer's diffID is computed in any case.
        base: The tree that the layer is applied to, which is changed; whiteouts then delete, too.
        files: The unpacked files: content that equals theirs is not hashed.
        max_size: Bytes of output after which decompression stops; the verification is then UNVERIFIABLE.

    Raises:
        Unsettled: A large file differs from the one in `files`; the layer is to be played without these.
        StoreError: Reading the blob failed.

    """
    model = _Model(lowest=lowest or base is not None, contents=contents, base=base, files=files)
    with closing(_LayerStream(chunks, max_size=max_size)) as stream:
        return _played(model, stream)


def _played(model: _Model, stream: _LayerStream) -> Played:
    refusal = ""
    try:
        for entry in entries(stream):
            model.add(entry, stream)
        model.finish()
    except Unplayable as reason:
        refusal = str(reason)
    except TarUnreadable as reason:
        refusal = f"the tar cannot be parsed: {reason}"
    return Played(model.root, stream.finish(), refusal)


class _LayerStream:
    """The decompressed bytes of a layer as a file that is read forwards, hashed and checked on the way."""

    def __init__(self, chunks: Iterable[bytes | memoryview], *, max_size: int | None = None) -> None:
        self._chunks = _sliced(chunks)
        self._meter = ThreadedMeter()
        self._pieces: deque[bytes] = deque()
        #: The piece that is being read, and how many of its bytes were.
        self._piece = b""
        self._begun = 0
        self._at = 0
        self._ended = False
        self._inspector = LayerInspector(meter=self, max_size=max_size)
        self._verification: LayerVerification | None = None

    @property
    def size(self) -> int:
        """Decompressed bytes so far."""
        return self._meter.size

    def update(self, chunk: bytes | memoryview) -> None:
        """Take decompressed bytes from the inspector."""
        piece = bytes(chunk)
        self._meter.update(piece)
        if piece and not self._ended:
            self._pieces.append(piece)

    def result(self) -> Measured:
        """Return digest and size of all decompressed bytes."""
        return self._meter.result()

    def close(self) -> None:
        """End the thread that hashes."""
        self._meter.close()

    def finish(self) -> LayerVerification:
        """Read the rest, and return the layer's verification."""
        self._ended = True
        self._pieces.clear()
        for chunk in self._chunks:
            self._inspector.update(chunk)
        return self._end()

    def _end(self) -> LayerVerification:
        if self._verification is None:
            self._verification = self._inspector.finish()
        return self._verification

    def _next(self) -> bool:
        """Go on to the next piece; False at the end."""
        while not self._pieces and self._verification is None:
            chunk = next(self._chunks, None)
            if chunk is None:
                self._end()
            else:
                self._inspector.update(chunk)
        self._piece, self._begun = (self._pieces.popleft(), 0) if self._pieces else (b"", 0)
        return bool(self._piece)

    def tell(self) -> int:
        """Return the position."""
        return self._at

    def skip(self, size: int) -> None:
        """Pass over the next `size` bytes."""
        self._at += size
        while size > (left := len(self._piece) - self._begun):
            size -= left
            if not self._next():
                return
        self._begun += size

    def read(self, size: int) -> bytes:
        """Return the next `size` bytes, fewer at the end."""
        end = self._begun + size
        found = self._piece[self._begun : end]
        self._begun = min(end, len(self._piece))
        if len(found) < size:
            found = self._gathered(found, size)
        self._at += len(found)
        return found

    def _gathered(self, start: bytes, size: int) -> bytes:
        found, left = [start], size - len(start)
        while left and self._next():
            found.append(self._piece[:left])
            self._begun = len(found[-1])
            left -= self._begun
        return b"".join(found)


def _sliced(chunks: Iterable[bytes | memoryview]) -> Iterator[memoryview]:
    for chunk in chunks:
        view = memoryview(chunk)
        for start in range(0, len(view), _SLICE):
            yield view[start : start + _SLICE]


class _Model:
    """The tree under construction."""

    def __init__(self, *, lowest: bool, contents: bool, base: Node | None = None, files: Beside | None = None) -> None:
        self.root = base or Node(NodeKind.DIRECTORY, implicit=True)
        self._lowest = lowest
        self._contents = contents
        self._files = files
        #: Directory entries in order: their times are set at the end.
        self._directories: list[tuple[bytes, int]] = []
        #: Directory and name of each entry, as an opaque marker leaves these. Without a base, all that is not implicit.
        self._unpacked: set[tuple[Node, bytes]] | None = None if base is None else set()

    def add(self, entry: Entry, stream: _LayerStream) -> None:
        """Apply one entry."""
        path = parts(entry.path)
        if not path:
            return
        parent = self._parent(path[:-1])
        if self._whiteout(parent, path[-1], entry):
            return
        node = self._node(parent, path[-1], entry)
        node.implicit = False
        if self._unpacked is not None:
            self._unpacked.add((parent, path[-1]))
        _fill_attributes(node, entry)
        if entry.kind == tar_entries.REGULAR and node.kind is NodeKind.FILE:
            node.size = entry.size
            self._fill(node, entry, path, stream)
        if node.kind is NodeKind.DIRECTORY:
            self._directories.append((b"/".join(path), node.mtime))

    def _fill(self, node: Node, entry: Entry, path: list[bytes], stream: _LayerStream) -> None:
        if not self._contents:
            return
        if self._files is None:
            fill_content(node, entry, stream)
        else:
            fill_beside(node, entry, path, stream, self._files)

    def finish(self) -> None:
        """Set the times of directories, and count the names of each node."""
        for path, mtime in self._directories:
            node = self._resolve(parts(path), last=True)
            if node is not None:
                node.mtime = mtime
        for node in below(self.root):
            node.links += 1

    def _whiteout(self, parent: Node, base: bytes, entry: Entry) -> bool:
        """Apply a whiteout; False where the entry is none. `OverlayConvertWhiteout`, and `applyNaive` at the bottom."""
        if not base.startswith(_WHITEOUT):
            return False
        children = _children(parent)
        if base == _OPAQUE:
            if self._lowest:
                self._clear(parent)
            else:
                parent.opaque = True
            return True
        name = base.removeprefix(_WHITEOUT)
        if name in (b"", b".", b".."):
            raise Unplayable(f"containerd does not unpack a whiteout named {base!r}")
        if self._lowest:
            children.pop(name, None)
            return True
        if name in children:
            raise Unplayable("a whiteout follows an entry of its name, which containerd does not unpack")
        node = children[name] = Node(NodeKind.WHITEOUT)
        node.uid, node.gid = entry.uid, entry.gid
        return True

    def _clear(self, directory: Node) -> None:
        """Remove what has no entry of its own in this layer, as `applyNaive` does for an opaque marker."""
        children = _children(directory)
        for name, child in list(children.items()):
            gone = child.implicit if self._unpacked is None else (directory, name) not in self._unpacked
            if gone:
                del children[name]
            elif child.children:
                self._clear(child)

    def _parent(self, path: list[bytes]) -> Node:
        """Return the directory of an entry; create what is missing. Symlinks are resolved within this layer."""
        node = self._resolve(path, last=True, create=True)
        if node is None or node.kind is not NodeKind.DIRECTORY:
            raise Unplayable("an entry lies below a file that is no directory, which containerd does not unpack")
        return node

    def _resolve(self, path: list[bytes], *, last: bool, create: bool = False) -> Node | None:
        """Return the node of a path, following symlinks, the last one only with `last`; continuity's `RootPath`."""
        waiting = path[::-1]
        chain = [self.root]
        followed = 0
        while waiting:
            part = waiting.pop()
            if part in (b"", b".", b".."):
                if part == b".." and len(chain) > 1:
                    chain.pop()
                continue
            if chain[-1].children is None:
                return None
            child = chain[-1].children.get(part)
            if child is None and create:
                child = chain[-1].children[part] = Node(NodeKind.DIRECTORY, implicit=True)
            if child is None:
                return None
            if child.kind is not NodeKind.SYMLINK or (not waiting and not last):
                chain.append(child)
                continue
            followed += 1
            if followed > _SYMLINKS:
                raise Unplayable("too many symbolic links")
            if child.target.startswith(b"/"):
                del chain[1:]
            waiting.extend(child.target.split(b"/")[::-1])
        return chain[-1]

    def _node(self, parent: Node, name: bytes, entry: Entry) -> Node:
        children = _children(parent)
        present = children.get(name)
        if entry.kind == tar_entries.HARD_LINK:
            children[name] = node = self._linked(entry, present)
            return node
        kind = _KINDS.get(entry.kind)
        if kind is None:
            raise Unplayable(f"an entry of type {entry.kind!r}, which containerd does not unpack")
        device = entry.device[0] << 32 | entry.device[1] if kind in (NodeKind.CHARACTER, NodeKind.BLOCK) else 0
        if kind is NodeKind.CHARACTER and not device:
            kind = NodeKind.WHITEOUT
        if present is not None and present.kind is kind is NodeKind.DIRECTORY:
            return present
        node = children[name] = Node(kind)
        node.device = device
        if kind is NodeKind.SYMLINK:
            node.target = entry.link
        return node

    def _linked(self, entry: Entry, present: Node | None) -> Node:
        target = self._resolve(parts(entry.link), last=False)
        if target is None or target.kind is NodeKind.DIRECTORY or target is present:
            raise Unplayable("a hard link to a file that is not in the layer, which containerd does not unpack")
        return target


def _children(directory: Node) -> dict[bytes, Node]:
    if directory.children is None:
        raise Unplayable("an entry lies below a file that is no directory, which containerd does not unpack")
    return directory.children


def _fill_attributes(node: Node, entry: Entry) -> None:
    """Set mode, owner, time and xattrs; a hard link's entry sets those of the file that it links."""
    node.mode = entry.mode & 0o7777
    node.uid, node.gid = entry.uid, entry.gid
    node.mtime = entry.mtime if 0 <= entry.mtime <= _LATEST else 0
    if node.xattrs is not None:
        node.xattrs.pop("security.capability", None)  # chown drops it
    for name, value in entry.xattrs.items():
        if name.startswith("trusted."):
            continue
        if name.startswith("user.") and node.kind not in (NodeKind.FILE, NodeKind.DIRECTORY):
            continue
        node.xattrs = {**(node.xattrs or {}), name: value}
