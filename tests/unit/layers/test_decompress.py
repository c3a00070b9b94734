"""What a layer's bytes decompress to, and every way in which they do not."""

from __future__ import annotations

import gzip
import random
import tracemalloc

import pytest
from backports import zstd
from hypothesis import given, settings
from hypothesis import strategies as st

from auditor.layers import LayerInspector, verifiable
from auditor.model.digest import EMPTY, Digest
from auditor.model.store import LayerVerification, LayerVerificationKind
from tests.unit.tars import tar

CONTENT = tar({"etc/passwd": b"root:x:0:0\n" * 40, "bin/sh": random.Random(1).randbytes(3000)})
DIFF_ID = Digest.of(CONTENT)


def packed(data: bytes) -> bytes:
    """Gzip that is the same bytes each time."""
    return gzip.compress(data, mtime=0)


SKIPPABLE = b"\x5e\x2a\x4d\x18" + (4).to_bytes(4, "little") + b"toc!"


def inspect(data: bytes, *, step: int = 1 << 20, max_size: int | None = None) -> LayerVerification:
    inspector = LayerInspector(max_size=max_size)
    for at in range(0, len(data), step):
        inspector.update(data[at : at + step])
    return inspector.finish()


def members(data: bytes, size: int) -> bytes:
    return b"".join(packed(data[at : at + size]) for at in range(0, len(data), size))


def frames(data: bytes, size: int) -> bytes:
    return b"".join(zstd.compress(data[at : at + size]) for at in range(0, len(data), size))


FORMS = {
    "plain": (CONTENT, "none"),
    "gzip": (packed(CONTENT), "gzip"),
    "gzip with a name": (
        packed(CONTENT)[:3] + b"\x08" + packed(CONTENT)[4:10] + b"name\0" + packed(CONTENT)[10:],
        "gzip",
    ),
    "gzip of many members": (members(CONTENT, 700), "gzip"),
    "gzip with an empty member last, as estargz has": (packed(CONTENT) + packed(b""), "gzip"),
    "zstd": (zstd.compress(CONTENT), "zstd"),
    "zstd of many frames": (frames(CONTENT, 700), "zstd"),
    "zstd:chunked, a skippable frame last": (zstd.compress(CONTENT) + SKIPPABLE, "zstd"),
    "a skippable frame first": (SKIPPABLE + zstd.compress(CONTENT), "zstd"),
}


@pytest.mark.parametrize("step", [1, 7, 4096, 1 << 20])
@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_a_layer_has_the_same_diff_id_however_it_arrives(form: str, step: int) -> None:
    data, compression = FORMS[form]
    verification = inspect(data, step=step)
    assert verification == LayerVerification(
        kind=LayerVerificationKind.SOUND, diff_id=DIFF_ID, size=len(CONTENT), detail="", compression=compression
    )


@pytest.mark.parametrize("form", [form for form in FORMS if form != "plain"])
def test_cut_at_any_byte_a_layer_never_passes_for_the_whole(form: str) -> None:
    data, _ = FORMS[form]
    for end in range(len(data)):
        verification = inspect(data[:end])
        assert (
            verification.kind is not LayerVerificationKind.SOUND
            or verification.diff_id != DIFF_ID
            or end in _whole(form)
        ), end


def _whole(form: str) -> set[int]:
    """Where a cut leaves out nothing but an empty end."""
    ends = {
        "gzip with an empty member last, as estargz has": len(packed(CONTENT)),
        "zstd:chunked, a skippable frame last": len(zstd.compress(CONTENT)),
    }
    return {ends[form]} if form in ends else set()


@settings(max_examples=200)
@given(form=st.sampled_from(sorted(FORMS)), data=st.data())
def test_a_flipped_bit_never_passes_for_the_whole_unseen(form: str, data: st.DataObject) -> None:
    good, _ = FORMS[form]
    bit = data.draw(st.integers(0, len(good) * 8 - 1))
    bad = bytearray(good)
    bad[bit // 8] ^= 1 << bit % 8
    verification = inspect(bytes(bad))
    # Some bits say nothing about the content: a gzip header's time, a skippable frame's bytes.
    if verification.kind is LayerVerificationKind.SOUND and verification.diff_id == DIFF_ID:
        assert _decompressed(bytes(bad)) == CONTENT


def _decompressed(data: bytes) -> bytes:
    return gzip.decompress(data) if data.startswith(b"\x1f\x8b") else zstd.decompress(data)


@pytest.mark.parametrize(
    ("data", "detail"),
    [
        (packed(CONTENT)[:-9], "truncated: it ends after"),
        (packed(CONTENT)[:-1], "truncated: it ends after"),
        (packed(CONTENT)[:5], "truncated: it ends after 5 bytes, inside a gzip member"),
        (zstd.compress(CONTENT)[:-1], "inside a zstd frame"),
        (SKIPPABLE[:-1], "inside a zstd frame"),
        (packed(CONTENT) + bytes(12), "12 zero bytes behind the last gzip member"),
        (packed(CONTENT) + bytes(1), "1 zero byte behind the last gzip member"),
        (packed(CONTENT) + b"\x1f\x8b\x08", "3 bytes of garbage behind the last gzip member"),
        (packed(CONTENT) + b"garbage" * 50000, "350000 bytes of garbage behind the last gzip member"),
        (zstd.compress(CONTENT) + b"xy", "2 bytes of garbage behind the last zstd frame"),
        (zstd.compress(CONTENT) + bytes(900), "900 zero bytes behind the last zstd frame"),
        (packed(CONTENT)[:-8] + b"\0\0\0\0" + packed(CONTENT)[-4:], "a gzip checksum does not match"),
        (b"\x1f\x8b\x08" + bytes(7) + b"\xff" * 90, "its gzip data cannot be decoded beyond byte"),
        (b"BZh91AY&SY" + bytes(600), "it is compressed with bzip2, which containerd does not read"),
        (b"\x1f\x8b", "the tar is cut off inside a header at byte 0"),
        (b"no layer at all" * 100, "not a readable tar: no valid header at byte 0"),
    ],
)
def test_what_cannot_be_decoded_says_how(data: bytes, detail: str) -> None:
    verification = inspect(data)
    assert verification.kind is LayerVerificationKind.UNDECODABLE
    assert detail in verification.detail


def test_an_empty_gzip_and_an_empty_blob_are_empty_layers_and_nothing_else() -> None:
    # What they are not is the wanted diffID; containerd takes both for an empty layer too.
    assert inspect(packed(b"")).diff_id == EMPTY
    assert inspect(b"").diff_id == EMPTY


def test_a_bomb_is_stopped_at_the_limit_and_never_held() -> None:
    bomb = packed(bytes(64 << 20))
    tracemalloc.start()
    verification = inspect(bomb, max_size=32 << 20)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert verification.kind is LayerVerificationKind.UNVERIFIABLE
    assert "more than the 33554432 bytes allowed" in verification.detail
    assert verification.diff_id is None
    assert peak < 8 << 20


def test_a_limit_that_is_reached_and_not_passed_stops_nothing() -> None:
    assert inspect(packed(CONTENT), max_size=len(CONTENT)).kind is LayerVerificationKind.SOUND


def test_a_zstd_window_over_containerds_limit_cannot_be_decompressed() -> None:
    options: dict[int, int] = {zstd.CompressionParameter.window_log: 28}
    compressor = zstd.ZstdCompressor(options=options)
    verification = inspect(compressor.compress(CONTENT) + compressor.flush())
    assert verification.kind is LayerVerificationKind.UNDECODABLE
    assert verification.detail == "its zstd window is larger than the 128 MiB that containerd accepts"


def test_a_zstd_window_of_containerds_limit_is_decompressed() -> None:
    options: dict[int, int] = {zstd.CompressionParameter.window_log: 27}
    compressor = zstd.ZstdCompressor(options=options)
    assert inspect(compressor.compress(CONTENT) + compressor.flush()).kind is LayerVerificationKind.SOUND


@pytest.mark.parametrize(
    ("media_type", "reason"),
    [
        ("application/vnd.oci.image.layer.v1.tar", None),
        ("application/vnd.oci.image.layer.v1.tar+gzip", None),
        ("application/vnd.oci.image.layer.v1.tar+zstd", None),
        ("application/vnd.oci.image.layer.nondistributable.v1.tar+gzip", None),
        ("application/vnd.docker.image.rootfs.diff.tar", None),
        ("application/vnd.docker.image.rootfs.diff.tar.gzip", None),
        ("application/vnd.docker.image.rootfs.diff.tar.zstd", None),
        ("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", None),
        ("application/vnd.oci.image.layer.v1.tar+gzip+encrypted", "its bytes are encrypted"),
        ("application/vnd.oci.image.layer.nydus.blob.v1", "is not a type of a tar layer"),
        ("application/wasm", "is not a type of a tar layer"),
        ("", "it has no media type"),
    ],
)
def test_only_layers_that_are_tars_are_measured_against_a_diff_id(media_type: str, reason: str | None) -> None:
    found = verifiable(media_type)
    assert found is None if reason is None else reason in (found or "")
