"""Every way in which an archive is broken as a container; none of them passes."""

from __future__ import annotations

import contextlib
import json
import os
import random
import tarfile
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from auditor.archive.open import open_archive
from auditor.checks.archive_faults import RULES
from auditor.errors import AuditorError
from auditor.model.digest import Digest
from auditor.model.findings import Severity
from auditor.model.store import VerificationKind
from tests.unit import archives
from tests.unit.archives import NAME, Member, codes, opened, tar

BUILT = archives.image()
OCI = archives.oci(BUILT)
DOCKER = archives.old_docker(archives.image(repeat=True))
SKOPEO = archives.skopeo_docker(BUILT)
LAYER = archives.blob_name(BUILT.layers[0].digest)


@pytest.mark.parametrize(
    "parts", [OCI, DOCKER, SKOPEO, [*OCI[-3:], *OCI[:-3]]], ids=["oci", "docker", "skopeo", "turned"]
)
def test_no_cut_before_the_end_marker_is_whole_passes(parts: list[Member]) -> None:
    whole = tar(parts)
    for end in range(0, len(whole), 512):
        store = opened(whole[:end], layers=False)
        assert not store.complete, end
        assert codes(store) >= {"archive-truncated"}, end
    assert opened(whole).problems == ()


@pytest.mark.parametrize("packing", ["gzip", "zstd", "xz", "bzip2"])
def test_no_cut_of_a_compressed_archive_passes(packing: str) -> None:
    whole = archives.packed(tar(OCI), packing)
    for end in [*range(12), *range(12, len(whole), 97), len(whole) - 9, len(whole) - 1]:
        assert codes(opened(whole[:end], layers=False)) & {"archive-truncated", "archive-malformed"}, end


def flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


STRUCTURE: dict[str, tuple[Callable[[], bytes], str]] = {
    "no oci-layout": (lambda: tar(archives.drop(OCI, "oci-layout")), "archive-incomplete"),
    "no index.json": (lambda: tar(archives.drop(OCI, "index.json")), "archive-incomplete"),
    "no manifest.json": (lambda: tar(archives.drop(DOCKER, "manifest.json")), "archive-incomplete"),
    "nothing in it": (lambda: tar([]), "archive-incomplete"),
    "another layout version": (
        lambda: tar(archives.swap(OCI, "oci-layout", b'{"imageLayoutVersion":"9"}')),
        "archive-malformed",
    ),
    "an oci-layout of garbage": (lambda: tar(archives.swap(OCI, "oci-layout", b"{{{")), "archive-malformed"),
    "an index.json of garbage": (
        lambda: tar(archives.swap(OCI, "index.json", b'{"manifests": 1}')),
        "archive-malformed",
    ),
    "an empty index.json": (lambda: tar(archives.swap(OCI, "index.json", b"")), "archive-malformed"),
    "a manifest.json of garbage": (lambda: tar(archives.swap(OCI, "manifest.json", b"[1]")), "archive-malformed"),
    "garbage behind the end": (lambda: tar(OCI) + b"garbage", "archive-trailing-garbage"),
    "garbage behind padding": (lambda: tar(OCI) + bytes(9000) + b"x" + bytes(100), "archive-trailing-garbage"),
    "a second archive behind the end": (lambda: tar(OCI) + tar(OCI), "archive-trailing-garbage"),
    "garbage behind the gzip": (lambda: archives.packed(tar(OCI), "gzip") + b"garbage", "archive-trailing-garbage"),
    "garbage behind the zstd": (lambda: archives.packed(tar(OCI), "zstd") + b"garbage", "archive-trailing-garbage"),
    "a lone block of zeros": (lambda: tar(OCI[:4], end=512) + tar(OCI[4:]), "archive-malformed"),
    "a damaged header": (lambda: flipped(tar(OCI), 512 + 3), "archive-malformed"),
    "no tar at all": (lambda: b"#!/bin/sh\n" * 200, "archive-malformed"),
    "damaged gzip": (lambda: flipped(archives.packed(tar(OCI), "gzip"), 4000), "archive-malformed"),
    "a wrong gzip checksum": (lambda: flipped(archives.packed(tar(OCI), "gzip"), -6), "archive-malformed"),
    "two members of one name": (lambda: tar([*OCI, OCI[3]]), "archive-duplicate-member"),
    "two spellings of one name": (
        lambda: tar([*OCI, replace(OCI[3], name=f"./{OCI[3].name}")]),
        "archive-duplicate-member",
    ),
    "two different index.json": (
        lambda: tar([*OCI, replace(OCI[-3], data=OCI[-3].data + b" ")]),
        "archive-duplicate-member",
    ),
    "an absolute name": (lambda: tar([*OCI, Member("/etc/passwd", b"x")]), "archive-unsafe-member"),
    "a name that leads out": (lambda: tar([*OCI, Member("blobs/../../x", b"x")]), "archive-unsafe-member"),
    "a name that leads in again": (lambda: tar([*OCI, Member("a/../b", b"x")]), "archive-unsafe-member"),
    "a name that is not UTF-8": (lambda: tar([*OCI, Member("caf\udce9", b"x")]), "archive-unsafe-member"),
    "a link for a blob": (lambda: tar([*OCI, archives.symlink("blobs/sha256/x", "y")]), "archive-unsafe-member"),
    "a link to nowhere": (lambda: tar([*DOCKER, archives.symlink("x/layer.tar", "../y")]), "archive-unsafe-member"),
    "a link out": (lambda: tar([*DOCKER, archives.symlink("x/layer.tar", "../../y")]), "archive-unsafe-member"),
    "an absolute link": (lambda: tar([*DOCKER, archives.symlink("l", "/manifest.json")]), "archive-unsafe-member"),
    "a link in a circle": (
        lambda: tar([*DOCKER, archives.symlink("a", "b"), archives.symlink("b", "a")]),
        "archive-unsafe-member",
    ),
    "a hard link": (
        lambda: tar([*OCI, Member("blobs/sha256/h", type=tarfile.LNKTYPE, link="absent")]),
        "archive-unsafe-member",
    ),
    "an absolute hard link": (
        lambda: tar([*OCI, Member("h", type=tarfile.LNKTYPE, link="/etc/passwd")]),
        "archive-unsafe-member",
    ),
    **{
        f"an index.json that lists nothing: {body!r}": (
            partial(lambda raw: tar(archives.drop(archives.swap(OCI, "index.json", raw), "manifest.json")), body),
            "archive-incomplete",
        )
        for body in (b'{"manifests":null}', b'{"manifests":[]}', b"{}")
    },
    "a device": (lambda: tar([*OCI, Member("null", type=tarfile.CHRTYPE)]), "archive-unsafe-member"),
    "a pipe": (lambda: tar([*OCI, Member("pipe", type=tarfile.FIFOTYPE)]), "archive-unsafe-member"),
    "an old sparse file": (
        lambda: tar([*OCI, Member("s", b"x" * 700, type=tarfile.GNUTYPE_SPARSE)]),
        "archive-unsafe-member",
    ),
    "a blob that is a contiguous file": (
        lambda: tar([*OCI, Member("x", b"data", type=tarfile.CONTTYPE)]),
        "archive-unsafe-member",
    ),
    "a hard link before its target": (
        lambda: tar([Member("x", type=tarfile.LNKTYPE, link=LAYER), *OCI]),
        "archive-unsafe-member",
    ),
    "a name that no file can have": (lambda: tar([*OCI, Member("x" * 256, b"data")]), "archive-unsafe-member"),
    "a name without a tag": (lambda: tar(entry(RepoTags=["lab/thing"])), "archive-malformed"),
    "a member of unknown type": (lambda: tar([*OCI, Member("u", b"data", type=b"Z")]), "archive-unsafe-member"),
    "manifest.json names an absent layer": (lambda: tar(archives.drop(OCI, LAYER)), "archive-incomplete"),
    "manifest.json names an absent config": (
        lambda: tar(archives.drop(OCI, archives.blob_name(BUILT.config_digest))),
        "archive-incomplete",
    ),
    "manifest.json names another config": (
        lambda: tar(entry(Config=archives.blob_name(BUILT.layers[0].digest))),
        "archive-manifests-disagree",
    ),
    "manifest.json names other layers": (
        lambda: tar(entry(Layers=[archives.blob_name(BUILT.layers[1].digest)])),
        "archive-manifests-disagree",
    ),
}


def entry(**changes: object) -> list[Member]:
    """The OCI archive with one entry of manifest.json changed."""
    [old] = [json.loads(member.data) for member in OCI if member.name == "manifest.json"]
    return archives.swap(OCI, "manifest.json", json.dumps([old[0] | changes]).encode())


@pytest.mark.parametrize("what", STRUCTURE)
def test_each_fault_of_the_container_is_said_by_its_code(what: str) -> None:
    make, code = STRUCTURE[what]
    assert codes(opened(make())) == {code}


def test_the_same_tag_for_two_images_is_said() -> None:
    other = archives.image(seed="two")
    both = archives.oci(BUILT, other, names=("docker.io/library/a:v1", "docker.io/library/b:v1"))
    [entries] = [json.loads(member.data) for member in both if member.name == "manifest.json"]
    entries[0]["RepoTags"], entries[1]["RepoTags"] = ["b:v1"], ["a:v1"]
    crossed = archives.swap(both, "manifest.json", json.dumps(entries).encode())
    assert opened(tar(both)).problems == ()
    assert codes(opened(tar(crossed))) == {"archive-manifests-disagree"}


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE])
def test_a_link_to_a_member_of_the_archive_is_read(kind: bytes) -> None:
    link = "../../data/layer" if kind == tarfile.SYMTYPE else "data/layer"
    [data] = [member.data for member in OCI if member.name == LAYER]
    linked = [Member("data/layer", data), *(Member(LAYER, type=kind, link=link) if m.name == LAYER else m for m in OCI)]
    store = opened(tar(linked))
    [problem] = store.problems
    assert (problem.severity, "oras" in problem.message) == (Severity.WARNING, True)
    assert {verification.kind for verification in store.verifications().values()} == {VerificationKind.SOUND}
    assert Digest(BUILT.layers[0].digest) in store.verifications()
    damaged = [replace(m, data=flipped(m.data, -1)) if m.name == "data/layer" else m for m in linked]
    assert [p.kind for p in opened(tar(damaged)).verifications().values()].count(VerificationKind.CORRUPT) == 1


def test_a_linked_blob_of_a_layout_folder_is_read_inside_it_only(tmp_path: Path) -> None:
    root = archives.unpack(OCI, tmp_path / "layout")
    (root / LAYER).rename(root / "blobs/sha256/kept")
    (root / LAYER).symlink_to("kept")
    store = open_archive(root)
    assert store.problems == ()
    assert store.verifications()[Digest(BUILT.layers[0].digest)].kind is VerificationKind.SOUND
    (root / "blobs/sha256/kept").rename(tmp_path / "kept")
    (root / LAYER).unlink()
    (root / LAYER).symlink_to("../../../kept")
    assert "archive-unsafe-member" in codes(open_archive(root))


def test_equal_members_of_one_name_are_a_warning_and_different_ones_an_error() -> None:
    for data, level in ((OCI[3].data, Severity.WARNING), (b"x", Severity.ERROR)):
        [found] = opened(tar([replace(OCI[3], data=data), *OCI])).problems
        assert (found.code, found.severity) == ("archive-duplicate-member", level)
        assert ("equal bytes" in found.message) == (level is Severity.WARNING)
        assert found.finding(archive="a", namespace="").severity is level


def test_linked_folders_and_blobs_elsewhere_in_a_layout_folder_are_read(tmp_path: Path) -> None:
    root = archives.unpack(OCI, tmp_path / "layout")
    (root / "blobs/sha256").rename(root / "store")
    (root / "blobs/sha256").symlink_to("../store")
    (root / "store" / LAYER.rpartition("/")[2]).rename(root / "layer")
    (root / "store" / LAYER.rpartition("/")[2]).symlink_to(root.resolve() / "layer")
    (root / "index.json").rename(root / "index-1.json")
    (root / "index.json").symlink_to("index-1.json")
    store = open_archive(root)
    assert store.problems == ()
    assert {verification.kind for verification in store.verifications().values()} == {VerificationKind.SOUND}
    (root / "blobs").rename(tmp_path / "blobs")
    (root / "blobs").symlink_to("../blobs")
    assert "archive-unsafe-member" in codes(open_archive(root))


def test_a_layout_below_a_folder_is_named(tmp_path: Path) -> None:
    archives.unpack(OCI, tmp_path / "layout")
    [problem] = open_archive(tmp_path).problems
    assert "the image is in the folder layout/" in problem.message


@pytest.mark.parametrize(("target", "level"), [("../z", Severity.WARNING), ("../../z", Severity.ERROR)])
def test_equal_links_of_one_name_are_a_warning(target: str, level: Severity) -> None:
    links = [archives.symlink("x/y/layer.tar", one) for one in ("../z", target)]
    found = opened(tar([*DOCKER, Member("x/z", b"1"), Member("z", b"1"), *links])).problems
    assert [(one.code, one.severity) for one in found] == [("archive-duplicate-member", level)]


@pytest.mark.parametrize(
    ("platforms", "wrong"),
    [((None, None), True), (("linux/amd64", "linux/arm64"), False), (("linux/amd64", "linux/amd64"), True)],
)
def test_one_name_for_two_images_is_said(platforms: tuple[str | None, str | None], wrong: bool) -> None:
    other = archives.image(seed="two")
    parts = archives.drop(archives.oci(BUILT, other, names=(NAME, NAME)), "manifest.json")
    index = json.loads(next(member.data for member in parts if member.name == "index.json"))
    for child, platform in zip(index["manifests"], platforms, strict=True):
        if platform:
            os_name, _, architecture = platform.partition("/")
            child["platform"] = {"os": os_name, "architecture": architecture}
    store = opened(tar(archives.swap(parts, "index.json", json.dumps(index).encode())))
    assert codes(store) == ({"archive-duplicate-member"} if wrong else set())


@pytest.mark.parametrize("dropped", ["manifest.json", "index.json", ""])
@pytest.mark.parametrize("named", [True, False])
def test_images_are_noted_that_have_no_name_where_containerd_reads_it(*, named: bool, dropped: str) -> None:
    def stripped(member: Member) -> Member:
        document = json.loads(member.data)
        for each in document["manifests"] if isinstance(document, dict) else document:
            each.pop("annotations" if "digest" in each else "RepoTags", None)
        return replace(member, data=json.dumps(document).encode())

    other = {"manifest.json": "index.json", "index.json": "manifest.json", "": "index.json"}[dropped]
    parts = [stripped(one) if one.name == other and not named else one for one in archives.oci(BUILT)]
    parts = archives.drop(parts, dropped) if dropped else parts
    parts = archives.drop(parts, "oci-layout") if dropped == "index.json" else parts
    assert codes(opened(tar(parts))) == (set() if named else {"archive-unnamed"})


@pytest.mark.parametrize(
    ("old", "new"), [("thing:v1", "Thing:v1"), ("thing:v1", ":v1"), ("blobs/", "./blobs/"), ("blobs/", "blobs//")]
)
@pytest.mark.parametrize(("beside", "level"), [("index.json", Severity.WARNING), ("", Severity.ERROR)])
def test_names_and_paths_in_manifest_json_that_importers_refuse(
    old: str, new: str, beside: str, level: Severity
) -> None:
    parts = OCI if beside else archives.drop(archives.drop(OCI, "index.json"), "oci-layout")
    table = next(member.data for member in parts if member.name == "manifest.json").decode()
    problems = opened(tar(archives.swap(parts, "manifest.json", table.replace(old, new).encode()))).problems
    assert {(one.code, one.severity) for one in problems} == {("archive-malformed", level)}


@pytest.mark.parametrize("name", [LAYER, archives.blob_name(BUILT.config_digest), archives.blob_name(BUILT.digest)])
@pytest.mark.parametrize("damage", [lambda d: flipped(d, -1), lambda d: d[:-1], lambda d: d[:0], lambda d: d + b"\0"])
def test_a_blob_that_is_not_what_its_name_says_is_corrupt(name: str, damage: Callable[[bytes], bytes]) -> None:
    data = next(member.data for member in OCI if member.name == name)
    verifications = opened(tar(archives.swap(OCI, name, damage(data)))).verifications()
    digest = Digest(name.removeprefix("blobs/").replace("/", ":"))
    assert {d for d, verification in verifications.items() if verification.kind is VerificationKind.CORRUPT} == {digest}
    assert verifications[digest].detail == ("empty" if not damage(data) else "")


@pytest.mark.parametrize("layers", [True, False])
@pytest.mark.parametrize("parts", [DOCKER, SKOPEO], ids=["docker", "skopeo"])
@pytest.mark.parametrize("which", [".tar", ".json"])
def test_a_flipped_byte_of_a_docker_archive_is_found_though_no_blob_has_a_name(
    parts: list[Member], which: str, layers: bool
) -> None:
    victim = next(m for m in parts if m.name.endswith(which) and m.data and m.name != "manifest.json")
    at = 600 if which == ".tar" else victim.data.index(b"true")
    verifications = opened(
        tar(archives.swap(parts, victim.name, flipped(victim.data, at))), layers=layers
    ).verifications()
    assert [verification.kind for verification in verifications.values()].count(VerificationKind.CORRUPT) == 1


def test_a_layer_absent_from_a_docker_archive_is_named_by_its_diff_id() -> None:
    built = archives.image()
    parts = archives.old_docker(built)
    absent = f"{1:064x}/layer.tar"
    store = opened(tar(archives.drop(parts, absent)))
    [image] = store.inventory("").images
    raw = json.loads(store.read("", image.target.digest, limit=1 << 20))
    assert raw["layers"][1]["digest"] == built.layers[1].diff_id
    assert Digest(built.layers[1].diff_id) not in store.inventory("").blobs


def test_a_docker_archive_without_a_config_whose_digest_is_known_says_so() -> None:
    parts = archives.old_docker(BUILT)
    [table] = json.loads(parts[-1].data)
    parts = archives.swap(parts, "manifest.json", json.dumps([table | {"Config": "config.json"}]).encode())
    assert codes(opened(tar(parts))) == {"archive-incomplete"}


def test_a_cut_blob_is_corrupt_and_says_how_much_came() -> None:
    store = opened(tar(OCI)[:2560])
    [verification] = [
        verification for verification in store.verifications().values() if verification.kind is VerificationKind.CORRUPT
    ]
    assert verification.detail.startswith(f"cut off after {verification.size} of ")


def test_special_files_and_links_in_a_folder_are_neither_followed_nor_waited_for(tmp_path: Path) -> None:
    root = archives.unpack(OCI, tmp_path / "layout")
    os.mkfifo(root / "blobs/sha256" / ("0" * 64))
    (root / LAYER).unlink()
    (root / LAYER).symlink_to("/dev/zero")
    store = open_archive(root)
    assert sorted(problem.code for problem in store.problems) == ["archive-incomplete", *["archive-unsafe-member"] * 2]
    assert Digest(BUILT.layers[0].digest) not in store.inventory("").blobs


def test_a_folder_that_is_no_image_is_not_walked(tmp_path: Path) -> None:
    (tmp_path / "blobs").mkdir()
    (tmp_path / "big").write_bytes(b"x" * 100)
    store = open_archive(tmp_path)
    assert codes(store) == {"archive-incomplete"}
    assert store.bytes_read == 0


@pytest.mark.parametrize(
    ("members", "severity", "refuses"),
    [
        pytest.param(archives.drop(OCI, "oci-layout"), Severity.WARNING, "oras refuses it", id="absent"),
        pytest.param(archives.swap(OCI, "oci-layout", b"{}"), Severity.WARNING, "oras refuses it", id="no version"),
        pytest.param(
            archives.drop(archives.drop(OCI, "oci-layout"), "manifest.json"),
            Severity.CRITICAL,
            "`docker load` and oras refuse it; podman",
            id="absent, no manifest.json",
        ),
        pytest.param(
            [*OCI[:-2], replace(OCI[-2], data=OCI[-2].data.replace(b"thing:v1", b"thing:v2"))],
            Severity.CRITICAL,
            "`docker load` and oras refuse it; podman",
            id="absent, another name in manifest.json",
        ),
        pytest.param(
            archives.swap(OCI, "oci-layout", b'{"imageLayoutVersion":"2.0.0"}'),
            Severity.CRITICAL,
            "containerd store and oras refuse it; podman",
            id="another version",
        ),
        pytest.param(
            [*DOCKER, OCI[-1]],
            Severity.CRITICAL,
            "containerd store and oras refuse it; podman",
            id="no index.json",
        ),
    ],
)
def test_a_layout_without_a_version_is_judged_by_what_importers_do(
    members: list[Member], severity: Severity, refuses: str
) -> None:
    [problem] = opened(tar(members)).problems
    assert problem.severity is severity
    assert refuses in problem.message


@pytest.mark.parametrize(
    ("link", "severity"),
    [
        pytest.param(archives.symlink("x/l", "../y"), Severity.WARNING, id="to nothing inside"),
        pytest.param(archives.symlink("x/l", "../../y"), Severity.ERROR, id="out"),
        pytest.param(archives.symlink("x/l", "/y"), Severity.ERROR, id="absolute"),
        pytest.param(Member("x/l", type=tarfile.LNKTYPE, link="y"), Severity.ERROR, id="hard, to nothing"),
    ],
)
def test_a_link_to_nothing_is_an_error_where_importers_refuse_it(link: Member, severity: Severity) -> None:
    assert [problem.severity for problem in opened(tar([*OCI, link])).problems] == [severity]
    assert [problem.severity for problem in opened(tar([*DOCKER, link])).problems] == [Severity.ERROR]


def test_problems_become_findings_with_a_code_that_is_documented() -> None:
    store = opened(tar([*OCI, Member("../etc/\x1b[2Jpasswd", b"x")]))
    [finding] = [problem.finding(archive="a.tar", namespace="") for problem in store.problems]
    assert finding.code == "archive-unsafe-member"
    assert finding.severity is Severity.ERROR
    assert "\x1b" not in finding.message
    assert finding.hint
    assert len({rule.code for rule in RULES}) == len(RULES)


def test_an_archive_of_endless_members_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("auditor.archive.members.MAX_MEMBERS", 20)
    assert codes(opened(tar(Member(f"m{n}") for n in range(30)))) == {"archive-malformed"}


WHOLE = tar(OCI)


@settings(max_examples=300)
@given(st.randoms(use_true_random=False), st.sampled_from(["none", "gzip", "zstd", "xz", "bzip2"]))
def test_no_bytes_make_it_fail_otherwise_than_with_a_sentence(dice: random.Random, packing: str) -> None:
    data = bytearray(archives.packed(WHOLE, packing))
    for _ in range(dice.randrange(1, 20)):
        data[dice.randrange(len(data)) if dice.random() < 0.5 else dice.randrange(1024)] = dice.randrange(256)
    with contextlib.suppress(AuditorError):
        assert opened(bytes(data)).inventory("") is not None


@settings(max_examples=200)
@given(st.binary(max_size=3000))
def test_arbitrary_bytes_are_never_sound(data: bytes) -> None:
    with contextlib.suppress(AuditorError):
        assert opened(data).problems
