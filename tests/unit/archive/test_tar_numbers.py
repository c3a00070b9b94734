"""Numbers in headers and records, one row a branch: the limits of 64 bits, both notations, and what is none."""

from __future__ import annotations

import pytest

from auditor.archive.tar_numbers import bad_field, bad_record, number
from tests.unit.tars import header

MOST, LEAST = (1 << 63) - 1, -(1 << 63)


def base256(value: int, length: int = 12) -> bytes:
    bits = 8 * length - 1
    return ((1 << bits) | (value & ((1 << bits) - 1))).to_bytes(length, "big")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        (b"0000644\0", 0o644),
        (b"777 \0", 0o777),
        (b"  12345 ", 0o12345),
        (b"10", 8),
        (b"\0" * 8, 0),
        (b" " * 8, 0),
        (b"17\0junk", 0o17),
        (b"89", None),
        (b"-1", None),
        (b"1_0", None),
        (b"12 x", None),
    ],
)
def test_octal_digits(field: bytes, value: int | None) -> None:
    assert number(field) == value


@pytest.mark.parametrize("length", [8, 12])
@pytest.mark.parametrize("value", [0, 1, 5, 255, 256, 1 << 40, -1, -2, -(1 << 40)])
def test_base_256(value: int, length: int) -> None:
    assert number(base256(value, length)) == value


@pytest.mark.parametrize(
    ("value", "read"), [(MOST, MOST), (LEAST, LEAST), (MOST + 1, None), (LEAST - 1, None), (1 << 90, None)]
)
def test_base_256_has_64_bits(value: int, read: int | None) -> None:
    assert number(base256(value)) == read


@pytest.mark.parametrize("length", [8, 12])
def test_the_sign_is_the_second_bit(length: int) -> None:
    largest = (1 << (8 * length - 2)) - 1
    if length == 8:
        assert number(base256(largest, length)) == largest
        assert number(base256(largest + 1, length)) == -largest - 1
    assert number(b"\xbf" + b"\xff" * (length - 1)) == (largest if length == 8 else None)


def test_the_first_field_that_is_no_number_is_named() -> None:
    block = header()
    assert bad_field(block) == ""
    assert bad_field(block[:100] + b"nonsense" + block[108:]) == "mode"
    assert bad_field(block[:136] + b"nonsense    " + block[148:]) == "time"


@pytest.mark.parametrize(
    ("records", "key"),
    [
        ({}, ""),
        ({"size": "7", "mtime": "1.5"}, ""),
        ({"size": "0"}, ""),
        ({"size": ""}, ""),
        ({"size": str(MOST), "uid": str(LEAST), "mtime": str(LEAST)}, ""),
        ({"size": str(MOST + 1)}, "size"),
        ({"uid": str(LEAST - 1)}, "uid"),
        ({"size": "-1"}, "size"),
        ({"gid": "1.0"}, "gid"),
        ({"mtime": "x"}, "mtime"),
        ({"ctime": "x", "size": "x"}, "size"),
        ({"size": "\u0661"}, "size"),
    ],
)
def test_the_first_record_that_is_no_number_is_named(records: dict[str, str], key: str) -> None:
    assert bad_record(records) == key
