"""Unfinished writes of the same content store as a source: after a power cut, a ghost blob's bytes lie there.

containerd writes a blob to `ingest/<hash>/data` and renames the file at the commit; plugins/content/local/writer.go. A
power cut can keep the record and lose the rename; the API does not list the folder then, because its `ref` is empty.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final

from auditor.errors import InvalidDigest, NotOffered, SourceError
from auditor.model.blob_source import Hints, Offer, verified
from auditor.model.digest import Digest, measure
from auditor.regular_file import open_regular

_CHUNK: Final = 1 << 20


class IngestSource:
    """The complete blobs among the unfinished writes; thread-safe. Nothing is changed there.

    Args:
        content_root: The daemon's folder `io.containerd.content.v1.content`; without one nothing is offered.

    """

    name: Final = "ingest"

    def __init__(self, content_root: Path | None) -> None:
        self._folder = content_root / "ingest" if content_root is not None else None
        self._lock = threading.Lock()
        self._sizes: dict[Path, int] | None = None
        self._digests: dict[tuple[Path, str], Digest | None] = {}

    def describe(self) -> str:
        """Return a description of the source."""
        return "unfinished writes of this store"

    def offers(self, digest: Digest, *, size: int, media_type: str, hints: Hints) -> Offer | None:
        """Return an offer for a write whose bytes have the digest; only files of the right size are read."""
        with self._lock:
            path = self._find(digest, size)
        if path is None:
            return None
        return Offer(
            source=self.name,
            digest=digest,
            size=size,
            media_type=media_type,
            place=str(path),
            certain=True,
            hints=hints,
        )

    @contextmanager
    def open(self, offer: Offer) -> Iterator[Iterator[bytes]]:
        """Open the verified bytes; a file that fails is not offered again.

        Raises:
            NotOffered: The file has gone.
            BadBytes: Its content has changed.
            SourceError: It cannot be read.

        """
        path = Path(offer.place)
        with self._lock:
            self._digests[path, offer.digest.algorithm] = None
        try:
            file = open_regular(path)
        except FileNotFoundError:
            raise NotOffered(f"{path} has gone") from None
        except OSError as error:
            raise _unreadable(path, error) from None
        with file:
            yield verified(_chunks(file, path), digest=offer.digest, size=offer.size, place=str(path))
        with self._lock:
            self._digests[path, offer.digest.algorithm] = offer.digest

    def _find(self, digest: Digest, size: int) -> Path | None:
        if self._sizes is None:
            self._sizes = dict(_files(self._folder)) if self._folder is not None else {}
        right = (path for path, found in self._sizes.items() if found == size)
        return next((path for path in right if self._digest(path, digest.algorithm) == digest), None)

    def _digest(self, path: Path, algorithm: str) -> Digest | None:
        if (path, algorithm) not in self._digests:
            self._digests[path, algorithm] = _hashed(path, algorithm)
        return self._digests[path, algorithm]


def _files(folder: Path) -> Iterator[tuple[Path, int]]:
    """Yield the data files of all writes with their sizes; none of a folder that cannot be listed."""
    try:
        found = sorted(entry.name for entry in os.scandir(folder))
    except OSError:
        return
    for name in found:
        path = folder / name / "data"
        try:
            size = path.lstat().st_size
        except OSError:
            continue
        yield path, size


def _hashed(path: Path, algorithm: str) -> Digest | None:
    """Return the digest of a file; None where it cannot be read."""
    try:
        with open_regular(path) as file:
            return measure(_chunks(file, path), algorithm=algorithm).digest
    except (OSError, SourceError, InvalidDigest):
        return None


def _chunks(file: BinaryIO, path: Path) -> Iterator[bytes]:
    try:
        while chunk := file.read(_CHUNK):
            yield chunk
    except OSError as error:
        raise _unreadable(path, error) from None


def _unreadable(path: Path, error: OSError) -> SourceError:
    return SourceError(f"{path} cannot be read: {error.strerror or error}", hint="dmesg may say more")
