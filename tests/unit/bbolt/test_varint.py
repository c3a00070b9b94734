from __future__ import annotations

import pytest

from auditor.bbolt import varint


@pytest.mark.parametrize(
    ("data", "unsigned", "signed"),
    [
        pytest.param(b"", 0, 0, id="absent"),
        pytest.param(b"\x00", 0, 0, id="zero"),
        pytest.param(b"\x06", 6, 3, id="one byte"),
        pytest.param(b"\x01", 1, -1, id="negative"),
        pytest.param(b"\x7f", 127, -64, id="the largest of one byte"),
        pytest.param(b"\x80\x01", 128, 64, id="two bytes"),
        pytest.param(b"\x06\x80", 6, 3, id="bytes behind the number"),
    ],
)
def test_numbers(data: bytes, unsigned: int, signed: int) -> None:
    assert (varint.unsigned(data), varint.signed(data)) == (unsigned, signed)


def test_a_number_without_an_end_is_cut() -> None:
    assert varint.unsigned(b"\xff" * 4_000_000) == (1 << 70) - 1
