"""What an archive's members may be, one row a branch: what is kept of each, and whole problems, are compared."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from auditor.archive import members
from auditor.archive.docker_manifest import Files
from auditor.archive.members import Collector, cleaned
from auditor.archive.problems import ArchiveProblem, StopReading
from auditor.archive.seen import Seen, claimed, empty_file
from auditor.archive.tar_reader import Header, Kind
from auditor.checks.archive_faults import DUPLICATE, MALFORMED, UNSAFE
from auditor.checks.rule import Rule
from auditor.layers import LayerInspector
from auditor.model.digest import EMPTY, Digest
from auditor.model.findings import Severity

HEX = "a" * 64
DATA = b"some bytes"


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        pytest.param(f"blobs/sha256/{HEX}", f"sha256:{HEX}", id="a blob"),
        pytest.param(f"blobs/sha512/{HEX * 2}", f"sha512:{HEX * 2}", id="another algorithm"),
        pytest.param(f"blobs/sha256/{HEX[1:]}", None, id="a digit too few"),
        pytest.param(f"blobs/sha256/{HEX}/x", None, id="four parts"),
        pytest.param(f"blobs/{HEX}", None, id="two parts"),
        pytest.param(f"layers/sha256/{HEX}", None, id="another folder"),
        pytest.param("blobs/sha256/x", None, id="no digest"),
    ],
)
def test_the_digest_that_a_name_promises(name: str, wanted: str | None) -> None:
    assert claimed(name) == wanted


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        pytest.param("a/b", "a/b", id="a plain name"),
        pytest.param("./a//b/./c/", "a/b/c", id="dots and doubled slashes"),
        pytest.param("", "", id="nothing"),
        pytest.param("./", "", id="the root"),
        pytest.param("/a", None, id="absolute"),
        pytest.param("a/../b", "b", id="a parent"),
        pytest.param("a/../../b", None, id="a parent of the root"),
        pytest.param("a/..", "", id="back to the root"),
        pytest.param("..", None, id="the parent"),
        pytest.param("..a/b..", "..a/b..", id="dots in a name"),
    ],
)
def test_names_below_the_root(name: str, wanted: str | None) -> None:
    assert cleaned(name) == wanted


def collected(*headers: Header) -> Collector:
    def inspect(**_: Any) -> Any:
        raise AssertionError("nothing is to be looked into")

    made = Collector(inspect=inspect, looks=lambda _: False)
    for header in headers:
        made.take(header, [memoryview(DATA)] if header.size else [])
    return made


def file(name: str = f"blobs/sha256/{HEX}", kind: Kind = Kind.FILE, *, link: str = "") -> Header:
    return Header(name, kind, len(DATA) if kind is Kind.FILE else 0, 512, link)


def seen(name: str) -> Seen:
    return Seen(name=name, size=len(DATA), read=len(DATA), digest=Digest.of(DATA), offset=512)


def problem(fault: Rule, message: str, member: str) -> ArchiveProblem:
    return ArchiveProblem(fault, message, member=member)


BLOB = f"blobs/sha256/{HEX}"
TWICE = ArchiveProblem(
    DUPLICATE, f"two members have the name {BLOB} and equal bytes", member=BLOB, level=Severity.WARNING
)

ABSOLUTE = ArchiveProblem(
    UNSAFE,
    "the name /a is absolute: importers pass over it, or unpack it inside their folder",
    member="/a",
    level=Severity.WARNING,
)
INDIRECT = ArchiveProblem(
    UNSAFE,
    f"the name x/../{BLOB} leads to {BLOB}, where crane and tar do not look for it",
    member=f"x/../{BLOB}",
    level=Severity.WARNING,
)


@pytest.mark.parametrize(
    ("headers", "files", "links", "problems"),
    [
        pytest.param([file()], [BLOB], {}, [], id="a file"),
        pytest.param([file(f"./{BLOB}")], [BLOB], {}, [], id="a file, its name cleaned"),
        pytest.param([file("blobs/", Kind.FOLDER)], [], {}, [], id="a folder"),
        pytest.param([file("a/layer.tar", Kind.SYMLINK, link="../b")], [], {"a/layer.tar": "../b"}, [], id="a link"),
        pytest.param(
            [file(BLOB, Kind.SYMLINK, link="b")],
            [],
            {BLOB: "b"},
            [],
            id="a link among the blobs",
        ),
        pytest.param(
            [file("blobs.txt", Kind.SYMLINK, link="b")], [], {"blobs.txt": "b"}, [], id="a link beside the blobs"
        ),
        pytest.param([file("a/c", Kind.HARDLINK, link="./b/d")], [], {"a/c": "../b/d"}, [], id="a hard link"),
        pytest.param(
            [file("a", Kind.HARDLINK, link="../b")],
            [],
            {},
            [problem(UNSAFE, "the hard link a leads out of the archive: ../b", "a")],
            id="a hard link that leads out",
        ),
        pytest.param(
            [file("a", Kind.SPARSE)], [], {}, [problem(UNSAFE, "a is a sparse file", "a")], id="a sparse file"
        ),
        pytest.param([file("a", Kind.SPECIAL)], [], {}, [problem(UNSAFE, "a is a special file", "a")], id="a device"),
        pytest.param(
            [file("a", Kind.OTHER)], [], {}, [problem(UNSAFE, "a is a member of unknown type", "a")], id="another type"
        ),
        pytest.param([file("/a")], [], {}, [ABSOLUTE], id="an absolute name"),
        pytest.param(
            [file("/a", Kind.FOLDER)],
            [],
            {},
            [ABSOLUTE],
            id="an absolute folder",
        ),
        pytest.param([file("//", Kind.FOLDER)], [], {}, [], id="the root folder"),
        pytest.param([file(f"x/../{BLOB}")], [BLOB], {}, [INDIRECT], id="a name that leads back in"),
        pytest.param(
            [file("a/../../b")],
            [],
            {},
            [problem(UNSAFE, "the name a/../../b leads out of the archive", "a/../../b")],
            id="a name that leads out",
        ),
        pytest.param(
            [file("\udcff")],
            [],
            {},
            [problem(UNSAFE, "the name \\xff is not UTF-8", "\\xff")],
            id="a name of other bytes",
        ),
        pytest.param([file(), file()], [BLOB], {}, [TWICE], id="two files of a name"),
        pytest.param([file(), file(f"./{BLOB}")], [BLOB], {}, [TWICE], id="two files of a name, once cleaned"),
        pytest.param(
            [file("a", Kind.SYMLINK, link="b"), file("a", Kind.SYMLINK, link="c")],
            [],
            {"a": "c"},
            [problem(DUPLICATE, "two members have the name a", "a")],
            id="two links of a name",
        ),
        pytest.param([file("a", Kind.FOLDER), file("a", Kind.FOLDER)], [], {}, [], id="a folder twice"),
    ],
)
def test_members(
    headers: list[Header], files: list[str], links: dict[str, str], problems: list[ArchiveProblem]
) -> None:
    made = collected(*headers)
    assert made.files == {name: seen(name) for name in files}
    assert (made.links, list(made.problems)) == (links, problems)


def test_a_link_takes_the_place_of_a_file_of_its_name() -> None:
    made = Collector(inspect=lambda **_: pytest.fail("none is wanted"), looks=lambda _: False)
    made.files["a"] = seen("a")
    made.take(file("a", Kind.SYMLINK, link="b"), [])
    assert (made.files, made.links) == ({}, {"a": "b"})
    assert list(made.problems) == [problem(DUPLICATE, "two members have the name a", "a")]


def test_a_file_in_a_folder_has_a_path_and_no_offset() -> None:
    made = collected()
    made.take(file(), [memoryview(DATA[:4]), memoryview(DATA[4:])], path=Path("/x"))
    assert made.files[BLOB] == Seen(name=BLOB, size=len(DATA), read=len(DATA), digest=Digest.of(DATA), path=Path("/x"))
    assert (made.bytes, made.files[BLOB].whole) == (len(DATA), True)


def test_a_file_whose_reading_fails_is_remembered_with_the_systems_words() -> None:
    def body() -> Any:
        yield memoryview(DATA[:4])
        raise OSError(5, "Input/output error")

    made = collected()
    made.take(file(), body())
    assert made.files[BLOB] == Seen(
        name=BLOB, size=len(DATA), read=4, digest=Digest.of(DATA[:4]), offset=512, error="Input/output error"
    )
    assert not made.files[BLOB].whole


def test_members_are_counted_up_to_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(members, "MAX_MEMBERS", 2)
    made = collected(file("a", Kind.FOLDER), file("a", Kind.FOLDER))
    with pytest.raises(StopReading) as ended:
        made.take(file("a", Kind.FOLDER), [])
    assert ended.value.problem == ArchiveProblem(MALFORMED, "the archive has more than 2 members")


def empty(name: str) -> Header:
    return Header(name, Kind.FILE, 0, 512, "")


def test_of_many_empty_files_only_the_names_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(members, "MAX_EMPTY", 1)
    made = Collector(inspect=LayerInspector, looks=lambda _: False)
    for name in ("a", "b", "index.json", "b", "c"):
        made.take(empty(name), [])
    assert sorted(made.files) == ["a", "index.json"]
    assert ["a" in made.empty, "b" in made.empty, "c" in made.empty] == [False, True, True]
    found = Files(files=made.files, links={"d": "c", "e": "f"}, empty=made.empty)
    assert [found.find("d"), found.find("e")] == [empty_file("c"), None]
    message = "two members have the name b and equal bytes"
    assert list(made.problems) == [ArchiveProblem(DUPLICATE, message, member="b", level=Severity.WARNING)]


@pytest.mark.parametrize("full_first", [True, False])
def test_one_of_many_empty_files_has_the_name_of_another_file(
    monkeypatch: pytest.MonkeyPatch, *, full_first: bool
) -> None:
    monkeypatch.setattr(members, "MAX_EMPTY", 0)
    made = Collector(inspect=LayerInspector, looks=lambda _: False)
    order = [file("a"), empty("a")] if full_first else [empty("a"), file("a")]
    for header in order:
        made.take(header, [memoryview(DATA)] if header.size else [])
    assert list(made.problems) == [problem(DUPLICATE, "two members have the name a", "a")]
    assert made.files["a"].size == (0 if full_first else len(DATA))


def test_an_empty_blob_among_many_empty_files_is_damaged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(members, "MAX_EMPTY", 0)
    made = Collector(inspect=LayerInspector, looks=lambda _: False)
    made.take(empty(BLOB), [])
    made.take(empty(f"blobs/sha256/{EMPTY.hex}"), [])
    assert list(made.problems) == [problem(MALFORMED, f"the blob sha256:{HEX} is empty", BLOB)]


def test_files_with_content_and_links_have_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(members, "MAX_FILES", 2)
    made = collected(file("a", Kind.SYMLINK, link="b"), file("b", Kind.SYMLINK, link="c"))
    with pytest.raises(StopReading, match="more than 2 links and files with content"):
        made.take(file("c", Kind.SYMLINK, link="d"), [])


def test_documents_of_the_archive_are_kept_behind_many_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Attestations may be larger than all that is kept; ctr writes index.json behind them."""
    monkeypatch.setattr("auditor.archive.members.KEEP_TOTAL", len(DATA))
    made = Collector(inspect=lambda **_: None, looks=lambda _: False)  # type: ignore[arg-type]
    for name, data in (("sbom", b'{"_type":"x"}'), ("a", b"{}"), ("b", b"{" + DATA + b"}"), ("index.json", b"{}" * 99)):
        made.take(Header(name, Kind.FILE, len(data), 512), [memoryview(data)])
    assert [name for name, file in made.files.items() if file.kept is not None] == ["a", "index.json"]
