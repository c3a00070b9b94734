"""Reading one blob of an archive a second time: by seeking where it is plain, by unpacking up to it where not."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from contextlib import closing
from pathlib import Path

from auditor.archive import folder, outer
from auditor.archive.members import Seen
from auditor.archive.outer import CHUNK
from auditor.archive.problems import PassError
from auditor.archive.tar import Cursor
from auditor.errors import ReadFailed


def pieces(address: str, seen: Seen, *, packing: str, what: str) -> Generator[bytes]:
    """The bytes of a file of an archive; raises ReadFailed where they cannot be read or end early."""
    source = _of_file(seen.path) if seen.path is not None else _of_tar(Path(address), seen, packing)
    left = seen.size
    try:
        for piece in source:
            left -= len(piece)
            yield piece
    except (OSError, PassError) as error:
        raise ReadFailed(f"{what} cannot be read from {address}: {error}") from None
    if left:
        raise ReadFailed(f"{what} in {address} has another size than when it was opened")


def _of_file(path: Path) -> Iterator[bytes]:
    for piece in folder.read(path):
        yield bytes(piece)


def _of_tar(path: Path, seen: Seen, packing: str) -> Iterator[bytes]:
    if packing == "none":
        return _at(path, seen.offset or 0, seen.size)
    return _unpacked(path, seen.offset or 0, seen.size)


def _at(path: Path, offset: int, size: int) -> Iterator[bytes]:
    with path.open("rb", buffering=0) as file:
        while size and (piece := os.pread(file.fileno(), min(size, CHUNK), offset)):
            offset += len(piece)
            size -= len(piece)
            yield piece


def _unpacked(path: Path, offset: int, size: int) -> Iterator[bytes]:
    with path.open("rb", buffering=0) as file, closing(outer.Ahead(iter(lambda: file.read(CHUNK), b""))) as early:
        cursor = Cursor(outer.plain(early)[1])
        for _ in cursor.pieces(offset, "the part before the blob"):
            pass
        for piece in cursor.pieces(size, "the blob"):
            yield bytes(piece)
