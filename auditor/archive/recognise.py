"""Recognise what was handed over in place of an image archive, by its first bytes or by its members."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import PurePath
from typing import Final

from auditor.archive.problems import ArchiveProblem, StopReading, shown
from auditor.checks.archive_faults import MALFORMED, MISNAMED, TRUNCATED

#: Bytes of a tar header, which has zeros in it where the files below have none.
_HEAD: Final = 512
_STARTS: Final = {
    b"<!doctype": "an HTML page, such as the error page of a server",
    b"<html": "an HTML page, such as the error page of a server",
    b"<?xml": "an XML document, such as the error message of a server",
    b"version https://git-lfs": "a git-lfs pointer; `git lfs pull` fetches the file",
    b"{": "a JSON document, such as the error message of a server",
    b"[": "a JSON document, such as the error message of a server",
}


def check_start(chunks: Iterator[bytes], packing: str) -> Iterator[bytes]:
    """Pass on the unpacked bytes of an archive.

    Args:
        chunks: the bytes.
        packing: how they were compressed.

    Raises:
        StopReading: the first bytes are those of something else.

    """
    head = b""
    for chunk in chunks:
        head += chunk
        if len(head) >= _HEAD:
            break
    if not head:
        raise StopReading(ArchiveProblem(TRUNCATED, "this is an empty file"))
    what = _by_start(head, packing)
    if what:
        raise StopReading(ArchiveProblem(MALFORMED, f"this is not a tar archive but {what}"))
    yield head
    yield from chunks


def _by_start(head: bytes, packing: str) -> str:
    if packing != "none" and head.startswith((b"\x1f\x8b\x08", b"\x28\xb5\x2f\xfd")):
        return f"compressed twice: there is another compressed stream in the {packing} stream"
    start = head.lstrip().lower()
    return next((what for magic, what in _STARTS.items() if start.startswith(magic) and b"\0" not in head), "")


_SUFFIXES: Final = {".gz": "gzip", ".tgz": "gzip", ".zst": "zstd", ".tzst": "zstd"}


def misnamed(path: str, packing: str) -> Iterator[ArchiveProblem]:
    """Yield a note for a file whose name ends as another compression than it has."""
    claimed = _SUFFIXES.get(PurePath(path).suffix.lower())
    if claimed is not None and packing in ("none", "gzip", "zstd") and claimed != packing:
        held = "not compressed" if packing == "none" else f"compressed with {packing}"
        yield ArchiveProblem(MISNAMED, f"the file's name says {claimed}, and it is {held}")


def by_members(names: Collection[str]) -> str:
    """Return what an archive without index.json and manifest.json is by the names of its files; empty if unknown."""
    below = min((name for name in names if name.endswith(("/oci-layout", "/manifest.json"))), default="")
    if below:
        folder = below.rpartition("/")[0]
        return f"the image is in the folder {shown(folder)}/; write the archive from inside it"
    inner = [name for name in names if name.endswith((".tar", ".tar.gz", ".tgz", ".tar.zst"))]
    if "repositories" in names:
        return "it is a `docker save` from before Docker 1.10, with `repositories` only; importers of today refuse it"
    if inner and len(inner) == len(names):
        return f"it is an archive of archives, such as {shown(min(inner))}; unpack it and verify these"
    return ""
