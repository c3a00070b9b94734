"""Read an OCI layout folder like a tar: the same members, no links followed."""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from auditor.archive.tar_reader import Body, Header, Kind
from auditor.concurrency import CHUNK

_KINDS = {stat.S_IFREG: Kind.FILE, stat.S_IFDIR: Kind.FOLDER, stat.S_IFLNK: Kind.SYMLINK}
_DOCUMENTS = ("index.json", "manifest.json", "oci-layout")
#: Of an archive that importers of today refuse.
_OLD = "repositories"


def is_image(folder: Path) -> bool:
    """Whether the folder has one of the documents of an image layout."""
    return any((folder / name).exists() for name in (*_DOCUMENTS, _OLD))


def walk(folder: Path) -> Iterator[tuple[Header, Body, Path]]:
    """Yield each member of a folder with its bytes and its path, sorted by name.

    Of an OCI layout only its own parts, since other files may be kept beside them; of an unpacked docker archive all.

    Raises:
        OSError: the folder cannot be read, or, while iterating over the bytes, the file.

    """
    whole = not (folder / "index.json").exists()
    for path in sorted(_paths(folder) if whole else _layout(folder)):
        status = path.lstat()
        kind = _KINDS.get(stat.S_IFMT(status.st_mode), Kind.SPECIAL)
        name = os.fsencode(path.relative_to(folder)).decode("utf-8", "surrogateescape")
        size = status.st_size if kind is Kind.FILE else 0
        link = str(path.readlink()) if kind is Kind.SYMLINK else ""
        yield Header(name=name, kind=kind, size=size, offset=0, link=link), read(path) if size else iter(()), path


def _layout(folder: Path) -> Iterator[Path]:
    yield from (folder / name for name in _DOCUMENTS if os.path.lexists(folder / name))
    if (folder / "blobs").is_dir():
        yield from _paths(folder / "blobs")


def _paths(folder: Path) -> Iterator[Path]:
    for root, folders, files in os.walk(folder):
        yield from (Path(root, name) for name in (*folders, *files))


def read(path: Path) -> Body:
    """Yield the bytes of one file, without following a link or waiting for the writer of a pipe.

    Raises:
        OSError: the file cannot be opened or read.

    """
    with io.FileIO(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)) as file:
        while chunk := file.read(CHUNK):
            yield memoryview(chunk)
