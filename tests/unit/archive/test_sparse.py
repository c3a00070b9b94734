"""Sparse files of the PAX kind, as GNU tar writes them in its three formats: read, read again, and refused."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest

from auditor.archive.open import open_archive
from auditor.archive.sparse import MAX_HOLES, SparseError, check, expand
from auditor.model.digest import Digest
from tests import images
from tests.unit import archives
from tests.unit.archives import Member, codes, opened, tar
from tests.unit.tars import END, header, octal, padded

DATA = b"head" + bytes(70_000) + b"middle" + bytes(90_000)
EXTENTS = [(0, 4), (70_004, 6), (len(DATA), 0)]
STORED = b"headmiddle"
MAP = b"".join(b"%d\n" % n for n in (len(EXTENTS), *(x for pair in EXTENTS for x in pair)))
FORMATS = ("0.0", "0.1", "1.0")


def record(key: str, value: object) -> bytes:
    text = f" {key}={value}\n".encode()
    length = len(text) + len(str(len(text) + 3))
    return b"%d%s" % (length, text)


def sparse(name: str, form: str, *, size: int = len(DATA), stored: bytes = STORED, blocks: bytes = MAP) -> bytes:
    """One sparse member of DATA, without the end of an archive."""
    records = record("GNU.sparse.size", size) + record("GNU.sparse.name", name)
    pairs = [x for pair in EXTENTS for x in pair]
    if form == "0.0":
        for offset, length in EXTENTS:
            records += record("GNU.sparse.offset", offset) + record("GNU.sparse.numbytes", length)
    elif form == "0.1":
        records += record("GNU.sparse.map", ",".join(map(str, pairs)))
    else:
        records = record("GNU.sparse.major", 1) + record("GNU.sparse.minor", 0) + record("GNU.sparse.realsize", size)
        records += record("GNU.sparse.name", name)
        stored = padded(blocks) + stored
    extended = header(name=b"pax", kind=b"x", size=octal(len(records))) + padded(records)
    return extended + header(name=b"GNUSparseFile.0/f", size=octal(len(stored))) + padded(stored)


@pytest.mark.parametrize("form", FORMATS)
def test_a_sparse_member_is_the_whole_file(form: str) -> None:
    built = images.image([images.raw_layer(DATA, images.sha256(DATA), compression="none", media_type="x/y")])
    name = archives.blob_name(images.sha256(DATA))
    members = archives.drop(archives.oci(built), name)
    store = opened(sparse(name, form) + tar(members))
    assert store.problems == ()
    verification = store.verifications()[Digest.of(DATA)]
    assert (verification.actual, verification.size) == (Digest.of(DATA), len(DATA))
    behind = opened(tar(members, end=0) + sparse(name, form) + END)
    assert (behind.problems, behind.complete) == ((), True)


@pytest.mark.parametrize("packing", ["plain", "gzip"])
@pytest.mark.parametrize("form", FORMATS)
def test_it_is_read_again(tmp_path: Path, form: str, packing: str) -> None:
    name = archives.blob_name(images.sha256(DATA))
    path = tmp_path / "a.tar"
    path.write_bytes(archives.packed(sparse(name, form) + tar(archives.oci(archives.image())), packing))
    with open_archive(path).stream("", Digest.of(DATA)) as pieces:
        assert b"".join(pieces) == DATA


@pytest.mark.parametrize("cut", range(0, 2048, 512))
def test_a_cut_is_seen(cut: int) -> None:
    whole = sparse("blobs/sha256/x", "1.0")
    assert codes(opened(whole[: len(whole) - 512 - cut])) >= {"archive-truncated"}


@pytest.mark.parametrize(
    "data",
    [
        sparse("x", "1.0", size=5),
        sparse("x", "1.0", blocks=b""),
        sparse("x", "1.0", blocks=b"9" * 600),
        sparse("x", "1.0", blocks=b"200000\n"),
        sparse("x", "1.0", blocks=b"1\n-4\n4\n"),
        sparse("x", "1.0", blocks=b"1\n0\n4\n"),
        sparse("x", "1.0", stored=STORED + b"more"),
        sparse("x", "0.1", stored=b""),
        sparse("x", "0.0", size=MAX_HOLES * 2),
        sparse("x", "1.0").replace(b"minor=0", b"minor=7"),
    ],
)
def test_a_damaged_map_ends_the_reading(data: bytes) -> None:
    store = opened(data + tar(archives.oci(archives.image())))
    assert (codes(store) >= {"archive-malformed"}, store.complete) == (True, False)
    assert "the sparse file" in store.problems[0].message


def test_extents_out_of_order() -> None:
    with pytest.raises(SparseError, match="out of order"):
        check([(5, 2), (0, 2)], size=9, stored=4)


def test_a_file_that_became_shorter_ends_early() -> None:
    assert b"".join(map(bytes, expand([memoryview(b"ab")], [(2, 4)], 9))) == b"\0\0ab"


def test_a_layer_that_a_real_tar_made_sparse(tmp_path: Path) -> None:
    """Python's own reader sees the same file."""
    path = tmp_path / "a.tar"
    path.write_bytes(sparse("f", "1.0") + END)
    with tarfile.open(path) as archive:
        member = archive.extractfile("f")
        assert member is not None
        assert member.read() == DATA


def test_old_sparse_members_stay_a_fault() -> None:
    members = [*archives.oci(archives.image()), Member("s", b"x" * 700, type=tarfile.GNUTYPE_SPARSE)]
    assert codes(opened(tar(members))) == {"archive-unsafe-member"}
