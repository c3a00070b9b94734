"""Compare a layer's expected tree with the EROFS image that it was converted to."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

from auditor.model.snapshot_files import OF_CONTENT, Difference, Differences, Kind
from auditor.snapshots.beside import Admit, at_once
from auditor.snapshots.compare import agreed, compare
from auditor.snapshots.erofs_mount import Superblock, mounted, superblock
from auditor.snapshots.tree import Node, count

#: Plays a layer, beside files if there are any; returns its tree, or why there is none.
Play = Callable[[Path | None], Node | str]
#: What the kernel says of an image whose checksum or structure is wrong.
_DAMAGED: Final = frozenset((errno.EUCLEAN, errno.EBADMSG))

#: Kinds that are compared in an image that mkfs.erofs made of a tar: it has rules of its own for the rest.
_CONVERTED: Final = OF_CONTENT | {Kind.WHITEOUT_MISSING, Kind.OPAQUE_MISSING}
_SKIPPED: Final = "attributes, device numbers and additional files, which mkfs.erofs makes of a tar by its own rules"


def in_image(play: Play, image: Path, *, contents: bool = True, admit: Admit = at_once) -> Differences | str:
    """Return how the files of an image differ from its layer, or why they cannot be compared.

    The image is mounted for reading, without a mount point.

    Args:
        play: Plays the layer, beside the mounted files or without them.
        image: The snapshot's `layer.erofs`.
        contents: Whether files are read; else their sizes are compared.
        admit: Called before content is read; what it raises ends the comparison.

    Raises:
        Unsettled: The layer is to be played without the files.
        FileNotFoundError: There is no image.
        OSError: The image, or a file in it, cannot be read.

    """
    size, block = image.stat().st_size, superblock(image)
    broken = _broken(size, block)
    if broken is not None:
        return _only(play, broken)
    try:
        with mounted(image) as root:
            tree = play(root)
            if isinstance(tree, str):
                return tree
            found = agreed(partial(compare, tree, root, contents=contents, admit=admit))
    except OSError as error:
        if error.filename is not None:  # not of the mount
            raise
        return _refused(play, image, error)
    return _of_tar(found) if block is not None and block.from_tar else found


def _only(play: Play, item: Difference) -> Differences | str:
    tree = play(None)
    return tree if isinstance(tree, str) else Differences((item,), count(tree))


def _of_tar(found: Differences) -> Differences:
    return Differences(found.of(_CONVERTED), found.expected, (*found.skipped, _SKIPPED))


def _broken(size: int, block: Superblock | None) -> Difference | None:
    """Return what is wrong with an image that the kernel would not take, as far as its size and superblock tell."""
    if not size:
        return Difference(b"", Kind.EMPTY, "its image of a file system is empty")
    if block is None:
        return Difference(b"", Kind.UNREADABLE, "its image of a file system has no EROFS superblock")
    if size < block.size:
        return Difference(b"", Kind.TRUNCATED, f"its image of a file system has {size} bytes of {block.size}")
    return None


def _refused(play: Play, image: Path, error: OSError) -> Differences | str:
    text = os.strerror(error.errno or errno.EIO)
    if isinstance(error, PermissionError):
        return f"not permitted to read {image} as a file system; run as root with CAP_SYS_ADMIN"
    if error.errno in (errno.ENODEV, errno.ENOSYS):
        return f"this kernel does not mount EROFS by a file descriptor: {text}"
    if error.errno in _DAMAGED:
        return _only(play, Difference(b"", Kind.UNREADABLE, text))
    return f"cannot read {image} as a file system: {text}"
