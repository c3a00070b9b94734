"""What an audit and a scrub read: each digest once, what was selected, and layers as layers."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec
import pytest

from auditor.audit.collect import Request, collect
from auditor.checks.evidence import Evidence
from auditor.model.digest import Digest
from auditor.model.oci import Descriptor
from auditor.model.store import Image
from auditor.scrub import largest_first, targets_of, wanted
from tests import images
from tests.unit.fakes import MemoryStore

NOW = datetime(2026, 8, 1, tzinfo=UTC)
GZIP = images.layer({"a": b"1" * 900})
SECRET = images.raw_layer(
    b"\x99" * 600, GZIP.diff_id, media_type="application/vnd.oci.image.layer.v1.tar+gzip+encrypted"
)
IMAGE = images.image([GZIP, SECRET])


@pytest.fixture
def store() -> MemoryStore:
    made = MemoryStore()
    for data in IMAGE.blobs.values():
        made.add(data, "default", "k8s.io")
    made.add(b"an orphan", "k8s.io")
    target = Descriptor(media_type=IMAGE.target.media_type, digest=Digest(IMAGE.digest), size=IMAGE.target.size)
    for namespace in ("default", "k8s.io"):
        image = Image(namespace=namespace, name="docker.io/library/a:1", target=target)
        made.put(msgspec.structs.replace(made.inventory_of(namespace), images=(image,)))
    return made


def evidence(store: MemoryStore, *names: str) -> Evidence:
    return collect(store, Request(images=names), known={}, now=NOW)


def test_with_no_selection_everything_is_read_once_orphans_included(store: MemoryStore) -> None:
    targets = wanted(evidence(store))
    assert {target.digest for target in targets} == set(store.content)
    assert len(targets) == len(store.content)
    by = {target.digest: target for target in targets}
    assert by[Digest(IMAGE.digest)].namespaces == ("default", "k8s.io")
    assert by[Digest.of(b"an orphan")].namespaces == ("k8s.io",)


def test_with_a_selection_only_its_blobs_are_read(store: MemoryStore) -> None:
    targets = wanted(evidence(store, "docker.io/library/a:1"))
    assert {target.digest for target in targets} == set(IMAGE.blobs)


def test_layers_are_known_as_layers_and_encrypted_ones_as_unverifiable(store: MemoryStore) -> None:
    layers = {target.digest: target.unverifiable for target in wanted(evidence(store)) if target.layer}
    assert layers == {GZIP.digest: "", SECRET.digest: "its bytes are encrypted"}


def test_what_is_absent_is_not_read(store: MemoryStore) -> None:
    for namespace in ("default", "k8s.io"):
        store.drop_record(namespace, Digest(GZIP.digest))
    assert GZIP.digest not in {target.digest for target in wanted(evidence(store))}


def test_largest_come_first_and_equals_in_order_of_their_digest() -> None:
    store = MemoryStore()
    made = [store.add(data) for data in (b"1", b"22", b"3", b"4444")]
    ordered = largest_first(targets_of([store.inventory("default")]))
    assert [target.digest for target in ordered] == [made[3], made[1], *sorted((made[0], made[2]))]


def test_files_that_an_artifact_calls_layers_are_hashed_and_not_decompressed() -> None:
    """What `oras push` makes of any file where no type is said."""
    file = images.blob_layer(b"any file", media_type="application/vnd.oci.image.layer.v1.tar")
    artifact = images.artifact([file])
    store = MemoryStore()
    for data in artifact.blobs.values():
        store.add(data)
    target = Descriptor(
        media_type=artifact.target.media_type, digest=Digest(artifact.digest), size=artifact.target.size
    )
    image = Image(namespace="default", name="docker.io/library/file:1", target=target)
    store.put(msgspec.structs.replace(store.inventory_of("default"), images=(image,)))
    targets = wanted(evidence(store))
    assert file.digest in {target.digest for target in targets}
    assert not any(target.layer for target in targets)


def test_content_of_another_type_hides_no_layer_after_it() -> None:
    other = images.raw_layer(b"a text", GZIP.diff_id, media_type="text/plain")
    mixed = images.image([other, GZIP])
    store = MemoryStore()
    for data in mixed.blobs.values():
        store.add(data, "default")
    target = Descriptor(media_type=mixed.target.media_type, digest=Digest(mixed.digest), size=mixed.target.size)
    image = Image(namespace="default", name="docker.io/library/a:1", target=target)
    store.put(msgspec.structs.replace(store.inventory_of("default"), images=(image,)))
    assert {target.digest for target in wanted(evidence(store)) if target.layer} == {GZIP.digest}
