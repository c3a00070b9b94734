"""Reading blobs leaves the page cache as it was found."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from auditor.containerd import page_cache
from auditor.containerd.content_root import ContentRoot
from auditor.containerd.page_cache import resident
from auditor.model.digest import Digest

PAGE = os.sysconf("SC_PAGE_SIZE")
SIZE = (20 << 20) + 777
DATA = os.urandom(SIZE)
DIGEST = Digest.of(DATA)


@pytest.fixture
def root() -> Iterator[ContentRoot]:
    """Give a blob on a disk, in the cache as a whole, and clean."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name:
        root = ContentRoot(Path(name))
        path = root.blob_path(DIGEST)
        path.parent.mkdir(parents=True)
        path.write_bytes(DATA)
        with path.open("rb") as file:
            os.fsync(file.fileno())
        yield root


def cached(root: ContentRoot) -> bytes:
    with root.blob_path(DIGEST).open("rb") as file:
        found = resident(file.fileno(), 0, SIZE)
    assert found is not None
    return found


def forget(root: ContentRoot) -> None:
    with root.blob_path(DIGEST).open("rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    if any(cached(root)):
        pytest.skip("the folder for temporary files is in memory")


def read(root: ContentRoot, *, fresh: bool = False) -> None:
    with root.opened(DIGEST) as descriptor:
        assert b"".join(root.pieces(descriptor, DIGEST, fresh=fresh)) == DATA


def assert_kept(before: bytes, after: bytes) -> None:
    """Demand that no page came and that pages stayed, but for the few that the kernel evicts by itself."""
    pairs = list(zip(before, after, strict=True))
    assert not sum(1 for was, now in pairs if now and not was)
    assert sum(1 for was, now in pairs if was and not now) <= sum(before) // 10


def test_what_was_in_the_cache_stays(root: ContentRoot) -> None:
    for _ in range(3):
        root.blob_path(DIGEST).read_bytes()
    before = cached(root)
    assert sum(before) > len(before) // 2
    read(root)
    assert_kept(before, cached(root))


@pytest.mark.parametrize("fresh", [False, True])
def test_what_was_not_in_the_cache_is_dropped_again(root: ContentRoot, fresh: bool) -> None:
    forget(root)
    read(root, fresh=fresh)
    assert not any(cached(root))


def test_what_was_there_in_part_is_so_again(root: ContentRoot) -> None:
    forget(root)
    with root.blob_path(DIGEST).open("rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_RANDOM)
        for _ in range(3):  # a page that was read once is the first that a busy machine evicts
            os.pread(file.fileno(), 3 << 20, 5 << 20)
    before = cached(root)
    assert 0 < sum(before) < len(before)
    read(root)
    assert_kept(before, cached(root))


def test_a_reading_past_the_cache_lets_go_of_what_was_there(root: ContentRoot) -> None:
    forget(root)
    read(root)
    with root.blob_path(DIGEST).open("rb") as file:
        file.read()
    assert any(cached(root))
    read(root, fresh=True)
    assert not any(cached(root))


def test_windows_follow_each_other(root: ContentRoot, monkeypatch: pytest.MonkeyPatch) -> None:
    """Looked at in many small windows, the file comes out as in one."""
    monkeypatch.setattr(page_cache, "WINDOW", 16 * PAGE)
    monkeypatch.setattr(page_cache, "FOLIO", 2 * PAGE)
    before = cached(root)
    read(root)
    assert_kept(before, cached(root))


def test_what_cannot_be_looked_at_is_unknown(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    with (tmp_path / "empty").open("rb") as file:
        assert resident(file.fileno(), 0, PAGE) is None
