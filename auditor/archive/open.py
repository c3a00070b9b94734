"""Open an archive or a layout folder as a Store."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Container, Iterator
from contextlib import closing
from pathlib import Path
from typing import BinaryIO, Final, Protocol

from auditor import concurrency
from auditor.archive import compression, layout_folder, tar_reader
from auditor.archive.catalog import Catalog
from auditor.archive.layer_pipeline import MakeInspector
from auditor.archive.members import Collector, Seen
from auditor.archive.problems import StopReading
from auditor.archive.store import ArchiveStore, Opened
from auditor.archive.tar_reader import Cursor
from auditor.checks.archive_faults import TRAILING
from auditor.concurrency import CHUNK
from auditor.errors import StoreUnreachable
from auditor.layers import LayerInspector
from auditor.model.digest import Digest

#: The name that stands for standard input.
PIPE: Final = "-"


FOLDER: Final = "folder"


def open_archive(
    path: Path | str,
    *,
    stdin: BinaryIO | None = None,
    layers: bool | Container[Digest] = True,
    inspect: MakeInspector = LayerInspector,
    on_bytes: Callable[[int], None] | None = None,
    on_file: Callable[[Seen], None] | None = None,
    tap: Tap | None = None,
) -> ArchiveStore:
    """Read an archive or an OCI layout folder once, from start to end, in constant memory, and give it as a store.

    `-` reads `stdin`. With `layers`, every blob is looked into as a layer too, or those whose digests are given; layers
    of docker's old archives always are, as they have no digest of their own. `on_bytes` hears of bytes as they pass,
    for progress, `on_file` of each file when all of it has passed; `tap` stands between the file and us.
    What is wrong with the archive is in `problems` of the store, also where it ends early. Raises StoreUnreachable
    where it cannot be read at all, Unsupported for a compression that is not read.
    """
    looks = (lambda _: layers) if isinstance(layers, bool) else layers.__contains__
    collector = Collector(inspect=inspect, looks=looks, on_bytes=on_bytes, on_file=on_file)
    try:
        if str(path) == PIPE:
            chunks = _chunks(stdin, "from the pipe", tap) if stdin else iter(())
            return _from_tar(collector, path, chunks, seekable=False)
        if Path(path).is_dir():
            return _from_folder(collector, Path(path))
        with Path(path).open("rb", buffering=0) as file:
            seekable = stat.S_ISREG(os.fstat(file.fileno()).st_mode)
            return _from_tar(collector, path, _chunks(file, path, tap), seekable=seekable)
    except OSError as error:
        why = error.strerror or str(error)
        raise StoreUnreachable(
            f"the archive {path} cannot be read: {why}", hint="check the path and its mode"
        ) from None


class Tap(Protocol):
    """What stands between a file and its reader, in the thread that reads."""

    def wait(self, position: int) -> None:
        """Return when there is something to be read behind `position`, or the end."""

    def update(self, chunk: bytes) -> None:
        """Hear of the next bytes, packed as they are."""


def _chunks(file: BinaryIO, name: Path | str, tap: Tap | None) -> Iterator[bytes]:
    """All of a file. A fault of the medium is not one of the archive: it ends the run."""
    try:
        if tap is None:
            yield from iter(lambda: file.read(CHUNK), b"")
        else:
            yield from _tapped(file, tap)
    except OSError as error:
        raise StoreUnreachable(f"the archive {name} cannot be read: {error.strerror or error}") from None


def _tapped(file: BinaryIO, tap: Tap) -> Iterator[bytes]:
    position = 0
    while True:
        tap.wait(position)
        chunk = file.read(CHUNK)
        if not chunk:
            return
        position += len(chunk)
        tap.update(chunk)
        yield chunk


def _from_tar(collector: Collector, path: Path | str, chunks: Iterator[bytes], *, seekable: bool) -> ArchiveStore:
    complete = True
    with closing(concurrency.Ahead(chunks, endless=not seekable)) as early:
        packing, unpacked = compression.plain(early)
        try:
            if packing == "none":
                _walk(collector, unpacked)
            else:
                with closing(concurrency.Ahead(unpacked, endless=not seekable)) as inflated:
                    _walk(collector, inflated)
        except StopReading as stop:
            collector.problems.append(stop.problem)
            complete = stop.problem.fault is TRAILING
    return _opened(collector, path, packing=packing, seekable=seekable, complete=complete)


def _walk(collector: Collector, unpacked: Iterator[bytes]) -> None:
    for header, body in tar_reader.walk(Cursor(unpacked), collector.problems.append):
        collector.take(header, body)


def _from_folder(collector: Collector, path: Path) -> ArchiveStore:
    if layout_folder.is_image(path):
        for header, body, where in layout_folder.walk(path):
            collector.take(header, body, path=where)
    return _opened(collector, path, packing=FOLDER, seekable=True, complete=True)


def _opened(collector: Collector, path: Path | str, *, packing: str, seekable: bool, complete: bool) -> ArchiveStore:
    catalog = Catalog(collector, complete=complete)
    opened = Opened(address=str(path), packing=packing, seekable=seekable, complete=complete, read=collector.bytes)
    return ArchiveStore(catalog, opened=opened)
