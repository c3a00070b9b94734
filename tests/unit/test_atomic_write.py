"""Output files: links of other users, mode, owner, umask."""

from __future__ import annotations

import errno
import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from auditor import atomic_write
from auditor.atomic_write import resolve, write_whole
from auditor.errors import OutputError

STRANGER = 65534
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files to another user")


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@needs_root
@pytest.mark.parametrize("below", ["", "/report"])
def test_a_link_of_another_user_in_a_shared_folder_is_not_followed(tmp_path: Path, below: str) -> None:
    shared, victim = tmp_path / "shared", tmp_path / "victim"
    shared.mkdir()
    shared.chmod(0o1777)
    victim.mkdir()
    link = shared / "link"
    link.symlink_to(victim if below else victim / "report")
    os.chown(link, STRANGER, STRANGER, follow_symlinks=False)
    with pytest.raises(OutputError, match="a link of another user"):
        write_whole(Path(f"{link}{below}"), b"data")
    assert list(victim.iterdir()) == []


def test_an_own_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("folder/../target")
    write_whole(tmp_path / "link", b"data")
    assert (tmp_path / "target").read_bytes() == b"data"
    assert (tmp_path / "link").is_symlink()


@needs_root
def test_a_replaced_file_keeps_its_mode_and_owner(tmp_path: Path) -> None:
    path = tmp_path / "report"
    path.touch()
    path.chmod(0o600)
    os.chown(path, STRANGER, STRANGER)
    write_whole(path, b"data", mode=0o644)
    assert (path.read_bytes(), _mode(path), path.stat().st_uid) == (b"data", 0o600, STRANGER)


@pytest.mark.parametrize(("mode", "expected"), [(None, 0o640), (0o644, 0o644)])
def test_a_new_file_obeys_the_umask_unless_a_mode_is_given(tmp_path: Path, mode: int | None, expected: int) -> None:
    before = os.umask(0o027)
    try:
        write_whole(tmp_path / "report", b"data", mode=mode)
    finally:
        os.umask(before)
    assert _mode(tmp_path / "report") == expected


def test_a_loop_of_links_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(OutputError, match="Too many levels"):
        write_whole(tmp_path / "loop", b"data")


@pytest.mark.parametrize("path", ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"])
def test_a_descriptor_is_refused_with_the_option_that_is_meant(path: str) -> None:
    with pytest.raises(OutputError, match="descriptor") as raised:
        resolve(Path(path))
    assert "`-o -`" in raised.value.hint


@needs_root
def test_a_pipe_of_another_user_in_a_shared_folder_is_not_written(tmp_path: Path) -> None:
    tmp_path.chmod(0o1777)
    os.mkfifo(tmp_path / "pipe")
    os.chown(tmp_path / "pipe", STRANGER, STRANGER)
    with pytest.raises(OutputError, match="of another user"):
        write_whole(tmp_path / "pipe", b"data")


def test_a_pipe_is_written_once_it_has_a_reader(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with ThreadPoolExecutor() as pool:
        read = pool.submit((tmp_path / "pipe").read_bytes)
        write_whole(tmp_path / "pipe", b"data")
        assert read.result() == b"data"


def test_a_pipe_without_a_reader_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(atomic_write, "_READER", 0.0)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OutputError, match="no process reads"):
        write_whole(tmp_path / "pipe", b"data")


def test_a_file_that_cannot_be_looked_at_is_not_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lstat, errors = Path.lstat, [OSError(errno.EIO, os.strerror(errno.EIO))]

    def fail_once(path: Path) -> os.stat_result:
        if path.name.endswith(".tmp") and errors:
            raise errors.pop()
        return lstat(path)

    monkeypatch.setattr(Path, "lstat", fail_once)
    with pytest.raises(OutputError, match="Input/output error"):
        write_whole(tmp_path / "report", b"data")
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_cannot_get_the_mode_of_the_old_one_is_not_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_fd: int, _mode: int) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "fchmod", refuse)
    for name, mode in (("same", 0o666 & ~_umask()), ("other", 0o600)):
        (tmp_path / name).write_bytes(b"old")
        (tmp_path / name).chmod(mode)
    write_whole(tmp_path / "same", b"new")
    with pytest.raises(OutputError, match="Operation not permitted"):
        write_whole(tmp_path / "other", b"new")
    found = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert found == {"same": b"new", "other": b"old"}


def _umask() -> int:
    before = os.umask(0)
    os.umask(before)
    return before


@pytest.mark.parametrize("links", [True, False])
def test_a_file_that_was_made_meanwhile_is_not_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, links: bool
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(errno.EPERM, "no links on this file system")

    if not links:
        monkeypatch.setattr(os, "link", refuse)
    write_whole(tmp_path / "first", b"ours", new=True)
    monkeypatch.setattr(os, "fsync", lambda _: (tmp_path / "second").write_bytes(b"theirs"))
    with pytest.raises(OutputError, match="File exists"):
        write_whole(tmp_path / "second", b"ours", new=True)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"first": b"ours", "second": b"theirs"}
