"""Apply a layer to an empty tree in memory, by the rules of containerd's `archive.Apply` (pkg/archive/tar.go)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import closing
from itertools import chain, islice
from typing import Final

import msgspec

from auditor.layers import tar_entries
from auditor.layers.inspector import LayerDecoder
from auditor.layers.piece_reader import PieceReader
from auditor.layers.tar_entries import Entry, TarUnreadable, entries
from auditor.layers.threaded_meter import SMALL, ThreadedMeter
from auditor.model.store import LayerVerification
from auditor.snapshots.beside import Beside
from auditor.snapshots.contents import Unplayable, fill_beside, fill_content
from auditor.snapshots.tree import UNCHANGED, Node, NodeKind, below, directory, parts

_WHITEOUT: Final = b".wh."
_OPAQUE: Final = b".wh..wh..opq"
_SYMLINKS: Final = 255

#: What mknod(2) takes of a device's numbers.
_MAJOR: Final = 0xFFF
_MINOR: Final = 0xFFFFF

_KINDS: Final = {
    tar_entries.REGULAR: NodeKind.FILE,
    tar_entries.DIRECTORY: NodeKind.DIRECTORY,
    tar_entries.SYMLINK: NodeKind.SYMLINK,
    tar_entries.CHARACTER: NodeKind.CHARACTER,
    tar_entries.BLOCK_DEVICE: NodeKind.BLOCK,
    tar_entries.FIFO: NodeKind.FIFO,
}
_FILE: Final = NodeKind.FILE
_DEVICES: Final = frozenset({NodeKind.CHARACTER, NodeKind.BLOCK})
#: Pieces of at most 1 MiB that are decompressed ahead.
_AHEAD: Final = 4
#: Last components of a path that are no name.
_NO_NAMES: Final = frozenset({b"", b".", b".."})


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
    with closing(ThreadedMeter()) as meter, ThreadPoolExecutor(1, "layer-decompression") as pool:
        layer = LayerDecoder(max_size=max_size, meter=meter)
        refusal, fault = _applied(model, _decompressed(layer, meter, chunks, pool))
        return Played(model.root, layer.verification(fault), refusal)


def _applied(model: _Model, pieces: Iterator[bytes]) -> tuple[str, str]:
    """Apply a layer's entries, and take the rest of its pieces; return the refusal, and the fault of the tar."""
    fault = refusal = ""
    try:
        refusal = _apply(model, PieceReader(pieces))
    except TarUnreadable as found:
        fault = str(found)
        refusal = f"the tar cannot be parsed: {fault}"
    for _ in pieces:
        pass
    return refusal, fault


def _apply(model: _Model, stream: PieceReader) -> str:
    """Apply the entries up to one that cannot be; return why it cannot, after a look at the headers behind it."""
    walk = entries(stream)
    refusal = ""
    try:
        for entry in walk:
            model.add(entry, stream)
        model.finish()
    except Unplayable as reason:
        refusal = str(reason)
    for _ in walk:
        pass
    return refusal


def _decompressed(
    layer: LayerDecoder, meter: ThreadedMeter, chunks: Iterable[bytes | memoryview], pool: Executor
) -> Iterator[bytes]:
    """Decompress a layer in another thread, some pieces ahead; a small one in this, which also reads the blob."""
    ready: list[bytes] = []
    for source in chain(map(layer.decode, chunks), (layer.rest(),)):
        more = True
        while more:
            if meter.size <= SMALL:
                yield from ready
                ready = _taken(source)
            else:
                job = pool.submit(_taken, source)
                yield from ready
                ready = job.result()
            more = len(ready) == _AHEAD
    yield from ready


def _taken(source: Iterator[bytes | memoryview]) -> list[bytes]:
    return list(map(bytes, islice(source, _AHEAD)))


class _Model:
    """The tree under construction."""

    def __init__(self, *, lowest: bool, contents: bool, base: Node | None = None, files: Beside | None = None) -> None:
        self.root = base or directory(implicit=True)
        self._lowest = lowest
        self._contents = contents
        self._files = files if contents else None
        #: The directory of the latest entry: its path in the tar, None where another entry may have replaced a part of
        #: it since, then the path's components and the directory.
        self._head: bytes | None = None
        self._path: list[bytes] = []
        self._directory = self.root
        #: Whether a file may have several names.
        self._linked = base is not None
        #: Directory entries in order: their times are set at the end.
        self._directories: list[tuple[bytes, int]] = []
        #: Directory and name of each entry, as an opaque marker leaves these. Without a base, all that is not implicit.
        self._unpacked: set[tuple[Node, bytes]] | None = None if base is None else set()

    def add(self, entry: Entry, stream: PieceReader) -> None:
        """Apply one entry."""
        head, _, name = entry.path.rpartition(b"/")
        if head != self._head or name in _NO_NAMES or entry.fault:
            if entry.fault:
                raise Unplayable(entry.fault)
            path = parts(entry.path)
            if not path:
                return
            self._head = None if name in _NO_NAMES else head
            name = path.pop()
            self._path, self._directory = path, self._parent(path)
        if name[:4] == _WHITEOUT:
            self._whiteout(self._directory, name, entry)
            return
        node = self._node(self._directory, name, entry)
        if self._unpacked is not None:
            self._unpacked.add((self._directory, name))
        if entry.xattrs:
            _set_xattrs(node, entry.xattrs)
        if node.kind is _FILE:
            self._fill(node, entry, name, stream)
        elif node.kind is NodeKind.DIRECTORY:
            self._directories.append((b"/".join((*self._path, name)), node.mtime))

    def _fill(self, node: Node, entry: Entry, name: bytes, stream: PieceReader) -> None:
        if entry.kind != tar_entries.REGULAR:
            return
        if self._files is not None:
            fill_beside(node, entry, (self._path, name), stream, self._files)
        elif self._contents:
            fill_content(node, entry, stream)

    def finish(self) -> None:
        """Set the times of directories, and count the names of each node."""
        for path, mtime in self._directories:
            node = self._resolve(parts(path), last=True)
            if node is not None:
                node.mtime = mtime
        if self._linked:
            for node in below(self.root):
                node.links = 0
            for node in below(self.root):
                node.links += 1

    def _whiteout(self, parent: Node, base: bytes, entry: Entry) -> None:
        """Apply a whiteout; `OverlayConvertWhiteout`, and `applyNaive` at the bottom."""
        children = _children(parent)
        self._head = None
        if base == _OPAQUE:
            if self._lowest:
                self._clear(parent)
            else:
                parent.opaque = True
            return
        name = base.removeprefix(_WHITEOUT)
        if name in (b"", b".", b".."):
            raise Unplayable(f"containerd does not unpack a whiteout named {base!r}")
        if self._lowest:
            children.pop(name, None)
            return
        if name in children:
            raise Unplayable("a whiteout follows an entry of its name, which containerd does not unpack")
        node = children[name] = Node(NodeKind.WHITEOUT)
        node.uid, node.gid = entry.uid, entry.gid

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
                child = chain[-1].children[part] = directory(implicit=True)
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
        """Return the file of an entry, with its attributes."""
        children = _children(parent)
        present = children.get(name)
        if present is not None:
            self._head = None
        kind = _KINDS.get(entry.kind)
        if kind is None:
            children[name] = node = self._link_target(entry, present)
            _set_attributes(node, entry)
        elif present is not None and present.kind is kind is NodeKind.DIRECTORY:
            node = present
            _set_attributes(node, entry)
        else:
            children[name] = node = Node(kind, entry.mode, entry.uid, entry.gid, entry.mtime, entry.size)
            if kind is not _FILE:
                _set_body(node, entry)
        return node

    def _link_target(self, entry: Entry, present: Node | None) -> Node:
        if entry.kind != tar_entries.HARD_LINK:
            raise Unplayable(f"an entry of type {entry.kind!r}, which containerd does not unpack")
        self._linked = True
        target = self._resolve(parts(entry.link), last=False)
        if target is None or target.kind is NodeKind.DIRECTORY or target is present:
            raise Unplayable("a hard link to a file that is not in the layer, which containerd does not unpack")
        return target


def _children(directory: Node) -> dict[bytes, Node]:
    if directory.children is None:
        raise Unplayable("an entry lies below a file that is no directory, which containerd does not unpack")
    return directory.children


def _set_body(node: Node, entry: Entry) -> None:
    """Set what other files than regular ones have; the character device 0:0 is a whiteout."""
    if node.kind is NodeKind.DIRECTORY:
        node.children = {}
    elif node.kind is NodeKind.SYMLINK:
        node.target = entry.link
    elif node.kind in _DEVICES:
        node.device = (entry.device[0] & _MAJOR) << 32 | entry.device[1] & _MINOR
        if node.kind is NodeKind.CHARACTER and not node.device:
            node.kind = NodeKind.WHITEOUT


def _set_attributes(node: Node, entry: Entry) -> None:
    """Set mode, owner and time of a file that is there; a hard link's entry sets those of the file that it links."""
    node.implicit = False
    node.mode, node.mtime = entry.mode, entry.mtime
    node.uid = node.uid if entry.uid == UNCHANGED else entry.uid
    node.gid = node.gid if entry.gid == UNCHANGED else entry.gid
    if node.seen is not None:
        node.seen = *node.seen[:2], False
    if node.xattrs is not None:
        node.xattrs.pop("security.capability", None)  # chown drops it


def _set_xattrs(node: Node, xattrs: dict[str, bytes]) -> None:
    for name, value in xattrs.items():
        if name.startswith("trusted."):
            continue
        if name.startswith("user.") and node.kind not in (NodeKind.FILE, NodeKind.DIRECTORY):
            continue
        node.xattrs = {**(node.xattrs or {}), name: value}
