"""Reading an archive back while it is written: what is found, who is blamed, and that nobody waits for ever."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from auditor.archive.layer_pipeline import Behind, Same
from auditor.archive.store import ArchiveStore
from auditor.errors import ExportRefused
from auditor.export.model import ExportPlan
from auditor.export.plan import plan
from auditor.export.read_back import Abandoned, Follower, Growing
from auditor.export.write import write_archive
from auditor.model.digest import Digest, Meter
from auditor.model.image_graph import group
from auditor.model.store import LayerProofKind, Proof
from tests import images
from tests.unit import archives
from tests.unit.export.test_write import TAG, loaded, store_of


def recorded(store: ArchiveStore, noted: Callable[[Digest], str | None]) -> ExportPlan:
    """A plan for all of a store, with what containerd has noted of layers."""
    inventory = store.inventory("")
    documents, _ = loaded(store)
    return plan(group(inventory.images), documents=documents, has=inventory.blobs.__contains__, recorded=noted)


def test_a_layer_that_containerd_has_decompressed_is_not_decompressed_again(tmp_path: Path) -> None:
    built = archives.image()
    notes = {Digest(layer.digest): layer.diff_id for layer in built.layers}
    store = store_of(built, tmp_path=tmp_path)
    assert recorded(store, notes.get).unproven == frozenset()
    assert recorded(store, lambda _: None).unproven == notes.keys()
    wrong = dict.fromkeys(notes, built.layers[1].diff_id)
    assert recorded(store, wrong.get).unproven == {built.layers[0].digest}


def test_a_note_that_contradicts_the_config_is_no_proof(tmp_path: Path) -> None:
    layer, other = (images.layer(images.files(seed, kilobytes=4)) for seed in "ab")
    lying = images.image([layer], diff_ids=[other.diff_id])
    store = store_of(lying, tmp_path=tmp_path)
    made = recorded(store, lambda _: layer.diff_id)
    with pytest.raises(ExportRefused, match=r"layer 1 .* decompresses to"):
        write_archive(made, store, tmp_path / "a", namespace="", tag=TAG)


def test_the_first_wrong_blob_ends_the_writing(tmp_path: Path) -> None:
    """What comes behind it is not read back, nor written once that is known."""
    high = images.layer({"high": bytes(64 << 20)}, compression="none")
    lows = (images.layer({"low": images.noise(f"{n}", 1 << 20)}, compression="none") for n in range(1000))
    low = next(layer for layer in lows if layer.digest < high.digest)
    store = store_of(images.image([low, high]), tmp_path=tmp_path)
    path = next(tmp_path.glob("store-*")) / archives.blob_name(low.digest)
    path.write_bytes(low.blob[:-1] + b"x")
    heard: list[int] = []
    with pytest.raises(ExportRefused, match=r"layer 1 .* has other bytes") as caught:
        write_archive(
            recorded(store, lambda _: None), store, tmp_path / "a", namespace="", tag=TAG, on_bytes=heard.append
        )
    assert isinstance(caught.value.proof, Proof)  # type: ignore[attr-defined]
    assert not (tmp_path / "a").exists()
    assert sum(heard) < 2 * high.size


def test_a_reader_waits_for_the_writer_and_ends_with_it() -> None:
    growing = Growing()
    passed: list[str] = []

    def read() -> None:
        growing.wait(0)
        passed.append("more")
        growing.wait(10)
        passed.append("end")

    with Follower(growing, read) as reading:
        growing.grew(10)
        growing.end()
        reading.result(timeout=30)
    assert passed == ["more", "end"]


def test_either_side_ends_the_other() -> None:
    growing = Growing()
    with pytest.raises(KeyError), Follower(growing, lambda: growing.wait(0)) as reading:
        raise KeyError
    with pytest.raises(Abandoned):
        reading.result(timeout=30)

    growing = Growing()

    def fail() -> None:
        raise ValueError("what the reader says")

    def write() -> None:
        with Follower(growing, fail) as failing:
            failing.exception(timeout=30)
            growing.grew(1)

    with pytest.raises(ValueError, match="what the reader says"):
        write()


def test_what_is_hashed_elsewhere_is_hashed_all_the_same() -> None:
    behind, plain = Behind(), Meter()
    for number in range(20):
        for meter in (behind, plain):
            meter.update(bytes([number]) * 100_000)
    assert (behind.size, behind.result()) == (plain.size, plain.result())
    assert Same(plain).result() == plain.result()
    assert Behind().result() == Meter().result()


@pytest.mark.parametrize("kilobytes", [8, 3000])
@pytest.mark.parametrize("kind", ["sound", "cut", "plain", "plain cut"])
def test_small_and_large_layers_come_out_the_same_and_leave_no_thread(kilobytes: int, kind: str) -> None:
    compression: images.Compression = "none" if kind.startswith("plain") else "gzip"
    good = images.layer(images.files("thread", kilobytes=kilobytes), compression=compression)
    blob = good.blob[: len(good.blob) // 2 + 100] if kind.endswith("cut") else good.blob
    built = images.image([images.raw_layer(blob, good.diff_id, compression=compression)])
    before = threading.active_count()
    store = archives.opened(archives.tar(archives.oci(built)))
    proof = store.proofs()[Digest(built.layers[0].digest)].layer
    assert proof is not None
    if kind.endswith("cut"):
        assert proof.kind is LayerProofKind.UNDECODABLE
    else:
        assert (proof.kind, proof.diff_id) == (LayerProofKind.SOUND, good.diff_id)
        assert proof.size == len(gzip.decompress(blob) if compression == "gzip" else blob)
    assert threading.active_count() == before
