"""Unpacked files of the erofs snapshotter (2.1), which keeps an image of a file system for each layer."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from auditor.snapshots import erofs_mount
from tests import images
from tests.lab.checked import auditor, auditor_here, check, loud
from tests.lab.conftest import StartDaemon
from tests.lab.kit import snapshotters
from tests.lab.kit.binaries import program
from tests.lab.kit.daemon import Containerd
from tests.lab.kit.registry import Registry
from tests.lab.odd_layers import LAYERS, entry, layer
from tests.lab.test_snapshot_files import ATTRIBUTES, DAMAGED, ODD, directory, write

#: Layers that mkfs.erofs does not convert from a tar.
UNCONVERTED = ("below-an-own-link", "opaque-root")
DATA = images.noise("data", 20_000)
IMAGE = images.image([layer(entry("data", DATA), entry("other", b"2")), layer(entry(".wh.other"))])
MISSING = "snapshot-directory-missing"


@pytest.fixture
def node(start_daemon: StartDaemon, base: Path) -> Containerd:
    return start_daemon("2.1", **snapshotters.options("erofs", "2.1", base))


def pull(daemon: Containerd, reference: str) -> None:
    daemon.ctr("images", "pull", "--plain-http", "--snapshotter", "erofs", reference)


def made_again(change: Callable[[Path], object]) -> Callable[[Path], object]:
    """Make the image again from its files, after a change to them."""

    def damage(image: Path) -> None:
        with erofs_mount.mounted(image) as root:
            files = image.parent / "changed"
            shutil.copytree(root, files, symlinks=True)
        change(files)
        mkfs = program("erofs-utils", "usr/bin/mkfs.erofs")
        subprocess.run([mkfs, "--quiet", image, files], check=True)
        shutil.rmtree(files)

    return damage


def flip(image: Path) -> None:
    data = image.read_bytes()
    assert DATA[:64] in data
    image.write_bytes(data.replace(DATA[:64], bytes(64)))


def cut(image: Path) -> None:
    os.truncate(image, image.stat().st_size - 4096)


def overwrite(image: Path) -> None:
    image.write_bytes(bytes(image.stat().st_size))


#: Damage of the lower layer's image, code, part of the message.
DAMAGES = (
    (flip, DAMAGED, "1 content"),
    (cut, DAMAGED, "its image of a file system has"),
    (lambda image: image.write_bytes(b""), DAMAGED, "is empty"),
    (overwrite, DAMAGED, "no EROFS superblock"),
    (Path.unlink, MISSING, "layer.erofs does not exist"),
    (made_again(write("data", DATA[:-1] + b"\0")), DAMAGED, "1 content"),
    (made_again(lambda root: (root / "data").unlink()), DAMAGED, "1 missing"),
    (made_again(lambda root: (root / "data").chmod(0o600)), ATTRIBUTES, "600, 644 in the layer"),
    (made_again(lambda root: (root / "more").touch()), "snapshot-extra-files", "more: extra"),
)


def test_each_damage(node: Containerd, registry: Registry, base: Path) -> None:
    pull(node, registry.push(IMAGE, "lab/erofs:1"))
    image = directory(node, IMAGE, 0, snapshotter="erofs") / "layer.erofs"
    shutil.copy(image, base / "saved")
    for damage, code, said in DAMAGES:
        damage(image)
        report = check(node, "--verify", "snapshots").report
        assert loud(report) == {(code, f"erofs/{IMAGE.chain_ids[0]}")}, said
        (found,) = (each for each in report.findings if each.code == code)
        assert said in found.message
        shutil.copy(base / "saved", image)
    assert check(node, "--verify", "snapshots").status == 0
    setpriv = ("setpriv", "--bounding-set=-sys_admin", "--inh-caps=-sys_admin")
    without = auditor("check", "--address", node.socket, "--verify", "snapshots", through=setpriv)
    assert (without.status, "run as root with CAP_SYS_ADMIN" in without.out + without.err) == (3, True)
    # Nothing stays mounted, and no loop device is held.
    assert str(image) not in Path("/proc/self/mountinfo").read_text()
    node.kill()
    node.start()  # what was unpacked before is suspect now
    overwrite(image)
    assert loud(check(node).report) == {(DAMAGED, f"erofs/{IMAGE.chain_ids[0]}")}
    shutil.copy(base / "saved", image)
    node.stop()
    flip(image)
    offline = auditor_here("check", "--format", "json", "--root", node.root, "--verify", "snapshots")
    assert loud(offline.report) == {(DAMAGED, f"erofs/{IMAGE.chain_ids[0]}")}


def test_no_odd_image_is_a_finding(node: Containerd, registry: Registry) -> None:
    for name, layers in {**LAYERS, "lowest": ODD.layers}.items():
        pull(node, registry.push(images.image(layers), f"odd/{name}:1"))
    node.kill()
    node.start()  # all that was unpacked before is suspect now
    for level in ("presence", "snapshots-quick", "snapshots"):
        run = check(node, "--verify", level)
        found = [(each.code, each.message) for each in run.report.findings if each.code.startswith("snapshot")]
        assert not found
        assert (run.status, run.report.incomplete) == (0, ())


def test_what_the_erofs_differ_converts_by_its_own_rules_is_said(
    start_daemon: StartDaemon, base: Path, registry: Registry
) -> None:
    options = snapshotters.options("erofs", "2.1", base)
    options["extra_config"] += 'differ = "erofs"\n'
    daemon = start_daemon("2.1", **options)
    odd = {name: images.image(layers) for name, layers in LAYERS.items() if name not in UNCONVERTED}
    for name, image in odd.items():
        pull(daemon, registry.push(image, f"odd/{name}:1"))
    run = check(daemon, "--verify", "snapshots")
    assert (run.status, loud(run.report), run.report.incomplete) == (0, set(), ())
    said = {each.message.rpartition(": ")[2] for each in run.report.findings if each.code.startswith("snapshot")}
    assert said == {"attributes, device numbers and additional files, which mkfs.erofs makes of a tar by its own rules"}
    target = directory(daemon, odd["gnu"], 0, snapshotter="erofs") / "layer.erofs"
    other = directory(daemon, odd["whiteouts"], 1, snapshotter="erofs") / "layer.erofs"
    shutil.copy(other, target)
    assert loud(check(daemon, "--verify", "snapshots").report) == {(DAMAGED, f"erofs/{odd['gnu'].chain_ids[0]}")}


def test_a_kernel_that_reads_images_by_loop_devices_only(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (base / "files").mkdir()
    (base / "files/a").write_bytes(b"1")
    subprocess.run(
        [program("erofs-utils", "usr/bin/mkfs.erofs"), "--quiet", base / "image", base / "files"], check=True
    )
    mount = erofs_mount._mount

    def refuse(source: bytes) -> int:
        if source == os.fsencode(base / "image"):
            raise OSError(errno.ENOTBLK, "Block device required")
        return mount(source)

    monkeypatch.setattr(erofs_mount, "_mount", refuse)
    with erofs_mount.mounted(base / "image") as root:
        assert (root / "a").read_bytes() == b"1"
    held = [path.read_text() for path in Path("/sys/block").glob("loop*/loop/backing_file")]
    assert f"{base / 'image'}\n" not in held
