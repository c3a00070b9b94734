"""Files that no record leads to: what is counted, and what is left out while it changes."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from auditor.audit.leftovers import SETTLED, in_content_root, leftovers, stray_names
from auditor.model.digest import Digest
from auditor.model.store import Ingest, Inventory, LeftoverKind, Leftovers

LATER = timedelta(seconds=SETTLED + 1)
HEX = Digest.of(b"blob").hex


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for folder in ("blobs/sha256", "ingest"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "blobs/sha256" / HEX).write_bytes(b"blob")
    return tmp_path


def ingest(root: Path, key: str, data: bytes, *, ref: str | None = None) -> str:
    name = hashlib.sha256(key.encode()).hexdigest()
    (root / "ingest" / name).mkdir()
    (root / "ingest" / name / "ref").write_text(key if ref is None else ref)
    (root / "ingest" / name / "data").write_bytes(data)
    return name


def found(root: Path, *known: Ingest, after: timedelta = LATER) -> dict[LeftoverKind, Leftovers]:
    inventory = Inventory("k8s.io", ingests=known)
    now = datetime.now(UTC) + after
    return {each.kind: each for each in in_content_root(root, [inventory], now, strays=stray_names(root))}


def test_a_store_without_leftovers_has_none(root: Path) -> None:
    ingest(root, "k8s.io/7/layer-sha256:aa", b"half")
    assert found(root, Ingest("k8s.io", "layer-sha256:aa")) == {}


@pytest.mark.parametrize(
    "name",
    ["sha256/short", f"sha256/{HEX[:-1]}G", f"sha256/{HEX.upper()}", f"sha256/.{HEX}.tmp", "md5", f"{HEX}", "sha512"],
)
def test_a_name_that_is_no_digest_is_counted_with_its_bytes(root: Path, name: str) -> None:
    (root / "blobs" / name).write_bytes(b"12345")
    stray = found(root)[LeftoverKind.STRAY]
    assert (stray.count, stray.size, stray.first, stray.at_least) == (1, 5, name, False)
    assert stray.folder == str(root / "blobs")


def test_a_folder_counts_once_with_all_its_bytes(root: Path) -> None:
    (root / "blobs/old/deep").mkdir(parents=True)
    (root / "blobs/old/one").write_bytes(b"1")
    (root / "blobs/old/deep/two").write_bytes(b"22")
    (root / "blobs/old/away").symlink_to(root / "blobs/sha256")
    stray = found(root)[LeftoverKind.STRAY]
    assert (stray.count, stray.first) == (1, "old")
    assert stray.size == 3 + len(str(root / "blobs/sha256"))


@pytest.mark.parametrize("ref", [None, "", "no slash", "k8s.io/7"])
def test_an_ingest_that_is_not_listed_is_a_leftover(root: Path, ref: str | None) -> None:
    """After a power cut the file `ref` is empty."""
    name = ingest(root, "k8s.io/7/layer-sha256:aa", b"whole", ref=ref)
    other = Ingest("k8s.io", "layer-sha256:bb")
    dead = found(root, other)[LeftoverKind.INGEST]
    assert (dead.count, dead.first) == (1, name)
    assert dead.size == 5 + len("k8s.io/7/layer-sha256:aa" if ref is None else ref)


def test_of_two_folders_of_one_ingest_the_older_one_is_a_leftover(root: Path) -> None:
    old = ingest(root, "k8s.io/9/ref", b"old")
    ingest(root, "k8s.io/10/ref", b"new")
    dead = found(root, Ingest("k8s.io", "ref"))[LeftoverKind.INGEST]
    assert (dead.count, dead.first) == (1, old)


def test_an_ingest_of_another_namespace_is_not_this_one(root: Path) -> None:
    ingest(root, "default/7/ref", b"half")
    assert found(root, Ingest("k8s.io", "ref"))[LeftoverKind.INGEST].count == 1


def test_what_changed_just_now_may_be_work_under_way(root: Path) -> None:
    ingest(root, "k8s.io/7/ref", b"half")
    (root / "blobs/sha256/short").write_bytes(b"1")
    assert found(root, after=timedelta(seconds=SETTLED - 10)) == {}
    assert len(found(root)) == 2


def test_a_count_that_was_cut_off_says_so(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("auditor.audit.leftovers._ENTRIES", 2)
    for number in range(4):
        (root / f"{number}").write_bytes(b"1")
    cut = leftovers(LeftoverKind.SNAPSHOT, root.parent, [root.name], datetime.now(UTC) + LATER, owner="native")
    assert cut is not None
    assert cut.at_least


def test_a_content_root_out_of_sight_has_no_leftovers(tmp_path: Path) -> None:
    assert found(tmp_path / "gone") == {}
