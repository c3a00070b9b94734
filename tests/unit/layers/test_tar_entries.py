"""Entries of tars by several writers, against the headers that Python's tarfile reads."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

from auditor.layers.piece_reader import PieceReader
from auditor.layers.tar_entries import Entry, entries

CODEC = "utf-8", "surrogateescape"


def read(data: bytes) -> list[tuple[Entry, bytes]]:
    """Each entry with its data, holes left out."""
    stream = PieceReader([data])
    found = []
    for entry in entries(stream):
        parts = [(0, entry.size)] if entry.sparse is None else entry.sparse
        found.append((entry, b"".join(stream.read(size) for _, size in parts)))
    return found


def header(name: str, kind: bytes = tarfile.REGTYPE, **fields: object) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type = kind
    for field, value in fields.items():
        setattr(info, field, value)
    return info


LONG = "long/" * 60 + "name"
HEADERS = (
    header("./", tarfile.DIRTYPE, mode=0o755),
    header("plain", size=5, mode=0o4755, uid=7, gid=8, mtime=1_600_000_000),
    header("d" * 90 + "/" + "f" * 90, size=700),
    header(LONG, size=1),
    header("symbolic", tarfile.SYMTYPE, linkname=LONG),
    header("hard", tarfile.LNKTYPE, linkname="plain"),
    header("device", tarfile.CHRTYPE, devmajor=1, devminor=70000),
    header("block", tarfile.BLKTYPE, devmajor=7, devminor=3),
    header("fifo", tarfile.FIFOTYPE),
    header("latin-\udcff\nline", size=3),
    header("big", uid=4_294_967_294, gid=2_097_152),
    header("old", mtime=-5),
    header("far", mtime=99_999_999_999),
)
#: Those whose time containerd does not set: it would need more than 63 bits in ns.
UNSET = ("old", "far")


@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_the_headers_are_those_of_tarfile(form: int) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form, errors="surrogateescape") as tar:
        for number, info in enumerate(HEADERS):
            tar.addfile(info, io.BytesIO(bytes([number]) * info.size))
    found = read(out.getvalue())
    for (entry, data), info, number in zip(found, HEADERS, range(len(HEADERS)), strict=True):
        assert entry.path.rstrip(b"/") == info.name.encode(*CODEC).rstrip(b"/")
        assert (entry.kind, entry.mode, entry.uid, entry.gid) == (info.type, info.mode, info.uid, info.gid)
        assert entry.mtime == (0 if info.name in UNSET else int(info.mtime) * 10**9)
        assert (entry.link, entry.device) == (info.linkname.encode(*CODEC), (info.devmajor, info.devminor))
        assert data == bytes([number]) * info.size


def pax(**records: str) -> bytes:
    """A tar of one file of ten bytes with PAX records; `__` in a key stands for a dot."""
    out = io.BytesIO()
    info = header("file", size=10, pax_headers={key.replace("__", "."): value for key, value in records.items()})
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        tar.addfile(info, io.BytesIO(b"0123456789"))
    return out.getvalue()


@pytest.mark.parametrize(
    ("mtime", "expected"),
    [
        ("1600000000.123456789", 1_600_000_000_123_456_789),
        ("5.5", 5_500_000_000),
        ("5.", 5_000_000_000),
        ("-5.5", 0),
        ("1.1234567899", 1_123_456_789),
    ],
)
def test_times_have_nanoseconds(mtime: str, expected: int) -> None:
    ((entry, _),) = read(pax(mtime=mtime))
    assert entry.mtime == expected


def test_xattrs_are_taken_from_pax_records() -> None:
    ((entry, data),) = read(pax(SCHILY__xattr__user__a="b=c\nd", LIBARCHIVE__xattr__x="y"))
    assert (entry.xattrs, data, entry.sparse) == ({"user.a": b"b=c\nd"}, b"0123456789", None)


def test_a_global_header_does_not_apply_to_entries() -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT, pax_headers={"mtime": "5"}) as tar:
        tar.addfile(header("file", mtime=9))
    ((entry, _),) = read(out.getvalue())
    assert entry.mtime == 9 * 10**9


def test_an_old_regular_file_with_a_slash_is_a_directory() -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        tar.addfile(header("folder/", tarfile.AREGTYPE))
        tar.addfile(header("file", tarfile.AREGTYPE))
    assert [entry.kind for entry, _ in read(out.getvalue())] == [tarfile.DIRTYPE, tarfile.REGTYPE]


@pytest.mark.parametrize("version", ["0.0", "0.1", "1.0"])
def test_sparse_files_of_gnu_tar(tmp_path: Path, version: str) -> None:
    path = tmp_path / "holes"
    with path.open("wb") as file:
        file.write(b"a" * 4096)
        file.seek(1 << 20)
        file.write(b"b" * 4096)
        file.truncate(3 << 20)
    tar = shutil.which("tar")
    assert tar is not None
    command: list[str | Path] = [
        tar,
        "--format=pax",
        "--sparse",
        f"--sparse-version={version}",
        "-cf",
        "-",
        "-C",
        tmp_path,
        "holes",
    ]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE)
    ((entry, data),) = read(done.stdout)
    assert (entry.path, entry.size) == (b"holes", 3 << 20)
    assert entry.sparse is not None
    whole = bytearray(entry.size)
    at = 0
    for start, size in entry.sparse:
        whole[start : start + size] = data[at : at + size]
        at += size
    assert bytes(whole) == path.read_bytes()


@pytest.mark.parametrize("size", [1, 700, 1200, 1536, 1600, 1 << 20])
def test_data_that_is_left_is_skipped(size: int) -> None:
    """In pieces that end in a header, in the data, in the padding and between two of them."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name in ("a", "b"):
            tar.addfile(header(name, size=1000), io.BytesIO(os.urandom(1000)))
    data = out.getvalue()
    pieces = (data[at : at + size] for at in range(0, len(data), size))
    assert [entry.path for entry in entries(PieceReader(pieces))] == [b"a", b"b"]


@pytest.mark.parametrize(
    "records",
    [
        {"GNU__sparse__major": "1", "GNU__sparse__minor": "0"},
        {"GNU__sparse__major": "0", "GNU__sparse__minor": "1", "GNU__sparse__map": "0,x"},
        {"GNU__sparse__map": "0,5,7"},
        {"GNU__sparse__map": "0,-5"},
    ],
)
def test_a_sparse_map_that_is_not_valid(records: dict[str, str]) -> None:
    ((entry, _),) = read(pax(**records))
    assert (entry.fault, entry.sparse) == ("a sparse map that cannot be used", None)
