"""Read small regular files: bounded in size, and never waiting for the writer of a pipe."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import BinaryIO

#: Pipes at these paths were opened before, by the program or its caller.
_OPENED = ("/dev/fd", "/dev/stdin", "/proc")


class TooLarge(OSError):
    """A file has more bytes than its reader accepts."""


def is_named_pipe(path: Path) -> bool:
    """Whether a path is a named pipe, which may never have a writer; /dev/stdin and a shell's `<(command)` have one."""
    return path.is_fifo() and not any(map(path.is_relative_to, _OPENED))


def open_regular(path: Path) -> BinaryIO:
    """Open a regular file for reading.

    Raises:
        OSError: It cannot be opened, or is a folder, pipe or device; reading one of these may never end.

    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(0, "it is not a regular file", str(path))
    return os.fdopen(descriptor, "rb")


def read_regular(path: Path, *, limit: int) -> bytes:
    """Return the content of a regular file.

    Args:
        path: The file.
        limit: Maximum of bytes.

    Raises:
        TooLarge: It has more bytes.
        OSError: As of `open_regular`, or it cannot be read.

    """
    with open_regular(path) as file:
        content = file.read(limit + 1) or b""  # None: some files of /proc have nothing to read now
    if len(content) > limit:
        raise TooLarge(0, f"larger than {limit >> 10} KiB", str(path))
    return content
