"""Take the content of a layer's files: compare it with the unpacked ones where these are at hand, else hash it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Final

from auditor.layers.piece_reader import PieceReader
from auditor.layers.tar_entries import Entry
from auditor.snapshots.beside import Beside, Place, Unsettled
from auditor.snapshots.tree import Node

_CHUNK: Final = 1 << 20


class Unplayable(Exception):
    """containerd could not unpack this entry either, or this model does not cover it."""


def fill_content(node: Node, entry: Entry, stream: PieceReader) -> None:
    """Hash the content of a file; a sparse file's holes are zeros. Raises Unplayable where the tar is cut off."""
    if entry.sparse is None and entry.size <= _CHUNK:
        node.digest = hashlib.sha256(_data(stream, entry.size)).digest()
        return
    hashed = hashlib.sha256()
    at = 0
    for start, size in [(0, entry.size)] if entry.sparse is None else entry.sparse:
        _hash_zeros(hashed, start - at)
        for piece in _parts(stream, size):
            hashed.update(piece)
        at = start + size
    _hash_zeros(hashed, entry.size - at)
    node.digest = hashed.digest()


def fill_beside(node: Node, entry: Entry, place: Place, stream: PieceReader, files: Beside) -> None:
    """Compare the content of a file with the one at its place; hash it where that is not there or differs.

    Args:
        node: The file.
        entry: Its entry.
        place: Its directory's path and its name.
        stream: The tar, at the entry's data.
        files: The unpacked files.

    Raises:
        Unsettled: A large file differs, of which the first part was not hashed.
        Unplayable: The tar is cut off.

    """
    if entry.sparse is not None:
        fill_content(node, entry, stream)
    elif node.size <= _CHUNK:
        data = _data(stream, node.size)
        if not files.equal(node, place, (data,)):
            node.digest = hashlib.sha256(data).digest()
    else:
        equal = files.equal(node, place, _parts(stream, node.size))
        if equal is None:
            fill_content(node, entry, stream)
        elif not equal:
            raise Unsettled


def _parts(stream: PieceReader, size: int) -> Iterator[bytes]:
    while size > 0:
        piece = _data(stream, min(_CHUNK, size))
        yield piece
        size -= len(piece)


def _data(stream: PieceReader, size: int) -> bytes:
    data = stream.read(size)
    if len(data) < size:
        raise Unplayable("the tar is cut off")
    return data


def _hash_zeros(hashed: hashlib._Hash, size: int) -> None:
    if size < 0:
        raise Unplayable("a sparse file whose parts overlap")
    while size:
        step = min(_CHUNK, size)
        hashed.update(bytes(step))
        size -= step
