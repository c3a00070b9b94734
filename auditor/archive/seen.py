"""A file of an archive as it was read, and the digest in its name."""

from __future__ import annotations

from pathlib import Path

import msgspec

from auditor.archive.sparse import Extent
from auditor.model.digest import EMPTY, Digest
from auditor.model.store import LayerVerification


class Seen(msgspec.Struct, frozen=True, gc=False):
    """A file of an archive as it was read.

    `size` is that of its header, `read` the number of bytes that were there; `digest` is of those. `offset` is where
    the data begins in the unpacked tar, `path` the path in a layout folder. `error` is the system's message where
    reading this one file failed. `extents` are the parts of a sparse file that are stored.
    """

    name: str
    size: int
    read: int
    digest: Digest
    packing: str = ""
    layer: LayerVerification | None = None
    kept: bytes | None = None
    offset: int | None = None
    path: Path | None = None
    error: str = ""
    extents: tuple[Extent, ...] | None = None

    @property
    def whole(self) -> bool:
        """Whether all bytes were there."""
        return self.read == self.size


def empty_file(name: str) -> Seen:
    """Return the file of an empty member of which only the name was kept."""
    return Seen(name=name, size=0, read=0, digest=EMPTY)


def claimed(name: str) -> Digest | None:
    """Return the digest in a member's name `blobs/<algorithm>/<hex>`, else None; OCI image-layout.md, "Blobs"."""
    parts = name.split("/")
    if len(parts) != 3 or parts[0] != "blobs":  # noqa: PLR2004 - the three parts of that path
        return None
    return Digest.match(f"{parts[1]}:{parts[2]}")
