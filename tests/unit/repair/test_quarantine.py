"""The quarantine of rebuilt snapshots: what each instant of a rebuild leaves, and how the next run settles it."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from auditor.errors import StoreError
from auditor.repair import quarantine
from auditor.repair.quarantine import Entry, Record

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)


def tree(folder: Path, content: str) -> Path:
    folder.mkdir(parents=True)
    (folder / "file").write_text(content)
    return folder


def entry_of(root: Path, *, old: bool = True) -> Entry:
    """Return the entry of a rebuild of `snapshots/7`, with its new tree in `snapshots/9`."""
    target = root / "snapshots/7"
    if old:
        tree(target / "fs", "old")
    tree(root / "snapshots/9/fs", "new")
    record = Record(
        namespace="k8s.io",
        snapshotter="overlayfs",
        chain="sha256:1",
        layer="sha256:2",
        key="auditor-rebuild-1",
        target=str(target),
        inode=quarantine.inode(target / "fs"),
        boot="boot",
        started_at=NOW,
    )
    return quarantine.create(root, "token", record)


def content(root: Path) -> str:
    return (root / "snapshots/7/fs/file").read_text()


def test_an_exchange_keeps_the_old_tree(tmp_path: Path) -> None:
    entry = entry_of(tmp_path)
    quarantine.take(entry, tmp_path / "snapshots/9/fs")
    assert not entry.holds_old
    quarantine.exchange(entry)
    assert content(tmp_path) == "new"
    assert (entry.files / "file").read_text() == "old"
    kept = quarantine.settle(entry, now=NOW)
    assert kept is not None
    assert quarantine.entries(tmp_path) == (kept,)
    assert kept.record.exchanged_at == NOW
    assert quarantine.settle(kept, now=datetime(2027, 1, 1, tzinfo=UTC)) == kept


@pytest.mark.parametrize("taken", [False, True])
def test_before_the_exchange_nothing_is_kept(tmp_path: Path, *, taken: bool) -> None:
    entry = entry_of(tmp_path)
    if taken:
        quarantine.take(entry, tmp_path / "snapshots/9/fs")
    assert quarantine.settle(entry, now=NOW) is None
    assert content(tmp_path) == "old"
    assert not (tmp_path / quarantine.FOLDER).exists()


def test_a_lost_folder_is_made_with_the_new_tree(tmp_path: Path) -> None:
    entry = entry_of(tmp_path, old=False)
    quarantine.take(entry, tmp_path / "snapshots/9/fs")
    quarantine.exchange(entry)
    assert quarantine.settle(entry, now=NOW) is None
    assert content(tmp_path) == "new"
    assert (tmp_path / "snapshots/7").stat().st_mode & 0o777 == 0o700


def test_an_empty_folder_made_for_a_lost_one_is_removed(tmp_path: Path) -> None:
    entry = entry_of(tmp_path, old=False)
    (tmp_path / "snapshots/7").mkdir()
    assert quarantine.settle(entry, now=NOW) is None
    assert not (tmp_path / "snapshots/7").exists()


def test_a_tree_of_another_program_is_not_exchanged(tmp_path: Path) -> None:
    entry = entry_of(tmp_path)
    quarantine.take(entry, tmp_path / "snapshots/9/fs")
    (tmp_path / "snapshots/7/fs").rename(tmp_path / "elsewhere")
    tree(tmp_path / "snapshots/7/fs", "other")
    with pytest.raises(StoreError, match="changed by another program"):
        quarantine.exchange(entry)
    assert content(tmp_path) == "other"


def test_an_interrupted_deletion_is_finished(tmp_path: Path) -> None:
    entry = entry_of(tmp_path)
    quarantine.take(entry, tmp_path / "snapshots/9/fs")
    entry.files.rename(entry.folder / "dropped")
    assert quarantine.settle(entry, now=NOW) is None
    assert not entry.folder.exists()


def test_an_entry_without_a_record_is_cleared(tmp_path: Path) -> None:
    folder = tmp_path / quarantine.FOLDER / "killed"
    folder.mkdir(parents=True)
    (folder / "record.json.new").write_text("{")
    assert quarantine.entries(tmp_path) == ()
    quarantine.clear_unrecorded(tmp_path)
    assert not folder.parent.exists()


def test_an_empty_quarantine_of_a_killed_run_is_removed(tmp_path: Path) -> None:
    (tmp_path / quarantine.FOLDER).mkdir()
    quarantine.clear_unrecorded(tmp_path)
    assert not (tmp_path / quarantine.FOLDER).exists()


def test_a_folder_with_files_and_no_record_stays(tmp_path: Path) -> None:
    tree(tmp_path / quarantine.FOLDER / "unknown/fs", "precious")
    quarantine.clear_unrecorded(tmp_path)
    assert (tmp_path / quarantine.FOLDER / "unknown/fs/file").read_text() == "precious"


def test_a_root_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / quarantine.FOLDER).write_text("a file")
    with pytest.raises(StoreError, match="cannot write"):
        entry_of(tmp_path)


def test_an_entry_whose_record_is_damaged_is_told_from_a_foreign_folder(tmp_path: Path) -> None:
    entry = entry_of(tmp_path)
    (tmp_path / quarantine.FOLDER / "foreign").mkdir()
    assert quarantine.unreadable(tmp_path) == ()
    (entry.folder / "record.json").write_text("{}")
    assert quarantine.entries(tmp_path) == ()
    assert quarantine.unreadable(tmp_path) == (entry.folder,)
