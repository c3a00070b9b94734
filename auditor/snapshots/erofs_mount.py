"""Mount a layer of the erofs snapshotter for reading, without a mount point and without a trace.

The mount is made by fsopen(2), fsconfig(2) and fsmount(2) (Linux 5.2) and attached to no folder: it is reached by its
file descriptor alone and ends with it, also where the process is killed. EROFS reads a file directly from Linux 6.12
on; before, through a loop device, which frees itself.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec

#: Numbers of system calls, the same on all architectures.
_FSOPEN, _FSCONFIG, _FSMOUNT = 430, 431, 432
_FLAG, _STRING, _CREATE = 0, 1, 6
_CLOEXEC: Final = 1
#: MOUNT_ATTR_RDONLY, _NOSUID, _NODEV, _NOEXEC.
_ATTRIBUTES: Final = 1 | 2 | 4 | 8
_GET_FREE, _CONFIGURE = 0x4C82, 0x4C0A
#: struct loop_config: descriptor, block size, struct loop_info64 with its flags, reserved.
_LOOP: Final = struct.Struct("=II52xI176x64x")
#: LO_FLAGS_READ_ONLY and LO_FLAGS_AUTOCLEAR.
_LOOP_FLAGS: Final = 1 | 4
_SUPERBLOCK: Final = 1024
_MAGIC: Final = 0xE0F5E1E2
#: Version of a UUID that is derived from a name.
_NAMED: Final = 5
#: Of the superblock: magic number, binary logarithm of the block size, number of blocks, UUID.
_FIELDS: Final = struct.Struct("<I8xB23xI8x16s")


class Superblock(msgspec.Struct, frozen=True):
    """The image's size in bytes by its superblock, and whether containerd's erofs differ converted it from a tar.

    The differ derives the UUID from the layer's digest (version 5); a directory that is committed gets a random one.
    """

    size: int
    from_tar: bool


def superblock(image: Path) -> Superblock | None:
    """Return what an image's superblock says; None where it has none. Raises OSError."""
    with image.open("rb") as file:
        file.seek(_SUPERBLOCK)
        header = file.read(_FIELDS.size)
    if len(header) < _FIELDS.size:
        return None
    magic, bits, blocks, uuid = _FIELDS.unpack(header)
    return Superblock(blocks << bits, uuid[6] >> 4 == _NAMED) if magic == _MAGIC else None


@contextmanager
def mounted(image: Path) -> Iterator[Path]:
    """Mount an image; give the path of its root, which is valid in this process and ends with the block.

    Raises:
        PermissionError: This process lacks CAP_SYS_ADMIN.
        OSError: The kernel has no EROFS or does not take the image.

    """
    try:
        mount = _mount(os.fsencode(image))
    except OSError as error:
        if error.errno != errno.ENOTBLK:
            raise
        mount = _mount_by_loop(image)
    try:
        yield Path(f"/proc/self/fd/{mount}")
    finally:
        os.close(mount)


def _mount(source: bytes) -> int:
    context = _call(_FSOPEN, b"erofs", _CLOEXEC)
    try:
        _call(_FSCONFIG, context, _STRING, b"source", source, 0)
        _call(_FSCONFIG, context, _FLAG, b"ro", None, 0)
        _call(_FSCONFIG, context, _CREATE, None, None, 0)
        return _call(_FSMOUNT, context, _CLOEXEC, _ATTRIBUTES)
    finally:
        os.close(context)


def _mount_by_loop(image: Path) -> int:
    with image.open("rb") as file, Path("/dev/loop-control").open("rb", buffering=0) as control:
        while True:
            device = Path(f"/dev/loop{fcntl.ioctl(control, _GET_FREE)}")
            with device.open("rb", buffering=0) as loop:
                try:
                    fcntl.ioctl(loop, _CONFIGURE, _LOOP.pack(file.fileno(), 0, _LOOP_FLAGS))
                except OSError as error:
                    if error.errno != errno.EBUSY:  # another process took it first
                        raise
                    continue
                return _mount(os.fsencode(device))


def _call(number: int, *arguments: object) -> int:
    library = ctypes.CDLL(None, use_errno=True)
    result = library.syscall(number, *arguments)
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    return int(result)
