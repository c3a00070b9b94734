"""`auditor recover` on roots made by hand, as a user runs it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from auditor.bbolt import pages
from auditor.cli import app
from auditor.cli.runs import recover_write
from auditor.export.model import ExportPlan
from auditor.export.write import Written, write_archive
from auditor.model.digest import Digest
from auditor.model.store import Store
from auditor.offline.leaf_search import leaf_images
from auditor.offline.store import OfflineStore
from tests.unit.bbolt.bolt_files import PAGE, Writer, meta
from tests.unit.recover.disks import BLOBS, META, disk, image, meta_db

ONE, TWO = image("one"), image("two")
NAMED = {"host.io/one:1": ONE, "host.io/two:1": TWO}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    made = disk(tmp_path / "root", ONE, TWO)
    (made / META).write_bytes(meta_db(NAMED))
    return made


def recover(capsys: pytest.CaptureFixture[str], root: Path, *words: str | Path) -> tuple[int, str, str]:
    status = app.main(["recover", "--root", str(root), *map(str, words)])
    printed = capsys.readouterr()
    return status, printed.out, printed.err


def rows(out: str) -> dict[str, Any]:
    return {row["name"]: row for row in json.loads(out)["images"]}


def test_a_sound_root_is_written_to_an_archive(capsys: pytest.CaptureFixture[str], root: Path, tmp_path: Path) -> None:
    archive = tmp_path / "it.tar"
    status, out, _ = recover(capsys, root, "-o", archive)
    assert status == 0
    assert "2 images with 2 names: 2 intact; every byte hashed" in out
    assert f"load it: ctr -n k8s.io images import {archive}" in out
    assert app.main(["verify", str(archive)]) == 0


def test_a_database_that_cannot_be_opened_costs_the_names_only(
    capsys: pytest.CaptureFixture[str], root: Path, tmp_path: Path
) -> None:
    (root / META).unlink()
    (root / META).mkdir()
    status, out, err = recover(capsys, root, "-o", tmp_path / "it.tar")
    assert (status, out.count("intact\n")) == (0, 2)
    assert "meta.db is not a regular file: no image is known from it" in out + err
    status, out, err = recover(capsys, root, "--meta-db", tmp_path / "new.db")
    assert (status, out) == (3, "")
    assert err.startswith(f"auditor: {root / META} is not a regular file\nhint: ")
    for words in (["check"], ["export", "x", "-o", str(tmp_path / "x.tar")]):
        assert app.main([*words, "--root", str(root)]) == 3
        printed = capsys.readouterr()
        assert (printed.out, printed.err.splitlines()[0]) == ("", f"auditor: {root / META} is not a regular file")


def test_an_error_of_the_second_archive_names_the_first(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, root: Path, tmp_path: Path
) -> None:
    target = tmp_path / "it.tar"

    def once(plan: ExportPlan, store: Store, path: Path, **more: Any) -> Written:
        (tmp_path / "it-2.tar").touch()
        return write_archive(plan, store, path, **more)

    monkeypatch.setattr(recover_write, "MOST", 1)
    monkeypatch.setattr(recover_write, "write_archive", once)
    status, out, err = recover(capsys, root, "-o", target)
    assert (status, out) == (3, "")
    assert "it-2.tar could not be written: File exists\nhint: " in err
    assert err.endswith(f"; complete: {target}\n")
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == ["it-2.tar", "it.tar"]
    assert (tmp_path / "it-2.tar").read_bytes() == b""


def into_ingest(root: Path, digest: str, *, name: str) -> Path:
    """Undo the rename of a commit, as a power cut does; the folder's `ref` is empty."""
    folder = root / BLOBS.parent.parent / "ingest" / name
    folder.mkdir(parents=True)
    (folder / "ref").touch()
    return (root / BLOBS / digest.partition(":")[2]).rename(folder / "data")


def test_blobs_in_unfinished_writes_are_used(capsys: pytest.CaptureFixture[str], root: Path, tmp_path: Path) -> None:
    """A layer, a manifest, and one whose file in blobs/ is empty; a write with other bytes is not used."""
    sizes = [into_ingest(root, digest, name=digest[-4:]).stat().st_size for digest in (ONE.digest, TWO.digest)]
    layer = ONE.layers[0].digest
    sizes.append(into_ingest(root, layer, name="layer").stat().st_size)
    (root / BLOBS / layer.partition(":")[2]).touch()
    (root / BLOBS.parent.parent / "ingest" / "other").mkdir()
    (root / BLOBS.parent.parent / "ingest" / "other" / "data").write_bytes(bytes(sizes[0]))
    assert app.main(["check", "--root", str(root), "-q"]) == 1
    capsys.readouterr()
    archive = tmp_path / "it.tar"
    status, out, _ = recover(capsys, root, "-o", archive)
    assert (status, "2 images with 2 names: 2 intact" in out) == (0, True)
    assert f"3 blobs ({sum(sizes)} bytes) without a whole file in blobs/: read from ingest/" in " ".join(out.split())
    assert app.main(["verify", str(archive)]) == 0
    exported = tmp_path / "one.tar"
    assert app.main(["export", "--root", str(root), "host.io/one:1", "-o", str(exported)]) == 0
    assert "note: 3 blobs" in capsys.readouterr().err
    status, out, _ = recover(capsys, root, "--dry-run")
    assert (status, (root / BLOBS / layer.partition(":")[2]).stat().st_size) == (0, 0)


def test_a_write_that_is_no_ones_bytes_recovers_nothing(capsys: pytest.CaptureFixture[str], root: Path) -> None:
    data = into_ingest(root, ONE.layers[0].digest, name="torn")
    data.write_bytes(data.read_bytes()[:-1] + b"x")
    status, out, _ = recover(capsys, root, "--dry-run")
    assert (status, "ingest/" in out) == (1, False)


def test_each_namespace_has_its_own_layout(capsys: pytest.CaptureFixture[str], root: Path, tmp_path: Path) -> None:
    (root / META).unlink()
    names = tmp_path / "names"
    names.write_text(f"host.io/one:1 {ONE.digest}\n")
    report = tmp_path / "report.json"
    other = disk(tmp_path / "other", TWO)
    (other / META).write_bytes(meta_db({"host.io/two:1": TWO}, namespace="build"))
    assert app.main(["check", "--root", str(other), "-f", "json", "-o", str(report), "-q"]) == 0
    status, out, _ = recover(
        capsys, root, "--names", names, "--names", report, "-o", tmp_path / "layout", "-n", "mine", "-f", "json"
    )
    assert status == 0
    assert {name: row["namespace"] for name, row in rows(out).items()} == {
        "host.io/one:1": "mine",
        "host.io/two:1": "build",
    }
    assert [(Path(row["path"]).name, row["namespace"]) for row in json.loads(out)["written"]] == [
        ("layout", "build"),
        ("layout-2", "mine"),
    ]
    assert app.main(["verify", str(tmp_path / "layout"), str(tmp_path / "layout-2")]) == 0


def test_a_damaged_image_is_left_out(capsys: pytest.CaptureFixture[str], root: Path, tmp_path: Path) -> None:
    layer = root / BLOBS / Digest(ONE.layers[0].digest).hex
    layer.write_bytes(bytes(len(layer.read_bytes())))
    status, out, _ = recover(capsys, root, "-o", tmp_path / "it.tar", "-f", "json")
    assert status == 1
    assert {name: (row["status"], row["written"]) for name, row in rows(out).items()} == {
        "host.io/one:1": ("damaged", False),
        "host.io/two:1": ("intact", True),
    }
    layer.unlink()
    status, out, _ = recover(capsys, root, "--dry-run")
    assert status == 1
    assert f"layer 1 {ONE.layers[0].digest} is not in the store" in out


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([], "no target given"),
        (["-o", "a.tar", "--into", "x"], "exclude each other"),
        (["--meta-db", "a", "--names", "b"], "--meta-db takes no --names"),
        (["-o", "-"], "no archive to standard output"),
        (["--dry-run", "-n", "a b"], "no name of a namespace"),
        (["--into", "tcp://host"], "is not the address of a containerd"),
        (["-o", "{root}/a.tar"], "where nothing is written"),
        (["-o", "{tmp}/there/a.tar"], "there is no folder"),
        (["-o", "{tmp}"], "exists already"),
        (["--dry-run", "--names", "{tmp}/nothing"], "cannot be read"),
        (["--dry-run", "--names", "{tmp}"], "cannot be read"),
        (["--dry-run", "--names", "{root}/io.containerd.content.v1.content/empty"], "has no names"),
    ],
)
def test_wrong_usage(
    capsys: pytest.CaptureFixture[str], root: Path, tmp_path: Path, words: list[str], sentence: str
) -> None:
    (root / "io.containerd.content.v1.content/empty").write_text("\n")
    status, out, err = recover(capsys, root, *(word.format(root=root, tmp=tmp_path) for word in words))
    assert (status, out) == (2, "")
    assert sentence in err


def test_a_folder_that_is_no_root(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert recover(capsys, tmp_path, "--dry-run")[0] == 2
    assert recover(capsys, disk(tmp_path / "empty"), "--dry-run")[0] == 3


def test_a_sound_copy_of_a_database(capsys: pytest.CaptureFixture[str], root: Path, tmp_path: Path) -> None:
    data = meta_db(NAMED)
    (root / META).write_bytes(bytes(2 * PAGE) + data[2 * PAGE :])
    target = tmp_path / "new.db"
    status, out, _ = recover(capsys, root, "--meta-db", target)
    assert status == 0
    assert f"wrote {target}: 2 image records, 6 blobs, 0 snapshots; the last transactions may be missing" in out
    made = target.read_bytes()
    assert [found.page for found in pages.metas(made)] == [1, 0]
    assert made[2 * PAGE :] == data[2 * PAGE :]
    (root / META).write_bytes(made)
    assert OfflineStore(root).info().damage == ()
    assert (
        "2 image records, 6 blobs, 0 snapshots; nothing is missing"
        in recover(capsys, root, "--meta-db", tmp_path / "b.db", "--dry-run")[1]
    )
    assert not (tmp_path / "b.db").exists()


def test_a_copy_that_does_not_agree_with_the_files_is_refused(
    capsys: pytest.CaptureFixture[str], root: Path, tmp_path: Path
) -> None:
    (root / BLOBS / ("0" * 64)).write_bytes(b"1")
    status, _, err = recover(capsys, root, "--meta-db", tmp_path / "new.db")
    assert (status, "1 of 7 files have no record" in err) == (3, True)
    (root / META).write_bytes(meta_db({"host.io/one:1": ONE, "host.io/three:1": image("three")}))
    status, _, err = recover(capsys, root, "--meta-db", tmp_path / "new.db")
    assert (status, "has no file" in err) == (3, True)
    (root / META).unlink()
    assert recover(capsys, root, "--meta-db", tmp_path / "new.db")[0] == 3
    assert [path.name for path in tmp_path.iterdir()] == ["root"]


def without(data: bytearray, page: int) -> bytearray:
    return data[: page * PAGE] + bytes(PAGE) + data[(page + 1) * PAGE :]


def test_records_are_found_where_the_tree_is_lost(capsys: pytest.CaptureFixture[str], root: Path) -> None:
    writer = Writer()
    data = meta_db(NAMED, writer=writer)
    for path in ((b"v1", b"k8s.io"), (b"v1",)):
        (root / META).write_bytes(without(data, writer.named[path]))
        status, out, _ = recover(capsys, root, "--dry-run", "-f", "json")
        assert status == 0
        assert {name: (row["digest"], row["certainty"]) for name, row in rows(out).items()} == {
            "host.io/one:1": (ONE.digest, "possible"),
            "host.io/two:1": (TWO.digest, "possible"),
        }
        assert all(row["source"].startswith("page ") for row in rows(out).values())


def test_a_record_with_two_names_is_left_out() -> None:
    """A page that was used again can marry an old name to a new record."""
    writer = Writer()
    data = meta_db({"host.io/one:1": ONE}, writer=writer)
    page = writer.named[b"v1", b"k8s.io", b"images"]
    stale = bytearray(data[page * PAGE : (page + 1) * PAGE]).replace(b"host.io/one:1", b"host.io/old:1")
    number = len(data) // PAGE
    stale[:8] = number.to_bytes(8, "little")
    assert [found.image.name for found in leaf_images(data)] == ["host.io/one:1"]
    assert leaf_images(data + stale) == ()


def test_a_whole_older_tree_counts_more_than_a_newer_one_in_part(root: Path) -> None:
    writer = Writer()
    data = meta_db(NAMED, writer=writer)
    old = writer.named[()]
    later = Writer()
    later.next = len(data) // PAGE
    newer = meta_db({"host.io/one:1": TWO}, writer=later)
    data += newer[len(data) :]
    high = len(data) // PAGE
    for txid, top in ((8, old), (9, later.named[()])):
        raw = meta(txid % 2, root=top, high=high, txid=txid)
        data[txid % 2 * PAGE : txid % 2 * PAGE + len(raw)] = raw
    (root / META).write_bytes(data)
    assert len(OfflineStore(root).inventory("k8s.io").images) == 1
    (root / META).write_bytes(without(data, later.named[b"v1", b"k8s.io", b"images"]))
    store = OfflineStore(root)
    assert len(store.inventory("k8s.io").images) == 2
    assert any("may lack the last transactions" in gap for gap in store.info().gaps)
