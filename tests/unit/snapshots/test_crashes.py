"""Which boots followed a crash, and which snapshots were unpacked just before one."""

from __future__ import annotations

import socket
import struct
import time
from pathlib import Path

import msgspec
import pytest

from auditor.bbolt import go_time
from auditor.snapshots.crashes import crashes, crashes_of_disk, suspects
from auditor.snapshots.folders import Folders

SECOND = 10**9
BOOT, RUN_LEVEL = 2, 1


def record(kind: int, user: bytes, seconds: int, line: bytes = b"~") -> bytes:
    """A record of wtmp."""
    packed = struct.pack("<hhi32s4s32s256shhiii16s20s", kind, 0, 0, line, b"", user, b"", 0, 0, 0, seconds, 0, b"", b"")
    assert len(packed) == 384
    return packed


def boot(seconds: int) -> bytes:
    return record(BOOT, b"reboot", seconds)


def shutdown(seconds: int) -> bytes:
    return record(RUN_LEVEL, b"shutdown", seconds)


def now() -> int:
    """The second of the machine's own boot."""
    return int(time.time() - time.clock_gettime(time.CLOCK_BOOTTIME))


@pytest.mark.parametrize(
    ("records", "expected"),
    [
        ((boot(100), boot(200)), [100, 200]),
        ((boot(100), shutdown(190), boot(200)), [100]),
        ((boot(100), record(7, b"root", 150, b"pts/0"), shutdown(190), boot(200), boot(300)), [100, 300]),
    ],
)
def test_a_boot_without_a_shutdown_before(tmp_path: Path, records: tuple[bytes, ...], expected: list[int]) -> None:
    wtmp = tmp_path / "wtmp"
    wtmp.write_bytes(b"".join(records))
    *earlier, last = crashes("", wtmp=wtmp)
    assert earlier == [seconds * SECOND for seconds in expected]
    assert abs(last - now() * SECOND) < 10 * SECOND  # this boot, of which the file has no record


def test_this_boot_after_a_shutdown_is_no_crash(tmp_path: Path) -> None:
    wtmp = tmp_path / "wtmp"
    wtmp.write_bytes(boot(100) + shutdown(200) + boot(now()))
    assert crashes("", wtmp=wtmp) == (100 * SECOND,)


def test_a_disk_has_its_own_boots_and_ended_in_a_way_that_is_not_known(tmp_path: Path) -> None:
    wtmp = tmp_path / "var/log/wtmp"
    wtmp.parent.mkdir(parents=True)
    wtmp.write_bytes(boot(100) + shutdown(190) + boot(200) + boot(300))
    found = crashes_of_disk(tmp_path / "var/lib/containerd")
    assert found[:2] == (100 * SECOND, 300 * SECOND)
    assert suspects(folders(old=100, last=5_000_000_000), found[2:]) == {b"last"}


@pytest.mark.parametrize("content", [b"", b"no records", bytes(384), b"\xff" * 3840])
def test_a_file_of_another_form_has_no_boots(tmp_path: Path, content: bytes) -> None:
    wtmp = tmp_path / "wtmp"
    wtmp.write_bytes(content)
    assert len(crashes("", wtmp=wtmp)) == 1


def test_the_start_of_the_daemon_is_when_its_socket_was_made(tmp_path: Path) -> None:
    path = tmp_path / "containerd.sock"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
    assert path.stat().st_ctime_ns in crashes(f"unix://{path}", wtmp=tmp_path / "absent")


def folders(**seconds: int) -> Folders:
    """A database whose committed snapshots were created at these times."""
    created = {name.encode(): at * SECOND for name, at in seconds.items()}
    return Folders(created=created, writes=tuple(created.values()))


@pytest.mark.parametrize(
    ("table", "ends", "expected"),
    [
        (folders(old=100, a=970, b=1000, new=2000), [1500], {b"a", b"b"}),
        (folders(old=100, a=970, b=1000, new=2000), [1500, 3000], {b"a", b"b", b"new"}),
        (folders(old=100), [], set()),
        (folders(new=2000), [1500], set()),
        (folders(unset=0), [1500], set()),
    ],
)
def test_suspects(table: Folders, ends: list[int], expected: set[bytes]) -> None:
    assert suspects(table, [end * SECOND for end in ends]) == expected


def test_a_later_write_clears_a_snapshot_that_was_flushed_since() -> None:
    table = folders(old=100)
    later = msgspec.structs.replace(table, writes=(*table.writes, 1000 * SECOND))
    assert suspects(later, [1500 * SECOND]) == set()


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ("010000000edce5e80000000007ffff", 1_700_000_000_000_000_007),
        ("030000000edce5e80000000007ffff", 0),
        ("01000000000000000000000000ffff", 0),
        ("", 0),
    ],
)
def test_go_time(data: str, expected: int) -> None:
    assert go_time.nanoseconds(bytes.fromhex(data)) == expected
