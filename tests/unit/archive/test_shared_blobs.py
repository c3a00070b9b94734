"""Layouts whose blobs are in a shared folder, as skopeo's --shared-blob-dir keeps them."""

from __future__ import annotations

from pathlib import Path

from auditor.archive.open import open_archive
from auditor.archive.store import ArchiveStore
from auditor.model.store import VerificationKind
from tests import images
from tests.unit import archives
from tests.unit.archives import Member

IMAGE = archives.image()
INDEX = images.index([IMAGE], attestations=True)


def shared(where: Path, *kept: str) -> tuple[Path, Path]:
    """A layout with the blobs `kept`, and the folder with the others and one of another image."""
    members = archives.drop(archives.oci(INDEX), "manifest.json")
    inside = {archives.blob_name(digest) for digest in kept}
    layout = [m for m in members if not m.name.startswith("blobs/") or m.name in inside]
    others = [m for m in members if m.name.startswith("blobs/sha256/") and m.data and m.name not in inside]
    strange = Member(archives.blob_name(images.sha256(b"right")), b"wrong")
    archives.unpack([*others, strange], where / "pool")
    return archives.unpack(layout, where / "layout"), where / "pool" / "blobs"


def opened(layout: Path, pool: Path) -> ArchiveStore:
    store = open_archive(layout, blobs=pool)
    assert store.problems == ()
    return store


def test_all_blobs_that_the_image_leads_to_are_read_and_no_others(tmp_path: Path) -> None:
    for number, kept in enumerate(((), (INDEX.digest, IMAGE.digest), tuple(INDEX.blobs))):
        store = opened(*shared(tmp_path / str(number), *kept))
        assert store.inventory("").blobs.keys() == set(INDEX.blobs)
        assert {verification.kind for verification in store.verifications().values()} == {VerificationKind.SOUND}


def test_damage_in_the_shared_folder_is_found(tmp_path: Path) -> None:
    layout, pool = shared(tmp_path / "a")
    path = pool / IMAGE.layers[1].digest.replace(":", "/")
    path.write_bytes(path.read_bytes()[:-1] + b"X")
    store = opened(layout, pool)
    assert {
        d for d, verification in store.verifications().items() if verification.kind is not VerificationKind.SOUND
    } == {IMAGE.layers[1].digest}


def test_an_absent_blob_stays_absent(tmp_path: Path) -> None:
    layout, pool = shared(tmp_path / "a")
    (pool / IMAGE.digest.replace(":", "/")).unlink()
    held = opened(layout, pool).inventory("").blobs
    assert IMAGE.digest not in held
    assert IMAGE.config_digest not in held


def test_a_tar_can_have_them_too(tmp_path: Path) -> None:
    layout, pool = shared(tmp_path / "a")
    path = tmp_path / "a.tar"
    names = ("index.json", "oci-layout")
    path.write_bytes(archives.tar([Member(name, (layout / name).read_bytes()) for name in names]))
    store = opened(path, pool)
    assert store.inventory("").blobs.keys() == set(INDEX.blobs)
    with store.stream("", next(iter(store.inventory("").blobs))) as pieces:
        assert b"".join(pieces)
