"""`dir:` folders of skopeo and podman: read with their digests, and every fault found."""

from __future__ import annotations

from pathlib import Path

import pytest

from auditor.archive.open import open_archive
from auditor.archive.store import ArchiveStore
from auditor.model.digest import Digest
from auditor.model.image_graph import group
from auditor.model.store import VerificationKind
from tests import images
from tests.unit import archives

IMAGE = archives.image()
INDEX = images.index([IMAGE, images.image([images.layer(images.files("arm"))], platform="linux/arm64")])


def written(where: Path, built: images.BuiltImage | images.BuiltIndex, *, version: str = "1.1") -> Path:
    """The folder that `skopeo copy --all` makes."""
    where.mkdir()
    (where / "version").write_text(f"Directory Transport Version: {version}\n")
    documents = {document.digest for document in built.documents}
    for digest, blob in built.blobs.items():
        name = digest.removeprefix("sha256:")
        (where / (f"{name}.manifest.json" if digest in documents else name)).write_bytes(blob)
    (where / f"{built.digest.removeprefix('sha256:')}.manifest.json").rename(where / "manifest.json")
    return where


def wrong(store: ArchiveStore) -> set[str]:
    return {
        digest
        for digest, verification in store.verifications().items()
        if verification.kind is not VerificationKind.SOUND
    }


@pytest.mark.parametrize("built", [IMAGE, INDEX], ids=["image", "index"])
def test_a_whole_folder(tmp_path: Path, built: images.BuiltImage | images.BuiltIndex) -> None:
    store = open_archive(written(tmp_path / "d", built))
    assert (store.layout, store.problems, wrong(store)) == ("dir", (), set())
    assert store.verifications().keys() == set(built.blobs)
    [found] = group(store.inventory("").images)
    assert (found.target.digest, found.target.media_type) == (built.digest, built.target.media_type)


def test_a_flipped_blob_and_an_absent_one(tmp_path: Path) -> None:
    folder = written(tmp_path / "d", INDEX)
    layer = IMAGE.layers[0].digest
    path = folder / layer.removeprefix("sha256:")
    path.write_bytes(b"X" + path.read_bytes()[1:])
    (folder / IMAGE.config_digest.removeprefix("sha256:")).unlink()
    store = open_archive(folder)
    assert wrong(store) == {layer}
    assert Digest(IMAGE.config_digest) not in store.inventory("").blobs


def test_other_algorithms_stand_before_the_hex(tmp_path: Path) -> None:
    folder = written(tmp_path / "d", IMAGE)
    digest = Digest.of(b"data", algorithm="sha512")
    (folder / f"sha512-{digest.hex}").write_bytes(b"data")
    store = open_archive(folder)
    assert digest in store.inventory("").blobs
    assert wrong(store) == set()


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (None, "archive-incomplete"),
        (b"{}", "archive-malformed"),
        (b"x", "archive-malformed"),
        (b"", "archive-malformed"),
    ],
)
def test_without_a_manifest(tmp_path: Path, raw: bytes | None, code: str) -> None:
    folder = written(tmp_path / "d", IMAGE)
    (folder / "manifest.json").unlink()
    if raw is not None:
        (folder / "manifest.json").write_bytes(raw)
    store = open_archive(folder)
    assert [problem.code for problem in store.problems] == [code]
    assert store.inventory("").images == ()


def test_a_version_file_of_something_else_is_no_dir_folder(tmp_path: Path) -> None:
    folder = archives.unpack(archives.old_docker(IMAGE), tmp_path / "docker")
    (folder / "version").write_text("1.0\n")
    assert open_archive(folder).layout == "docker"
