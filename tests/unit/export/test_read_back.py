"""Reading an archive back while it is written: what is found, who is blamed, and that nobody waits for ever."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from msgspec.structs import replace

from auditor.archive.layer_pipeline import SharedMeter
from auditor.archive.store import ArchiveStore
from auditor.errors import ExportRefused, OutputError, StoreUnreachable
from auditor.export.model import ExportPlan, PlannedBlob
from auditor.export.plan import plan
from auditor.export.read_back import ReadBack
from auditor.export.write import write_archive
from auditor.layers.threaded_meter import SMALL, ThreadedMeter
from auditor.model.digest import Digest, Meter
from auditor.model.image_graph import group
from auditor.model.store import LayerVerificationKind, Verification
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
    assert isinstance(caught.value.verification, Verification)  # type: ignore[attr-defined]
    assert not (tmp_path / "a").exists()
    assert sum(heard) < 2 * high.size


def untouched(blob: PlannedBlob) -> None:
    """The store's copy is right."""


def fed(made: ExportPlan, path: Path, data: bytes, *, meter: Meter | None = None, step: int = 1 << 20) -> None:
    """Write `data` to a file piece by piece while it is read back."""
    with path.open("wb") as file, ReadBack(made, path, reread=untouched, layers=True, meter=meter) as read_back:
        for at in range(0, len(data), step):
            file.write(data[at : at + step])
            file.flush()
            read_back.feed(len(data[at : at + step]))
        read_back.finish()


def written(made: ExportPlan, store: ArchiveStore, path: Path) -> bytes:
    write_archive(made, store, path, namespace="", tag=TAG)
    return path.read_bytes()


def test_a_file_is_read_back_and_hashed_while_it_grows(tmp_path: Path) -> None:
    store = store_of(archives.image(), tmp_path=tmp_path)
    made = recorded(store, lambda _: None)
    data = written(made, store, tmp_path / "a")
    meter = Meter()
    fed(made, tmp_path / "b", data, meter=meter, step=1000)
    assert meter.result().digest == Digest.of(data)


def test_a_file_that_is_not_what_was_planned_is_refused(tmp_path: Path) -> None:
    store = store_of(archives.image(), tmp_path=tmp_path)
    made = recorded(store, lambda _: None)
    data = written(made, store, tmp_path / "a")
    with pytest.raises(OutputError, match="without its end-of-archive marker"):
        fed(made, tmp_path / "b", data[:-1024])
    more = replace(made, blobs=made.blobs[1:])
    with pytest.raises(OutputError, match="other blobs too"):
        fed(more, tmp_path / "b", data)
    less = replace(made, blobs=(*made.blobs, replace(made.blobs[0], digest=Digest.of(b"absent"))))
    with pytest.raises(OutputError, match="is absent"):
        fed(less, tmp_path / "b", data)
    with pytest.raises(OutputError, match="names other images"):
        fed(replace(made, images=()), tmp_path / "b", data)
    wrong = replace(made, blobs=(replace(made.blobs[0], size=made.blobs[0].size + 1), *made.blobs[1:]))
    with pytest.raises(OutputError, match=f"{made.blobs[0].digest} is corrupt"):
        fed(wrong, tmp_path / "b", data)


def test_an_aborted_reader_ends_at_once(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.touch()
    made = recorded(store_of(archives.image(), tmp_path=tmp_path), lambda _: None)
    before = threading.active_count()
    with pytest.raises(KeyError), ReadBack(made, path, reread=untouched, layers=True):
        raise KeyError
    assert threading.active_count() == before


def test_the_writer_gets_the_error_of_the_reader(tmp_path: Path) -> None:
    made = recorded(store_of(archives.image(), tmp_path=tmp_path), lambda _: None)
    with ReadBack(made, tmp_path / "absent", reread=untouched, layers=True) as read_back:
        with pytest.raises(StoreUnreachable, match="No such file"):
            read_back.finish()
        with pytest.raises(StoreUnreachable, match="No such file"):
            read_back.feed(1)


def test_what_is_hashed_elsewhere_is_hashed_all_the_same() -> None:
    behind, plain = ThreadedMeter(), Meter()
    for number in range(20):
        for meter in (behind, plain):
            meter.update(bytes([number]) * 100_000)
    assert (behind.size, behind.result()) == (plain.size, plain.result())
    assert SharedMeter(plain).result() == plain.result()
    assert ThreadedMeter().result() == Meter().result()


@pytest.mark.parametrize(("size", "threads"), [(1, 0), (SMALL, 0), (SMALL + 1, 1)])
def test_no_thread_starts_for_few_bytes(size: int, threads: int) -> None:
    before = set(threading.enumerate())
    with closing(ThreadedMeter()) as meter:
        meter.update(bytes(size))
        assert len(set(threading.enumerate()) - before) == threads


@pytest.mark.parametrize("kilobytes", [8, 3000])
@pytest.mark.parametrize("kind", ["sound", "cut", "plain", "plain cut"])
def test_small_and_large_layers_come_out_the_same_and_leave_no_thread(kilobytes: int, kind: str) -> None:
    compression: images.Compression = "none" if kind.startswith("plain") else "gzip"
    good = images.layer(images.files("thread", kilobytes=kilobytes), compression=compression)
    blob = good.blob[: len(good.blob) // 2 + 100] if kind.endswith("cut") else good.blob
    built = images.image([images.raw_layer(blob, good.diff_id, compression=compression)])
    before = threading.active_count()
    store = archives.opened(archives.tar(archives.oci(built)))
    verification = store.verifications()[Digest(built.layers[0].digest)].layer
    assert verification is not None
    if kind.endswith("cut"):
        assert verification.kind is LayerVerificationKind.UNDECODABLE
    else:
        assert (verification.kind, verification.diff_id) == (LayerVerificationKind.SOUND, good.diff_id)
        assert verification.size == len(gzip.decompress(blob) if compression == "gzip" else blob)
    assert threading.active_count() == before
