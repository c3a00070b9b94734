"""Read an OCI layout folder like a tar: the same members; links are followed only inside the folder."""

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


def images_below(folder: Path) -> Iterator[Header]:
    """Yield a member, without its bytes, for each image layout one level below a folder."""
    for path in sorted(folder.iterdir()):
        if path.is_dir() and (path / "oci-layout").exists():
            yield Header(name=f"{path.name}/oci-layout", kind=Kind.FILE, size=0, offset=0)


def walk(folder: Path) -> Iterator[tuple[Header, Body, Path]]:
    """Yield each member of a folder with its bytes and its path, sorted by name.

    Of an OCI layout only its own parts, since other files may be kept beside them; of an unpacked docker archive all.

    Raises:
        OSError: the folder cannot be read, or, while iterating over the bytes, the file.

    """
    whole = not (folder / "index.json").exists()
    root = folder.resolve()
    for path in sorted(_paths(folder) if whole else _layout(folder)):
        real = path if whole else _behind(path, root)
        status = real.lstat()
        kind = _KINDS.get(stat.S_IFMT(status.st_mode), Kind.SPECIAL)
        name = os.fsencode(path.relative_to(folder)).decode("utf-8", "surrogateescape")
        size = status.st_size if kind is Kind.FILE else 0
        link = str(path.readlink()) if kind is Kind.SYMLINK else ""
        yield Header(name=name, kind=kind, size=size, offset=0, link=link), read(real) if size else iter(()), real


def _behind(path: Path, root: Path) -> Path:
    """Return the file or folder behind a symbolic link; the link itself where it leads nowhere or out of `root`."""
    if not path.is_symlink():
        return path
    try:
        real = path.resolve(strict=True)
    except (OSError, RuntimeError):
        return path
    return real if real.is_relative_to(root) else path


def _layout(folder: Path) -> Iterator[Path]:
    """Yield the paths of the documents and of blobs/<algorithm>/<hex>; no loader looks for blobs further down."""
    yield from (folder / name for name in _DOCUMENTS if os.path.lexists(folder / name))
    root = folder.resolve()
    blobs = _behind(folder / "blobs", root)
    if blobs.is_symlink():
        yield folder / "blobs"
    elif blobs.is_dir():
        for each in blobs.iterdir():
            algorithm = folder / "blobs" / each.name
            yield algorithm
            if not _behind(algorithm, root).is_symlink() and algorithm.is_dir():
                yield from algorithm.iterdir()


def _paths(folder: Path) -> Iterator[Path]:
    for root, folders, files in os.walk(folder, onerror=_raised):
        yield from (Path(root, name) for name in (*folders, *files))


def _raised(error: OSError) -> None:
    raise error


def read(path: Path) -> Body:
    """Yield the bytes of one file, without following a link or waiting for the writer of a pipe.

    Raises:
        OSError: the file cannot be opened or read.

    """
    with io.FileIO(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)) as file:
        while chunk := file.read(CHUNK):
            yield memoryview(chunk)
