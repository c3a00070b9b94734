"""The checker of layers' tars, one row a branch: the whole verdict and the number of entries are compared."""

from __future__ import annotations

import pytest

from auditor.layers.piece_reader import PieceReader
from auditor.layers.tar_checker import TarWalk
from auditor.layers.tar_entries import TarUnreadable, entries
from tests.unit.tars import END, header, octal, padded

MAX = 1 << 20
FILE = header(size=octal(5)) + padded(b"hello")
TWO = header(size=octal(600)) + padded(b"x" * 600)


def verdict(data: bytes, *, step: int) -> tuple[str, int]:
    """What is wrong with a tar, and how many entries were counted."""
    walker = TarWalk()
    for at in range(0, len(data), step):
        walker.feed(memoryview(data)[at : at + step])
    said = walker.finish()
    assert (said, walker.finish()) == (walker.fault, walker.fault)
    assert read(data, step=step) == (said, walker.entries)
    return said, walker.entries


def read(data: bytes, *, step: int) -> tuple[str, int]:
    """The same by the reader of entries."""
    pieces = (data[at : at + step] for at in range(0, len(data), step))
    count = 0
    try:
        for _ in entries(PieceReader(pieces)):
            count += 1
    except TarUnreadable as fault:
        return str(fault), count
    return "", count


def record(text: bytes) -> bytes:
    length = len(text) + 2
    while len(b"%d" % length) + len(text) + 2 != length:
        length += 1
    return b"%d %s\n" % (length, text)


def pax(*records: bytes, kind: bytes = b"x") -> bytes:
    return raw(b"".join(record(text) for text in records), kind=kind)


def raw(body: bytes, *, kind: bytes = b"x") -> bytes:
    return header(kind=kind, size=octal(len(body))) + padded(body)


def summed(block: bytes, *, signed: bool = False, form: bytes = b"%06o\0 ") -> bytes:
    """The header with its checksum computed anew."""
    total = sum(byte - 256 * (signed and byte > 127) for byte in block[:148] + b" " * 8 + block[156:])
    return block[:148] + form % total + block[156:]


def old(major: bytes) -> bytes:
    """A header of a tar before ustar, where the device numbers may be anything."""
    return header(size=octal(5), magic=(257, bytes(8)), major=(329, major)) + padded(b"hello")


def numbers(value: bytes) -> bytes:
    """A header whose owner is this number."""
    return header(size=octal(5), uid=(108, value)) + padded(b"hello")


HIGH = header(name=b"\xff\x80", size=octal(5))
SIZE_600 = b"\x80" + (600).to_bytes(11, "big")
SOUND: dict[str, tuple[bytes, int]] = {
    "nothing": (b"", 0),
    "only the end": (END, 0),
    "one zero block": (END[:512], 0),
    "no end": (FILE, 1),
    "half an end": (FILE + END[:512], 1),
    "two files": (FILE + TWO + END, 2),
    "the padding is cut": (FILE + FILE[:517], 2),
    "the padding is absent": (FILE[:517], 1),
    "data that fills its block": (header(size=octal(512)) + b"x" * 512 + FILE, 2),
    "anything behind the end": (FILE + END + b"garbage" * 500, 1),
    "a file of an old tar": (header(kind=b"\0") + END, 1),
    "a hard link's size is not honoured": (header(kind=b"1", size=octal(600)) + FILE + END, 2),
    "a symbolic link's size is not honoured": (header(kind=b"2", size=octal(600)) + FILE + END, 2),
    "a character device's size is not honoured": (header(kind=b"3", size=octal(600)) + FILE + END, 2),
    "a block device's size is not honoured": (header(kind=b"4", size=octal(600)) + FILE + END, 2),
    "a folder's size is not honoured": (header(kind=b"5", size=octal(600)) + FILE + END, 2),
    "a fifo's size is not honoured": (header(kind=b"6", size=octal(600)) + FILE + END, 2),
    "a folder's size in an extended header is not honoured": (pax(b"size=600") + header(kind=b"5") + FILE + END, 2),
    "a folder of a size below zero": (header(kind=b"5", size=b"\xff" * 12) + FILE + END, 2),
    "a size in base 256": (header(size=SIZE_600) + padded(b"x" * 600) + FILE, 2),
    "a size that ends with a space": (header(size=b"00000000005 ") + padded(b"hello") + FILE, 2),
    "a size after spaces": (header(size=b"          5 ") + padded(b"hello") + FILE, 2),
    "a size after NULs": (header(size=b"\0\0\0\0\0\0\0\0\0\0005\0") + padded(b"hello") + FILE, 2),
    "a size with something behind its NUL": (header(size=b"5\0xxxxxxxxxx") + padded(b"hello") + FILE, 2),
    "a size of no digit": (header(size=bytes(12)) + FILE, 2),
    "an owner in base 256": (numbers(b"\x80" + (5).to_bytes(7, "big")), 1),
    "an owner below zero": (numbers(b"\xff" * 8), 1),
    "an owner of no digit": (numbers(bytes(8)), 1),
    "devices in octal": (header(size=octal(5), major=(329, b"0000010\0"), minor=(337, b"0000001 ")) + FILE[512:], 1),
    "devices in short octal": (header(size=octal(5), major=(329, b"1\0\0\0\0\0\0\0")) + FILE[512:], 1),
    "devices of an old tar may be anything": (old(b"x" * 8), 1),
    "a checksum over unsigned bytes": (HIGH + FILE[512:], 1),
    "a checksum over signed bytes": (summed(HIGH, signed=True) + FILE[512:], 1),
    "a checksum over signed bytes behind it": (
        summed(header(size=octal(5), tail=(500, b"\xff\xfe\x80")), signed=True) + FILE[512:],
        1,
    ),
    "a checksum in another form": (summed(FILE[:512], form=b"%07o\0") + FILE[512:], 1),
    "a checksum in another form with a space": (summed(FILE[:512], form=b"%07o ") + FILE[512:], 1),
    "a long name": (header(kind=b"L", size=octal(600)) + padded(b"n" * 600) + FILE, 1),
    "a long link": (header(kind=b"K", size=octal(600)) + padded(b"n" * 600) + FILE, 1),
    "a long name at the limit": (header(kind=b"L", size=octal(MAX)) + b"n" * MAX + FILE, 1),
    "a size in an extended header": (pax(b"size=600") + header(size=octal(5)) + padded(b"x" * 600) + FILE, 2),
    "a size with a plus": (pax(b"size=+600") + header(size=octal(5)) + padded(b"x" * 600) + FILE, 2),
    "a size for the next entry alone": (pax(b"size=600") + header() + padded(b"x" * 600) + FILE + FILE, 3),
    "a size behind a long name": (
        pax(b"size=600") + header(kind=b"L", size=octal(5)) + padded(b"hello") + header() + padded(b"x" * 600) + FILE,
        2,
    ),
    "a size in a global header": (pax(b"size=600", kind=b"g") + FILE + FILE, 2),
    "a size that a global header takes back": (pax(b"size=600") + pax(b"comment=c", kind=b"g") + FILE + FILE, 2),
    "a size that the next extended header takes back": (pax(b"size=600") + pax(b"mtime=1.5") + FILE + FILE, 2),
    "the last of two sizes": (pax(b"size=5", b"size=600") + header() + padded(b"x" * 600) + FILE, 2),
    "an empty size": (pax(b"size=") + FILE + FILE, 2),
    "an extended header of no byte": (header(kind=b"x") + FILE, 1),
    "a size before an extended header of no byte": (pax(b"size=600") + header(kind=b"x") + FILE + FILE, 2),
    "an extended header at the limit": (
        raw(record(b"comment=" + b"c" * (MAX - 17))) + FILE,
        1,
    ),
    "an extended header that fills its block": (raw(record(b"comment=" + b"c" * (512 - 13))) + FILE, 1),
    "the shortest record": (raw(b"5 k=\n") + FILE, 1),
    "numbers in an extended header": (
        pax(b"uid=-1", b"gid=+5", b"atime=1.", b"mtime=-1.25", b"ctime=+7") + FILE,
        1,
    ),
    "a record of no number in a key that is none": (pax(b"comment=x") + FILE, 1),
    "a malformed number in a global header": (pax(b"size=many", kind=b"g") + FILE, 1),
    "a malformed number and no entry": (FILE + pax(b"size=many"), 1),
    "a malformed number that the next extended header takes back": (pax(b"uid=x") + pax(b"mtime=1") + FILE, 1),
    "a malformed number that a global header takes back": (pax(b"uid=x") + pax(b"a=b", kind=b"g") + FILE, 1),
    "a NUL in a value": (pax(b"comment=a\0b") + FILE, 1),
    "a value with an equals sign": (pax(b"comment=a=b") + FILE, 1),
}


@pytest.mark.parametrize("step", [1, 511, 512, 513, 1 << 21])
@pytest.mark.parametrize("case", SOUND)
def test_sound(case: str, step: int) -> None:
    data, entries = SOUND[case]
    assert verdict(data, step=step if len(data) < MAX else max(step, 511)) == ("", entries)


def bad(words: str, at: int) -> str:
    return f"not a readable tar: {words} at byte {at}"


def cut(missing: int) -> str:
    return f"the tar is cut off: {missing} bytes of an entry's data are missing"


NO_HEADER = "no valid header"
IMPOSSIBLE = "an entry of an impossible size"
EXTENDED = "an extended header of an impossible size"
RECORDS = "a malformed extended header"
NUMBER = "an entry whose extended header has a malformed number"


def refused(kind: str) -> str:
    return f"an entry of type {kind!r}, which containerd does not unpack,"


UNSOUND: dict[str, tuple[bytes, str, int]] = {
    "half a header": (FILE + FILE[:100], "the tar is cut off inside a header at byte 1024", 1),
    "half a header at the beginning": (FILE[:511], "the tar is cut off inside a header at byte 0", 0),
    "half a zero block": (FILE + END[:700], "the tar is cut off inside a header at byte 1536", 1),
    "data cut off": (FILE[:514], cut(3), 1),
    "data cut off by a byte": (FILE[:516], cut(1), 1),
    "data that is absent": (FILE + FILE[:512], cut(5), 2),
    "an extended header cut off": (pax(b"size=600")[:515], cut(9), 0),
    "a zero block and then a file": (END[:512] + FILE, bad("a zero block is followed by something else", 512), 0),
    "a file, a zero block and then a file": (
        FILE + END[:512] + FILE,
        bad("a zero block is followed by something else", 1536),
        1,
    ),
    "a wrong checksum": (FILE + b"X" + FILE[1:], bad(NO_HEADER, 1024), 1),
    "a checksum one too high": (
        FILE[:148] + b"%06o\0 " % (int(FILE[148:154], 8) + 1) + FILE[156:],
        bad(NO_HEADER, 0),
        0,
    ),
    "a checksum that is no number": (FILE[:148] + b"zzzzzz\0 " + FILE[156:], bad(NO_HEADER, 0), 0),
    "a size that is no number": (header(size=b"0000000zz00\0"), bad(NO_HEADER, 0), 0),
    "a size of a digit too many": (header(size=b"00000000008\0"), bad(NO_HEADER, 0), 0),
    "a size of two numbers": (header(size=b"0000 000005\0"), bad(NO_HEADER, 0), 0),
    "a mode that is no number": (header(mode=(100, b"00x0644\0")), bad(NO_HEADER, 0), 0),
    "an owner that is no number": (header(uid=(108, b"00x0000\0")), bad(NO_HEADER, 0), 0),
    "a group that is no number": (header(gid=(116, b"00x0000\0")), bad(NO_HEADER, 0), 0),
    "a time that is no number": (header(mtime=(136, b"0000x000000\0")), bad(NO_HEADER, 0), 0),
    "a major number that is none": (header(device=(329, b"00x0000\0")), bad(NO_HEADER, 0), 0),
    "a minor number that is none": (header(device=(337, b"00x0000\0")), bad(NO_HEADER, 0), 0),
    "an owner beyond 63 bits": (
        header(uid=(108, b"\xbf" + b"\xff" * 7), size=b"\x80" + b"\xff" * 11),
        bad(NO_HEADER, 0),
        0,
    ),
    "a size of 63 bits and one": (header(size=b"\x80\0\0\0\x80" + bytes(7)), bad(NO_HEADER, 0), 0),
    "a size whose first byte is too high": (header(size=b"\x81" + bytes(11)), bad(NO_HEADER, 0), 0),
    "a size whose second byte is too high": (header(size=b"\x80\x01" + bytes(10)), bad(NO_HEADER, 0), 0),
    "a size far below zero": (header(size=b"\xff\xff\xff\xff\x7f" + b"\xff" * 7), bad(NO_HEADER, 0), 0),
    "a size below zero": (FILE + header(size=b"\xff" * 12), bad(IMPOSSIBLE, 1024), 1),
    "a size at the lower limit": (header(size=b"\xff\xff\xff\xff\x80" + bytes(7)), bad(IMPOSSIBLE, 0), 0),
    "a size below zero in an extended header": (pax(b"size=-1") + header(), bad(IMPOSSIBLE, 1024), 0),
    "a size beyond the limit in an extended header": (
        pax(b"size=9223372036854775808") + header(),
        bad(IMPOSSIBLE, 1024),
        0,
    ),
    "the largest size": (pax(b"size=9223372036854775807") + header(), cut(9223372036854775807), 1),
    "the largest size in base 256": (header(size=b"\x80\0\0\0\x7f" + b"\xff" * 7), cut(9223372036854775807), 1),
    "an extended header over the limit": (header(kind=b"x", size=octal(MAX + 1)), bad(EXTENDED, 0), 0),
    "a global header over the limit": (header(kind=b"g", size=octal(MAX + 1)), bad(EXTENDED, 0), 0),
    "a long name over the limit": (FILE + header(kind=b"L", size=octal(MAX + 1)), bad(EXTENDED, 1024), 1),
    "a long link over the limit": (header(kind=b"K", size=octal(MAX + 1)), bad(EXTENDED, 0), 0),
    "a long name of a size below zero": (header(kind=b"L", size=b"\xff" * 12), bad(EXTENDED, 0), 0),
    "an old sparse file": (header(kind=b"S"), bad(refused("S"), 0), 0),
    "a contiguous file": (FILE + header(kind=b"7"), bad(refused("7"), 1024), 1),
    "an extended header of Solaris": (header(kind=b"X"), bad(refused("X"), 0), 0),
    "a record without a length": (raw(b"size=600\n"), bad(RECORDS, 0), 0),
    "a record of four bytes": (raw(b"4 =\n"), bad(RECORDS, 0), 0),
    "a record longer than its header": (raw(b"11 size=6\n"), bad(RECORDS, 0), 0),
    "a record without a newline": (FILE + raw(b"9 size=66"), bad(RECORDS, 1024), 1),
    "a record without a value": (pax(b"size") + FILE, bad(RECORDS, 0), 0),
    "a damaged record behind a sound one": (raw(record(b"a=b") + b"zz"), bad(RECORDS, 0), 0),
    "a damaged global header": (raw(b"size=600\n", kind=b"g"), bad(RECORDS, 0), 0),
    "a NUL in a path": (pax(b"path=a\0b"), bad(RECORDS, 0), 0),
    "a NUL in a link path": (pax(b"linkpath=a\0b"), bad(RECORDS, 0), 0),
    "a NUL in an owner's name": (pax(b"uname=a\0b"), bad(RECORDS, 0), 0),
    "a NUL in a group's name": (pax(b"gname=a\0b"), bad(RECORDS, 0), 0),
    "a NUL in a key": (pax(b"com\0ment=a"), bad(RECORDS, 0), 0),
    "a size that is a word": (pax(b"size=many") + FILE, bad(NUMBER, 1024), 0),
    "a size with a fraction": (pax(b"size=1.5") + FILE, bad(NUMBER, 1024), 0),
    "a size of twenty digits": (pax(b"size=" + b"5".zfill(20)) + FILE, bad(NUMBER, 1024), 0),
    "an owner that is a word": (pax(b"uid=me") + FILE, bad(NUMBER, 1024), 0),
    "a group that is a word": (pax(b"gid=us") + FILE, bad(NUMBER, 1024), 0),
    "an access time that is a word": (pax(b"atime=now") + FILE, bad(NUMBER, 1024), 0),
    "a time that is a word": (pax(b"mtime=now") + FILE, bad(NUMBER, 1024), 0),
    "a time with an equals sign": (pax(b"mtime=1=2") + FILE, bad(NUMBER, 1024), 0),
    "a change time that is a word": (pax(b"ctime=now") + FILE, bad(NUMBER, 1024), 0),
    "a malformed number before a sound one": (pax(b"uid=me", b"gid=5") + FILE, bad(NUMBER, 1024), 0),
    "a malformed number behind a long name": (
        pax(b"uid=me") + header(kind=b"L", size=octal(5)) + padded(b"hello") + FILE,
        bad(NUMBER, 2048),
        0,
    ),
}


@pytest.mark.parametrize("step", [1, 511, 512, 513, 1 << 20])
@pytest.mark.parametrize("case", UNSOUND)
def test_unsound(case: str, step: int) -> None:
    data, words, entries = UNSOUND[case]
    assert verdict(data, step=step) == (words, entries)


def test_nothing_is_taken_in_behind_the_first_fault() -> None:
    walker = TarWalk()
    walker.feed(FILE + b"X" + FILE[1:])
    first = walker.fault
    walker.feed(FILE + header(kind=b"S"))
    assert (walker.finish(), walker.entries) == (first, 1)
