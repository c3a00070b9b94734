"""Writing a blob's bytes where containerd would put them: through the file of an unfinished write that we may open.

Every byte over the API is copied several times and hashed once by containerd. Where the content root is ours to write,
the bytes go into the file of the write itself; containerd opens it for the commit, hashes all of it, and judges it by
the digest as ever (plugins/content/local/store.go `resumeStatus`).
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from auditor.containerd.root import ContentRoot
from auditor.errors import Conflict, StoreError


def data_file(root: ContentRoot, namespace: str, ref: str) -> Path | None:
    """The file of an unfinished write; None where none is found, or it is not ours to write.

    core/metadata/content.go names it `<namespace>/<number>/<ref>`, and the content store keeps that beside the data.
    """
    with suppress(OSError):
        for folder in (root.path / "ingest").iterdir():
            with suppress(OSError):
                name = (folder / "ref").read_text()
                if name.startswith(f"{namespace}/") and name.partition("/")[2].partition("/")[2] == ref:
                    return folder / "data" if os.access(folder / "data", os.W_OK) else None
    return None


def fill(path: Path, chunks: Iterable[bytes], *, size: int) -> None:
    """Write all bytes. Raises Conflict where they are not `size` bytes, StoreError where they cannot be written."""
    descriptor = _opened(path)
    written = 0
    try:
        for chunk in chunks:
            written += len(chunk)
            if written > size:
                break
            _write(descriptor, path, chunk)
    finally:
        os.close(descriptor)
    if written != size:
        raise Conflict(f"the source gave {written} of {size} bytes")


def _opened(path: Path) -> int:
    try:
        return os.open(path, os.O_WRONLY | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise _failed(path, error) from error


def _write(descriptor: int, path: Path, chunk: bytes) -> None:
    rest = memoryview(chunk)
    try:
        while rest:
            rest = rest[os.write(descriptor, rest) :]
    except OSError as error:
        raise _failed(path, error) from error


def _failed(path: Path, error: OSError) -> StoreError:
    return StoreError(
        f"cannot write {path}: {error.strerror or error}", hint="is the file system full, or mounted read-only?"
    )
