"""A layer that is played in memory equals the files that it unpacks to; each damage is found under its kind."""

from __future__ import annotations

import errno
import gzip
import io
import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from auditor.model.digest import Digest
from auditor.model.snapshot_files import Kind
from auditor.snapshots.compare import compare
from auditor.snapshots.play import Played, play
from auditor.snapshots.tree import NodeKind

NS = 1_700_000_000_123456789


def entry(name: str, **fields: object) -> tarfile.TarInfo:
    """A tar header owned by the user of the test."""
    info = tarfile.TarInfo(name)
    info.uid, info.gid, info.mode = os.getuid(), os.getgid(), 0o644
    info.pax_headers = {"mtime": "1700000000.123456789"}
    for field, value in fields.items():
        setattr(info, field, value)
    return info


def layer(*entries: tuple[tarfile.TarInfo, bytes]) -> bytes:
    """A compressed layer."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for info, data in entries:
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return gzip.compress(out.getvalue(), mtime=0)


def played(*entries: tuple[tarfile.TarInfo, bytes], lowest: bool = True) -> Played:
    return play([layer(*entries)], lowest=lowest)


FILES = (
    (entry("usr/", type=tarfile.DIRTYPE, mode=0o755), b""),
    (entry("usr/tool", mode=0o4755), b"#!/bin/sh\n" * 100),
    (entry("usr/empty"), b""),
    (entry("usr/link", type=tarfile.SYMTYPE, linkname="tool", mode=0o777), b""),
    (entry("usr/hard", type=tarfile.LNKTYPE, linkname="usr/tool", mode=0o4755), b""),
    (entry("usr/pipe", type=tarfile.FIFOTYPE), b""),
    (entry("deep/below/file"), b"1"),
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """What FILES unpack to, made without the code under test."""
    (tmp_path / "usr").mkdir()
    (tmp_path / "deep/below").mkdir(parents=True)
    (tmp_path / "usr/tool").write_bytes(FILES[1][1])
    (tmp_path / "usr/tool").chmod(0o4755)
    (tmp_path / "usr/empty").touch(0o644)
    (tmp_path / "usr/link").symlink_to("tool")
    (tmp_path / "usr/hard").hardlink_to(tmp_path / "usr/tool")
    os.mkfifo(tmp_path / "usr/pipe", 0o644)
    (tmp_path / "deep/below/file").write_bytes(b"1")
    (tmp_path / "usr").chmod(0o755)
    for name in ("usr/tool", "usr/empty", "usr/link", "usr/pipe", "deep/below/file", "usr"):
        os.utime(tmp_path / name, ns=(NS, NS), follow_symlinks=False)
    return tmp_path


def kinds(root: Path) -> list[tuple[bytes, Kind]]:
    found = compare(played(*FILES).tree, root)
    return sorted((item.path, item.kind) for item in found.items if item.kind is not Kind.MTIME)


def test_equal(root: Path) -> None:
    result = played(*FILES)
    found = compare(result.tree, root)
    assert (found.items, found.expected, result.refusal) == ((), 9, "")
    assert result.verification.diff_id == Digest.of(gzip.decompress(layer(*FILES)))


def cut(root: Path) -> None:
    os.truncate(root / "usr/tool", 5)


def empty(root: Path) -> None:
    os.truncate(root / "usr/tool", 0)


def zero(root: Path) -> None:
    (root / "usr/tool").write_bytes(bytes(1000))


def flip(root: Path) -> None:
    (root / "usr/tool").write_bytes(b"!" + FILES[1][1][1:])


def lengthen(root: Path) -> None:
    (root / "usr/tool").write_bytes(FILES[1][1] + b"x")


def remove_tree(root: Path) -> None:
    (root / "deep/below/file").unlink()
    (root / "deep/below").rmdir()


def split(root: Path) -> None:
    (root / "usr/hard").unlink()
    (root / "usr/hard").write_bytes(FILES[1][1])
    (root / "usr/hard").chmod(0o4755)


def relink(root: Path) -> None:
    (root / "usr/link").unlink()
    (root / "usr/link").symlink_to("other")


def replace(root: Path) -> None:
    (root / "usr/empty").unlink()
    (root / "usr/empty").mkdir(0o644)


@pytest.mark.parametrize(
    ("damage", "path", "kind"),
    [
        (cut, b"usr/tool", Kind.TRUNCATED),
        (empty, b"usr/tool", Kind.EMPTY),
        (zero, b"usr/tool", Kind.ZEROED),
        (flip, b"usr/tool", Kind.CONTENT),
        (lengthen, b"usr/tool", Kind.LONGER),
        (remove_tree, b"deep/below", Kind.MISSING),
        (relink, b"usr/link", Kind.TARGET),
        (replace, b"usr/empty", Kind.TYPE),
        (lambda root: (root / "usr/empty").chmod(0o600), b"usr/empty", Kind.MODE),
        (lambda root: (root / "usr/new").touch(), b"usr/new", Kind.EXTRA),
        (lambda root: os.setxattr(root / "usr/empty", "user.x", b"1"), b"usr/empty", Kind.XATTR),
        (lambda root: (root / "usr/empty").unlink(), b"usr/empty", Kind.MISSING),
    ],
)
def test_damage(root: Path, damage: Callable[[Path], None], path: bytes, kind: Kind) -> None:
    mode = (root / "usr/tool").stat().st_mode
    damage(root)
    (root / "usr/tool").chmod(mode & 0o7777)  # a write drops the setuid bit
    assert kinds(root) == [(path, kind)]


def test_broken_hard_link(root: Path) -> None:
    split(root)
    assert {kind for _, kind in kinds(root)} == {Kind.HARD_LINK}


def test_time(root: Path) -> None:
    os.utime(root / "usr/empty", ns=(NS, NS + 1))
    found = compare(played(*FILES).tree, root)
    assert [(item.path, item.kind) for item in found.items] == [(b"usr/empty", Kind.MTIME)]


def test_a_missing_tree_is_one_difference(root: Path) -> None:
    remove_tree(root)
    found = compare(played(*FILES).tree, root)
    assert [(item.kind, item.below) for item in found.items] == [(Kind.MISSING, 1)]
    assert found.missing == 2


# The model


def test_whiteouts_leave_devices_except_in_the_lowest_layer() -> None:
    marks = ((entry("a/.wh.gone"), b""), (entry("b/.wh..wh..opq"), b""), (entry("b/new"), b"1"))
    upper = played(*marks, lowest=False).tree.children or {}
    assert (upper[b"a"].children or {})[b"gone"].kind is NodeKind.WHITEOUT
    assert upper[b"b"].opaque
    lowest = played(*marks).tree.children or {}
    assert lowest[b"a"].children == {}
    assert not lowest[b"b"].opaque


def test_a_file_replaces_the_whiteout_of_its_name() -> None:
    tree = played((entry(".wh.x"), b""), (entry("x"), b"1"), lowest=False).tree
    assert {name: node.kind for name, node in (tree.children or {}).items()} == {b"x": NodeKind.FILE}


@pytest.mark.parametrize("name", [".wh.", ".wh..", ".wh...", "x/.wh.y"])
def test_what_containerd_cannot_unpack_is_refused(name: str) -> None:
    assert played((entry("x/y"), b"1"), (entry(name), b""), lowest=False).refusal


def test_symlinks_are_resolved_within_the_layer() -> None:
    link = entry("lib", type=tarfile.SYMTYPE, linkname="/usr/../usr/lib")
    tree = played((link, b""), (entry("lib/x"), b"1")).tree
    usr = (tree.children or {})[b"usr"]
    assert (((usr.children or {})[b"lib"]).children or {})[b"x"].size == 1


def test_a_link_entry_sets_the_attributes_of_its_file() -> None:
    link = entry("b", type=tarfile.LNKTYPE, linkname="a", mode=0o600, uid=7)
    capable = entry("a", pax_headers={"SCHILY.xattr.security.capability": "\x01"})
    node = (played((capable, b"1"), (link, b"")).tree.children or {})[b"a"]
    assert (node.mode, node.uid, node.links, node.xattrs) == (0o600, 7, 2, {})


def test_the_last_of_duplicates_wins_and_old_links_keep_their_content() -> None:
    link = entry("b", type=tarfile.LNKTYPE, linkname="a")
    tree = played((entry("a"), b"1"), (link, b""), (entry("a"), b"22")).tree
    assert {name: (node.size, node.links) for name, node in (tree.children or {}).items()} == {
        b"a": (2, 1),
        b"b": (1, 1),
    }


@pytest.mark.parametrize("seconds", ["-5", "99999999999"])
def test_times_that_a_file_cannot_have_are_zero(seconds: str) -> None:
    tree = played((entry("a", mtime=0, pax_headers={"mtime": seconds}), b"")).tree
    assert (tree.children or {})[b"a"].mtime == 0


@pytest.mark.parametrize(
    ("expected", "found", "same"),
    [
        ("1700000000.5", 1_700_000_000, True),  # a file system without parts of a second
        ("1700000000.5", 1_700_000_000.25, False),
        ("1700000000", 1_700_000_000.25, False),
        ("1700000001.5", 1_700_000_000, False),
        ("4000000000", 2_147_483_647, True),  # one without times after 2038
        ("4000000000", 2_147_483_646, False),
        ("1700000000", 2_147_483_647, False),
    ],
)
def test_times_are_those_that_the_file_system_keeps(tmp_path: Path, expected: str, found: float, same: bool) -> None:
    (tmp_path / "a").touch(0o644)
    os.utime(tmp_path / "a", ns=(0, int(found * 4) * 10**9 // 4))
    differences = compare(played((entry("a", pax_headers={"mtime": expected}), b"")).tree, tmp_path)
    assert [item.kind for item in differences.items] == ([] if same else [Kind.MTIME])


@pytest.mark.parametrize("owner", [0xFFFFFFFF, -1])
def test_an_owner_that_chown_takes_for_none_is_not_compared(tmp_path: Path, owner: int) -> None:
    (tmp_path / "a").touch(0o644)
    os.utime(tmp_path / "a", ns=(NS, NS))
    assert compare(played((entry("a", uid=owner, gid=owner), b"")).tree, tmp_path).items == ()
    linked = entry("b", type=tarfile.LNKTYPE, linkname="a", uid=owner, gid=owner)
    node = (played((entry("a", uid=7, gid=8), b""), (linked, b"")).tree.children or {})[b"a"]
    assert (node.uid, node.gid) == (7, 8)


def test_ids_and_device_numbers_are_cut_as_the_kernel_cuts_them() -> None:
    device = entry("c", type=tarfile.CHRTYPE, devmajor=0x1001, devminor=2, uid=(1 << 32) + 5, gid=-7)
    node = (played((device, b"")).tree.children or {})[b"c"]
    assert (node.device, node.uid, node.gid) == (1 << 32 | 2, 5, (1 << 32) - 7)


def test_a_directory_that_is_replaced_between_its_files() -> None:
    folder, link = entry("d", type=tarfile.DIRTYPE), entry("d", type=tarfile.SYMTYPE, linkname="e")
    tree = played((folder, b""), (entry("d/a"), b""), (link, b""), (entry("d/b"), b"1")).tree
    children = tree.children or {}
    assert (children[b"d"].kind, list(children[b"e"].children or {})) == (NodeKind.SYMLINK, [b"b"])
    tree = played((entry("d/a"), b""), (entry(".wh.d"), b""), (entry("d/b"), b"1")).tree
    assert list((tree.children or {})[b"d"].children or {}) == [b"b"]


def test_global_headers_are_ignored() -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT, pax_headers={"uid": "77"}) as tar:
        tar.addfile(entry("a"))
    tree = play([out.getvalue()], lowest=True).tree
    assert (tree.children or {})[b"a"].uid == os.getuid()


def test_a_cut_layer_is_refused() -> None:
    assert play([layer(*FILES)[:-40]], lowest=True).verification.kind == "undecodable"


def test_files_of_other_users_are_not_damage(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree, plain = played(*FILES).tree, os.open

    def refuse(path: bytes, flags: int, *, dir_fd: int | None = None) -> int:
        if os.fspath(path).endswith(b"usr/tool"):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        return plain(path, flags, dir_fd=dir_fd)

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(PermissionError, match="usr/tool"):
        compare(tree, root)
