"""When the machine or the daemon ended without flushing files, and the snapshots that were unpacked just before.

A power cut loses the content of files that were written in the last half minute before it; containerd's database has
their snapshot, since it is flushed at each commit.
"""

from __future__ import annotations

import stat
import struct
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from auditor.regular_file import read_regular
from auditor.snapshots.folders import Folders

#: Where the system's boots and shutdowns are recorded; glibc's utmp.h.
WTMP: Final = Path("/var/log/wtmp")
#: A snapshot that was unpacked this long before the last write before a crash may have lost content, in ns.
_WINDOW: Final = 60 * 10**9
#: A boot in wtmp that differs less than this from the computed one is the same, in ns.
_SAME: Final = 300 * 10**9
_SECOND: Final = 10**9
#: Type, line, user and seconds of a record of 384 bytes, as x86 and 64-bit ARM with 32-bit times have it.
_RECORD: Final = struct.Struct("<h6x32s4x32s264xI40x")
_BOOT, _RUN_LEVEL = 2, 1
#: Maximum of bytes of wtmp that are read; a boot takes 384.
_WTMP_BYTES: Final = 64 << 20
#: Later than each time in a database.
_EVER: Final = (1 << 63) - 1


def crashes(address: str, *, wtmp: Path = WTMP) -> tuple[int, ...]:
    """Return the ends of the times in which a crash happened: boots without a shutdown before, and daemon starts.

    The last boot counts as one after a crash unless `wtmp` has a shutdown before it. So does the daemon's last start,
    since its database does not tell how it ended.

    Args:
        address: The daemon's socket, which it makes when it starts.
        wtmp: The record of boots and shutdowns.

    Returns:
        Times in ns since 1970, in order.

    """
    boot = time.time_ns() - time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    records = tuple(_boots(wtmp))
    found = {at for at, unclean in records if unclean}
    if not any(abs(at - boot) < _SAME for at, _ in records):
        found.add(boot)
    with suppress(OSError):
        looked = Path(address.removeprefix("unix://")).lstat()
        if stat.S_ISSOCK(looked.st_mode):
            found.add(looked.st_ctime_ns)
    return tuple(sorted(found))


def crashes_of_disk(root: Path) -> tuple[int, ...]:
    """Return the ends of the times in which a crash happened, for the disk of a daemon that is down.

    The last time counts, since the disk does not tell how it ended. Boots are those of the disk's own wtmp.

    Args:
        root: containerd's root.

    Returns:
        Times in ns since 1970, in order.

    """
    records = (folder / WTMP.relative_to("/") for folder in root.parents)
    wtmp = next((path for path in records if path.is_file()), WTMP)
    return (*sorted(at for at, unclean in _boots(wtmp) if unclean), _EVER)


def suspects(folders: Folders, ends: Iterable[int]) -> frozenset[bytes]:
    """Return the keys of the snapshots that were created in the last minute before the last write before a crash."""
    found: set[bytes] = set()
    for end in ends:
        last = max([at for at in folders.writes if at < end], default=0)
        if last:
            found |= {key for key, at in folders.created.items() if last - _WINDOW <= at < end}
    return frozenset(found)


def _boots(wtmp: Path) -> Iterator[tuple[int, bool]]:
    """Yield each boot, and whether no shutdown was recorded before it; none where the file is not of the known form."""
    data = b""
    with suppress(OSError):
        data = read_regular(wtmp, limit=_WTMP_BYTES)
    down = False
    for kind, line, user, seconds in _RECORD.iter_unpack(data[: len(data) // _RECORD.size * _RECORD.size]):
        if line.rstrip(b"\0") != b"~":
            continue
        name = user.rstrip(b"\0")
        if kind == _BOOT and name == b"reboot":
            yield seconds * _SECOND, not down
            down = False
        elif kind == _RUN_LEVEL and name == b"shutdown":
            down = True
