"""Proving blobs: what each way of being wrong is called, and what is never called wrong."""

from __future__ import annotations

import gzip
import random
import threading
import time
from collections.abc import Iterator
from contextlib import closing

import pytest
from backports import zstd
from hypothesis import given
from hypothesis import strategies as st

from auditor.errors import NoRecord, ReadFailed, StoreUnreachable
from auditor.model.digest import EMPTY, Digest
from auditor.model.store import LayerVerificationKind, Store, Verification, VerificationKind
from auditor.scrub import Target, targets_of, verify_blobs
from auditor.scrub.damage import TRIED, flipped_bit
from tests.unit.fakes import Damage, Damaged, MemoryStore
from tests.unit.tars import tar


def packed(data: bytes) -> bytes:
    """Gzip that is the same bytes each time."""
    return gzip.compress(data, mtime=0)


RANDOM = random.Random(4)
LAYER = packed(tar({"bin/sh": RANDOM.randbytes(60_000)}))
ZSTD = zstd.compress(tar({"bin/sh": RANDOM.randbytes(60_000)}))
OTHER = packed(tar({"bin/sh": RANDOM.randbytes(60_000)}))
CONFIG = b'{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}' * 3
PLAIN = tar({"etc/hosts": b"127.0.0.1 localhost\n" * 2000, "zeros": bytes(30_000)})


def all_targets(store: Store, *layers: Digest) -> list[Target]:
    return targets_of((store.inventory(name) for name in store.namespaces()), layers=dict.fromkeys(layers))


def verifications(
    store: Store, *layers: Digest, jobs: int = 2, max_layer: int | None = None
) -> dict[Digest, Verification]:
    targets = all_targets(store, *layers)
    known = {target.digest for target in targets}
    found = list(verify_blobs(store, targets, jobs=jobs, layers=bool(layers), known=known, max_layer=max_layer))
    assert len(found) == len({verification.digest for verification in found})
    return {verification.digest: verification for verification in found}


def damaged(data: bytes, into: bytes) -> Verification:
    """The verification of a blob `data` whose file holds `into`, beside a sound one."""
    store = MemoryStore()
    sound = store.add(b"sound")
    digest = store.add(data)
    store.content[digest] = into
    found = verifications(store)
    assert found[sound].kind is VerificationKind.SOUND
    return found[digest]


def test_sound_blobs_are_read_once_and_over_all_namespaces_once() -> None:
    store = MemoryStore()
    digests = {store.add(data, "default", "k8s.io") for data in (LAYER, CONFIG, PLAIN, b"")}
    digests.add(store.add(CONFIG + b" ", digest=Digest.of(CONFIG + b" ", algorithm="sha512")))
    found = verifications(store)
    assert {digest: verification.kind for digest, verification in found.items()} == dict.fromkeys(
        digests, VerificationKind.SOUND
    )
    assert len(store.streamed) == len(digests)
    assert not any(fresh for _, _, fresh in store.streamed)


def flip(data: bytes, at: int, bit: int = 0) -> bytes:
    changed = bytearray(data)
    changed[at] ^= 1 << bit
    return bytes(changed)


@pytest.mark.parametrize(
    ("data", "into", "detail"),
    [
        (LAYER, b"", "empty"),
        (CONFIG, b"", "empty"),
        (LAYER, LAYER[:-1], "shortened by 1 byte, to"),
        (LAYER, LAYER[:4096], f"shortened by {len(LAYER) - 4096} bytes, to 4096"),
        (LAYER, LAYER + b"\0", f"longer by 1 byte: they follow the right {len(LAYER)}"),
        (LAYER, flip(LAYER, 100) + b"xy", "longer by 2 bytes"),
        (LAYER, LAYER[:8192] + bytes(len(LAYER) - 8192), "zero-filled from byte 8192 to the end"),
        (LAYER, bytes(len(LAYER)), "all zeros"),
        (LAYER, LAYER[:8192] + bytes(4096) + LAYER[12288:], "zeros from byte 8192 to byte 12288"),
        (LAYER, bytes(4096) + LAYER[4096:], "zeros from byte 0 to byte 4096"),
        (LAYER, LAYER[:20_000] + bytes(8192) + LAYER[28_192:], "zeros from byte 20000 to byte 28192"),
        (CONFIG, flip(CONFIG, 0), "one bit differs: bit 0 of byte 0"),
        (CONFIG, flip(CONFIG, 77, 6), "one bit differs: bit 6 of byte 77"),
        (CONFIG, flip(flip(CONFIG, 7), 9), "other bytes of the same length"),
        (LAYER, flip(LAYER, len(LAYER) // 2), "other bytes of the same length; "),
        (LAYER, flip(LAYER, len(LAYER) - 1), "a gzip checksum does not match"),
        (ZSTD, flip(ZSTD, len(ZSTD) // 2), "other bytes of the same length, which still decompress to a tar"),
        (PLAIN, flip(PLAIN, 1500), "other bytes of the same length"),
    ],
)
def test_how_the_bytes_are_wrong_is_said_where_it_can_be_told(data: bytes, into: bytes, detail: str) -> None:
    verification = damaged(data, into)
    assert (verification.kind, verification.size, verification.actual) == (
        VerificationKind.CORRUPT,
        len(into),
        Digest.of(into),
    )
    assert detail in verification.detail


def test_a_swap_names_whose_bytes_they_are() -> None:
    store = MemoryStore()
    one, two = store.add(LAYER), store.add(OTHER)
    store.content[one], store.content[two] = OTHER, LAYER
    found = verifications(store)
    assert found[one].detail == f"these are the bytes of {two}"
    assert found[two].detail == f"these are the bytes of {one}"


def named(packed: bytes, length: int) -> bytes:
    """The same gzip, brought to a length by a name in its header."""
    name = b"n" * (length - len(packed) - 1) + b"\0"
    return packed[:3] + b"\x08" + packed[4:10] + name + packed[10:]


def test_another_layer_that_nobody_knows_is_told_from_damage() -> None:
    stranger = named(packed(tar({"bin/sh": RANDOM.randbytes(59_800)})), len(LAYER))
    assert damaged(LAYER, stranger).detail == "another layer of the same length, undamaged in itself"


def test_zeros_that_may_belong_to_a_tar_are_told_without_blame() -> None:
    assert damaged(PLAIN, flip(PLAIN, 1500)).detail.startswith("other bytes of the same length; zeros from byte")


def test_wrong_once_and_right_past_the_cache_is_unsteady_and_keeps_the_first_digest() -> None:
    store = MemoryStore()
    digest = store.add(LAYER)

    def once(before: int, _: Digest, pieces: Iterator[bytes]) -> Iterator[bytes]:
        for piece in pieces:
            yield flip(piece, 0) if not before else piece

    verification = verifications(Damaged(store, once), digest)[digest]
    assert verification.kind is VerificationKind.UNSTEADY
    assert verification.detail.startswith(f"the first reading gave {len(LAYER)} bytes that hash to sha256:")
    assert verification.layer is not None
    assert verification.layer.kind is LayerVerificationKind.SOUND
    assert [fresh for _, _, fresh in store.streamed] == [False, True]


def test_two_wrong_readings_that_differ_say_so() -> None:
    store = MemoryStore()
    digest = store.add(CONFIG * 50)

    def ever_else(before: int, _: Digest, pieces: Iterator[bytes]) -> Iterator[bytes]:
        return (flip(piece, before) for piece in pieces)

    verification = verifications(Damaged(store, ever_else))[digest]
    assert verification.kind is VerificationKind.CORRUPT
    assert "two readings differ from each other" in verification.detail


def failing(*times: int) -> Damage:
    def fail(before: int, digest: Digest, pieces: Iterator[bytes]) -> Iterator[bytes]:
        yield next(pieces)
        if before in times:
            raise ReadFailed(f"cannot read {digest}: Input/output error")
        yield from pieces

    return fail


def test_unreadable_twice_is_neither_sound_nor_corrupt_and_has_the_systems_words() -> None:
    store = MemoryStore()
    digest = store.add(LAYER)
    verification = verifications(Damaged(store, failing(0, 1)))[digest]
    assert (verification.kind, verification.detail, verification.actual) == (
        VerificationKind.UNREADABLE,
        "Input/output error",
        None,
    )


def test_unreadable_once_is_unsteady() -> None:
    store = MemoryStore()
    digest = store.add(LAYER)
    verification = verifications(Damaged(store, failing(0)))[digest]
    assert (verification.kind, verification.detail) == (
        VerificationKind.UNSTEADY,
        "the first reading failed: Input/output error",
    )


def test_one_wrong_and_one_failed_reading_are_settled_by_a_third() -> None:
    store = MemoryStore()
    digest = store.add(LAYER)
    store.content[digest] = flip(LAYER, 50)
    assert verifications(Damaged(store, failing(0)))[digest].kind is VerificationKind.CORRUPT
    assert verifications(Damaged(store, failing(1)))[digest].kind is VerificationKind.CORRUPT
    assert verifications(Damaged(store, failing(1, 2)))[digest].kind is VerificationKind.UNREADABLE


def test_a_blob_collected_meanwhile_is_gone_and_no_fault() -> None:
    store = MemoryStore()
    targets = [Target(store.add(LAYER), len(LAYER), ("default",))]
    store.drop_record("default", targets[0].digest)
    assert [verification.kind for verification in verify_blobs(store, targets, jobs=1)] == [VerificationKind.GONE]


def test_a_record_that_goes_in_the_middle_is_read_through_another_namespace() -> None:
    store = MemoryStore()
    digest = store.add(LAYER, "default", "k8s.io")

    def collected(before: int, digest: Digest, pieces: Iterator[bytes]) -> Iterator[bytes]:
        yield next(pieces)
        if not before:
            raise NoRecord(f"no record of {digest}")
        yield from pieces

    assert verifications(Damaged(store, collected))[digest].kind is VerificationKind.SOUND
    assert [namespace for namespace, _, _ in store.streamed] == ["default", "k8s.io"]


def test_a_record_without_a_file_is_missing() -> None:
    store = MemoryStore()
    digest = store.add(LAYER)
    del store.content[digest]
    assert verifications(store)[digest].kind is VerificationKind.MISSING


def test_layers_are_decompressed_and_the_others_are_not() -> None:
    store = MemoryStore()
    good, config, garbage = store.add(LAYER), store.add(CONFIG), store.add(b"no tar at all" * 99)
    found = verifications(store, good, garbage)
    assert found[config].layer is None
    sound, wrong = found[good].layer, found[garbage].layer
    assert sound is not None
    assert (sound.kind, sound.diff_id) == (LayerVerificationKind.SOUND, Digest.of(gzip.decompress(LAYER)))
    assert wrong is not None
    assert (found[garbage].kind, wrong.kind) == (VerificationKind.SOUND, LayerVerificationKind.UNDECODABLE)


def test_an_encrypted_layer_is_hashed_and_its_content_said_to_be_unverifiable() -> None:
    store = MemoryStore()
    digest = store.add(b"\x99" * 700)
    (target,) = targets_of([store.inventory("default")], layers={digest: "its bytes are encrypted"})
    (verification,) = verify_blobs(store, [target], jobs=1, layers=True)
    assert verification.kind is VerificationKind.SOUND
    assert verification.layer is not None
    assert (verification.layer.kind, verification.layer.detail) == (
        LayerVerificationKind.UNVERIFIABLE,
        "its bytes are encrypted",
    )


def test_a_bound_on_layers_makes_a_bomb_unverifiable() -> None:
    store = MemoryStore()
    digest = store.add(packed(bytes(8 << 20)))
    layer = verifications(store, digest, max_layer=1 << 20)[digest].layer
    assert layer is not None
    assert layer.kind is LayerVerificationKind.UNVERIFIABLE


def test_the_store_failing_ends_the_run_and_keeps_what_was_proven() -> None:
    store = MemoryStore()
    for number in range(20):
        store.add(b"%d" % number * 9)
    lock, opened = threading.Lock(), []

    def dying(_: int, digest: Digest, pieces: Iterator[bytes]) -> Iterator[bytes]:
        with lock:
            opened.append(digest)
            if len(opened) > 5:
                raise StoreUnreachable("containerd went away")
        return pieces

    kept: list[Verification] = []
    with pytest.raises(StoreUnreachable):
        kept.extend(verify_blobs(Damaged(store, dying), all_targets(store), jobs=2))
    assert len(kept) == 5
    assert all(verification.kind is VerificationKind.SOUND for verification in kept)
    assert len(opened) <= 7


def test_a_fault_of_ours_in_a_thread_is_not_swallowed() -> None:
    store = MemoryStore()
    store.add(LAYER)

    def bug(_: int, __: Digest, ___: Iterator[bytes]) -> Iterator[bytes]:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        list(verify_blobs(Damaged(store, bug), all_targets(store), jobs=2))


def endless(_: int, __: Digest, pieces: Iterator[bytes]) -> Iterator[bytes]:
    yield from pieces
    while True:
        time.sleep(0.001)
        yield bytes(10)


def test_an_event_ends_the_run_between_two_pieces() -> None:
    store = MemoryStore()
    store.add(LAYER)
    store.add(OTHER)
    read = threading.Semaphore(0)
    over = threading.Event()

    def end_after_some() -> None:
        for _ in range(40):
            read.acquire()
        over.set()

    threading.Thread(target=end_after_some).start()
    found = verify_blobs(
        Damaged(store, endless), all_targets(store), jobs=2, over=over.is_set, on_bytes=lambda _: read.release()
    )
    assert list(found) == []


def test_closing_the_iterator_stops_the_threads() -> None:
    store = MemoryStore()
    store.add(b"first")
    store.add(LAYER)
    targets = sorted(all_targets(store), key=lambda target: target.size)

    def then_endless(before: int, digest: Digest, pieces: Iterator[bytes]) -> Iterator[bytes]:
        return endless(before, digest, pieces) if digest == Digest.of(LAYER) else pieces

    before = threading.active_count()
    with closing(verify_blobs(Damaged(store, then_endless), targets, jobs=2)) as found:
        assert next(found).digest == Digest.of(b"first")
    assert threading.active_count() == before


def test_bytes_and_starts_are_told() -> None:
    store = MemoryStore()
    store.add(LAYER)
    store.add(CONFIG)
    counts: list[int] = []
    started: list[Target] = []
    targets = all_targets(store)
    list(verify_blobs(store, targets, jobs=2, on_bytes=counts.append, on_start=started.append))
    assert sum(counts) == len(LAYER) + len(CONFIG)
    assert started == targets


@given(st.binary(min_size=1, max_size=60), st.data())
def test_the_flipped_bit_of_a_small_blob_is_always_found(data: bytes, draw: st.DataObject) -> None:
    at = draw.draw(st.integers(0, len(data) - 1))
    bit = draw.draw(st.integers(0, 7))
    assert flipped_bit(flip(data, at, bit), Digest.of(data)) == (at, bit)


def test_bits_of_large_blobs_are_not_tried() -> None:
    data = b"{" + b"x" * TRIED
    assert damaged(data, flip(data, 5)).detail == "other bytes of the same length"


def test_the_digest_of_nothing_is_a_sound_empty_blob() -> None:
    store = MemoryStore()
    assert verifications(store, store.add(b""))[EMPTY].kind is VerificationKind.SOUND
