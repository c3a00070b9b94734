"""What was handed over in place of an image archive is named."""

from __future__ import annotations

import pytest

from auditor.archive.problems import KEPT
from auditor.archive.recognise import packing_problems
from auditor.model.findings import Severity
from tests.unit import archives
from tests.unit.archives import Member, opened, tar

OCI = archives.oci(archives.image())


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "an empty file"),
        (archives.packed(b"", "gzip"), "an empty file"),
        (b"<!DOCTYPE html><html>404</html>", "an HTML page"),
        (b"\n <HTML><head>" + b" " * 600, "an HTML page"),
        (b"<?xml version='1.0'?><Error><Code>NoSuchKey</Code></Error>", "an XML document"),
        (b'{"errors":[{"code":"UNAUTHORIZED"}]}', "a JSON document"),
        (b"\xef\xbb\xbf<html>", "an HTML page"),
        (b"Not Found\n", "a text, which begins with: Not Found"),
        ("nicht gefunden: Ü".encode() * 60, "a text, which begins with: nicht gefunden"),
        (b"hsqs" + bytes(600), "a SquashFS file system"),
        (b"7z\xbc\xaf\x27\x1c" + bytes(600), "a 7z archive"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n", "a git-lfs pointer"),
        (archives.packed(archives.packed(tar(OCI), "gzip"), "gzip"), "compressed twice"),
    ],
)
def test_a_file_that_is_no_archive_is_named(data: bytes, words: str) -> None:
    problem = opened(data).problems[0]
    assert problem.code == ("archive-truncated" if words == "an empty file" else "archive-malformed")
    assert words in problem.message


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ([Member(f"layout/{m.name}", m.data, m.type) for m in OCI], "in the folder layout/"),
        ([Member("a.tar", tar(OCI)), Member("b.tar.gz", b"x")], "an archive of archives, such as a.tar"),
        ([Member("repositories", b"{}"), Member("0/layer.tar", b"x")], "before Docker 1.10"),
        ([], "it has no files"),
        ([Member("app/Chart.yaml", b"x"), Member("app/values.yaml", b"x")], "a Helm chart"),
        ([Member("etc/passwd", b"x"), Member("usr/bin/env", b"x")], "as `docker export` writes it"),
        ([Member("readme", b"x")], "importers find no image in it"),
    ],
)
def test_an_archive_of_something_else_is_named(members: list[Member], words: str) -> None:
    [problem] = opened(tar(members)).problems
    assert (problem.code, words in problem.message) == ("archive-incomplete", True)


def test_a_member_whose_name_begins_like_json_is_no_json() -> None:
    assert opened(tar([Member("{odd}" + "d" * 94, b"x"), *OCI])).problems == ()


@pytest.mark.parametrize(
    ("path", "packing", "words"),
    [
        ("a.tar.zst", "gzip", "says zstd, and it is compressed with gzip"),
        ("a/b.tgz", "none", "says gzip, and it is not compressed"),
        ("A.TAR.GZ", "zstd", "says gzip, and it is compressed with zstd"),
        ("a.tar.gz", "gzip", ""),
        ("a.tar", "gzip", ""),
        ("-", "gzip", ""),
        ("layout.gz", "folder", ""),
        ("a.txz", "none", "says xz, and it is not compressed"),
        ("a.tar.gz", "bzip2", "says gzip, and it is compressed with bzip2"),
    ],
)
def test_a_name_that_says_another_compression_is_noted(path: str, packing: str, words: str) -> None:
    found = [problem for problem in packing_problems(path, packing) if problem.code != "archive-compression"]
    assert [(problem.code, problem.severity, words in problem.message) for problem in found] == (
        [("archive-misnamed", Severity.INFO, True)] if words else []
    )


def test_problems_of_one_kind_are_folded() -> None:
    members = [*OCI, *(Member(f"../{n}", b"") for n in range(250)), OCI[3]]
    *listed, last = opened(tar(members)).problems
    assert len(listed) == KEPT + 1
    assert (last.code, last.facts, last.severity) == ("archive-unsafe-member", {"more": 150}, Severity.ERROR)
    assert "150 more" in last.message
