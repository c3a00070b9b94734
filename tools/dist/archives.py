"""Archives and checksums with the same bytes from the same files."""

from __future__ import annotations

import gzip
import hashlib
import io
import lzma
import tarfile
from collections.abc import Iterable
from pathlib import Path


def tar(files: Iterable[tuple[str, Path]], *, epoch: int) -> bytes:
    """Return a tar of files, folders and links by their names in it: sorted, of root, all of one time."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, path in sorted(files, key=lambda pair: pair[0]):
            member = archive.gettarinfo(path, name)
            member.uid = member.gid = 0
            member.uname = member.gname = ""
            member.mtime = epoch
            if member.islnk():
                member.type, member.linkname, member.size = tarfile.REGTYPE, "", path.stat().st_size
            if member.isreg():
                with path.open("rb") as content:
                    archive.addfile(member, content)
            else:
                archive.addfile(member)
    return out.getvalue()


def tree(root: Path, prefix: str) -> list[tuple[str, Path]]:
    """Return the entries below a folder, and the folder, under `prefix`."""
    return [(prefix, root), *((f"{prefix}/{p.relative_to(root)}", p) for p in sorted(root.rglob("*")))]


def xz(content: bytes) -> bytes:
    """Compress with xz: 64 MiB of memory to decompress, one thread, so that the bytes do not depend on the machine."""
    return lzma.compress(content, preset=9)


def gz(content: bytes) -> bytes:
    """Compress with gzip, without a time."""
    return gzip.compress(content, 9, mtime=0)


def sha256(content: bytes) -> str:
    """Return the digest in hex."""
    return hashlib.sha256(content).hexdigest()


def tar_of(files: dict[str, bytes], *, epoch: int) -> bytes:
    """Return a tar of contents by name."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, content in sorted(files.items()):
            member = tarfile.TarInfo(name)
            member.size, member.mtime = len(content), epoch
            archive.addfile(member, io.BytesIO(content))
    return out.getvalue()
