"""Exports: what is planned, what is written, and that anything wrong leaves nothing."""

from __future__ import annotations

import fcntl
import gzip
import json
import os
import signal
import subprocess
import sys
import tarfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from auditor.archive.open import open_archive
from auditor.archive.store import ArchiveStore
from auditor.atomic_write import Temporary
from auditor.errors import ExportRefused, OutputError, ReadFailed
from auditor.export import tar_members, write
from auditor.export.model import ExportPlan, Role
from auditor.export.plan import TWO_DIFF_IDS, plan
from auditor.export.read_back import ReadBack
from auditor.export.salvage import ORIGINAL
from auditor.export.write import write_archive, write_layout, write_pipe
from auditor.model import image_graph, oci
from auditor.model.digest import Digest
from auditor.model.oci import Descriptor
from auditor.model.platforms import EVERYTHING, Matcher, only, parse
from auditor.model.store import Store, Verification
from tests import images
from tests.images import Built, BuiltImage
from tests.unit import archives
from tests.unit.archives import NAME

AMD64 = only([parse("linux/amd64")])
TAG = "1-test"


def many(*, attested: bool = False) -> images.BuiltIndex:
    """An index of two platforms."""
    one = [images.layer(images.files(f"amd-{n}", kilobytes=4)) for n in range(2)]
    other = [images.layer(images.files(f"arm-{n}", kilobytes=4)) for n in range(2)]
    built = [images.image(one), images.image(other, platform="linux/arm64")]
    return images.index(built, attestations=attested)


def store_of(
    *built: Built, tmp_path: Path, names: Sequence[str] = (NAME,), without: Sequence[str] = ()
) -> ArchiveStore:
    """A store with some images, as a folder; blobs in `without` are absent."""
    where = tmp_path / f"store-{len(list(tmp_path.iterdir()))}"
    kept = [m for m in archives.oci(*built, names=names) if m.name not in {archives.blob_name(d) for d in without}]
    return open_archive(archives.unpack([m for m in kept if m.name != "manifest.json"], where))


def loaded(store: Store) -> tuple[image_graph.Documents, dict[Digest, bytes]]:
    """All documents that a store's images lead to, as an audit collects them."""
    documents: dict[image_graph.Key, image_graph.Loaded] = {}
    raw: dict[Digest, bytes] = {}
    todo = [image.target for image in store.inventory("").images]
    while todo:
        descriptor = todo.pop()
        where = image_graph.key(descriptor)
        if where is None or where in documents or descriptor.digest not in store.inventory("").blobs:
            continue
        raw[descriptor.digest] = store.read("", descriptor.digest, limit=oci.MAX_DOCUMENT)
        documents[where] = oci.parse(raw[descriptor.digest], descriptor.media_type)
        todo += image_graph.children(documents[where])
    return documents, raw


def planned(
    store: Store,
    *,
    wanted: Matcher = EVERYTHING,
    required: Matcher | None = None,
    twins: Mapping[Digest, Descriptor] | None = None,
    attestations: bool = True,
    flat: bool = False,
    recorded: Callable[[Digest], str | None] = lambda _: None,
    named: bool = False,
) -> ExportPlan:
    documents, raw = loaded(store)
    return plan(
        image_graph.group(store.inventory("").images),
        documents=documents,
        raw=raw,
        has=store.inventory("").blobs.__contains__,
        wanted=wanted,
        required=required,
        twins=twins or {},
        attestations=attestations,
        flat=flat,
        recorded=recorded,
        named=named,
    )


def exported(store: Store, target: Path, made: ExportPlan | None = None, **options: object) -> ExportPlan:
    made = made or planned(store)
    write_archive(made, store, target, namespace="", tag=TAG, **options)  # type: ignore[arg-type]
    return made


class Wrapped:
    """A store whose blobs only come as streams, through `change`."""

    def __init__(self, store: ArchiveStore, change: Callable[[Digest, bytes], bytes] = lambda _, data: data) -> None:
        self._store = store
        self._change = change

    def __getattr__(self, name: str) -> object:
        if name == "open_file":
            raise AttributeError(name)
        return getattr(self._store, name)

    @contextmanager
    def stream(self, namespace: str, digest: Digest, *, fresh: bool = False) -> Iterator[Iterator[bytes]]:
        with self._store.stream(namespace, digest, fresh=fresh) as chunks:
            yield iter((self._change(digest, b"".join(chunks)),))


def wrapped(store: ArchiveStore, change: Callable[[Digest, bytes], bytes] = lambda _, data: data) -> Store:
    return Wrapped(store, change)  # type: ignore[return-value]


def test_an_export_has_ctrs_layout_and_modes_and_no_time_or_owner(tmp_path: Path) -> None:
    built = archives.image()
    target = tmp_path / "out.tar"
    exported(store_of(built, tmp_path=tmp_path), target)
    with tarfile.open(target) as archive:
        found = [(m.name, m.mode, m.mtime, m.uid, m.gid, m.uname, m.gname) for m in archive]
    blobs = sorted(archives.blob_name(digest) for digest in built.blobs)
    expected = [("blobs", 0o755), ("blobs/sha256", 0o755), *((name, 0o444) for name in blobs)]
    expected += [("index.json", 0o644), ("manifest.json", 0o644), ("oci-layout", 0o444)]
    assert found == [(name, mode, 0, 0, 0, "", "") for name, mode in expected]
    assert target.read_bytes().endswith(bytes(1024))
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_the_documents_name_images_as_ctr_and_docker_do(tmp_path: Path) -> None:
    built = archives.image()
    by_digest = f"docker.io/library/thing@{built.digest}"
    cri = built.config_digest
    store = store_of(built, built, built, tmp_path=tmp_path, names=(NAME, by_digest, cri))
    target = tmp_path / "out.tar"
    exported(store, target)
    with tarfile.open(target) as archive:
        index, table = (json.load(archive.extractfile(n)) for n in ("index.json", "manifest.json"))  # type: ignore[arg-type]
    notes = {child["annotations"]["io.containerd.image.name"]: child["annotations"] for child in index["manifests"]}
    assert {name: note["org.opencontainers.image.ref.name"] for name, note in notes.items()} == {
        NAME: "v1",
        by_digest: by_digest,
        cri: cri,
    }
    layers = [archives.blob_name(layer.digest) for layer in built.layers]
    assert table == [{"Config": archives.blob_name(built.config_digest), "RepoTags": ["thing:v1"], "Layers": layers}]


@pytest.mark.parametrize("compress", ["none", "gzip", "zstd"])
def test_two_exports_are_the_same_bytes_however_they_are_read(compress: str, tmp_path: Path) -> None:
    store = store_of(many(attested=True), tmp_path=tmp_path)
    exported(store, tmp_path / "a", compress=compress)
    exported(wrapped(store), tmp_path / "b", compress=compress)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert open_archive(tmp_path / "a").packing == compress
    assert open_archive(tmp_path / "a").verifications() == open_archive(tmp_path / "b").verifications()


def test_a_compressed_archive_is_read_by_the_usual_tools(tmp_path: Path) -> None:
    store = store_of(archives.image(), tmp_path=tmp_path)
    exported(store, tmp_path / "a.tar")
    exported(store, tmp_path / "a.tar.gz", compress="gzip")
    assert gzip.decompress((tmp_path / "a.tar.gz").read_bytes()) == (tmp_path / "a.tar").read_bytes()


def test_what_is_said_of_the_archive_is_true(tmp_path: Path) -> None:
    store = store_of(archives.image(), tmp_path=tmp_path)
    done = write_archive(planned(store), store, tmp_path / "a", namespace="", tag=TAG)
    assert (done.size, done.digest) == ((tmp_path / "a").stat().st_size, Digest.of((tmp_path / "a").read_bytes()))
    assert tar_members.size(planned(store)) == done.size


def test_a_pipe_gets_the_same_bytes(tmp_path: Path) -> None:
    store = store_of(archives.image(), tmp_path=tmp_path)
    exported(store, tmp_path / "a")
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as out:
        got: list[bytes] = []
        reader = threading.Thread(target=lambda: got.append(out.read()))
        reader.start()
        done = write_pipe(planned(store), store, writing, namespace="")
        os.close(writing)
        reader.join()
    assert got == [(tmp_path / "a").read_bytes()]
    assert done.digest == Digest.of(got[0])


def test_a_pipe_never_gets_an_end_marker_behind_something_wrong(tmp_path: Path) -> None:
    built = archives.image()
    store = store_of(built, tmp_path=tmp_path)
    bad = wrapped(store, lambda d, data: damages(data)["flipped"] if d == built.layers[0].digest else data)
    with (tmp_path / "got").open("wb") as out, pytest.raises(ExportRefused):
        write_pipe(planned(store), bad, out.fileno(), namespace="")
    assert not open_archive(tmp_path / "got").complete


def test_a_layout_folder_has_the_same_files_and_modes(tmp_path: Path) -> None:
    store = store_of(archives.image(), tmp_path=tmp_path)
    exported(store, tmp_path / "a.tar")
    write_layout(planned(store), store, tmp_path / "layout", namespace="", tag=TAG)
    with tarfile.open(tmp_path / "a.tar") as archive:
        for member in archive:
            path = tmp_path / "layout" / member.name
            assert path.stat().st_mode & 0o777 == member.mode
            if member.isfile():
                assert path.read_bytes() == archive.extractfile(member).read()  # type: ignore[union-attr]
    with pytest.raises(OutputError):
        write_layout(planned(store), store, tmp_path / "layout", namespace="", tag=TAG)


def damages(blob: bytes) -> dict[str, bytes]:
    return {"flipped": blob[:-1] + bytes([blob[-1] ^ 1]), "short": blob[:-1], "empty": b"", "long": blob + b"\0"}


@pytest.mark.parametrize("by", ["file", "stream"])
@pytest.mark.parametrize("how", ["flipped", "short", "empty", "long"])
@pytest.mark.parametrize("kind", ["archive", "layout"])
def test_a_bad_blob_leaves_no_file_and_the_old_one_as_it_was(how: str, by: str, kind: str, tmp_path: Path) -> None:
    built = archives.image()
    store = store_of(built, tmp_path=tmp_path)
    victim = built.layers[1]
    made = planned(store)
    bad = damages(victim.blob)[how]
    if by == "file":
        path = next(tmp_path.glob("store-*")) / archives.blob_name(victim.digest)
        path.write_bytes(bad)
    source = store if by == "file" else wrapped(store, lambda d, data: bad if d == victim.digest else data)
    target = tmp_path / "out"
    if kind == "archive":
        target.write_text("the old one")
    writer = write_archive if kind == "archive" else write_layout
    with pytest.raises(ExportRefused, match=f"{NAME} for linux/amd64: layer 2 {victim.digest}") as caught:
        writer(made, source, target, namespace="", tag=TAG)
    assert isinstance(caught.value.verification, Verification)  # type: ignore[attr-defined]
    assert sorted(path.name for path in tmp_path.iterdir()) == (["out"] if kind == "archive" else []) + ["store-0"]
    assert kind == "layout" or target.read_text() == "the old one"


def test_what_cannot_be_read_is_not_called_corrupt(tmp_path: Path) -> None:
    store = store_of(archives.image(), tmp_path=tmp_path)

    def fail(digest: Digest, data: bytes) -> bytes:
        raise ReadFailed(f"{digest.short} cannot be read: EIO, not {len(data)}")

    with pytest.raises(ExportRefused, match="cannot be read") as caught:
        exported(wrapped(store, fail), tmp_path / "a", planned(store))
    assert "may be intact" in caught.value.hint


def test_a_layer_that_is_not_what_its_config_says_is_refused_at_the_end(tmp_path: Path) -> None:
    layer, other = (images.layer(images.files(seed, kilobytes=4)) for seed in "ab")
    lying = images.image([layer], diff_ids=[other.diff_id])
    store = store_of(lying, tmp_path=tmp_path)
    with pytest.raises(ExportRefused, match="decompresses to"):
        exported(store, tmp_path / "a")
    assert not (tmp_path / "a").exists()
    exported(store, tmp_path / "a", layers=False)


def test_a_missing_layer_is_named_with_image_platform_and_number(tmp_path: Path) -> None:
    built = archives.image()
    store = store_of(built, tmp_path=tmp_path, without=[built.layers[1].digest])
    [missing] = planned(store).missing
    assert (missing.image, missing.platform, missing.layer) == (NAME, "linux/amd64", 1)
    with pytest.raises(ExportRefused, match=f"{NAME} for linux/amd64: layer 2 {built.layers[1].digest}") as caught:
        exported(store, tmp_path / "a")
    assert f"auditor repair {NAME}" in caught.value.hint
    assert not (tmp_path / "a").exists()


def test_one_platform_keeps_the_index_and_leaves_the_others_out(tmp_path: Path) -> None:
    built = many(attested=True)
    store = store_of(built, tmp_path=tmp_path)
    made = exported(store, tmp_path / "a", planned(store, wanted=AMD64))
    [image] = made.images
    assert image.target.digest == built.digest
    assert [platform.platform for platform in image.platforms] == ["linux/amd64"]
    held = {str(blob.digest) for blob in made.blobs}
    first = built.children[0]
    assert held == {built.digest, *first.blobs}
    assert {one.platform for one in made.left_out} == {"linux/arm64", ""}


def test_attestations_that_the_store_has_are_part_of_all_platforms(tmp_path: Path) -> None:
    built = many(attested=True)
    made = exported(store_of(built, tmp_path=tmp_path), tmp_path / "a")
    assert {str(blob.digest) for blob in made.blobs} == set(built.blobs)
    assert (made.images[0].absent, made.left_out) == ((), ())
    assert [one.attestation for one in made.images[0].platforms].count(True) == 2
    bare = planned(store_of(built, tmp_path=tmp_path), attestations=False)
    assert {str(blob.digest) for blob in bare.blobs} == {
        built.digest,
        *built.children[0].blobs,
        *built.children[1].blobs,
    }
    assert len(bare.images[0].absent) == len(bare.left_out) == 2


def test_an_attestation_that_the_store_has_in_part_is_left_out_and_listed(tmp_path: Path) -> None:
    built = many(attested=True)
    verification = built.children[2]
    assert isinstance(verification, BuiltImage)
    for gone, why in (
        (list(verification.blobs), "that the store lacks"),
        ([verification.layers[0].digest], "in part only"),
    ):
        made = planned(store_of(built, tmp_path=tmp_path, without=gone))
        assert made.missing == ()
        assert made.images[0].absent == (verification.digest,)
        assert [(one.digest, one.role, why in one.why) for one in made.left_out] == [
            (verification.digest, Role.CONTENT, True)
        ]


@pytest.mark.parametrize("platform", ["linux/amd64", "linux/s390x"])
def test_an_image_without_an_index_is_for_the_platform_that_was_named(tmp_path: Path, platform: str) -> None:
    store = store_of(many().children[0], tmp_path=tmp_path)
    other = only([parse(platform)])
    assert not planned(store, wanted=other).missing
    lacking = [one.sentence for one in planned(store, wanted=other, named=True).missing]
    assert [platform != "linux/amd64"] == ["is for linux/amd64" in one for one in lacking or [""]]


def test_one_platform_as_root_writes_no_index(tmp_path: Path) -> None:
    built = many(attested=True)
    store = store_of(built, built, tmp_path=tmp_path, names=(NAME, f"docker.io/library/thing@{built.digest}"))
    made = exported(store, tmp_path / "a", planned(store, wanted=AMD64, flat=True))
    [image] = made.images
    first = built.children[0]
    assert {str(blob.digest) for blob in made.blobs} == set(first.blobs)
    assert (image.target.digest, image.names, image.absent, image.indexed) == (first.digest, (NAME,), (), False)
    assert [one.role for one in made.left_out] == [Role.NAME]
    single = store_of(first, tmp_path=tmp_path)
    exported(single, tmp_path / "b")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert planned(store, wanted=only([parse("linux/s390x")]), flat=True).missing


def test_the_archive_of_one_platform_is_the_same_from_a_store_that_has_only_that(tmp_path: Path) -> None:
    built = many(attested=True)
    rest = set(built.blobs) - set(built.children[0].blobs) - {built.digest}
    whole, part = store_of(built, tmp_path=tmp_path), store_of(built, tmp_path=tmp_path, without=sorted(rest))
    exported(whole, tmp_path / "a", planned(whole, wanted=AMD64))
    exported(part, tmp_path / "b", planned(part, wanted=AMD64))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_platform_that_was_never_pulled_is_left_out_of_all_and_missed_by_name(tmp_path: Path) -> None:
    built = many()
    arm = built.children[1]
    assert isinstance(arm, BuiltImage)
    layers = [layer.digest for layer in arm.layers]
    for gone in (layers, list(arm.blobs)):
        store = store_of(built, tmp_path=tmp_path, without=gone)
        made = planned(store, required=AMD64)
        assert made.missing == ()
        assert [(one.platform, one.role) for one in made.left_out] == [("linux/arm64", Role.MANIFEST)]
        assert planned(store, wanted=only([parse("linux/arm64")])).missing
    half = planned(store_of(built, tmp_path=tmp_path, without=layers[:1]), required=AMD64)
    assert [(one.platform, one.layer) for one in half.missing] == [("linux/arm64", 0)]


def test_the_nodes_own_platform_is_never_taken_for_one_not_pulled(tmp_path: Path) -> None:
    built = many()
    amd = built.children[0]
    assert isinstance(amd, BuiltImage)
    store = store_of(built, tmp_path=tmp_path, without=[layer.digest for layer in amd.layers])
    assert len(planned(store, required=AMD64).missing) == 2


def test_a_platform_that_the_image_does_not_offer_is_said_and_alone_refused(tmp_path: Path) -> None:
    store = store_of(many(), tmp_path=tmp_path)
    both = planned(store, wanted=only([parse("linux/amd64"), parse("linux/s390x")]))
    assert both.missing == ()
    assert "linux/s390x" in {one.platform for one in both.left_out}
    assert planned(store, wanted=only([parse("linux/s390x")])).missing


def test_several_images_share_blobs_and_the_order_of_names_does_not_matter(tmp_path: Path) -> None:
    one, two = archives.image(), archives.image(seed="two")
    shared = images.image([one.layers[0], two.layers[1]])
    names = ("docker.io/library/z:1", "docker.io/library/a:1", "docker.io/library/m:1")
    store = store_of(one, two, shared, tmp_path=tmp_path, names=names)
    other = store_of(shared, one, two, tmp_path=tmp_path, names=(names[2], names[0], names[1]))
    exported(store, tmp_path / "a")
    exported(other, tmp_path / "b")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert [image.name for image in open_archive(tmp_path / "a").inventory("").images] == sorted(names)


def twin_of(layer: images.BuiltLayer) -> images.BuiltLayer:
    inner = gzip.decompress(layer.blob)
    return images.raw_layer(images.compress(inner, "zstd", 9), layer.diff_id, compression="zstd")


@pytest.mark.parametrize("flavour", ["oci", "docker"])
def test_a_salvage_puts_the_twin_in_and_changes_nothing_but_the_manifest(
    flavour: images.Flavour, tmp_path: Path
) -> None:
    low, high = (images.layer(images.files(seed, kilobytes=4), flavour=flavour) for seed in ("low", "high"))
    built = images.index([images.image([low, high, low], flavour=flavour)], flavour=flavour)
    inner = built.children[0]
    assert isinstance(inner, BuiltImage)
    twin = twin_of(low)
    other = images.image([twin])
    name = f"docker.io/library/thing@{built.digest}"
    store = store_of(built, built, other, tmp_path=tmp_path, names=(NAME, name, "o:1"), without=[low.digest])
    assert planned(store).missing
    descriptor = Descriptor(media_type=twin.media_type, digest=Digest(twin.digest), size=twin.size)
    made = exported(store, tmp_path / "a", planned(store, twins={Digest(low.digest): descriptor}))
    back = open_archive(tmp_path / "a")
    image = next(image for image in back.inventory("").images if image.name == NAME)
    index = json.loads(back.read("", image.target.digest, limit=oci.MAX_DOCUMENT))
    manifest = json.loads(back.read("", Digest(index["manifests"][0]["digest"]), limit=oci.MAX_DOCUMENT))
    assert index["annotations"][ORIGINAL] == built.digest
    assert manifest["annotations"][ORIGINAL] == inner.digest
    assert manifest["config"]["digest"] == inner.config_digest
    assert [layer["digest"] for layer in manifest["layers"]] == [twin.digest, high.digest, twin.digest]
    assert [("docker" in layer["mediaType"]) for layer in manifest["layers"]] == [flavour == "docker"] * 3
    assert manifest["layers"][0]["mediaType"].endswith("zstd")
    assert made.salvaged[0].replaced == (0, 2)
    assert name not in {image.name for image in back.inventory("").images}
    assert [one.digest for one in made.left_out] == [name]


def test_a_salvage_without_a_twin_for_each_layer_is_refused(tmp_path: Path) -> None:
    built = archives.image()
    low, high = built.layers
    twin = twin_of(low)
    both, gone = (NAME, "o:1"), [low.digest, high.digest]
    store = store_of(built, images.image([twin]), tmp_path=tmp_path, names=both, without=gone)
    descriptor = Descriptor(media_type=twin.media_type, digest=Digest(twin.digest), size=twin.size)
    assert [one.digest for one in planned(store, twins={Digest(low.digest): descriptor}).missing] == [high.digest]


def test_an_index_of_nothing_is_no_image(tmp_path: Path) -> None:
    (missing,) = planned(store_of(images.index([]), tmp_path=tmp_path)).missing
    assert missing.why == "has no manifest for the platforms asked for"


def test_a_blob_is_not_two_layers_with_different_diff_ids(tmp_path: Path) -> None:
    """Only one of them could be verified: one that the image itself states twice, and a twin by a wrong label."""
    low, high = (images.layer(images.files(seed, kilobytes=4)) for seed in ("low", "high"))
    built = images.image([low, low], diff_ids=[high.diff_id, low.diff_id])
    (missing,) = planned(store_of(built, tmp_path=tmp_path)).missing
    assert (missing.digest, missing.layer, missing.why) == (low.digest, 1, TWO_DIFF_IDS)
    whole = images.image([low, high])
    (tmp_path / "whole").mkdir()
    wrong = {Digest(low.digest): Descriptor(media_type=high.media_type, digest=Digest(high.digest), size=high.size)}
    store = store_of(whole, tmp_path=tmp_path / "whole", without=[low.digest])
    (missing,) = planned(store, twins=wrong).missing
    assert (missing.digest, missing.layer, missing.why) == (high.digest, 1, TWO_DIFF_IDS)


def test_what_is_recorded_of_a_twin_is_not_believed(tmp_path: Path) -> None:
    built = archives.image()
    low = built.layers[0]
    twin = twin_of(low)
    store = store_of(built, images.image([twin]), tmp_path=tmp_path, names=(NAME, "o:1"), without=[low.digest])
    descriptor = Descriptor(media_type=twin.media_type, digest=Digest(twin.digest), size=twin.size)
    made = planned(store, twins={Digest(low.digest): descriptor}, recorded=lambda _: low.diff_id)
    assert Digest(twin.digest) in made.unproven


def test_a_twin_that_this_namespace_lacks_is_no_twin(tmp_path: Path) -> None:
    built = archives.image()
    low = built.layers[0]
    store = store_of(built, tmp_path=tmp_path, without=[low.digest])
    elsewhere = Descriptor(media_type=low.media_type, digest=Digest.of(b"elsewhere"), size=9)
    assert [one.digest for one in planned(store, twins={Digest(low.digest): elsewhere}).missing] == [low.digest]


def test_a_foreign_layer_may_be_absent_and_docker_is_not_told_of_the_image(tmp_path: Path) -> None:
    foreign = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
    base, own = (images.layer(images.files(seed, kilobytes=4), flavour="docker") for seed in ("base", "own"))
    built = images.image([replace(base, media_type=foreign), own], flavour="docker")
    store = store_of(built, tmp_path=tmp_path, without=[base.digest])
    made = exported(store, tmp_path / "a")
    assert [one.digest for one in made.left_out] == [base.digest]
    assert open_archive(tmp_path / "a").problems == ()
    with tarfile.open(tmp_path / "a") as archive:
        assert "manifest.json" not in archive.getnames()
    ctrs = archives.drop(archives.oci(built), archives.blob_name(base.digest))
    assert archives.opened(archives.tar(ctrs)).problems == ()


def test_litter_of_the_dead_goes_and_of_the_living_stays(tmp_path: Path) -> None:
    target = tmp_path / "out.tar"
    dead, alive, other = (tmp_path / f".{name}.auditor-{n}.tmp" for n, name in enumerate(["out.tar", "out.tar", "x"]))
    for path in (dead, alive, other):
        path.write_bytes(b"half")
    (tmp_path / ".out.tar.auditor-9.tmp").mkdir()
    with alive.open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        exported(store_of(archives.image(), tmp_path=tmp_path), target)
        assert alive.exists()
    assert not dead.exists()
    assert other.exists()
    assert not (tmp_path / ".out.tar.auditor-9.tmp").exists()


KILLED = """
import sys
from pathlib import Path
from auditor.atomic_write import Temporary
with Temporary(Path(sys.argv[1]), tag="dead") as temporary:
    temporary.path.write_bytes(b"half an archive")
    print("written", flush=True)
    sys.stdin.read()
"""


def test_a_kill_leaves_the_old_file_and_the_next_run_cleans_up(tmp_path: Path) -> None:
    target = tmp_path / "out.tar"
    target.write_text("the old one")
    child = subprocess.Popen([sys.executable, "-c", KILLED, target], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"written\n"
        child.send_signal(signal.SIGKILL)
    assert target.read_text() == "the old one"
    assert (tmp_path / ".out.tar.auditor-dead.tmp").exists()
    with Temporary(target, tag="next"):
        assert not (tmp_path / ".out.tar.auditor-dead.tmp").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["out.tar"]


def test_a_full_disk_is_a_sentence_and_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = store_of(archives.image(), tmp_path=tmp_path)
    target = tmp_path / "out.tar"
    target.write_text("the old one")

    def full(fd: int, data: bytes) -> int:
        raise OSError(28, "No space left on device", fd, len(data))

    made = planned(store)
    monkeypatch.setattr("auditor.export.sinks.os.write", full)
    with pytest.raises(OutputError, match="No space left on device") as caught:
        exported(store, target, made)
    assert "space" in caught.value.hint
    assert target.read_text() == "the old one"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.tar", "store-0"]


def test_damage_between_writing_and_reading_back_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = store_of(archives.image(), tmp_path=tmp_path)
    made = planned(store)

    class Damaged(ReadBack):
        """Lets the reader begin once all is written and a bit of it has changed."""

        size = 0

        def feed(self, size: int) -> None:
            self.size += size

        def finish(self) -> None:
            [path] = tmp_path.glob(".a.*")
            data = path.read_bytes()
            path.write_bytes(data[:5000] + bytes([data[5000] ^ 1]) + data[5001:])
            super().feed(self.size)
            super().finish()

    monkeypatch.setattr(write, "ReadBack", Damaged)
    with pytest.raises(OutputError, match="not what was written"):
        exported(store, tmp_path / "a", made)
    assert not (tmp_path / "a").exists()


def test_targets_that_are_no_files_are_refused_and_links_are_followed(tmp_path: Path) -> None:
    store = store_of(archives.image(), tmp_path=tmp_path)
    os.mkfifo(tmp_path / "pipe")
    for bad in (tmp_path / "pipe", tmp_path, tmp_path / "absent" / "a.tar"):
        with pytest.raises(OutputError):
            exported(store, bad)
    (tmp_path / "real").mkdir()
    (tmp_path / "link.tar").symlink_to("real/a.tar")
    exported(store, tmp_path / "link.tar")
    assert (tmp_path / "link.tar").is_symlink()
    assert open_archive(tmp_path / "real" / "a.tar").problems == ()


def test_no_image_is_no_archive(tmp_path: Path) -> None:
    with pytest.raises(ExportRefused):
        exported(store_of(archives.image(), tmp_path=tmp_path), tmp_path / "a", ExportPlan(images=(), blobs=()))


def test_progress_hears_every_byte_of_the_way_out_and_back(tmp_path: Path) -> None:
    store = store_of(archives.image(), tmp_path=tmp_path)
    heard: list[int] = []
    made = exported(store, tmp_path / "a", on_bytes=heard.append)
    documents = open_archive(tmp_path / "a").bytes_read - made.size
    assert sum(heard) == 2 * made.size + documents
