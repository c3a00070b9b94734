"""Blobs whose bytes lie in `ingest/*/data`: a power cut can keep a blob's record and lose the rename to blobs/.

containerd commits by renaming that file; plugins/content/local/writer.go.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from auditor.errors import ReadFailed
from auditor.model.digest import Digest, measure
from auditor.model.store import FileKind, FileState
from auditor.regular_file import open_regular

_CHUNK = 1 << 20


def spare_files(folder: Path, states: Mapping[Digest, FileState]) -> Mapping[Digest, Path]:
    """Return the unfinished writes whose bytes are those of a blob without a whole file, by their digest.

    Each file is read to its end, so that its digest is proven; one that cannot be read is left out.

    Args:
        folder: The folder `ingest` of a content store.
        states: The files in blobs/.

    """
    found = {}
    for path in _data_files(folder):
        with suppress(OSError, ReadFailed), open_regular(path) as file:
            measured = measure(iter(lambda: file.read(_CHUNK), b""))
            if measured.size and states.get(measured.digest) != FileState(FileKind.REGULAR, measured.size):
                found[measured.digest] = path
    return found


def _data_files(folder: Path) -> Iterator[Path]:
    with suppress(OSError):
        yield from (each / "data" for each in sorted(folder.iterdir()))
