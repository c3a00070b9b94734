"""The tar reader, one row a branch: whole headers, bodies and problems are compared, for pieces of several sizes."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from typing import Any, Literal

import pytest

from auditor.archive.problems import ArchiveProblem, StopReading
from auditor.archive.tar_reader import MAX_EXTENSION, Cursor, Header, Kind, walk
from auditor.checks.archive_faults import MALFORMED, TRAILING, TRUNCATED
from auditor.model.findings import Severity
from tests.unit.tars import END, header, octal, padded

Member = tuple[Header, bytes]
LONG = b"d/" * 120 + b"name"
LINK = (157, b"target")
GNU = (257, b"ustar  \0")


def chunks(data: bytes, piece: int) -> Iterator[bytes]:
    """The bytes in pieces, empty ones among them."""
    yield b""
    for at in range(0, len(data), piece):
        yield data[at : at + piece]
        yield b""


def read(data: bytes, *, piece: int = 1 << 20) -> tuple[list[Member], list[ArchiveProblem], ArchiveProblem | None]:
    """All members with their bytes, the problems reported on the way, and the one that ended the walk."""
    members: list[Member] = []
    reported: list[ArchiveProblem] = []
    try:
        for found, body in walk(Cursor(chunks(data, piece)), reported.append):
            members.append((found, b"".join(body)))
    except StopReading as error:
        return members, reported, error.problem
    return members, reported, None


def file(data: bytes = b"hello", **fields: Any) -> bytes:
    """A member with its data and padding."""
    return header(size=octal(len(data)), **fields) + padded(data)


def pax(*records: bytes, kind: bytes = b"x") -> bytes:
    """An extended header of `<key>=<value>` records."""
    return raw_pax(b"".join(record(text) for text in records), kind=kind)


def raw_pax(body: bytes, *, kind: bytes = b"x") -> bytes:
    """An extended header with these bytes as its records."""
    return file(body, kind=kind, name=b"pax")


def record(text: bytes) -> bytes:
    """A record whose length counts itself."""
    length = len(text) + 2
    while len(b"%d" % length) + len(text) + 2 != length:
        length += 1
    return b"%d %s\n" % (length, text)


def gnu(value: bytes, *, kind: bytes = b"L") -> bytes:
    """A GNU long name or long link."""
    return file(value, kind=kind, name=b"././@LongLink")


def signed(block: bytes) -> bytes:
    """The header with its checksum over signed bytes, as old Sun tars computed it."""
    total = sum(byte - 256 * (byte > 127) for byte in block[:148] + b" " * 8 + block[156:])
    return block[:148] + b"%06o\0 " % total + block[156:]


def member(  # noqa: PLR0917 - the fields of a header in their order
    name: str, size: int, offset: int, body: bytes, kind: Kind = Kind.FILE, link: str = ""
) -> Member:
    return Header(name, kind, size, offset, link), body


def hello(offset: int, name: str = "f", link: str = "") -> Member:
    """The member that `file()` makes."""
    return member(name, 5, offset, b"hello", link=link)


def bodiless(kind: bytes) -> bytes:
    """A member of this type whose size field says 600, and a file directly behind its header."""
    return header(kind=kind, size=octal(600), link=LINK) + file() + END


SPARSE_MAP = (482, b"\1")
MORE, LAST = bytes(504) + b"\1" + bytes(7), bytes(512)

MEMBERS: dict[str, tuple[bytes, list[Member]]] = {
    "no member": (END, []),
    "a file": (file() + END, [hello(512)]),
    "a file of an old tar": (file(kind=b"\0") + END, [hello(512)]),
    "a contiguous file": (file(kind=b"7") + END, [member("f", 5, 512, b"hello", Kind.CONTIGUOUS)]),
    "a size with a sign": (pax(b"size=+5") + file() + END, [hello(1536)]),
    "an empty size": (pax(b"size=", b"mtime=") + file() + END, [hello(1536)]),
    "times": (pax(b"mtime=-1.", b"atime=+2.25", b"uid=-1") + file() + END, [hello(1536)]),
    "an unknown type has data": (file(kind=b"Z") + END, [member("f", 5, 512, b"hello", Kind.OTHER)]),
    "a folder's size is not honoured": (
        bodiless(b"5"),
        [member("f", 0, 512, b"", Kind.FOLDER, "target"), hello(1024)],
    ),
    "a hard link's size is not honoured": (
        bodiless(b"1"),
        [member("f", 0, 512, b"", Kind.HARDLINK, "target"), hello(1024)],
    ),
    "a symbolic link's size is not honoured": (
        bodiless(b"2"),
        [member("f", 0, 512, b"", Kind.SYMLINK, "target"), hello(1024)],
    ),
    "a character device's size is not honoured": (
        bodiless(b"3"),
        [member("f", 0, 512, b"", Kind.SPECIAL, "target"), hello(1024)],
    ),
    "a block device's size is not honoured": (
        bodiless(b"4"),
        [member("f", 0, 512, b"", Kind.SPECIAL, "target"), hello(1024)],
    ),
    "a fifo's size is not honoured": (
        bodiless(b"6"),
        [member("f", 0, 512, b"", Kind.SPECIAL, "target"), hello(1024)],
    ),
    "a folder's size in an extended header is not honoured": (
        pax(b"size=600") + header(kind=b"5") + file() + END,
        [member("f", 0, 1536, b"", Kind.FOLDER), hello(2048)],
    ),
    "an old file whose name ends with a slash is a folder": (
        header(kind=b"\0", name=b"d/", size=octal(600)) + file() + END,
        [member("d/", 0, 512, b"", Kind.FOLDER), hello(1024)],
    ),
    "data of no byte": (file(b"") + file() + END, [member("f", 0, 512, b""), hello(1024)]),
    "data of a block less a byte": (
        file(b"x" * 511) + file() + END,
        [member("f", 511, 512, b"x" * 511), hello(1536)],
    ),
    "data of a block": (file(b"x" * 512) + file() + END, [member("f", 512, 512, b"x" * 512), hello(1536)]),
    "data of a block and a byte": (
        file(b"x" * 513) + file() + END,
        [member("f", 513, 512, b"x" * 513), hello(2048)],
    ),
    "a size that ends with a space": (header(size=b"00000000005 ") + padded(b"hello") + END, [hello(512)]),
    "a size in base 256": (
        header(size=b"\x80" + (600).to_bytes(11, "big")) + padded(b"x" * 600) + file() + END,
        [member("f", 600, 512, b"x" * 600), hello(2048)],
    ),
    "a checksum over signed bytes": (
        signed(header(name="ü".encode(), size=octal(5))) + padded(b"hello") + END,
        [hello(512, "ü")],
    ),
    "a checksum over unsigned bytes": (file(name="ü".encode()) + END, [hello(512, "ü")]),
    "a name that is not UTF-8": (file(name=b"\xff") + END, [hello(512, "\udcff")]),
    "a prefix": (file(prefix=(345, b"some/folder")) + END, [hello(512, "some/folder/f")]),
    "a name of all its bytes": (file(name=b"n" * 100) + END, [hello(512, "n" * 100)]),
    "a prefix of all its bytes": (
        file(prefix=(345, b"p" * 155), behind=(500, b"x")) + END,
        [hello(512, f"{'p' * 155}/f")],
    ),
    "a prefix of all its bytes, GNU's magic": (
        file(magic=GNU, prefix=(345, b"p" * 155), behind=(500, b"x")) + END,
        [hello(512, f"{'p' * 155}/f")],
    ),
    "times in the place of a prefix": (file(magic=GNU, prefix=(345, b"15302772564\0" * 2)) + END, [hello(512)]),
    "times in base 256": (file(magic=GNU, prefix=(345, (b"\x80" + bytes(11)) * 2)) + END, [hello(512)]),
    "a prefix that GNU's format does not have": (
        file(magic=GNU, prefix=(345, b"some/folder/of/a/name")) + END,
        [hello(512, "some/folder/of/a/name/f")],
    ),
    "no prefix in an old header": (file(magic=(257, bytes(8)), prefix=(345, b"rest")) + END, [hello(512)]),
    "a short prefix of star": (
        file(prefix=(345, b"p" * 131 + b"15302772564\0" * 2), trailer=(508, b"tar\0")) + END,
        [hello(512, "p" * 131 + "/f")],
    ),
    "a folder listing in an extended header": (pax(b"GNU.dumpdir=Ya\0Nb\0\0") + file() + END, [hello(1536)]),
    "a link of a file is kept": (file(link=LINK) + END, [hello(512, link="target")]),
    "a GNU long name": (gnu(LONG + b"\0") + file() + END, [hello(1536, LONG.decode())]),
    "a GNU long name without a NUL": (gnu(LONG) + file() + END, [hello(1536, LONG.decode())]),
    "a GNU long name ends at its first NUL": (gnu(b"a\0b\0") + file() + END, [hello(1536, "a")]),
    "a GNU long name of two blocks": (gnu(b"n" * 513) + file() + END, [hello(2048, "n" * 513)]),
    "a GNU long name that is not UTF-8": (gnu(b"\xff\0") + file() + END, [hello(1536, "\udcff")]),
    "a GNU long link": (gnu(LONG + b"\0", kind=b"K") + file() + END, [hello(1536, link=LONG.decode())]),
    "a GNU long link ends at its first NUL": (gnu(b"a\0b\0", kind=b"K") + file() + END, [hello(1536, link="a")]),
    "a GNU long link before a long name": (
        gnu(b"to\0", kind=b"K") + gnu(b"from\0") + file() + END,
        [hello(2560, "from", "to")],
    ),
    "a GNU long name is for the next member alone": (
        gnu(b"long\0") + file() + file() + END,
        [hello(1536, "long"), hello(2560)],
    ),
    "an empty GNU long name names nothing": (gnu(b"\0") + file() + END, [hello(1536)]),
    "a long name at the limit": (
        gnu(b"n" * MAX_EXTENSION) + file() + END,
        [hello(MAX_EXTENSION + 1024, "n" * MAX_EXTENSION)],
    ),
    "a path in an extended header": (pax(b"path=p/q") + file() + END, [hello(1536, "p/q")]),
    "a path with an equals sign": (pax(b"path=a=b") + file() + END, [hello(1536, "a=b")]),
    "a path that is not UTF-8": (pax(b"path=\xff") + file() + END, [hello(1536, "\udcff")]),
    "an empty path in an extended header": (pax(b"path=") + file() + END, [hello(1536)]),
    "a link path in an extended header": (pax(b"linkpath=to") + file(link=LINK) + END, [hello(1536, link="to")]),
    "a size in an extended header": (
        pax(b"size=600") + header(size=octal(5)) + padded(b"x" * 600) + file() + END,
        [member("f", 600, 1536, b"x" * 600), hello(3072)],
    ),
    "a size of nothing in an extended header": (
        pax(b"size=0") + header(size=octal(5)) + file() + END,
        [member("f", 0, 1536, b""), hello(2048)],
    ),
    "a size of nineteen digits": (pax(b"size=" + b"5".zfill(19)) + file() + END, [hello(1536)]),
    "several records": (
        pax(b"mtime=1.5", b"path=p", b"linkpath=to", b"size=5") + header() + padded(b"hello") + END,
        [hello(1536, "p", "to")],
    ),
    "an extended header without a record": (raw_pax(b"") + file() + END, [hello(1024)]),
    "an extended header of Solaris": (pax(b"path=p", kind=b"X") + file() + END, [hello(1536, "p")]),
    "an extended header is for the next member alone": (
        pax(b"path=p", b"linkpath=to", b"size=5") + file() + file(b"") + END,
        [hello(1536, "p", "to"), member("f", 0, 2560, b"")],
    ),
    "a later extended header wins": (pax(b"path=p") + pax(b"path=q") + file() + END, [hello(2560, "q")]),
    "a later extended header without a path leaves the earlier": (
        pax(b"path=p", b"linkpath=to", b"size=5") + pax(b"mtime=1") + header() + padded(b"hello") + END,
        [hello(2560, "p", "to")],
    ),
    "a GNU long name behind an extended header wins": (
        pax(b"path=p") + gnu(b"n\0") + file() + END,
        [hello(2560, "n")],
    ),
    "a key that only contains the sparse keyword": (pax(b"x.GNU.sparse.major=1") + file() + END, [hello(1536)]),
    "a later extended header that says nothing of holes": (
        pax(b"GNU.sparse.major=1") + pax(b"mtime=1") + file() + END,
        [hello(2560)],
    ),
    "an old sparse file": (file(kind=b"S") + END, [member("f", 5, 512, b"hello", Kind.SPARSE)]),
    "an old sparse file whose map goes on": (
        header(kind=b"S", size=octal(5), more=SPARSE_MAP) + MORE + LAST + padded(b"hello") + file() + END,
        [member("f", 5, 1536, b"hello", Kind.SPARSE), hello(2560)],
    ),
    "a file with the mark of a sparse map": (
        header(size=octal(5), more=SPARSE_MAP) + padded(b"hello") + END,
        [hello(512)],
    ),
    "a global header without names and sizes": (pax(b"comment=c", kind=b"g") + file() + END, [hello(1536)]),
    "zeros behind the end": (file() + END + bytes(9000), [hello(512)]),
}


@pytest.mark.parametrize("piece", [1, 500, 512, 1 << 21])
@pytest.mark.parametrize("case", MEMBERS)
def test_members(case: str, piece: int) -> None:
    data, wanted = MEMBERS[case]
    if len(data) > MAX_EXTENSION and piece == 1:
        piece = 4096
    assert read(data, piece=piece) == (wanted, [], None)


def malformed(message: str, **facts: int) -> ArchiveProblem:
    return ArchiveProblem(MALFORMED, message, facts=facts)


def truncated(message: str, offset: int) -> ArchiveProblem:
    return ArchiveProblem(TRUNCATED, message, facts={"offset": offset})


def damaged_pax(position: int) -> ArchiveProblem:
    return malformed(f"an extended header before byte {position} is damaged")


NO_MARKER = "the archive ends without its end-of-archive marker"
BAD_SUM = file()[:200] + b"X" + file()[201:]
ENDED: dict[str, tuple[bytes, list[Member], ArchiveProblem]] = {
    "no byte": (b"", [], truncated(NO_MARKER, 0)),
    "no end marker": (file(), [hello(512)], truncated(NO_MARKER, 1024)),
    "half an end marker": (
        file() + bytes(512),
        [hello(512)],
        truncated("the archive ends in the end-of-archive marker, 512 bytes before its end", 1536),
    ),
    "an end marker that lacks a byte": (
        bytes(1023),
        [],
        truncated("the archive ends in the end-of-archive marker, 1 bytes before its end", 1023),
    ),
    "a lone block of zeros": (
        file() + bytes(512) + file() + END,
        [hello(512)],
        malformed("a lone block of zeros is in the middle of the archive; readers stop there or fail", offset=1024),
    ),
    "half a header": (
        file() + file()[:100],
        [hello(512)],
        truncated("the archive ends in a header, 412 bytes before its end", 1124),
    ),
    "data cut off": (file()[:514], [], truncated("the archive ends in the member f, 3 bytes before its end", 514)),
    "padding cut off": (
        file()[:1023],
        [hello(512)],
        truncated("the archive ends in the padding of f, 1 bytes before its end", 1023),
    ),
    "an extended header cut off": (
        pax(b"path=p")[:515],
        [],
        truncated("the archive ends in an extended header, 6 bytes before its end", 515),
    ),
    "the padding of an extended header cut off": (
        pax(b"path=p")[:600],
        [],
        truncated("the archive ends in an extended header, 424 bytes before its end", 600),
    ),
    "the map of a sparse file cut off": (
        header(kind=b"S", more=SPARSE_MAP) + bytes(10),
        [],
        truncated("the archive ends in a sparse member's map, 502 bytes before its end", 522),
    ),
    "the map of a sparse file of the PAX kind cut off": (
        pax(b"GNU.sparse.major=1", b"GNU.sparse.realsize=9") + header(size=octal(517)) + bytes(10),
        [],
        truncated("the archive ends in the map of f, 502 bytes before its end", 1546),
    ),
    "a damaged map of a sparse file of the PAX kind": (
        pax(b"GNU.sparse.size=9", b"GNU.sparse.map=0,4,4") + file() + END,
        [],
        ArchiveProblem(MALFORMED, "the sparse file f cannot be read: its map is damaged", member="f"),
    ),
    "no header at the beginning": (
        BAD_SUM + END,
        [],
        malformed("this is not a tar archive: bad checksum at byte 0", offset=0),
    ),
    "no header in the middle": (
        file() + BAD_SUM + END,
        [hello(512)],
        malformed("a header is damaged: bad checksum at byte 1024", offset=1024),
    ),
    "a size that is no number": (
        header(size=b"0000000zz00\0") + END,
        [],
        malformed("this is not a tar archive: invalid header at byte 0", offset=0),
    ),
    "a size below zero": (
        file() + header(size=b"\xff" * 12) + END,
        [hello(512)],
        malformed("a header at byte 1024 has a negative size"),
    ),
    "a size of minus one": (
        header(size=b"\xff" * 11 + b"\xff") + END,
        [],
        malformed("a header at byte 0 has a negative size"),
    ),
    "a long name over the limit": (
        header(kind=b"L", size=octal(MAX_EXTENSION + 1)) + END,
        [],
        malformed(f"an extended header claims {MAX_EXTENSION + 1} bytes"),
    ),
    "an extended header over the limit": (
        header(kind=b"x", size=octal(MAX_EXTENSION + 1)) + END,
        [],
        malformed(f"an extended header claims {MAX_EXTENSION + 1} bytes"),
    ),
    "a record without a length": (raw_pax(b"path=p\n") + file() + END, [], damaged_pax(1024)),
    "a record whose length is nothing": (raw_pax(b"0 path=p\n") + file() + END, [], damaged_pax(1024)),
    "a record longer than its header": (raw_pax(b"11 path=p\n") + file() + END, [], damaged_pax(1024)),
    "a record shorter than it says": (raw_pax(b"8 path=p\n") + file() + END, [], damaged_pax(1024)),
    "a record without a newline": (raw_pax(b"9 path=pp") + file() + END, [], damaged_pax(1024)),
    "a record without a value": (pax(b"path") + file() + END, [], damaged_pax(1024)),
    "a NUL in a value": (pax(b"path=a\0b") + file() + END, [], damaged_pax(1024)),
    "a damaged record behind a sound one": (raw_pax(record(b"path=p") + b"zz") + file() + END, [], damaged_pax(1024)),
    "a damaged global header": (raw_pax(b"path=p\n", kind=b"g") + file() + END, [], damaged_pax(1024)),
    "a size that is a word": (
        pax(b"size=many") + file() + END,
        [],
        malformed("an extended header gives the size 'many'"),
    ),
    "a size below zero in an extended header": (
        pax(b"size=-1") + file() + END,
        [],
        malformed("an extended header gives the size '-1'"),
    ),
    **{
        f"a {name} {value!r} in a header": (
            file(patched=(at, value)) + END,
            [],
            malformed(f"a header is damaged: its {name} is no number, at byte 0", offset=0),
        )
        for name, at, value in (
            ("mode", 100, b"-000644\0"),
            ("owner", 108, b"00_0000\0"),
            ("group", 116, b"0o00000\0"),
            ("time", 136, b"\x80" + b"\xff" * 11),
        )
    },
    "a time that is a word": (
        pax(b"mtime=soon") + file() + END,
        [],
        malformed("an extended header gives the mtime 'soon'"),
    ),
    "an owner with a fraction": (
        pax(b"uid=1.5") + file() + END,
        [],
        malformed("an extended header gives the uid '1.5'"),
    ),
    "a size in the digits of another script": (
        pax("size=٣".encode()) + file() + END,
        [],
        malformed("an extended header gives the size '٣'"),
    ),
    "a size over 63 bits": (
        pax(b"size=9223372036854775808") + file() + END,
        [],
        malformed("an extended header gives the size '9223372036854775808'"),
    ),
    "a size of very many digits, shown in part": (
        pax(b"size=" + b"5" * 50) + file() + END,
        [],
        malformed(f"an extended header gives the size '{'5' * 40}'"),
    ),
}


@pytest.mark.parametrize("piece", [1, 512, 1 << 20])
@pytest.mark.parametrize("case", ENDED)
def test_what_ends_the_walk(case: str, piece: int) -> None:
    data, members, problem = ENDED[case]
    assert read(data, piece=piece) == (members, [], problem)


RENAMES = malformed("a global header renames or resizes members, which readers ignore")
REPORTED: dict[str, tuple[bytes, list[Member], ArchiveProblem]] = {
    "a path in a global header": (pax(b"path=p", kind=b"g") + file() + END, [hello(1536)], RENAMES),
    "a link path in a global header": (pax(b"linkpath=p", kind=b"g") + file() + END, [hello(1536)], RENAMES),
    "a size in a global header": (pax(b"size=9", kind=b"g") + file() + END, [hello(1536)], RENAMES),
    "a byte behind the end": (
        file() + END + b"x",
        [hello(512)],
        ArchiveProblem(
            TRAILING,
            "bytes other than zeros follow the end of the archive, from byte 2048 on",
            facts={"offset": 2048},
        ),
    ),
    "a byte in the padding of a member": (
        header(size=octal(5)) + b"hello" + bytes(506) + b"x" + END,
        [hello(512)],
        ArchiveProblem(TRAILING, "bytes other than zeros pad the member f", member="f", level=Severity.WARNING),
    ),
    "bytes behind zeros behind the end": (
        END + bytes(700) + b"xx\0yy\0" + bytes(700),
        [],
        ArchiveProblem(
            TRAILING,
            "bytes other than zeros follow the end of the archive, from byte 1724 on",
            facts={"offset": 1724},
        ),
    ),
}


@pytest.mark.parametrize("piece", [1, 512, 1 << 20])
@pytest.mark.parametrize("case", REPORTED)
def test_what_is_reported_and_read_over(case: str, piece: int) -> None:
    data, members, problem = REPORTED[case]
    assert read(data, piece=piece) == (members, [problem], None)


@pytest.mark.parametrize("taken", [0, 1, 3])
def test_what_a_caller_leaves_of_a_member_is_skipped(taken: int) -> None:
    data = file(b"x" * 700) + file() + END
    found = []
    for each, body in walk(Cursor(chunks(data, 100)), lambda _: None):
        found.append(each)
        for _ in range(taken):
            next(body, None)
    assert found == [Header("f", Kind.FILE, 700, 512), Header("f", Kind.FILE, 5, 2048)]


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_what_python_writes_is_read_back(form: Literal[0, 1, 2]) -> None:
    entry = tarfile.TarInfo("d/" * 60 + "f" * 90 if form != tarfile.USTAR_FORMAT else "d/" * 60 + "f")
    entry.size = 5
    members, reported, ended = read(entry.tobuf(form, "utf-8", "surrogateescape") + padded(b"hello") + END)
    assert [(found.name, found.size, body) for found, body in members] == [(entry.name, 5, b"hello")]
    assert (reported, ended) == ([], None)


def test_a_cursor_counts_what_it_gave() -> None:
    cursor = Cursor(iter([b"", b"abc", b"", b"defg"]))
    assert not cursor.ended()
    assert (cursor.take(2, "a"), cursor.position) == (b"ab", 2)
    assert (cursor.take(0, "a"), cursor.position) == (b"", 2)
    assert [bytes(piece) for piece in cursor.pieces(3, "a")] == [b"c", b"de"]
    assert ([bytes(piece) for piece in cursor.remaining()], cursor.position) == ([b"fg"], 7)
    assert cursor.ended()
