"""Open an archive or a layout folder as a Store."""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Callable, Container, Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import BinaryIO, Final

from auditor.archive import compression, layout_folder, shared_blobs, tar_reader
from auditor.archive.catalog import Catalog
from auditor.archive.layer_pipeline import MakeInspector
from auditor.archive.members import Collector
from auditor.archive.problems import StopReading
from auditor.archive.recognise import check_start
from auditor.archive.seen import Seen
from auditor.archive.store import ArchiveStore, Opened, read_member
from auditor.archive.tar_reader import Cursor
from auditor.archive.unreferenced import Unreferenced, let_go
from auditor.checks.archive_faults import TRAILING
from auditor.concurrency import CHUNK, read_ahead
from auditor.errors import ReadFailed, StoreUnreachable
from auditor.layers import LayerInspector
from auditor.model.command_line import command
from auditor.model.digest import Digest
from auditor.regular_file import is_named_pipe

#: The name that stands for standard input.
PIPE: Final = "-"
#: The packing of a layout folder.
FOLDER: Final = "folder"

#: Which blobs to decompress as layers: all, none, or those with these digests.
Layers = bool | Container[Digest]


def open_archive(
    path: Path | str,
    *,
    stdin: BinaryIO | None = None,
    layers: Layers = True,
    inspect: MakeInspector = LayerInspector,
    on_bytes: Callable[[int], None] | None = None,
    blobs: Path | None = None,
    pack: bool = False,
) -> ArchiveStore:
    """Read an archive or an OCI layout folder once, from start to end, in constant memory, and return it as a store.

    Layers of docker's old archives are always decompressed: they have no digest of their own.

    Args:
        path: the file or folder; `-` reads `stdin`.
        stdin: the stream of standard input.
        layers: which blobs to decompress as layers.
        inspect: makes the inspector of a layer.
        on_bytes: progress callback: unpacked bytes that were read since the last call.
        blobs: a shared folder that has blobs of the archive.
        pack: whether to leave out intact blobs to which no image leads, where there are many.

    Returns:
        The store. Faults of the archive are in its `problems`, also where the archive ends early.

    Raises:
        StoreUnreachable: the archive cannot be read at all.
        Unsupported: the archive is compressed in a way that is not read.

    """
    members = collector(layers=layers, inspect=inspect, on_bytes=on_bytes, pack=pack)
    if str(path) == PIPE:
        chunks = _chunks(stdin or io.BytesIO(), "from the pipe")
        return read_archive(chunks, members, address=PIPE, seekable=False, blobs=blobs)
    with read_errors(path):
        if Path(path).is_dir():
            return _open_folder(Path(path), members, blobs)
        if is_named_pipe(Path(path)):  # opening it would wait for a writer, which may never come
            hint = f"give a file; auditor verify - < {command(str(path))} reads a pipe"
            raise StoreUnreachable(f"{path} is a named pipe", hint=hint)
        with Path(path).open("rb", buffering=0) as file:
            mode = os.fstat(file.fileno()).st_mode
            if stat.S_ISCHR(mode):
                raise StoreUnreachable(f"{path} is a device", hint="give an archive, a folder, or - for standard input")
            seekable = stat.S_ISREG(mode)
            return read_archive(_chunks(file, path), members, address=str(path), seekable=seekable, blobs=blobs)


def _chunks(file: BinaryIO, name: Path | str) -> Iterator[bytes]:
    with read_errors(name):
        yield from iter(lambda: file.read(CHUNK), b"")


def read_archive(
    chunks: Iterator[bytes], members: Collector, *, address: str, seekable: bool, blobs: Path | None = None
) -> ArchiveStore:
    """Read an archive from `chunks`, which a thread draws ahead.

    Args:
        chunks: the bytes of the file, packed as they are.
        members: takes in the members; see `collector`.
        address: name of the archive in messages, and its path where it is `seekable`.
        seekable: the file can be opened again; otherwise a thread that hangs in `chunks` is not waited for.
        blobs: a shared folder that has blobs of the archive.

    Returns:
        The store, as `open_archive`.

    Raises:
        Unsupported: the archive is compressed in a way that is not read.

    """
    patience = None if seekable else 0
    complete = True
    with read_ahead(chunks, patience=patience) as early:
        packing, unpacked = compression.decompress(early, members.problems.append)
        try:
            if packing == "none":
                _walk(members, check_start(unpacked, packing))
            else:
                with read_ahead(unpacked, patience=patience) as inflated:
                    _walk(members, check_start(inflated, packing))
        except StopReading as stop:
            members.problems.append(stop.problem)
            complete = stop.problem.fault is TRAILING
    if blobs is not None:
        _take_shared(members, blobs)
    return _opened(members, address, packing=packing, seekable=seekable, complete=complete)


def collector(
    *,
    layers: Layers = True,
    inspect: MakeInspector = LayerInspector,
    on_bytes: Callable[[int], None] | None = None,
    on_file: Callable[[Seen], None] | None = None,
    pack: bool = False,
) -> Collector:
    """Make a collector of members.

    Args:
        layers: which blobs to decompress as layers.
        inspect: makes the inspector of a layer.
        on_bytes: progress callback: unpacked bytes that were read since the last call.
        on_file: called with each file when all of it has been read.
        pack: whether to pack intact blobs where there are many.

    """
    looks = (lambda _: layers) if isinstance(layers, bool) else layers.__contains__
    return Collector(inspect=inspect, looks=looks, on_bytes=on_bytes, on_file=on_file, pack=pack)


@contextmanager
def read_errors(path: Path | str) -> Iterator[None]:
    """Map OSError to StoreUnreachable: an error of the medium is not a fault of the archive."""
    try:
        yield
    except OSError as error:
        why = error.strerror or str(error)
        where = f"{error.filename}: " if error.filename not in (None, path, str(path)) else ""
        raise StoreUnreachable(
            f"the archive {path} cannot be read: {where}{why}", hint="check the path and its mode"
        ) from None


def _walk(members: Collector, unpacked: Iterator[bytes]) -> None:
    for header, body in tar_reader.walk(Cursor(unpacked), members.problems.append):
        members.take(header, body)


def _take_shared(members: Collector, blobs: Path) -> None:
    with read_errors(blobs):
        shared_blobs.take_shared(members, blobs)


def _open_folder(path: Path, members: Collector, blobs: Path | None) -> ArchiveStore:
    if layout_folder.is_image(path):
        for header, body, where in layout_folder.walk(path):
            members.take(header, body, path=where)
    else:
        for header in layout_folder.images_below(path):
            members.take(header, ())
    if blobs is not None:
        _take_shared(members, blobs)
    return _opened(members, str(path), packing=FOLDER, seekable=True, complete=True)


def _opened(members: Collector, address: str, *, packing: str, seekable: bool, complete: bool) -> ArchiveStore:
    catalog = Catalog(members, complete=complete)
    extra = let_go(catalog, partial(_reread, address, packing, seekable)) if members.many else Unreferenced()
    opened = Opened(
        address=address,
        packing=packing,
        seekable=seekable,
        complete=complete,
        read=members.bytes,
        unreferenced=extra,
    )
    return ArchiveStore(catalog, opened=opened)


def _reread(address: str, packing: str, seekable: bool, seen: Seen) -> bytes | None:
    """Read a file of an archive again; None where that is not possible."""
    if not seekable:
        return None
    try:
        with closing(read_member(address, seen, packing=packing, what=seen.name)) as pieces:
            return b"".join(pieces)
    except ReadFailed:
        return None
