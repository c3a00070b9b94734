from __future__ import annotations

import itertools
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from auditor.containerd.content_root import ContentRoot
from auditor.containerd.ingest import regroup
from auditor.containerd.replace_file import FOLDER, Staging, staging, sweep, writable
from auditor.errors import BadBytes, StoreError
from auditor.model.digest import Digest

GOOD = b"good bytes" * 1000
DIGEST = Digest.of(GOOD)
BAD = b"bad bytes"


@pytest.fixture
def root(tmp_path: Path) -> ContentRoot:
    folder = tmp_path / "content"
    (folder / "blobs" / "sha256").mkdir(parents=True)
    (folder / "ingest").mkdir()
    return ContentRoot(folder)


def tokens() -> Callable[[], str]:
    counter = itertools.count()
    return lambda: f"run{next(counter)}"


def put_bad(root: ContentRoot) -> Path:
    path = root.blob_path(DIGEST)
    path.write_bytes(BAD)
    path.chmod(0o444)
    return path


def put_right(run: Staging) -> None:
    run.replace(DIGEST, run.stage(DIGEST, [GOOD], size=len(GOOD)))


def test_a_bad_file_is_replaced_and_kept_until_the_end(root: ContentRoot) -> None:
    path = put_bad(root)
    with staging(root, token=tokens()) as run:
        done = run.replace(DIGEST, run.stage(DIGEST, [GOOD[:7], GOOD[7:]], size=len(GOOD)))
        assert path.read_bytes() == GOOD
        assert done.quarantined is not None
        assert done.quarantined.read_bytes() == BAD
    assert path.read_bytes() == GOOD
    assert sorted(p.name for p in root.path.iterdir()) == ["blobs", "ingest"]


def test_undoing_puts_the_very_same_file_back(root: ContentRoot) -> None:
    path = put_bad(root)
    before = path.stat()
    with staging(root, token=tokens()) as run:
        run.replace(DIGEST, run.stage(DIGEST, [GOOD], size=len(GOOD))).undo()
    after = path.stat()
    assert path.read_bytes() == BAD
    assert (after.st_ino, after.st_mode, after.st_mtime_ns) == (before.st_ino, before.st_mode, before.st_mtime_ns)


def test_an_absent_file_is_put_in_place_and_undone(root: ContentRoot) -> None:
    with staging(root, token=tokens()) as run:
        done = run.replace(DIGEST, run.stage(DIGEST, [GOOD], size=len(GOOD)))
        assert done.quarantined is None
        assert root.blob_path(DIGEST).read_bytes() == GOOD
        done.undo()
        assert not root.blob_path(DIGEST).exists()


def make_folder(path: Path) -> None:
    path.mkdir()
    (path / "inside").touch()


def make_link(path: Path) -> None:
    path.symlink_to("/nowhere")


def kind(path: Path) -> int:
    return stat.S_IFMT(path.lstat().st_mode)


@pytest.mark.parametrize("make", [make_folder, make_link, os.mkfifo])
def test_whatever_is_in_the_place_is_replaced_and_can_come_back(
    root: ContentRoot, make: Callable[[Path], None]
) -> None:
    path = root.blob_path(DIGEST)
    make(path)
    before = kind(path)
    with staging(root, token=tokens()) as run:
        done = run.replace(DIGEST, run.stage(DIGEST, [GOOD], size=len(GOOD)))
        assert (kind(path), path.read_bytes()) == (stat.S_IFREG, GOOD)
        done.undo()
        assert kind(path) == before


@pytest.mark.parametrize("chunks", [[], [GOOD[:-1]], [GOOD, b"x"], [GOOD[:-1] + b"x"], [b""]])
def test_other_bytes_never_become_a_staged_file(root: ContentRoot, chunks: list[bytes]) -> None:
    with staging(root, token=tokens()) as run:
        with pytest.raises(BadBytes):
            run.stage(DIGEST, chunks, size=len(GOOD))
        assert list(run.folder.iterdir()) == []


def test_an_endless_source_is_cut_at_the_size(root: ContentRoot) -> None:
    with staging(root, token=tokens()) as run, pytest.raises(BadBytes):
        run.stage(DIGEST, itertools.repeat(b"x" * 1000), size=len(GOOD))


def test_a_source_that_fails_leaves_nothing(root: ContentRoot) -> None:
    def failing() -> Iterator[bytes]:
        yield GOOD[:10]
        raise BadBytes("gone")

    with staging(root, token=tokens()) as run:
        with pytest.raises(BadBytes, match="gone"):
            run.stage(DIGEST, failing(), size=len(GOOD))
        assert list(run.folder.iterdir()) == []


def test_owner_and_mode_are_as_the_neighbours_have_them(root: ContentRoot) -> None:
    folder = root.blob_path(DIGEST).parent
    for number, mode in enumerate([0o440, 0o440, 0o777]):
        neighbour = folder / f"{number:064x}"
        neighbour.write_bytes(b"x")
        neighbour.chmod(mode)
    with staging(root, token=tokens()) as run:
        put_right(run)
    assert stat.S_IMODE(root.blob_path(DIGEST).stat().st_mode) == 0o440


def test_without_neighbours_it_is_as_containerd_makes_them(root: ContentRoot) -> None:
    root.blob_path(DIGEST).parent.rmdir()
    with staging(root, token=tokens()) as run:
        put_right(run)
    assert stat.S_IMODE(root.blob_path(DIGEST).stat().st_mode) == 0o444


def test_two_runs_do_not_clear_each_other_away(root: ContentRoot) -> None:
    put_bad(root)
    names = tokens()
    with staging(root, token=names) as one:
        staged = one.stage(DIGEST, [GOOD], size=len(GOOD))
        with staging(root, token=names) as two:
            assert one.folder != two.folder
            assert staged.exists()
        one.replace(DIGEST, staged)
    assert root.blob_path(DIGEST).read_bytes() == GOOD


def killed_in(root: ContentRoot, step: Callable[[Staging], None]) -> None:
    """Leave what a run that was killed after `step` leaves: its folder, and nobody who holds the lock."""
    folder = root.path / FOLDER / "dead"
    folder.mkdir(parents=True)
    step(Staging(root, folder))


def stage_only(run: Staging) -> None:
    run.stage(DIGEST, [GOOD], size=len(GOOD))


def folder_moved_away(run: Staging) -> None:
    run.root.blob_path(DIGEST).rename(run.folder / f"bad-{DIGEST.replace(':', '-')}")


def test_what_a_killed_run_staged_is_cleared_away(root: ContentRoot) -> None:
    put_bad(root)
    killed_in(root, stage_only)
    sweep(root)
    assert not (root.path / FOLDER).exists()
    assert root.blob_path(DIGEST).read_bytes() == BAD


def test_a_run_killed_after_the_rename_has_put_it_right(root: ContentRoot) -> None:
    put_bad(root)
    killed_in(root, put_right)
    sweep(root)
    assert not (root.path / FOLDER).exists()
    assert root.blob_path(DIGEST).read_bytes() == GOOD


def test_a_folder_that_a_killed_run_moved_away_comes_back(root: ContentRoot) -> None:
    make_folder(root.blob_path(DIGEST))
    killed_in(root, folder_moved_away)
    assert not root.blob_path(DIGEST).exists()
    with staging(root, token=tokens()):
        assert (root.blob_path(DIGEST) / "inside").exists()


def test_other_things_in_the_folder_are_left_alone(root: ContentRoot) -> None:
    (root.path / FOLDER).mkdir()
    (root.path / FOLDER / "a-file").touch()
    (root.path / FOLDER / "a-link").symlink_to("/etc")
    sweep(root)
    assert Path("/etc").is_dir()
    assert (root.path / FOLDER / "a-file").exists()


def test_what_cannot_be_written_is_a_sentence(root: ContentRoot) -> None:
    (root.path / FOLDER).write_text("a file where our folder goes")
    with pytest.raises(StoreError, match="cannot write"), staging(root, token=tokens()):
        pass


def test_a_root_that_is_not_there_is_not_writable(root: ContentRoot) -> None:
    assert writable(root)
    assert not writable(ContentRoot(root.path / "nothing"))


# Regrouping


@pytest.mark.parametrize("cut", [1, 3, 7, 8, 9, 64, 1000])
def test_pieces_are_regrouped_without_loss(cut: int) -> None:
    data = bytes(range(200))
    chunks = [data[start : start + cut] for start in range(0, len(data), cut)]
    pieces = list(regroup(iter([b"", *chunks, b""]), piece=8))
    assert b"".join(pieces) == data
    assert all(4 <= len(piece) <= 32 for piece in pieces[:-1])


def test_a_chunk_of_about_the_size_is_not_copied() -> None:
    chunk = bytes(8)
    assert next(iter(regroup([chunk, b"ab"], piece=8))) is chunk


def test_no_bytes_make_no_piece() -> None:
    assert list(regroup([b"", b""])) == []
