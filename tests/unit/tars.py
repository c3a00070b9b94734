"""Tar archives for tests, and single headers for the ways in which one can be wrong."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Mapping

BLOCK = 512
END = bytes(2 * BLOCK)


def tar(files: Mapping[str, bytes], *, form: int = tarfile.PAX_FORMAT) -> bytes:
    """An archive of regular files, the same bytes each time."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as archive:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return out.getvalue()


def header(
    *, kind: bytes = b"0", size: bytes = b"00000000000\0", name: bytes = b"f", **patches: tuple[int, bytes]
) -> bytes:
    """One ustar header with a right checksum; `patches` are (offset, bytes) put in before it is computed."""
    block = bytearray(BLOCK)
    fields = [(0, name), (100, b"0000644\00000000\00000000\0"), (124, size), (136, b"00000000000\0")]
    for at, value in [*fields, (156, kind), (257, b"ustar\x0000"), *patches.values()]:
        block[at : at + len(value)] = value
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def padded(data: bytes) -> bytes:
    """Data and zeros to the next block."""
    return data + bytes(-len(data) % BLOCK)


def octal(size: int) -> bytes:
    """A size field."""
    return b"%011o\0" % size
