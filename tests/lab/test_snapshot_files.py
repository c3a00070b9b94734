"""Unpacked files on real daemons: no false alarm on odd layers, and each damage under its code."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from auditor.snapshots.folders import read_rows
from tests import images
from tests.lab.checked import check, loud, name
from tests.lab.kit.daemon import CRI_NAMESPACE, Containerd
from tests.lab.kit.registry import Registry


def entry(path: str, data: bytes = b"", **fields: object) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(path)
    info.mode, info.mtime, info.size = 0o644, 1_600_000_000, len(data)
    for field, value in fields.items():
        setattr(info, field, value)
    return info, data


def folder(path: str, **fields: object) -> tuple[tarfile.TarInfo, bytes]:
    return entry(path, type=tarfile.DIRTYPE, **{"mode": 0o755, **fields})


def link(path: str, target: str, kind: bytes = tarfile.SYMTYPE, **fields: object) -> tuple[tarfile.TarInfo, bytes]:
    return entry(path, type=kind, linkname=target, **fields)


def layer(*entries: tuple[tarfile.TarInfo, bytes]) -> images.BuiltLayer:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT, errors="surrogateescape") as tar:
        for info, data in entries:
            tar.addfile(info, io.BytesIO(data))
    return images.raw_layer(gzip.compress(out.getvalue()), diff_id="sha256:" + hashlib.sha256(out.getvalue()).hexdigest())


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


def directory(daemon: Containerd, image: images.BuiltImage, index: int) -> Path:
    """The directory of a layer, by the databases."""
    root = daemon.root / "io.containerd.snapshotter.v1.overlayfs"
    rows = read_rows(daemon.root / "io.containerd.metadata.v1.bolt/meta.db", "overlayfs", root)
    return root / "snapshots" / rows[CRI_NAMESPACE, "overlayfs", image.chain_ids[index]].id / "fs"


def pulled(daemon: Containerd, registry: Registry) -> Containerd:
    daemon.cri_pull(registry.push(ODD, "lab/odd:1"))
    return daemon


def test_no_false_alarm_then_each_damage(daemon: Containerd, registry: Registry) -> None:
    pulled(daemon, registry)
    for level in ("presence", "snapshots-quick", "snapshots"):
        run = check(daemon, "--verify", level)
        assert (run.status, loud(run.report)) == (0, set()), run.stdout
        assert "snapshot-unverifiable" not in {finding.code for finding in run.report.findings}
    for index, damage, code in DAMAGES:
        target = directory(daemon, ODD, index)
        saved = target.with_name("saved")
        shutil.copytree(target, saved, symlinks=True, ignore=shutil.ignore_patterns("*")) if False else None
        _copy(target, saved)
        damage(target)
        run = check(daemon, "--verify", "snapshots")
        found = {finding.code for finding in run.report.findings if finding.severity != "info"}
        assert found == {code}, (damage, run.stdout)
        (finding,) = [each for each in run.report.findings if each.code == code]
        assert finding.subject.name == f"overlayfs/{ODD.chain_ids[index]}"
        assert {image.target for image in finding.images} == {ODD.digest}
        shutil.rmtree(target, ignore_errors=True)
        saved.rename(target)
