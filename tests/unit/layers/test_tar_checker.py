"""The tar walker judges as Go's archive/tar does, whatever pieces the bytes come in."""

from __future__ import annotations

import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditor.layers.tar_checker import TarWalk
from tests.unit.tars import END, header, octal, padded, tar

FILES = {"a": b"x" * 700, "d/" + "n" * 150: b"y" * 512, "ü" * 80: b"", "l": b"z" * 10_000}


def walk(data: bytes, *, step: int = 1 << 20) -> TarWalk:
    walker = TarWalk()
    for at in range(0, len(data), step):
        walker.feed(data[at : at + step])
    walker.finish()
    return walker


def pax(*records: bytes, kind: bytes = b"x") -> bytes:
    return _pax_of(b"".join(_record(record) for record in records), kind=kind)


def _pax_of(body: bytes, *, kind: bytes = b"x") -> bytes:
    return header(kind=kind, size=octal(len(body))) + padded(body)


def _record(text: bytes) -> bytes:
    length = len(text) + 2
    while len(b"%d" % length) + len(text) + 2 != length:
        length += 1
    return b"%d %s\n" % (length, text)


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize("step", [1, 100, 512, 513, 1 << 20])
def test_all_formats_are_walked_entry_by_entry(form: int, step: int) -> None:
    files = {name: data for name, data in FILES.items() if form != tarfile.USTAR_FORMAT or len(name.encode()) < 100}
    walker = walk(tar(files, form=form), step=step)
    assert (walker.fault, walker.entries) == ("", len(files))


FILE = header(size=octal(5)) + padded(b"hello")
BASE_256 = b"\x80" + (600).to_bytes(11, "big")

ACCEPTED = {
    "nothing at all": b"",
    "only the end": END,
    "one zero block": END[:512],
    "an end that is missing": FILE,
    "an end that is half there": FILE + END[:512],
    "padding that is cut": FILE[: 512 + 5],
    "anything behind the end": FILE + END + b"garbage",
    "a size in base 256": header(size=BASE_256) + padded(b"h" * 600),
    "a size in an extended header": pax(b"size=600") + header() + padded(b"h" * 600) + END,
    "a size of a link, which has no data": header(kind=b"2", size=octal(600), link=(157, b"target")) + FILE,
    "an extended header that the next one replaces": pax(b"size=600") + pax(b"mtime=1.5") + FILE,
    "a size in a global header, which is for nobody": pax(b"size=600", kind=b"g") + FILE,
    "an extended header and no entry": FILE + pax(b"mtime=1"),
    "a long name": header(kind=b"L", size=octal(200)) + padded(b"n" * 200) + FILE,
    "a malformed number in an extended header without an entry": FILE + pax(b"size=many"),
    "a malformed number in a global header": pax(b"size=many", kind=b"g") + FILE,
    "a malformed number that the next extended header replaces": pax(b"mtime=then") + pax(b"mtime=1.5") + FILE,
    "an extended header of very many records": _pax_of(b"5 k=\n" * 200_000) + FILE,
    "a signed checksum": None,
}
REFUSED = {
    "a zero block and then something": (END[:512] + FILE, "a zero block is followed by something else at byte 512"),
    "half a header": (FILE + FILE[:100], "cut off inside a header at byte 1024"),
    "half a zero block": (FILE + END[:700], "cut off inside a header"),
    "data that is cut": (FILE[:514], "3 bytes of an entry's data are missing"),
    "a wrong checksum": (FILE + b"X" + FILE[1:], "no valid header at byte 1024"),
    "a size that is no number": (header(size=b"0000000zz00\0"), "no valid header at byte 0"),
    "an owner that is no number": (header(uid=(108, b"00x0000\0")), "no valid header"),
    "a device that is no number": (header(device=(329, b"00x0000\0")), "no valid header"),
    "a size below zero": (header(size=b"\xff" * 12), "an entry of an impossible size"),
    "a size beyond 63 bits": (header(size=b"\x80" + b"\xff" * 11), "no valid header"),
    "a size below zero in an extended header": (pax(b"size=-1") + header(), "an impossible size"),
    "an extended header over the limit": (header(kind=b"x", size=octal((1 << 20) + 1)), "an extended header of an"),
    "an extended header cut off": (pax(b"size=600")[:515], "bytes of an entry's data are missing"),
    "a record without a length": (_pax_of(b"size=600\n"), "a malformed extended header"),
    "a record longer than its header": (_pax_of(b"99 size=600\n"), "a malformed extended header"),
    "a record that is no number": (pax(b"size=many") + FILE, "an entry whose extended header has a malformed number"),
    "a record without a value": (pax(b"size"), "a malformed extended header"),
    "a NUL in a name in an extended header": (pax(b"path=a\0b"), "a malformed extended header"),
    "an old sparse file": (header(kind=b"S"), "an entry of type 'S', which containerd does not unpack, at byte 0"),
    "a contiguous file": (header(kind=b"7"), "an entry of type '7'"),
}


def _signed() -> bytes:
    block = bytearray(header(name="ü".encode()))
    total = sum(byte - 256 * (byte > 127) for byte in block[:148] + b" " * 8 + block[156:])
    block[148:156] = b"%06o\0 " % total
    return bytes(block)


@pytest.mark.parametrize("step", [1, 1 << 20])
@pytest.mark.parametrize("case", ACCEPTED)
def test_what_go_accepts_is_accepted(case: str, step: int) -> None:
    data = ACCEPTED[case]
    assert walk(_signed() if data is None else data, step=step).fault == ""


@pytest.mark.parametrize("step", [1, 1 << 20])
@pytest.mark.parametrize("case", REFUSED)
def test_what_go_refuses_is_refused(case: str, step: int) -> None:
    data, words = REFUSED[case]
    assert words in walk(data, step=step).fault


@given(st.binary(max_size=3000), st.integers(1, 700))
def test_no_bytes_make_it_stumble_and_no_cut_changes_its_mind(data: bytes, step: int) -> None:
    hostile = FILE + data
    assert walk(hostile, step=step).fault == walk(hostile).fault
