"""Files and folders of the content store that containerd cannot delete because of an attribute (chattr +i, +a)."""

from __future__ import annotations

import fcntl
import os
import struct
from collections.abc import Mapping
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Final

from auditor.model.digest import Digest
from auditor.model.store import FileState

#: FS_IOC_GETFLAGS of linux/fs.h: _IOR('f', 1, long).
_GET_FLAGS: Final = 2 << 30 | struct.calcsize("l") << 16 | ord("f") << 8 | 1
#: FS_IMMUTABLE_FL and FS_APPEND_FL: neither may be unlinked, and nothing in such a folder.
_PROTECTED: Final = 0x10 | 0x20
#: Files that are examined; each costs an open.
_MOST: Final = 10_000


def undeletable(root: Path, unrecorded: Mapping[Digest, FileState]) -> Mapping[str, int]:
    """Return the sizes in bytes, by path, of files without a record that carry such an attribute.

    The folder of the blobs is among them with 0 bytes. Files with a record are not examined: a collection deletes none
    of them. No pull and no collection leaves such a file, so that one look is enough.

    Args:
        root: The content root.
        unrecorded: The blobs that have a file and no record.

    """
    blobs = root / "blobs"
    files = {blobs / digest.algorithm / digest.hex: state.size or 0 for digest, state in unrecorded.items()}
    examined = ((blobs / "sha256", 0), *islice(files.items(), _MOST))
    return {str(path): size for path, size in examined if protected(path)}


def protected(path: Path) -> bool:
    """Whether a file or folder is immutable or append-only; false where its file system does not tell."""
    with suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            flags = fcntl.ioctl(descriptor, _GET_FLAGS, bytes(struct.calcsize("l")))
        finally:
            os.close(descriptor)
        return bool(struct.unpack_from("i", flags)[0] & _PROTECTED)
    return False
