"""Opening archives: every shape that people have, each read once, and the store that comes out."""

from __future__ import annotations

import lzma
import os
import tarfile
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import pytest

from auditor import concurrency
from auditor.archive import image_names, layout_folder
from auditor.archive import members as members_module
from auditor.archive.image_layers import platforms_held
from auditor.archive.open import open_archive
from auditor.audit import audit, document_loader
from auditor.audit.collect import Request
from auditor.errors import MalformedDocument, NoRecord, ReadFailed, StoreUnreachable, Unsupported
from auditor.model import oci
from auditor.model.digest import Digest
from auditor.model.findings import Severity, Verify
from auditor.model.oci import DOCKER_MANIFEST, ImageConfig, Manifest
from auditor.model.store import FileKind, LayerVerificationKind, Store, VerificationKind
from tests.unit import archives
from tests.unit.archives import NAME, Member, codes, opened, tar

SHAPES: dict[str, Callable[[], list[Member]]] = {
    "oci": lambda: archives.oci(archives.image()),
    "oci with a layer twice": lambda: archives.oci(archives.image(repeat=True)),
    "oci below ./": lambda: [
        Member(f"./{m.name}", m.data, m.type) for m in [archives.folder(""), *archives.oci(archives.image())]
    ],
    "docker save before 25": lambda: archives.old_docker(archives.image()),
    "docker save before 25 with a link": lambda: archives.old_docker(archives.image(repeat=True)),
    "skopeo docker-archive": lambda: archives.skopeo_docker(archives.image(repeat=True)),
}


@pytest.mark.parametrize("packing", ["none", "gzip", "zstd", "xz", "bzip2"])
@pytest.mark.parametrize("shape", SHAPES)
def test_a_sound_archive_has_no_problem_and_every_blob_is_proven(shape: str, packing: str, tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    path.write_bytes(archives.packed(tar(SHAPES[shape]()), packing))
    store = open_archive(path)
    assert store.problems == ()
    assert store.complete
    assert isinstance(store, Store)
    assert {verification.kind for verification in store.verifications().values()} == {VerificationKind.SOUND}
    [image] = store.inventory("").images
    assert image.name == NAME
    manifest = oci.parse(store.read("", image.target.digest, limit=oci.MAX_DOCUMENT), image.target.media_type)
    assert isinstance(manifest, Manifest)
    config = oci.parse(store.read("", manifest.config.digest, limit=oci.MAX_DOCUMENT), manifest.config.media_type)
    assert isinstance(config, ImageConfig)
    for layer, diff_id in zip(manifest.layers, config.diff_ids, strict=True):
        verification = store.verifications()[layer.digest].layer
        assert verification is not None
        assert (verification.kind, verification.diff_id) == (LayerVerificationKind.SOUND, diff_id)


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_the_zeros_that_gnu_tar_pads_with_are_no_garbage(form: Literal[0, 1, 2]) -> None:
    assert opened(tar(archives.oci(archives.image()), end=10240, form=form)).problems == ()


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_names_and_links_are_read_in_both_dialects(form: Literal[0, 1, 2]) -> None:
    deep = "d" * 150
    moved = [
        Member(m.name.replace("0" * 63, deep), m.data, m.type, m.link.replace("0" * 63, deep))
        for m in archives.old_docker(archives.image(repeat=True))
    ]
    moved[-1] = Member("manifest.json", moved[-1].data.replace(b"0" * 63, deep.encode()))
    store = opened(tar(moved, form=form))
    assert store.problems == ()
    assert len(store.inventory("").images) == 1


def test_a_layout_folder_is_read_as_its_archive_is(tmp_path: Path) -> None:
    parts = archives.oci(archives.image())
    store = open_archive(archives.unpack(parts, tmp_path / "layout"))
    (tmp_path / "layout" / "notes.txt").write_text("beside it, and none of ours")
    assert store.problems == ()
    assert store.inventory("") == opened(tar(parts)).inventory("")
    assert store.verifications() == opened(tar(parts)).verifications()


def test_an_unpacked_docker_archive_is_read_too(tmp_path: Path) -> None:
    parts = archives.old_docker(archives.image(repeat=True))
    assert open_archive(archives.unpack(parts, tmp_path / "a")).inventory("") == opened(tar(parts)).inventory("")


@pytest.mark.parametrize("packing", ["none", "gzip", "zstd", "xz", "bzip2", "folder"])
def test_blobs_stream_out_again_from_whatever_can_be_read_twice(packing: str, tmp_path: Path) -> None:
    built, path = archives.image(), tmp_path / "a"
    parts = archives.oci(built)
    if packing == "folder":
        archives.unpack(parts, path)
    else:
        path.write_bytes(archives.packed(tar(parts), packing))
    store = open_archive(path)
    for digest, blob in built.blobs.items():
        with store.stream("", Digest(digest)) as pieces:
            assert b"".join(pieces) == blob
        assert store.read("", Digest(digest), limit=len(blob)) == blob
    assert (store.open_file("", Digest(built.digest)) is None) == (packing != "folder")


def test_what_came_through_a_pipe_cannot_be_read_again_except_documents() -> None:
    built = archives.image()
    store = opened(tar(archives.oci(built)))
    assert store.read("", Digest(built.digest), limit=oci.MAX_DOCUMENT) == built.manifest
    with pytest.raises(ReadFailed), store.stream("", Digest(built.layers[0].digest)):
        pass


def test_documents_beyond_the_budget_are_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(members_module, "KEEP_TOTAL", 1000)
    built, path = archives.image(), tmp_path / "a.tar"
    other = archives.image(seed="two")
    both = archives.oci(built, other, names=(NAME, "docker.io/library/other:v1"))
    path.write_bytes(tar([both[-3], *both[:-3], both[-1]]))
    store = open_archive(path)
    for each in (built, other):
        assert store.read("", Digest(each.digest), limit=oci.MAX_DOCUMENT) == each.manifest
        assert store.read("", Digest(each.config_digest), limit=oci.MAX_DOCUMENT) == each.config


def test_a_file_that_changed_since_is_not_read_as_something_else(tmp_path: Path) -> None:
    built, path = archives.image(), tmp_path / "a.tar"
    path.write_bytes(tar(archives.oci(built)))
    store = open_archive(path)
    path.write_bytes(b"short")
    with pytest.raises(ReadFailed), store.stream("", Digest(built.layers[0].digest)) as pieces:
        list(pieces)


def test_absent_and_oversized_blobs_are_errors_of_their_own() -> None:
    built = archives.image()
    store = opened(tar(archives.oci(built)))
    with pytest.raises(NoRecord):
        store.read("", Digest.of(b"nothing"), limit=10)
    with pytest.raises(MalformedDocument):
        store.read("", Digest(built.digest), limit=10)
    assert store.probe("", Digest.of(b"nothing"), 1).kind is FileKind.MISSING


def test_without_layers_only_what_has_no_digest_of_its_own_is_looked_into() -> None:
    built = archives.image()
    by_name = opened(tar(archives.oci(built)), layers=False).verifications()
    assert all(verification.layer is None for verification in by_name.values())
    by_path = opened(tar(archives.old_docker(built)), layers=False).verifications()
    assert {
        verification.layer.kind for verification in by_path.values() if verification.layer and verification.size > 1000
    } == {LayerVerificationKind.SOUND}


def test_a_made_manifest_is_marked_and_walks_like_any_other() -> None:
    store = opened(tar(archives.old_docker(archives.image())))
    [image] = store.inventory("").images
    assert image.target.media_type == DOCKER_MANIFEST
    assert store.inventory("").blobs[image.target.digest].labels == {"containerd-auditor/virtual": "manifest.json"}


def test_sha512_blobs_are_hashed_by_their_own_algorithm() -> None:
    data = b'{"a": 1}'
    digest = Digest.of(data, algorithm="sha512")
    store = opened(tar([Member(archives.blob_name(digest), data), *archives.oci(archives.image())]))
    assert store.verifications()[digest].kind is VerificationKind.SOUND


def test_names_without_annotation_fall_back_to_the_ref_and_then_to_the_digest() -> None:
    built = archives.image()
    listed = [built.target.json() | {"annotations": {"org.opencontainers.image.ref.name": "v7"}}, built.target.json()]
    parts = archives.swap(archives.oci(built), "index.json", archives.json_member("", {"manifests": listed}).data)
    assert [image.name for image in opened(tar(parts)).inventory("").images] == ["v7", built.digest]


def test_a_file_that_is_not_there_or_packed_with_something_else_cannot_be_audited(tmp_path: Path) -> None:
    with pytest.raises(StoreUnreachable):
        open_archive(tmp_path / "absent.tar")
    (tmp_path / "a.tar.lz4").write_bytes(b"\x04\x22\x4d\x18and more")
    with pytest.raises(Unsupported):
        open_archive(tmp_path / "a.tar.lz4")


def test_an_xz_stream_that_asks_for_much_memory_is_not_read_and_not_damaged() -> None:
    large = {"id": lzma.FILTER_LZMA2, "preset": 0, "dict_size": 1 << 30}
    with pytest.raises(Unsupported, match="128 MiB"):
        opened(lzma.compress(tar(archives.oci(archives.image())), filters=[large]))


@pytest.mark.parametrize("packing", ["gzip", "xz", "bzip2"])
def test_streams_one_behind_the_other_are_one(packing: str) -> None:
    data = tar(archives.oci(archives.image()))
    store = opened(archives.packed(data[:5000], packing) + archives.packed(data[5000:], packing) + bytes(512))
    assert (store.packing, codes(store), store.complete) == (packing, set(), True)


def test_an_error_of_the_medium_is_not_a_fault_of_the_archive() -> None:
    class Failing:
        def read(self, _: int) -> bytes:
            raise OSError(5, "Input/output error")

    with pytest.raises(StoreUnreachable, match="Input/output error"):
        open_archive("-", stdin=Failing())  # type: ignore[arg-type]


def test_an_unreadable_file_of_a_folder_is_neither_sound_nor_corrupt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built = archives.image()
    root = archives.unpack(archives.oci(built), tmp_path / "layout")
    victim = Digest(built.layers[0].digest)
    real = layout_folder.read

    def read(path: Path) -> Iterator[memoryview]:
        if path.name != victim.hex:
            yield from real(path)
            return
        yield memoryview(b"the first bytes")
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(layout_folder, "read", read)
    store = open_archive(root)
    assert store.verifications()[victim].kind is VerificationKind.UNREADABLE
    assert store.probe("", victim, 0).kind is FileKind.UNREADABLE


def test_a_file_that_may_not_be_read_is_no_fault_of_the_archive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = archives.unpack(archives.oci(archives.image()), tmp_path / "layout")

    def read(path: Path) -> Iterator[memoryview]:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(layout_folder, "read", read)
    with pytest.raises(StoreUnreachable, match=r"layout cannot be read: .*/layout/blobs/.*: Permission denied"):
        open_archive(root)


def test_zstd_frames_one_behind_the_other_and_skippable_ones_are_one_stream() -> None:
    data = tar(archives.oci(archives.image()))
    skippable = bytes([0x52, 0x2A, 0x4D, 0x18, 3, 0, 0, 0]) + b"abc"
    whole = skippable + archives.packed(data[:5000], "zstd") + skippable + archives.packed(data[5000:], "zstd")
    [problem] = opened(whole).problems
    assert (problem.severity, "podman and skopeo refuse it" in problem.message) == (Severity.WARNING, True)
    assert opened(whole[len(skippable) :]).problems == ()
    assert opened(archives.packed(data[:777], "gzip") + archives.packed(data[777:], "gzip") + bytes(512)).problems == ()


def test_reading_ahead_hands_errors_on_and_ends_when_nobody_asks_any_more() -> None:
    def failing() -> Iterator[int]:
        yield 1
        raise ValueError("as it was")

    with concurrency.read_ahead(failing()) as items, pytest.raises(ValueError, match="as it was"):
        list(items)
    drawn: list[int] = []
    with concurrency.read_ahead(map(drawn.append, range(10_000))) as endless:
        assert next(endless) is None
    assert len(drawn) < 10_000
    assert "read-ahead" not in {thread.name for thread in threading.enumerate()}


def test_a_pipe_that_nobody_writes_to_any_more_does_not_hang_a_fault_found_before() -> None:
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb", buffering=0) as out, os.fdopen(writing, "wb", buffering=0) as into:
        into.write(archives.packed(b"no tar, but gzip " * 100, "gzip"))
        assert codes(open_archive("-", stdin=out)) == {"archive-malformed"}


def test_a_named_pipe_is_refused_since_it_may_have_no_writer(tmp_path: Path) -> None:
    pipe = tmp_path / "a pipe"
    os.mkfifo(pipe)
    with pytest.raises(StoreUnreachable, match="named pipe") as refused:
        open_archive(pipe)
    assert f"auditor verify - < '{pipe}'" in refused.value.hint


def test_a_pipe_that_is_open_already_is_read_by_its_path() -> None:
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb"), os.fdopen(writing, "wb", buffering=0) as into:
        into.write(b"no archive")
        into.close()
        assert codes(open_archive(f"/proc/self/fd/{reading}")) == {"archive-malformed"}


@pytest.mark.parametrize(
    ("name", "short", "tag"),
    [
        ("docker.io/library/thing:v1", "thing:v1", "v1"),
        ("docker.io/org/thing:v1", "org/thing:v1", "v1"),
        ("localhost:5000/thing:v1", "localhost:5000/thing:v1", "v1"),
        ("quay.io/a/b:x_1", "quay.io/a/b:x_1", "x_1"),
        (f"quay.io/a/b@sha256:{'0' * 64}", None, f"quay.io/a/b@sha256:{'0' * 64}"),
        (f"quay.io/a/b:t@sha256:{'0' * 64}", None, f"t@sha256:{'0' * 64}"),
        (f"sha256:{'0' * 64}", None, f"sha256:{'0' * 64}"),
        ("thing", "thing:latest", "thing"),
    ],
)
def test_names_are_spelled_as_ctr_spells_them(name: str, short: str | None, tag: str) -> None:
    assert image_names.familiar(name) == short
    assert image_names.ref_name(name) == tag


def test_nothing_is_left_open_by_a_problem() -> None:
    assert codes(opened(b"")) == {"archive-truncated"}


def test_each_document_is_parsed_once_and_the_proofs_are_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    parsed: list[bytes] = []
    real = oci.parse

    def counted(raw: bytes, media_type: str, **how: bool) -> oci.Document:
        parsed.append(raw)
        return real(raw, media_type, **how)

    for module in (oci, document_loader):
        monkeypatch.setattr(module, "parse", counted)
    store = opened(tar(archives.oci(archives.image())))
    inventory = store.inventory("")
    request = Request(verify=Verify.LAYERS, of_image=platforms_held(inventory, store.documents))
    result = audit.audit(
        store, request, clock=lambda: datetime.now(UTC), pause=lambda _: None, documents=store.documents
    )
    assert result.findings == ()
    assert len(result.evidence.documents) == 2
    assert len(parsed) == len(set(parsed)) == 3
    assert store.verifications() is store.verifications()


def test_a_device_is_no_archive() -> None:
    with pytest.raises(StoreUnreachable, match="/dev/zero is a device"):
        open_archive(Path("/dev/zero"))
