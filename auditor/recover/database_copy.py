"""Make a sound copy of meta.db: the same pages under two new meta pages.

containerd then starts with all of its images, snapshots, leases and containers. The copy is made only from a tree that
is whole, has containerd's schema, and agrees with the files in blobs/: a daemon with too few records deletes files.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import msgspec

from auditor.bbolt import bolt, database_file, pages
from auditor.errors import ReadFailed, StoreError
from auditor.model.digest import Digest
from auditor.model.store import FileKind, FileState
from auditor.offline import salvage, schema

#: Transaction of the first new meta page where none is valid: later than any that a node reaches.
_LATE: Final = 1 << 40
#: Of this many files, one may lack a record: a write that was not committed leaves such a file.
_FILES: Final = 20
_HINT: Final = "recover the images with -o or --into instead"


class SoundCopy(msgspec.Struct, frozen=True):
    """A database with new meta pages, and what it records.

    `newest`: its tree is that of the newest meta page; otherwise the last transactions may be missing.
    """

    data: bytes
    root: int
    newest: bool
    images: int
    blobs: int
    snapshots: int


def sound_copy(path: Path, states: Mapping[Digest, FileState]) -> SoundCopy:
    """Return a copy of meta.db that containerd can start with.

    Args:
        path: The database.
        states: The files in blobs/.

    Raises:
        StoreError: It cannot be read, no tree is whole, or the newest whole one does not agree with the files.

    """
    try:
        copied = database_file.copy(path)
    except FileNotFoundError:
        raise StoreError(f"there is no {path}", hint=_HINT) from None
    except ReadFailed as error:
        raise StoreError(error.message, hint=_HINT) from None
    for database, root, newest in _whole(copied.data):
        records = list(schema.namespaces(bolt.Walk(database, root).top))
        _compare(path, records, states)
        return SoundCopy(
            data=_with_metas(database, root),
            root=root,
            newest=newest and not copied.holes,
            images=sum(len(each.images) for each in records),
            blobs=len({digest for each in records for digest in each.blobs}),
            snapshots=sum(len(held) for each in records for held in each.snapshots.values()),
        )
    raise StoreError(f"{path} has no whole tree of records", hint=_HINT)


def _whole(data: pages.Buffer) -> Iterator[tuple[pages.Database, int, bool]]:
    """Yield the whole trees with their root page, and whether it is the newest: by the meta pages, then by a search."""
    valid = pages.metas(data)
    for number, meta in enumerate(valid):
        database = pages.Database(data, page_size=meta.page_size, high_water=meta.high_water)
        if salvage.examine(database, meta.root) is not None:
            yield pages.Database(data, page_size=meta.page_size), meta.root, number == 0 and len(valid) > 1
    for database in salvage.databases(data):
        root = salvage.find_root(database)
        if root is not None:
            yield database, root, False


def _compare(path: Path, records: list[schema.Records], states: Mapping[Digest, FileState]) -> None:
    """Raise StoreError where the records do not agree with the files."""
    recorded = {digest: blob.size for each in records for digest, blob in each.blobs.items()}
    files = {digest: state.size for digest, state in states.items() if state.kind is FileKind.REGULAR}
    odd = [digest for digest, size in sorted(recorded.items()) if files.get(digest) != size]
    if odd:
        unreadable = states.get(odd[0], FileState(FileKind.MISSING)).kind is FileKind.UNREADABLE
        missing = "has a file that cannot be read" if unreadable else "has no file"
        what = missing if odd[0] not in files else "has a file of another size"
        more = f", and {len(odd) - 1} more" if len(odd) > 1 else ""
        raise StoreError(f"{path} does not agree with the blobs: {odd[0]} {what}{more}", hint=_HINT)
    bad = next((sentence for each in records for sentence in each.bad), "")
    if bad:
        raise StoreError(f"{path} does not agree with the blobs: {bad}", hint=_HINT)
    spare = files.keys() - recorded.keys()
    if len(spare) * _FILES > len(files):
        raise StoreError(
            f"{path} does not agree with the blobs: {len(spare)} of {len(files)} files have no record; a garbage "
            "collection would delete them",
            hint=_HINT,
        )


def _with_metas(database: pages.Database, root: int) -> bytes:
    """Return the pages with two new meta pages: transaction t is in page t mod 2; bbolt internal/common/meta.go."""
    size = database.page_size
    valid = pages.metas(database.data)
    even = (valid[0].txid if valid else _LATE) // 2 * 2 + 2
    written = [_meta(page, size=size, root=root, high=database.pages, txid=even + page) for page in (0, 1)]
    return b"".join((*written, bytes(database.data[2 * size : database.pages * size])))


def _meta(page: int, *, size: int, root: int, high: int, txid: int) -> bytes:
    body = pages.META_BODY.pack(pages.MAGIC, pages.VERSION, size, 0, root, 0, pages.NO_FREELIST, high, txid, 0)[:-8]
    head = pages.PAGE_HEADER.pack(page, pages.META, 0, 0)
    return (head + body + struct.pack("<Q", pages.fnv1a(body))).ljust(size, b"\0")
