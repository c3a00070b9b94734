"""Writing through the file of an unfinished write: found by its name, refused where not ours, never half right."""

from __future__ import annotations

from pathlib import Path

import pytest

from auditor.containerd.content_root import ContentRoot
from auditor.containerd.ingest import data_file, fill_file
from auditor.errors import Conflict, StoreError


def ingest(root: Path, folder: str, name: str) -> Path:
    where = root / "ingest" / folder
    where.mkdir(parents=True)
    (where / "ref").write_text(name)
    (where / "data").touch()
    return where / "data"


def test_the_file_is_found_by_namespace_and_reference(tmp_path: Path) -> None:
    ingest(tmp_path, "a", "other/1/wanted")
    ingest(tmp_path, "b", "k8s.io/2/unwanted")
    wanted = ingest(tmp_path, "c", "k8s.io/3/wanted")
    assert data_file(ContentRoot(tmp_path), "k8s.io", "wanted") == wanted


def test_nothing_is_found_where_nothing_is(tmp_path: Path) -> None:
    assert data_file(ContentRoot(tmp_path), "k8s.io", "wanted") is None
    (tmp_path / "ingest" / "half-made").mkdir(parents=True)
    assert data_file(ContentRoot(tmp_path), "k8s.io", "wanted") is None


def test_what_was_there_is_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "data"
    path.write_bytes(b"left by another try")
    fill_file(path, [b"good ", b"", b"bytes"], size=10)
    assert path.read_bytes() == b"good bytes"


@pytest.mark.parametrize("size", [9, 11])
def test_another_size_is_a_conflict(tmp_path: Path, size: int) -> None:
    (tmp_path / "data").touch()
    with pytest.raises(Conflict, match=str(size)):
        fill_file(tmp_path / "data", [b"good ", b"bytes"], size=size)


def test_a_file_that_is_not_there_is_the_stores_fault(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="cannot write"):
        fill_file(tmp_path / "data", [b"bytes"], size=5)


def test_a_full_disk_is_said_in_the_systems_words() -> None:
    with pytest.raises(StoreError, match="No space left"):
        fill_file(Path("/dev/full"), [b"bytes"], size=5)
