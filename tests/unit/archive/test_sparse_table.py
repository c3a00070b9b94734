"""Sparse files of the PAX kind, a row for each rule of their records and maps: whole results are compared."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from auditor.archive.sparse import MAX_HOLES, Extent, Sparse, SparseError, check, expand, parse, read_map

MANY = 100_000
MIB = 1 << 20
SIZE, NAME = ("GNU.sparse.size", "10"), ("GNU.sparse.name", "n")
MAJOR, MINOR = ("GNU.sparse.major", "1"), ("GNU.sparse.minor", "0")


def held(offset: object, length: object) -> tuple[tuple[str, str], tuple[str, str]]:
    """An extent of format 0.0."""
    return ("GNU.sparse.offset", str(offset)), ("GNU.sparse.numbytes", str(length))


def mapped(text: str) -> tuple[str, str]:
    """The map of format 0.1."""
    return ("GNU.sparse.map", text)


PARSED: dict[str, tuple[list[tuple[str, str]], Sparse]] = {
    "0.0": ([SIZE, NAME, *held(0, 2), *held(5, 1)], Sparse(10, "n", ((0, 2), (5, 1)))),
    "0.0 without extents": ([SIZE, NAME], Sparse(10, "n", ())),
    "0.1": ([SIZE, NAME, ("GNU.sparse.minor", "1"), mapped("0,2,5,1")], Sparse(10, "n", ((0, 2), (5, 1)))),
    "0.1 without extents": ([SIZE, mapped("")], Sparse(10, "", ())),
    "0.1 has a map, which counts": ([SIZE, *held(0, 2), mapped("5,1")], Sparse(10, "", ((5, 1),))),
    "1.0": ([MAJOR, MINOR, ("GNU.sparse.realsize", "10"), NAME], Sparse(10, "n", None)),
    "1.0 without a minor number": ([MAJOR, ("GNU.sparse.realsize", "10")], Sparse(10, "", None)),
    "1.0 with the size of 0.1": ([MAJOR, SIZE], Sparse(10, "", None)),
    "1.0 with both sizes": ([MAJOR, SIZE, ("GNU.sparse.realsize", "7")], Sparse(7, "", None)),
    "1.0 with an empty size": ([MAJOR, SIZE, ("GNU.sparse.realsize", "")], Sparse(10, "", None)),
    "other records": (
        [SIZE, ("path", "p"), ("x.GNU.sparse.name", "y"), ("offset", "1"), ("numbytes", "2")],
        Sparse(10, "", ()),
    ),
    "a size of nineteen digits": ([("GNU.sparse.size", "9" * 19)], Sparse(int("9" * 19), "", ())),
    "as many extents as are read": ([SIZE, mapped(",".join(["0"] * 2 * MANY))], Sparse(10, "", ((0, 0),) * MANY)),
}


@pytest.mark.parametrize(("records", "found"), PARSED.values(), ids=PARSED)
def test_records(records: list[tuple[str, str]], found: Sparse) -> None:
    assert parse(records) == found


REFUSED: dict[str, tuple[list[tuple[str, str]], str]] = {
    "no size": ([NAME], "'' is no number of bytes"),
    "a size with a sign": ([("GNU.sparse.size", "+1")], "'+1' is no number of bytes"),
    "a size in the digits of another script": ([("GNU.sparse.size", "٣")], "'٣' is no number of bytes"),
    "a size with an underscore": ([("GNU.sparse.size", "1_0")], "'1_0' is no number of bytes"),
    "a size of twenty digits": ([("GNU.sparse.size", "1" * 20)], f"'{'1' * 20}' is no number of bytes"),
    "a long size, shown in part": ([("GNU.sparse.size", "x" * 50)], f"'{'x' * 40}' is no number of bytes"),
    "0.2": ([SIZE, ("GNU.sparse.minor", "2")], "its format 0.2 is unknown"),
    "1.1": ([SIZE, MAJOR, ("GNU.sparse.minor", "1")], "its format 1.1 is unknown"),
    "2.0": ([SIZE, ("GNU.sparse.major", "2")], "its format 2.0 is unknown"),
    "a long format, shown in part": (
        [SIZE, ("GNU.sparse.major", "x" * 50)],
        f"its format {'x' * 40} is unknown",
    ),
    "an extent without a length": ([SIZE, *held(0, 2), ("GNU.sparse.offset", "5")], "its map is damaged"),
    "a map of three numbers": ([SIZE, mapped("0,2,5")], "its map is damaged"),
    "a map with an empty number": ([SIZE, mapped("0,")], "'' is no number of bytes"),
    "an extent that is no number": ([SIZE, *held("a", 2)], "'a' is no number of bytes"),
    "an extent more than are read": ([SIZE, mapped(",".join(["0"] * 2 * (MANY + 1)))], "its map is damaged"),
}


@pytest.mark.parametrize(("records", "message"), REFUSED.values(), ids=REFUSED)
def test_records_that_are_refused(records: list[tuple[str, str]], message: str) -> None:
    with pytest.raises(SparseError) as refused:
        parse(records)
    assert str(refused.value) == message


def lines(*numbers: object) -> bytes:
    return b"".join(b"%d\n" % number if isinstance(number, int) else str(number).encode() for number in numbers)


def blocks(data: bytes) -> Iterator[bytes]:
    """The data in blocks, the last one padded."""
    for at in range(0, len(data), 512):
        yield data[at : at + 512].ljust(512, b"\0")


LARGE = int("1" * 19)
MAPS: dict[str, tuple[bytes, tuple[Extent, ...], int]] = {
    "no extent": (lines(0), (), 512),
    "one": (lines(1, 0, 4), ((0, 4),), 512),
    "two": (lines(2, 0, 4, 9, 1), ((0, 4), (9, 1)), 512),
    "a map of one block": (lines(13, *[LARGE] * 25, 22222222), ((LARGE, LARGE),) * 12 + ((LARGE, 22222222),), 512),
    "a map over two blocks, cut in a number": (
        lines(100, *[1000, 2000] * 100),
        ((1000, 2000),) * 100,
        1024,
    ),
    "what follows the map in its last block": (lines(1, 0, 4) + b"9\n9\n", ((0, 4),), 512),
    "numbers of nineteen digits": (
        lines(64, *[LARGE] * 128),
        ((LARGE, LARGE),) * 64,
        3072,
    ),
}


@pytest.mark.parametrize(("data", "extents", "taken"), MAPS.values(), ids=MAPS)
def test_maps(data: bytes, extents: tuple[Extent, ...], taken: int) -> None:
    given = blocks(data + bytes(2048))
    assert read_map(lambda: next(given)) == (extents, taken)


BAD_MAPS = {
    "no count": (b"", "its map has no count"),
    "a count without an end": (b"1" * 512, "its map has no count"),
    "a count that is no number": (b"x\n", "'x' is no number of bytes"),
    "an extent more than are read": (lines(MANY + 1), f"its map has more than {MANY} extents"),
    "an offset below zero": (lines(1, "-4\n", 4), "'-4' is no number of bytes"),
    "two numbers in a line": (lines(1, "0 4\n", 4), "'0 4' is no number of bytes"),
    "a length that is not UTF-8": (lines(1, 4) + b"\xff\n", "'ÿ' is no number of bytes"),
    "one block of numbers, which do not end": (lines(1, 0), "its map is longer than its count"),
    "two blocks of numbers, which do not end": (lines(13, *[0] * 25), "its map is longer than its count"),
}


@pytest.mark.parametrize(("data", "message"), BAD_MAPS.values(), ids=BAD_MAPS)
def test_maps_that_are_refused(data: bytes, message: str) -> None:
    given = blocks(data + bytes(4096))
    with pytest.raises(SparseError) as refused:
        read_map(lambda: next(given))
    assert str(refused.value) == message


@pytest.mark.parametrize(("count", "left"), [(12, 8), (13, 7)])
def test_a_map_is_read_no_further_than_its_numbers_can_take(count: int, left: int) -> None:
    """A number of 19 digits and its newline take 20 bytes; 25 lines fit into a block."""
    given = blocks(lines(count, *[0] * (2 * count - 1)) + bytes(4096))
    with pytest.raises(SparseError):
        read_map(lambda: next(given))
    assert len(list(given)) == left


def test_the_largest_map_is_read() -> None:
    given = blocks(lines(MANY) + b"0\n" * 2 * MANY)
    assert read_map(lambda: next(given)) == (((0, 0),) * MANY, 400_384)


ORDER = "its map is out of order or leads out of the file"
CHECKED: dict[str, tuple[list[Extent], int, int, str]] = {
    "nothing": ([], 0, 0, ""),
    "a hole": ([], 9, 0, ""),
    "side by side, up to the end": ([(0, 4), (4, 5)], 9, 9, ""),
    "an empty extent at the end": ([(0, 4), (9, 0)], 9, 4, ""),
    "an extent inside the one before": ([(0, 4), (3, 1)], 9, 5, ORDER),
    "an extent before the one before": ([(5, 1), (0, 2)], 9, 3, ORDER),
    "a byte out of the file": ([(5, 5)], 9, 5, ORDER),
    "an empty extent out of the file": ([(10, 0)], 9, 0, ORDER),
    "less than is stored": ([(0, 4)], 9, 5, "its map has 4 bytes, and 5 are stored"),
    "more than is stored": ([(0, 2), (3, 2)], 9, 3, "its map has 4 bytes, and 3 are stored"),
    "as many holes as are read": ([(0, 1)], MAX_HOLES + 1, 1, ""),
    "a hole more": (
        [(0, 1)],
        MAX_HOLES + 2,
        1,
        f"it has {MAX_HOLES + 1} bytes of holes; more than {MAX_HOLES} are not read",
    ),
}


def fault(extents: list[Extent], size: int, stored: int) -> str:
    """What is wrong with a map; empty where nothing is."""
    try:
        check(extents, size=size, stored=stored)
    except SparseError as error:
        return str(error)
    return ""


@pytest.mark.parametrize(("extents", "size", "stored", "message"), CHECKED.values(), ids=CHECKED)
def test_extents(extents: list[Extent], size: int, stored: int, message: str) -> None:
    assert fault(extents, size, stored) == message


EXPANDED: dict[str, tuple[list[bytes], list[Extent], int, list[bytes]]] = {
    "nothing": ([], [], 0, []),
    "a hole": ([], [], 3, [b"\0\0\0"]),
    "no hole": ([b"abc"], [(0, 3)], 3, [b"abc"]),
    "holes before, between and behind": (
        [b"abcd"],
        [(1, 2), (5, 2)],
        9,
        [b"\0", b"ab", b"\0\0", b"cd", b"\0\0"],
    ),
    "an extent in two pieces, a piece in two extents": (
        [b"a", b"bc", b"d"],
        [(0, 2), (3, 2)],
        6,
        [b"a", b"b", b"\0", b"c", b"d", b"\0"],
    ),
    "an empty extent": ([b"a"], [(0, 1), (3, 0)], 4, [b"a", b"\0\0", b"\0"]),
    "more is stored than the extents hold": ([b"ab", b"c"], [(0, 1)], 2, [b"a", b"\0"]),
    "what is stored ends early": ([b"a"], [(1, 2), (5, 1)], 9, [b"\0", b"a"]),
    "a large hole": ([b"a"], [(MIB + 2, 1)], MIB + 3, [bytes(MIB), b"\0\0", b"a"]),
    "a hole of one mebibyte": ([b"a"], [(MIB, 1)], MIB + 1, [bytes(MIB), b"a"]),
}


@pytest.mark.parametrize(("stored", "extents", "size", "pieces"), EXPANDED.values(), ids=EXPANDED)
def test_the_file(stored: list[bytes], extents: list[Extent], size: int, pieces: list[bytes]) -> None:
    assert [bytes(piece) for piece in expand(map(memoryview, stored), extents, size)] == pieces
