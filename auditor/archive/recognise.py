"""Recognise what was handed over in place of an image archive, by its first bytes or by its members."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from pathlib import PurePath
from typing import Final

from auditor.archive.problems import ArchiveProblem, StopReading, shown
from auditor.checks.archive_faults import COMPRESSION, MALFORMED, MISNAMED, TRUNCATED

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
#: First bytes of other formats.
_FORMATS: Final = {
    b"\x7fELF": "a program (ELF)",
    b"hsqs": "a SquashFS file system",
    b"#!/usr/bin/env run-singularity": "a SIF image of Singularity or Apptainer",
    b"7z\xbc\xaf\x27\x1c": "a 7z archive",
    b"0707": "a cpio archive",
    b"!<arch>": "an ar archive, such as a Debian package",
    b"LZIP": "packed with lzip",
    b"-----BEGIN ": "encrypted or signed text",
    b"Salted__": "encrypted by openssl",
}
_COMPRESSED: Final = (b"\x1f\x8b\x08", b"\x28\xb5\x2f\xfd", b"\xfd7zXZ\0", b"BZh")
_TEXT: Final = re.compile(r"[^\x00-\x08\x0e-\x1f\ufffd]+")


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
    if packing != "none" and head.startswith(_COMPRESSED):
        return f"compressed twice: there is another compressed stream in the {packing} stream"
    what = next((what for magic, what in _FORMATS.items() if head.startswith(magic)), "")
    if what or b"\0" in head:
        return what
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    return next((what for magic, what in _STARTS.items() if start.startswith(magic)), _text(head))


def _text(head: bytes) -> str:
    """Return the beginning of a text; empty for other bytes. Its last letter may be cut off."""
    text = head[:-3].decode("utf-8", "replace") if len(head) >= _HEAD else head.decode("utf-8", "replace")
    return f"a text, which begins with: {shown(text.strip()[:60])}" if _TEXT.fullmatch(text) else ""


_SUFFIXES: Final = {
    f".{suffix}": packing
    for packing, suffixes in (("gzip", "gz tgz"), ("zstd", "zst tzst"), ("xz", "xz txz"), ("bzip2", "bz2 tbz tbz2"))
    for suffix in suffixes.split()
}
#: Compressions that docker, podman and skopeo read, and containerd does not.
_NOT_CONTAINERD: Final = ("xz", "bzip2")


def packing_problems(path: str, packing: str) -> Iterator[ArchiveProblem]:
    """Yield a warning for a compression that containerd does not read, and a note for a name that tells another one."""
    if packing in _NOT_CONTAINERD:
        message = f"the archive is compressed with {packing}: `ctr images import` reads no {packing}"
        yield ArchiveProblem(COMPRESSION, message)
    claimed = _SUFFIXES.get(PurePath(path).suffix.lower())
    if claimed is not None and packing not in ("folder", claimed):
        held = "not compressed" if packing == "none" else f"compressed with {packing}"
        yield ArchiveProblem(MISNAMED, f"the file's name says {claimed}, and it is {held}")


def by_members(names: Collection[str]) -> str:
    """Return what an archive without index.json and manifest.json is by the names of its files; empty if unknown."""
    below = min((name for name in names if name.endswith(("/oci-layout", "/manifest.json"))), default="")
    if below:
        folder = below.rpartition("/")[0]
        return f"the image is in the folder {shown(folder)}/; verify that folder, or write the archive from inside it"
    inner = [name for name in names if name.endswith((".tar", ".tar.gz", ".tgz", ".tar.zst"))]
    if not names:
        return "it has no files"
    if any(name.endswith("/Chart.yaml") for name in names):
        return "it is a Helm chart, not an image"
    if "etc/passwd" in names or "bin/sh" in names:
        return "it is a file system, as `docker export` writes it; `docker save` writes the image"
    if "repositories" in names:
        return "it is a `docker save` from before Docker 1.10, with `repositories` only; importers of today refuse it"
    if inner and len(inner) == len(names):
        return f"it is an archive of archives, such as {shown(min(inner))}; unpack it and verify these"
    return ""
