"""Reading the mounts of all mount namespaces, and what processes have open."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from auditor.repair import mounts
from auditor.repair.mounts import Mount

OPTIONS = b"lowerdir=/r/snapshots/2/fs:/r/snapshots/1/fs,upperdir=/r/snapshots/3/fs,workdir=/r/snapshots/3/work"
TABLE = rb"""26 1 259:1 / / rw,relatime shared:1 - ext4 /dev/root rw
31 26 0:49 / /run/a/k8s.io/one/rootfs rw - overlay overlay rw,OPTIONS
32 26 0:50 / /run/with\040space rw shared:3 master:1 - overlay overlay ro,lowerdir=7/fs:12/fs
33 26 0:51 / /m rw - overlay none rw,lowerdir+=/r/snapshots/5/fs,lowerdir+=/r/snapshots/4/fs
34 26 259:1 /r/auditor-quarantine/t/fs /bound rw - ext4 /dev/root rw
broken line
""".replace(b"OPTIONS", OPTIONS)
ONE = Mount("0:49", "/", "/run/a/k8s.io/one/rootfs", ("/r/snapshots/2/fs", "/r/snapshots/1/fs"), "/r/snapshots/3/work")
RELATIVE = Mount("0:50", "/", "/run/with space", ("7/fs", "12/fs"))
SINGLE = Mount("0:51", "/", "/m", ("/r/snapshots/5/fs", "/r/snapshots/4/fs"))
BOUND = Mount("259:1", "/r/auditor-quarantine/t/fs", "/bound")


def test_a_table_of_mounts() -> None:
    assert tuple(mounts.parse(TABLE)) == (Mount("259:1", "/", "/"), ONE, RELATIVE, SINGLE, BOUND)


def test_overlays_on_a_folder() -> None:
    found = tuple(mounts.parse(TABLE))
    assert mounts.naming(found, Path("/r/snapshots/1")) == (ONE,)
    assert mounts.naming(found, Path("/r/snapshots/12")) == (RELATIVE,)
    assert mounts.naming(found, Path("/r/snapshots/4")) == (SINGLE,)
    assert mounts.naming(found, Path("/r/snapshots/3")) == ()


def process(proc: Path, pid: int, *, namespace: str, table: bytes, root: Path, started: int) -> None:
    folder = proc / str(pid)
    (folder / "ns").mkdir(parents=True)
    (folder / "fd").mkdir()
    (folder / "ns/mnt").symlink_to(namespace)
    (folder / "mountinfo").write_bytes(table)
    (folder / "root").symlink_to(root)
    (folder / "stat").write_text(f"{pid} (a ) b) S {' '.join('0' for _ in range(18))} {started} 0 0")


def test_each_namespace_is_read_once_and_the_oldest_process_is_found(tmp_path: Path) -> None:
    proc = tmp_path / "proc"
    process(proc, 1, namespace="mnt:[1]", table=TABLE.splitlines()[1] + b"\n", root=tmp_path, started=900)
    process(proc, 2, namespace="mnt:[1]", table=TABLE.splitlines()[1] + b"\n", root=tmp_path, started=500)
    process(proc, 3, namespace="mnt:[2]", table=TABLE.splitlines()[2] + b"\n", root=tmp_path, started=700)
    (proc / "4").mkdir()
    (proc / "self").mkdir()
    assert sorted(mounts.all_mounts(proc), key=lambda mount: mount.device) == [ONE, RELATIVE]
    device = tmp_path.stat().st_dev
    assert mounts.oldest(proc) == {device: 500 / os.sysconf("SC_CLK_TCK")}
    assert mounts.open_devices(proc) == {device}


def test_an_overlay_is_identified_by_the_change_of_its_work_directory(tmp_path: Path) -> None:
    mount = Mount("0:49", "/", "/m", work=str(tmp_path))
    before = mounts.overlay(mount)
    assert before == mounts.overlay(mount)
    assert before.mounted == tmp_path.stat().st_mtime_ns
    (tmp_path / "work").mkdir()
    os.utime(tmp_path, ns=(0, before.mounted + 1))
    assert mounts.overlay(mount) != before
    assert mounts.overlay(Mount("0:49", "/", "/m", work=str(tmp_path / "none"))).mounted is None
    assert mounts.overlay(Mount("0:49", "/", "/m")).mounted is None


def test_a_daemon_is_visible_if_its_process_is(tmp_path: Path) -> None:
    address = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(address))
        server.listen()
        assert mounts.sees_daemon(address)
        assert not mounts.sees_daemon(address, tmp_path)
    assert not mounts.sees_daemon(address)


def test_device_numbers_are_those_of_stat() -> None:
    assert mounts.device_number("259:70000") == os.makedev(259, 70000)
