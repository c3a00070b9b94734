"""Unpacked files on real daemons: no false alarm on odd layers, and each damage under its code."""

from __future__ import annotations

import gzip
import io
import os
import shutil
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from auditor.snapshots.folders import read_rows
from tests import images
from tests.lab.checked import check, loud
from tests.lab.kit.daemon import CRI_NAMESPACE, Containerd
from tests.lab.kit.registry import Registry


def entry(path: str, data: bytes = b"", **fields: Any) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(path)
    info.mode, info.mtime, info.size = 0o644, 1_600_000_000, len(data)
    for field, value in fields.items():
        setattr(info, field, value)
    return info, data


def folder(path: str, **fields: Any) -> tuple[tarfile.TarInfo, bytes]:
    return entry(path, type=tarfile.DIRTYPE, **{"mode": 0o755, **fields})


def link(path: str, target: str, kind: bytes = tarfile.SYMTYPE, **fields: Any) -> tuple[tarfile.TarInfo, bytes]:
    return entry(path, type=kind, linkname=target, **fields)


def layer(*entries: tuple[tarfile.TarInfo, bytes]) -> images.BuiltLayer:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT, errors="surrogateescape") as tar:
        for info, data in entries:
            tar.addfile(info, io.BytesIO(data))
    return images.raw_layer(gzip.compress(out.getvalue()), diff_id=images.sha256(out.getvalue()))


TOOL = images.noise("tool", 9000)
LOWEST = layer(
    folder("./", mode=0o700, uid=5),
    folder("usr"),
    folder("usr/lib", mtime=1),
    link("lib", "usr/lib"),
    entry("lib/through", b"link"),
    entry("usr/tool", TOOL, mode=0o4755, uid=1000, gid=4_294_967_294, pax_headers={"mtime": "1600000000.123456789"}),
    link("usr/hard", "usr/tool", tarfile.LNKTYPE, mode=0o2755, uid=7),
    entry("usr/capable", b"1", pax_headers={"SCHILY.xattr.user.note": "x", "SCHILY.xattr.trusted.x": "y"}),
    entry("implicit/below/file", b"2"),
    entry("gone"),
    entry(".wh.gone"),
    entry("keep/.wh..wh..opq"),
    entry("old", pax_headers={"mtime": "-5"}),
    entry("far", pax_headers={"mtime": "99999999999"}),
    entry("fifo", type=tarfile.FIFOTYPE),
    entry("device", type=tarfile.CHRTYPE, devmajor=1, devminor=70000),
    entry("block", type=tarfile.BLKTYPE, devmajor=7, devminor=1),
    entry("twice", b"one"),
    link("kept", "twice", tarfile.LNKTYPE),
    entry("twice", b"second"),
    entry("long" * 60, b"3"),
    entry("new\nline \udcff", b"4"),
    link("dangling", "nowhere"),
    link("to-dangling", "dangling", tarfile.LNKTYPE),
    entry("secret", b"5", mode=0),
    folder("swap"),
    entry("swap/a", b"6"),
    entry("swap", b"now a file"),
)
UPPER = layer(
    entry("usr/.wh.tool"),
    entry("lib/upper", b"real directory"),
    entry("usr/lib/.wh..wh..opq"),
    entry("usr/lib/new", b"7"),
    entry(".wh.never-there"),
    entry(".wh.again"),
    entry("again", b"8"),
    entry(".wh..wh.plnk"),
    folder("implicit/below", mode=0o700),
    entry("null", type=tarfile.CHRTYPE),
    entry("usr/data", images.noise("data", 20000)),
)
ODD = images.image([LOWEST, UPPER, layer()])

Damage = Callable[[Path], object]


def directory(
    daemon: Containerd,
    image: images.BuiltImage,
    index: int,
    *,
    namespace: str = CRI_NAMESPACE,
    snapshotter: str = "overlayfs",
) -> Path:
    """The directory of a layer, by the databases."""
    root = daemon.root / f"io.containerd.snapshotter.v1.{snapshotter}"
    rows = read_rows(daemon.root / "io.containerd.metadata.v1.bolt/meta.db", snapshotter, root)
    folder = root / "snapshots" / rows[namespace, snapshotter, image.chain_ids[index]].id
    return folder / "fs" if snapshotter == "overlayfs" else folder


def pulled(daemon: Containerd, registry: Registry) -> Containerd:
    daemon.cri_pull(registry.push(ODD, "lab/odd:1"))
    return daemon


def write(name: str, data: bytes) -> Damage:
    """Replace bytes in place; owner, mode and time stay."""

    def damage(root: Path) -> None:
        path = root / name
        info = path.stat()
        path.write_bytes(data)
        path.chmod(info.st_mode & 0o7777)
        os.utime(path, ns=(info.st_mtime_ns, info.st_mtime_ns))

    return damage


def renew(name: str) -> Damage:
    """Break a hard link: a file of its own with the same bytes and attributes."""

    def damage(root: Path) -> None:
        subprocess.run(["cp", "-p", root / name, root / "copy"], check=True)
        (root / "copy").rename(root / name)

    return damage


def replace_by(name: str, make: Damage) -> Damage:
    def damage(root: Path) -> None:
        path = root / name
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        make(path)

    return damage


def nothing(_path: Path) -> None:
    return None


def clear(root: Path) -> None:
    for child in root.iterdir():
        shutil.rmtree(child) if child.is_dir() and not child.is_symlink() else child.unlink()


DAMAGED = "snapshot-damaged"
ATTRIBUTES = "snapshot-attributes"
#: Layer, damage, code: the damages of a power cut, a bad disk and a hand.
DAMAGES: tuple[tuple[int, Damage, str], ...] = (
    (0, write("usr/tool", b""), DAMAGED),
    (0, write("usr/tool", bytes(9000)), DAMAGED),
    (0, write("usr/tool", TOOL[:-1]), DAMAGED),
    (0, write("usr/tool", TOOL + b"x"), DAMAGED),
    (0, write("usr/tool", bytes([TOOL[0] ^ 1]) + TOOL[1:]), DAMAGED),
    (0, lambda root: (root / "usr/tool").chmod(0o600), ATTRIBUTES),
    (0, lambda root: os.chown(root / "old", 3, 3), ATTRIBUTES),
    (0, lambda root: os.setxattr(root / "old", "user.more", b"1"), ATTRIBUTES),
    (
        0,
        lambda root: os.setxattr(
            root / "old", "security.capability", bytes.fromhex("0100000200200000000000000000000000000000")
        ),
        ATTRIBUTES,
    ),
    (0, replace_by("usr/capable", nothing), DAMAGED),
    (0, replace_by("usr/capable", Path.mkdir), DAMAGED),
    (0, replace_by("usr/capable", lambda path: path.symlink_to("x")), DAMAGED),
    (0, lambda root: (root / "added").touch(), "snapshot-extra-files"),
    (0, replace_by("usr", nothing), DAMAGED),
    (0, replace_by("dangling", lambda path: path.symlink_to("elsewhere")), DAMAGED),
    (0, renew("usr/hard"), ATTRIBUTES),
    (0, lambda root: os.setxattr(root / "usr", "trusted.overlay.opaque", b"y"), DAMAGED),
    (0, lambda root: os.mknod(root / "hidden", 0o20000, 0), "snapshot-extra-files"),
    (1, replace_by("usr/tool", nothing), "snapshot-whiteouts-lost"),
    (1, lambda root: os.removexattr(root / "usr/lib", "trusted.overlay.opaque"), "snapshot-whiteouts-lost"),
    (0, clear, "snapshot-empty"),
    (1, shutil.rmtree, "snapshot-directory-missing"),
)


def test_no_false_alarm_then_each_damage(daemon: Containerd, registry: Registry) -> None:
    pulled(daemon, registry)
    for level in ("presence", "snapshots-quick", "snapshots"):
        run = check(daemon, "--verify", level)
        assert (run.status, loud(run.report)) == (0, set())
        assert "snapshot-unverifiable" not in {finding.code for finding in run.report.findings}
    for index, damage, code in DAMAGES:
        target = directory(daemon, ODD, index)
        saved = target.with_name("saved")
        subprocess.run(["cp", "-a", target, saved], check=True)
        damage(target)
        run = check(daemon, "--verify", "snapshots")
        found = {finding.code for finding in run.report.findings if finding.severity != "info"}
        assert found == {code}, [(finding.code, finding.message) for finding in run.report.findings]
        (finding,) = [each for each in run.report.findings if each.code == code]
        assert finding.subject.name == f"overlayfs/{ODD.chain_ids[index]}"
        assert {image.target for image in finding.images} == {ODD.digest}
        shutil.rmtree(target, ignore_errors=True)
        saved.rename(target)
