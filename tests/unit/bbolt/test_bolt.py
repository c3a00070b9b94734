"""The reader of bbolt databases, on databases made by hand."""

from __future__ import annotations

import random
import struct

import msgspec
import pytest

from auditor.bbolt import bolt, pages
from tests.unit.bbolt.bolt_files import PAGE, Tree, Writer, database, meta

TREE: Tree = {
    b"v1": {
        b"version": b"\x06",
        b"many": {f"{n:04}".encode(): {b"x": b"y" * n, b"in": {b"a": b"b"}} for n in range(40)},
        b"empty": {},
        b"large": {b"value": b"z" * 10_000},
    }
}


def tree_of(bucket: bolt.Bucket) -> Tree:
    return {key: tree_of(value) if isinstance(value, bolt.Bucket) else value for key, value in bucket.items()}


def within(tree: Tree, *path: bytes) -> Tree:
    for key in path:
        found = tree[key]
        assert isinstance(found, dict)
        tree = found
    return tree


def read(data: pages.Buffer) -> tuple[Tree, list[bolt.Lost]]:
    found = bolt.open_newest(data)
    assert found is not None
    walk = found[1]
    return tree_of(walk.top), walk.lost


@pytest.mark.parametrize("writer", [Writer(), Writer(split=3), Writer(inline=0)])
def test_reads_what_was_written(writer: Writer) -> None:
    assert read(database(TREE, writer=writer)) == (TREE, [])


def test_the_newest_valid_meta_page_is_used() -> None:
    data = database(TREE, txid=9)
    assert [(m.page, m.txid) for m in pages.metas(data)] == [(1, 9), (0, 8)]
    data[PAGE + 40] ^= 1
    assert [(m.page, m.txid) for m in pages.metas(data)] == [(0, 8)]
    data[40] ^= 1
    assert pages.metas(data) == ()
    assert bolt.open_newest(data) is None


@pytest.mark.parametrize("size", [4096, 16384, 65536])
def test_finds_meta_page_1_where_page_0_is_damaged(size: int) -> None:
    data = bytearray(size * 4)
    raw = meta(1, root=2, high=4, txid=3, size=size)
    data[size : size + len(raw)] = raw
    assert [(m.page, m.page_size, m.txid) for m in pages.metas(data)] == [(1, size, 3)]


def test_a_damaged_leaf_page_loses_its_bucket_only() -> None:
    writer = Writer()
    data = database(TREE, writer=writer)
    number = writer.named[b"v1", b"many", b"0007"]
    data[number * PAGE : (number + 1) * PAGE] = bytes(PAGE)
    found, lost = read(data)
    assert [(one.path, one.page) for one in lost] == [((b"v1", b"many", b"0007"), number)]
    assert (many := within(found, b"v1", b"many")).pop(b"0007") == {}
    expected = dict(within(TREE, b"v1", b"many"))
    del expected[b"0007"]
    assert many == expected


def test_a_cycle_ends() -> None:
    data = bytearray(PAGE * 4)
    for number, child in ((2, 3), (3, 2)):
        raw = struct.pack("<QHHI", number, 1, 1, 0) + struct.pack("<IIQ", 16, 1, child) + b"a"
        data[number * PAGE : number * PAGE + len(raw)] = raw
    walk = bolt.Walk(pages.Database(data, page_size=PAGE), 2)
    assert list(walk.top.items()) == []
    assert [one.reason for one in walk.lost] == ["page 2 is used twice"]


@pytest.mark.parametrize(
    ("offset", "raw", "reason"),
    [
        (0, b"\x09", "has the id"),
        (8, b"\x10", "has the type"),
        (10, b"\xff\xff", "more elements than fit"),
        (10, b"\x01", "not valid"),
        (10, b"\x03", "not valid"),
        (12, b"\xff", "runs past the end"),
        (16, b"\x07", "not valid"),
        (20, b"\xff\xff", "not valid"),
        (20, b"\x00\x00", "not valid"),
        (24, b"\xff\xff\xff", "not valid"),
        (28, b"\xff\xff\xff\x7f", "not valid"),
    ],
)
def test_refuses_a_page_that_is_not_valid(offset: int, raw: bytes, reason: str) -> None:
    data = database({b"a": b"1", b"b": b"2"})
    data[2 * PAGE + offset : 2 * PAGE + offset + len(raw)] = raw
    found, lost = read(data)
    assert found == {}
    assert len(lost) == 1
    assert reason in lost[0].reason


def test_elements_that_share_bytes_do_not_multiply_memory() -> None:
    count = 250
    heads = b"".join(struct.pack("<IIII", 0, 4064 - 16 * n, 8, 3000) for n in range(count))
    data = database({b"a": b"1"})
    raw = struct.pack("<QHHI", 2, 2, count, 0) + heads
    data[2 * PAGE : 2 * PAGE + len(raw)] = raw
    assert read(data)[0] == {}


def test_random_damage_never_raises() -> None:
    rng = random.Random(5)
    whole = database(TREE, writer=Writer(split=3))
    for _ in range(400):
        data = bytearray(whole)
        for _ in range(rng.choice((1, 4, 40))):
            data[rng.randrange(2 * PAGE, len(data))] = rng.randrange(256)
        del data[rng.choice((len(data), rng.randrange(2 * PAGE, len(data)))) :]
        read(data)


def with_freelist(page: int, raw: bytes) -> tuple[bytes, pages.Meta]:
    data = bytes(6 * PAGE)
    data = data[: page * PAGE] + raw + data[page * PAGE + len(raw) :]
    return data, pages.Meta(page=0, page_size=PAGE, root=3, high_water=6, txid=1, freelist=page)


def freelist(number: int, kind: int, count: int, *ids: int) -> bytes:
    return struct.pack("<QHHI", number, kind, count, 0) + struct.pack(f"<{len(ids)}Q", *ids)


@pytest.mark.parametrize(
    ("raw", "fault"),
    [
        (freelist(4, 16, 2, 2, 5), ""),
        (freelist(4, 16, 0xFFFF, 1, 5), ""),
        (freelist(4, 16, 0), ""),
        (freelist(5, 16, 0), "is not a freelist"),
        (freelist(4, 2, 0), "is not a freelist"),
        (freelist(4, 16, 600), "more elements than fit"),
        (freelist(4, 16, 0xFFFF, 1 << 60), "more elements than fit"),
        (freelist(4, 16, 1, 6), "lists page 6"),
        (freelist(4, 16, 1, 1), "lists page 1"),
    ],
)
def test_a_freelist(raw: bytes, fault: str) -> None:
    found = pages.freelist_fault(*with_freelist(4, raw))
    assert (fault in found) if fault else not found


@pytest.mark.parametrize("page", [0, 6, 1 << 40])
def test_a_freelist_outside_the_database(page: int) -> None:
    data, found = with_freelist(4, b"")
    assert "outside" in pages.freelist_fault(data, msgspec.structs.replace(found, freelist=page))


def test_keys_that_overlap_are_refused() -> None:
    """Some elements that name one large key each would take a multiple of the file in memory."""
    count, size = 200, 3000
    heads = b"".join(struct.pack("<IIQ", count * 16 - n * 16, size + n, 2) for n in range(count))
    raw = struct.pack("<QHHI", 2, 1, count, 1) + heads
    data = bytes(2 * PAGE) + raw.ljust(2 * PAGE, b"k")
    found = pages.Database(data, page_size=PAGE)
    with pytest.raises(pages.PageDamaged):
        found.children(found.page(2))


def test_pages_that_overlap_are_read_once() -> None:
    others = [struct.pack("<QHHI", n, 2, 0, 7 - n).ljust(PAGE, b"\0") for n in range(3, 8)]
    heads = b"".join(struct.pack("<IIQ", 5 * 16 + n - n * 16, 1, 3 + n) for n in range(5))
    top = struct.pack("<QHHI", 2, 1, 5, 0) + heads + b"abcde"
    walk = bolt.Walk(pages.Database(bytes(2 * PAGE) + top.ljust(PAGE, b"\0") + b"".join(others), page_size=PAGE), 2)
    assert list(walk.top.items()) == []
    assert walk.visited == {2, 3}
    assert [lost.reason for lost in walk.lost] == [f"page {n} overlaps another page" for n in range(4, 8)]
