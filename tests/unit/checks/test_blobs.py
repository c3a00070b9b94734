"""Blobs with a record: the file, the sizes and the bytes, each fault told once and told right."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

import msgspec
import pytest

from auditor.errors import ReadFailed
from auditor.model import oci
from auditor.model.digest import EMPTY, Digest
from auditor.model.findings import Verify
from auditor.model.store import (
    FileKind,
    FileState,
    LayerVerification,
    LayerVerificationKind,
    Store,
    Verification,
    VerificationKind,
)
from tests.unit.build import APP, BASE, MIDDLE, TOP, Layer, World, image
from tests.unit.fakes import MemoryStore


class Blind(MemoryStore):
    """A store whose content root is not visible: every look goes through the daemon, which clamps sizes."""

    def __init__(self, store: MemoryStore) -> None:
        self.__dict__.update(store.__dict__)

    def files(self) -> Mapping[Digest, FileState] | None:
        return None


class Odd(MemoryStore):
    """A store in which something else lies where a blob's file should be."""

    def __init__(self, store: MemoryStore, digest: Digest, state: FileState) -> None:
        self.__dict__.update(store.__dict__)
        self._odd = {digest: state}

    def files(self) -> Mapping[Digest, FileState] | None:
        return {**(super().files() or {}), **self._odd}

    def probe(self, namespace: str, digest: Digest, size: int) -> FileState:
        return self._odd.get(digest) or super().probe(namespace, digest, size)


def pulled(*, blind: bool = False) -> World:
    world = World()
    world.pull(APP)
    if blind:
        world.store = Blind(world.store)
    return world


@pytest.mark.parametrize("blind", [False, True])
@pytest.mark.parametrize(
    ("bytes_left", "cause", "words"),
    [
        (b"", "emptied", "zero-length"),
        (TOP.data[:-1], "shortened", "bytes on disk"),
        (b"x", "shortened", "1 bytes"),
    ],
)
def test_a_short_file(blind: bool, bytes_left: bytes, cause: str, words: str) -> None:
    world = pulled(blind=blind)
    world.store.content[TOP.digest] = bytes_left
    (finding,) = world.findings()
    assert (finding.code, finding.subject.digest, finding.cause) == ("size-mismatch", TOP.digest, cause)
    assert words in finding.message
    assert finding.facts["file_size"] == len(bytes_left)


def test_a_long_file_is_seen_where_files_are_visible_and_only_there() -> None:
    for blind in (False, True):
        world = pulled(blind=blind)
        world.store.content[TOP.digest] = TOP.data + b"x"
        assert world.faults() == ([] if blind else [("size-mismatch", TOP.digest)])


@pytest.mark.parametrize("blind", [False, True])
@pytest.mark.parametrize("role", ["layer", "config", "manifest"])
def test_a_file_that_is_gone(blind: bool, role: str) -> None:
    digest = {"layer": MIDDLE.digest, "config": APP.config.digest, "manifest": APP.digest}[role]
    world = pulled(blind=blind)
    del world.store.content[digest]
    (finding,) = (f for f in world.findings() if f.severity.rank < 3)
    assert (finding.code, finding.subject.digest, finding.subject.kind) == ("blob-file-missing", digest, role)
    assert finding.hint == "auditor repair -n k8s.io docker.io/library/app:1"


@pytest.mark.parametrize("kind", [FileKind.DIRECTORY, FileKind.LINK, FileKind.SPECIAL])
def test_something_else_where_the_file_should_be(kind: FileKind) -> None:
    world = pulled()
    world.store = Odd(world.store, MIDDLE.digest, FileState(kind))
    (finding,) = world.findings()
    assert (finding.code, finding.facts["found"]) == ("blob-file-missing", str(kind))
    assert str(kind) in finding.message


def test_a_file_that_cannot_be_looked_at_is_neither_sound_nor_damaged() -> None:
    world = pulled()
    world.store = Odd(world.store, MIDDLE.digest, FileState(FileKind.UNREADABLE, error="Permission denied"))
    (finding,) = world.findings()
    assert (finding.code, finding.facts["error"]) == ("blob-unreadable", "Permission denied")


def test_an_empty_layer_of_no_bytes_is_sound() -> None:
    nothing = oci.Descriptor("text/plain", EMPTY, 0)
    wire = {"mediaType": nothing.media_type, "digest": str(EMPTY), "size": 0}
    artifact = image(layers=[wire], config={}, config_type="application/x")
    world = World()
    world.pull(artifact, unpack=False)
    world.put(b"")
    world.relabel(artifact.digest, lambda old: {**old, "containerd.io/gc.ref.content.l.0": EMPTY})
    assert world.findings() == ()


def test_a_record_of_another_size_than_the_descriptor() -> None:
    world = pulled()
    world.record(msgspec.structs.replace(world.inventory.blobs[TOP.digest], size=1000))
    world.store.content[TOP.digest] = b"x" * 1000
    (finding,) = world.findings()
    assert (finding.code, finding.cause) == ("size-mismatch", "records-disagree")
    assert finding.facts["record_size"] == 1000
    assert finding.facts["descriptor_size"] == len(TOP.data)


def test_one_damaged_blob_in_two_namespaces_is_one_finding() -> None:
    world = pulled()
    World("moby", store=world.store).pull(APP, "docker.io/library/app:2")
    world.store.content[TOP.digest] = b""
    (finding,) = world.findings()
    assert finding.facts["namespaces"] == "k8s.io,moby"
    assert [ref.namespace for ref in finding.images] == ["k8s.io", "moby"]


def test_damage_to_a_blob_that_no_image_uses_is_told_too() -> None:
    world = pulled()
    digest = world.put(b"orphan")
    world.store.content[digest] = b""
    assert world.faults() == [("size-mismatch", digest)]
    assert world.faults(images=("docker.io/library/app:1",)) == []


def test_a_document_is_proven_by_reading_it() -> None:
    flipped = APP.data.replace(b"layers", b"lay3rs")
    world = pulled()
    world.store.content[APP.digest] = flipped
    (finding,) = (f for f in world.findings() if f.severity.rank < 3)
    assert (finding.code, finding.subject.digest) == ("digest-mismatch", APP.digest)
    assert finding.facts["actual"] == Digest.of(flipped)


def test_a_flipped_layer_is_not_noticed_by_presence_and_is_by_its_proof() -> None:
    world = pulled()
    bad = TOP.data[:-1] + b"!"
    world.store.content[TOP.digest] = bad
    assert world.faults() == []
    world.verifications[TOP.digest] = Verification(
        TOP.digest, VerificationKind.CORRUPT, len(bad), Digest.of(bad), "one bit differs"
    )
    (finding,) = world.findings()
    assert (finding.code, finding.cause) == ("digest-mismatch", "bytes-changed")
    assert "one bit differs" in finding.message


def test_a_document_that_cannot_be_read_is_unreadable_and_what_lies_below_is_not_judged() -> None:
    class Failing(MemoryStore):
        def __init__(self, store: MemoryStore) -> None:
            self.__dict__.update(store.__dict__)

        def read(self, namespace: str, digest: Digest, *, limit: int) -> bytes:
            if digest == APP.digest:
                raise ReadFailed("read sha256:…: Input/output error")
            return super().read(namespace, digest, limit=limit)

    world = pulled()
    world.drop(BASE.digest)
    world.store = Failing(world.store)
    assert world.faults() == [("blob-unreadable", APP.digest)]
    store: Store = world.store
    assert store.namespaces() == ("k8s.io",)


@pytest.mark.parametrize("kind", [VerificationKind.GONE, VerificationKind.SOUND])
def test_what_went_while_it_was_read_and_what_was_sound_is_no_fault(kind: VerificationKind) -> None:
    world = pulled()
    world.verifications[TOP.digest] = Verification(TOP.digest, kind, len(TOP.data))
    assert world.faults() == []


def test_layers_are_judged_only_where_it_was_asked_for() -> None:
    world = pulled()
    layer = LayerVerification(LayerVerificationKind.DIFFERS, Digest.of(b"else"))
    world.verifications[TOP.digest] = Verification(TOP.digest, VerificationKind.SOUND, len(TOP.data), layer=layer)
    assert world.faults(verify=Verify.DIGESTS) == []
    assert world.faults(verify=Verify.LAYERS) == [("diffid-mismatch", TOP.digest)]


def test_a_layer_that_is_what_its_config_says_is_sound() -> None:
    world = pulled()
    layer = LayerVerification(LayerVerificationKind.SOUND, TOP.diff_id)
    world.verifications[TOP.digest] = Verification(TOP.digest, VerificationKind.SOUND, len(TOP.data), layer=layer)
    assert world.faults(verify=Verify.LAYERS) == []


@pytest.mark.parametrize(
    ("media_type", "found", "code"),
    [
        ("application/vnd.oci.image.layer.v1.tar+gzip", "gzip", None),
        ("application/vnd.oci.image.layer.v1.tar+gzip", "zstd", "media-type-mismatch"),
        ("application/vnd.oci.image.layer.v1.tar+gzip", "none", "media-type-mismatch"),
        ("application/vnd.oci.image.layer.v1.tar+zstd", "gzip", "media-type-mismatch"),
        ("application/vnd.oci.image.layer.v1.tar", "none", None),
        ("application/vnd.oci.image.layer.v1.tar", "gzip", "layer-undecodable"),
        ("application/vnd.oci.image.layer.v1.tar", "zstd", "layer-undecodable"),
        ("application/vnd.docker.image.rootfs.diff.tar", "gzip", None),
        ("application/vnd.docker.image.rootfs.diff.tar.gzip", "zstd", "media-type-mismatch"),
    ],
)
def test_a_media_type_that_lies_is_told_by_whether_containerd_looks_at_the_bytes(
    media_type: str, found: str, code: str | None
) -> None:
    lying = Layer("lying", media_type=media_type)
    world = World()
    world.pull(image(BASE, lying))
    layer = LayerVerification(LayerVerificationKind.SOUND, lying.diff_id, compression=found)
    world.verifications[lying.digest] = Verification(lying.digest, VerificationKind.SOUND, len(lying.data), layer=layer)
    assert world.faults(verify=Verify.LAYERS) == ([(code, lying.digest)] if code else [])


def test_only_the_images_that_are_wrong_about_a_layer_are_named() -> None:
    world = World()
    right, wrong = Layer("shared", media_type=oci.OCI_LAYER + "+gzip"), Layer("shared", media_type=oci.OCI_LAYER)
    assert right.digest == wrong.digest
    world.pull(image(BASE, right), "docker.io/library/right:1")
    world.pull(image(BASE, wrong), "docker.io/library/wrong:1")
    layer = LayerVerification(LayerVerificationKind.SOUND, right.diff_id, compression="gzip")
    world.verifications[right.digest] = Verification(right.digest, VerificationKind.SOUND, len(right.data), layer=layer)
    (finding,) = world.findings(verify=Verify.LAYERS)
    assert [ref.name for ref in finding.images] == ["docker.io/library/wrong:1"]
    assert "wrong:1" in finding.message


def test_what_an_earlier_run_saw_is_said_with_its_time() -> None:
    world = pulled()
    seen = datetime(2026, 7, 1, tzinfo=UTC)
    digest, size = TOP.digest, len(TOP.data)
    world.verifications[digest] = Verification(
        digest, VerificationKind.CORRUPT, size, Digest.of(b"x"), fresh=False, read_at=seen
    )
    (finding,) = world.findings()
    assert finding.facts["read_at"] == "2026-07-01T00:00:00Z"
    assert finding.message.endswith("(read at 2026-07-01T00:00:00Z, not in this run)")


def test_a_reading_that_failed_once_is_not_called_a_wrong_hash() -> None:
    world = pulled()
    words = "the first reading failed: Input/output error"
    world.verifications[TOP.digest] = Verification(TOP.digest, VerificationKind.UNSTEADY, len(TOP.data), detail=words)
    (finding,) = world.findings()
    assert finding.code == "read-unsteady"
    assert words in finding.message
    assert "hash" not in finding.message


def test_a_corrupt_layer_is_not_also_undecodable() -> None:
    world = pulled()
    layer = LayerVerification(LayerVerificationKind.UNDECODABLE, detail="not gzip")
    world.verifications[TOP.digest] = Verification(
        TOP.digest, VerificationKind.CORRUPT, len(TOP.data), Digest.of(b"x"), layer=layer
    )
    assert world.faults(verify=Verify.LAYERS) == [("digest-mismatch", TOP.digest)]


# Storage.


def damaged(count: int, *, shared: bool) -> World:
    world = World()
    layers = [Layer(f"layer {n}") for n in range(count)]
    if shared:
        world.pull(image(*layers))
    else:
        for n, layer in enumerate(layers):
            world.pull(image(layer), f"app:{n}")
    for layer in layers:
        world.store.content[layer.digest] = b""
    return world


@pytest.mark.parametrize(
    ("count", "shared", "suspect"), [(2, False, False), (3, False, True), (9, True, False), (9, False, True)]
)
def test_damage_without_a_common_image_makes_the_storage_suspect(count: int, shared: bool, suspect: bool) -> None:
    codes = [code for code, _ in damaged(count, shared=shared).faults()]
    assert codes.count("size-mismatch") == count
    assert ("suspect-storage" in codes) is suspect


def test_records_that_disagree_do_not_make_the_storage_suspect() -> None:
    world = World()
    for n in range(4):
        own = Layer(f"layer {n}")
        world.pull(image(own), f"app:{n}")
        world.record(msgspec.structs.replace(world.inventory.blobs[own.digest], size=7))
        world.store.content[own.digest] = b"7 bytes"
    assert {code for code, _ in world.faults()} == {"size-mismatch"}


@pytest.mark.parametrize(
    ("unpack", "digest", "told"),
    [
        (True, BASE.digest, "pulling it again changes nothing"),
        (True, APP.config.digest, "pulling or unpacking the image fails"),
        (True, APP.digest, "pulling or unpacking the image fails"),
        (False, BASE.digest, "pulling or unpacking the image fails"),
    ],
)
def test_what_is_said_of_a_lost_file_is_what_a_pull_does(*, unpack: bool, digest: Digest, told: str) -> None:
    world = World()
    world.pull(APP, unpack=unpack)
    del world.store.content[digest]
    finding = next(finding for finding in world.findings() if finding.code == "blob-file-missing")
    assert told in finding.message


def test_a_lost_file_of_no_image_names_the_repositories_that_it_was_fetched_from() -> None:
    world = World()
    world.pull(APP)
    source = "containerd.io/distribution.source.registry.example"
    digest = world.put(b"half a pull", **{source: "team/app,team/other"})
    del world.store.content[digest]
    finding = next(finding for finding in world.findings() if finding.code == "blob-file-missing")
    assert "an interrupted pull of registry.example/team/app" in finding.message
    assert finding.facts["fetched_from"] == "registry.example/team/app, registry.example/team/other"
