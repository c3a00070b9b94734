"""Snapshotters' databases, made by hand, and the directories that they name."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest

from auditor.model.snapshot_files import Row, Usage
from auditor.snapshots.folders import Folders, read_folders
from auditor.snapshots.presence import EROFS, Location, look
from tests.unit.bbolt.bolt_files import Tree, database

#: 2023-11-14 22:13:20.000000007, as Go writes it.
AT: Final = bytes.fromhex("010000000edce5e80000000007ffff")
NANOSECONDS: Final = 1_700_000_000_000_000_007
COMMITTED, ACTIVE = b"\x03", b"\x02"


def record(number: bytes, kind: bytes, **more: bytes | Tree) -> Tree:
    """A snapshot of a snapshotter's database."""
    return {b"id": number, b"kind": kind, b"createdat": AT, **{key.encode(): more[key] for key in more}}


def folders(tmp_path: Path, snapshots: Tree) -> Folders:
    (tmp_path / "metadata.db").write_bytes(database({b"v1": {b"parents": {}, b"snapshots": snapshots}}))
    return read_folders(tmp_path)


def test_committed_snapshots_and_those_of_containers(tmp_path: Path) -> None:
    found = folders(
        tmp_path,
        {
            b"a": record(b"\x04", COMMITTED, size=b"\x80\x40", inodes=b"\x04", labels={b"x": b"y"}),
            b"b": record(b"\xbc\x01", COMMITTED),
            b"c": record(b"\x07", ACTIVE),
            b"no number": {b"kind": COMMITTED},
            b"no kind": {b"id": b"\x09", b"kind": b""},
        },
    )
    assert found.ids == {b"a": "4", b"b": "188", b"c": "7", b"no number": "0", b"no kind": "9"}
    assert found.created == {b"a": NANOSECONDS, b"b": NANOSECONDS}
    assert sorted(found.writes) == [0, 0, *[NANOSECONDS] * 3]
    assert found.row(b"a") == Row("4", Usage(4096, 2))
    assert found.row(b"b") == Row("188", Usage())


def test_a_snapshotter_that_never_had_a_snapshot(tmp_path: Path) -> None:
    (tmp_path / "metadata.db").write_bytes(database({}))
    assert read_folders(tmp_path) == Folders()


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"createdat", b"zreatedat"),
        (b"\x10\0\0\0\x01\0\0\0", b"\x11\0\0\0\x01\0\0\0"),
    ],
)
def test_a_damaged_record_is_refused(tmp_path: Path, before: bytes, after: bytes) -> None:
    data = bytes(database({b"v1": {b"snapshots": {b"a": {b"createdat": AT, b"id": b"\1"}, b"b": {b"k": b"v"}}}}))
    assert before in data
    (tmp_path / "metadata.db").write_bytes(data.replace(before, after))
    with pytest.raises(ValueError, match="a database is damaged: an inline bucket has"):
        read_folders(tmp_path)


@pytest.mark.parametrize(
    ("name", "made", "missing"),
    [
        ("overlayfs", "snapshots/5/fs/", False),
        ("overlayfs", "snapshots/5/fs", True),
        ("overlayfs", "snapshots/5/", True),
        ("native", "snapshots/5/", False),
        ("native", "snapshots/", True),
        (EROFS, "snapshots/5/layer.erofs", False),
        (EROFS, "snapshots/5/layer.erofs/", True),
    ],
)
def test_a_look_at_a_directory(tmp_path: Path, name: str, made: str, *, missing: bool) -> None:
    path = tmp_path / made
    path.parent.mkdir(parents=True, exist_ok=True)
    if made.endswith("/"):
        path.mkdir(parents=True)
    else:
        path.touch()
    found = look(Location(name, Path("meta.db"), tmp_path), Row("5", Usage(3, 1)))
    assert (found.missing, found.id, found.recorded) == (missing, "5", Usage(3, 1))
    assert Path(found.path).is_relative_to(tmp_path / "snapshots/5")


def test_nothing_follows_where_the_folder_of_all_is_out_of_sight(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        look(Location("overlayfs", Path("meta.db"), tmp_path), Row("5", Usage()))
