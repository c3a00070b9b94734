"""Facts of the host, from mountinfo and sysfs as they are on nodes."""

from __future__ import annotations

from pathlib import Path

import pytest

from auditor.cli import host_facts as facts
from auditor.mountinfo import parse_mounts

MOUNTS = rb"""22 27 0:21 / /proc rw,relatime - proc proc rw
27 1 259:2 / / rw,relatime shared:1 - ext4 /dev/nvme0n1p2 rw,errors=remount-ro
90 27 253:3 / /var/lib/containerd rw,noatime shared:7 - xfs /dev/mapper/vg-containerd rw,attr2
95 27 8:17 / /mnt/with\040space rw - ext4 /dev/sdb1 rw
96 90 8:33 / /var/lib/containerd rw - btrfs /dev/sdc1 rw,space_cache
cut line
"""


@pytest.mark.parametrize(
    ("path", "filesystem"),
    [
        ("/var/lib/other", "ext4"),
        ("/var/lib/containerd/io.containerd.content.v1.content", "btrfs"),
        ("/var/lib/containerd", "btrfs"),
        ("/var/lib/containerd-two", "ext4"),
        ("/mnt/with space/a", "ext4"),
        ("/proc/1", "proc"),
    ],
)
def test_the_mount_of_a_path_is_the_last_on_the_longest_point(path: str, filesystem: str) -> None:
    found = facts.mount_of(Path(path), parse_mounts(MOUNTS))
    assert found is not None
    assert found.filesystem == filesystem


def test_a_path_on_no_mount() -> None:
    assert facts.mount_of(Path("/var"), parse_mounts(b"")) is None


def block(folder: Path, name: str, *, model: str = "", slaves: tuple[str, ...] = (), partition: str = "") -> None:
    """Make a device of sysfs; a partition is a folder below its disk."""
    device = folder / "devices" / name
    (device / "slaves").mkdir(parents=True)
    for slave in slaves:
        (device / "slaves" / slave).mkdir()
    if model:
        (device / "device").mkdir()
        (device / "device" / "model").write_text(f"{model:16}\n")
    (folder / "block").mkdir(exist_ok=True)
    (folder / "block" / name).symlink_to(device)
    if partition:
        (device / partition).mkdir()
        (folder / "block" / partition).symlink_to(device / partition)


def test_the_model_of_a_disk_of_its_partition_and_of_what_lies_above(tmp_path: Path) -> None:
    block(tmp_path, "sda", model="OMEGA 512", partition="sda1")
    block(tmp_path, "dm-0", slaves=("sda1",))
    block(tmp_path, "dm-1", slaves=("dm-0",))
    for source in ("/dev/sda", "/dev/sda1", "/dev/dm-0", "/dev/dm-1"):
        assert facts.disk_model(source, tmp_path / "block") == "OMEGA 512"


def test_what_has_no_model(tmp_path: Path) -> None:
    block(tmp_path, "vda")
    block(tmp_path, "dm-0", slaves=("dm-0",))
    for source in ("/dev/vda", "/dev/dm-0", "/dev/none", "tmpfs", "server:/export"):
        assert facts.disk_model(source, tmp_path / "block") == ""


def test_this_host_has_a_kernel_and_a_file_system() -> None:
    found = facts.host_facts(Path("/proc/self"))
    assert found["kernel"]
    assert found["filesystem"] == "proc"
    assert facts.host_facts(None).keys() == {"kernel"}
