"""Gzip members: every form of header, however it is split, and every damage of it."""

from __future__ import annotations

import gzip
import zlib

import pytest

from auditor.archive import compression
from auditor.archive.problems import StopReading
from auditor.layers.gzip_member import MAX_TEXT, GzipHeaderError, GzipMember, header_size

CONTENT = b"content " * 900
FHCRC, FEXTRA, FNAME, FCOMMENT = 0x02, 0x04, 0x08, 0x10
STEPS = [1, 2, 3, 9, 10, 11, 13, 512, 1 << 20]


def member(flags: int, *, extra: bytes = b"\1\2\3\0\0\4", name: bytes = b"layer.tar", comment: bytes = b"a b") -> bytes:
    header = b"\x1f\x8b\x08" + bytes([flags]) + b"\1\2\3\4\0\xff"
    header += len(extra).to_bytes(2, "little") + extra if flags & FEXTRA else b""
    header += name + b"\0" if flags & FNAME else b""
    header += comment + b"\0" if flags & FCOMMENT else b""
    header += (zlib.crc32(header) & 0xFFFF).to_bytes(2, "little") if flags & FHCRC else b""
    return header + gzip.compress(CONTENT, mtime=0)[10:]


def inflated(data: bytes, step: int) -> tuple[bytes, bytes]:
    """Return what a member holds and what follows it."""
    engine, out, rest = GzipMember(), [], b""
    for at in range(0, len(data), step):
        if engine.eof:
            rest += data[at : at + step]
            continue
        out.append(engine.decompress(data[at : at + step], 100))
        while not engine.eof and not engine.needs_input:
            out.append(engine.decompress(b"", 100))
        rest = engine.unused_data if engine.eof else b""
    return b"".join(out), rest


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("flags", range(0, 32, 2))
def test_every_header_is_read_however_it_is_split(flags: int, step: int) -> None:
    assert inflated(member(flags) + b"more", step) == (CONTENT, b"more")


@pytest.mark.parametrize("step", [1, 11, 13])
@pytest.mark.parametrize("flags", range(0, 32, 2))
def test_a_flipped_header_bit_gives_the_same_outcome_however_it_is_split(flags: int, step: int) -> None:
    good = member(flags)
    size = header_size(good)
    assert size is not None
    for bit in range(size * 8):
        bad = bytearray(good)
        bad[bit // 8] ^= 1 << bit % 8
        outcome = _outcome(bytes(bad), step)
        assert outcome == _outcome(bytes(bad), len(bad)), bit
        if flags & FHCRC and bit != 25:  # the bit that says that there is a checksum
            assert outcome != CONTENT, bit


def _outcome(data: bytes, step: int) -> bytes | None:
    """Return the content; None where the archive reader reports damage."""
    try:
        return b"".join(compression.decompress(data[at : at + step] for at in range(0, len(data), step))[1])
    except StopReading:
        return None


@pytest.mark.parametrize(
    ("flags", "name", "extra"),
    [
        (FNAME, b"n" * (MAX_TEXT - 1), b""),
        (FEXTRA, b"", bytes(65535)),
        (FNAME | FEXTRA | FHCRC, b"n" * (MAX_TEXT - 1), bytes(65535)),
    ],
)
def test_the_longest_headers_are_read(flags: int, name: bytes, extra: bytes) -> None:
    for step in (1000, 1 << 20):
        assert inflated(member(flags, name=name, extra=extra), step) == (CONTENT, b"")


@pytest.mark.parametrize("field", ["name", "comment"])
def test_a_name_that_go_does_not_read_ends_the_wait(field: str) -> None:
    flags = FNAME if field == "name" else FCOMMENT
    engine = GzipMember()
    engine.decompress(member(flags)[:10])
    for _ in range(MAX_TEXT - 1):
        engine.decompress(b"n")
    with pytest.raises(GzipHeaderError, match="over 511 bytes"):
        engine.decompress(b"n")


@pytest.mark.parametrize("flags", range(0, 32, 2))
def test_a_header_that_is_cut_is_not_complete(flags: int) -> None:
    size = header_size(member(flags))
    assert size is not None
    assert [header_size(member(flags)[:end]) for end in range(size)] == [None] * size
