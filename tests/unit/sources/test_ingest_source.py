"""Unfinished writes as a source: only bytes that hash to the digest, read without changing anything."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from auditor.errors import BadBytes, NotOffered
from auditor.model.blob_source import Hints, Offer
from auditor.model.digest import Digest
from auditor.sources.ingest_source import IngestSource
from tests.images import sha256

CONTENT = b"bytes of a blob"


def write(root: Path, name: str, data: bytes) -> Path:
    folder = root / "ingest" / name
    folder.mkdir(parents=True)
    (folder / "ref").touch()
    (folder / "data").write_bytes(data)
    return folder / "data"


def offered(source: IngestSource, data: bytes = CONTENT) -> Offer | None:
    return source.offers(Digest(sha256(data)), size=len(data), media_type="", hints=Hints())


def test_the_write_with_the_right_bytes_is_found_among_those_of_the_same_size(tmp_path: Path) -> None:
    write(tmp_path, "a", CONTENT[::-1])
    right = write(tmp_path, "b", CONTENT)
    write(tmp_path, "c", CONTENT + b"more")
    source = IngestSource(tmp_path)
    offer = offered(source)
    assert offer is not None
    assert (offer.place, offer.certain) == (str(right), True)
    with source.open(offer) as chunks:
        assert b"".join(chunks) == CONTENT
    assert offered(source) == offer


def test_a_write_that_changed_after_the_offer_is_not_offered_again(tmp_path: Path) -> None:
    path = write(tmp_path, "a", CONTENT)
    source = IngestSource(tmp_path)
    offer = offered(source)
    assert offer is not None
    path.write_bytes(CONTENT[::-1])
    with pytest.raises(BadBytes), source.open(offer) as chunks:
        list(chunks)
    assert offered(source) is None


def test_a_write_that_is_gone_is_not_offered_again(tmp_path: Path) -> None:
    path = write(tmp_path, "a", CONTENT)
    source = IngestSource(tmp_path)
    offer = offered(source)
    assert offer is not None
    path.unlink()
    with pytest.raises(NotOffered), source.open(offer):
        pass
    assert offered(source) is None


def test_what_is_no_file_of_a_write_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "ingest/empty").mkdir(parents=True)
    (tmp_path / "ingest/file").write_bytes(CONTENT)
    (tmp_path / "ingest/pipe").mkdir()
    os.mkfifo(tmp_path / "ingest/pipe/data")
    pipe = IngestSource(tmp_path)
    assert offered(pipe) is None
    assert offered(pipe, b"") is None


@pytest.mark.parametrize("root", [None, Path("/nowhere")])
def test_without_a_folder_nothing_is_offered(root: Path | None) -> None:
    assert offered(IngestSource(root)) is None
