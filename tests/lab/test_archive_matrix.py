"""Archives of each maker in each loader: what `verify` accepts is loaded, except as docs/export.md says."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.archive_bench import DOCKER_ONLY, IMAGE, MAKERS, OCI_ONLY, SPARSE, Bench, archive_bench
from tests.lab.checked import auditor_here
from tests.lab.kit.binaries import VERSIONS
from tests.lab.kit.registry import Registry

#: The documents of an archive, of which no digest is recorded anywhere.
UNHASHED = ("index.json", "manifest.json", "oci-layout", "repositories", "json", "VERSION")
#: Loaders that read docker's manifest.json and no index.json.
NO_DOCKER_MANIFEST = (
    "skopeo docker-archive",
    "skopeo 1.18 docker-archive",
    "crane push",
    "docker load, classic store",
)


@pytest.fixture(scope="module")
def bench(registry: Registry) -> Iterator[Bench]:
    with archive_bench(registry) as made:
        yield made


def refused(maker: str) -> set[str]:
    """The loaders that refuse an archive that `verify` accepts, as docs/export.md says."""
    if maker in SPARSE:
        return {"ctr --all-platforms", "oras"}
    if maker in DOCKER_ONLY:
        return {"skopeo oci-archive", "skopeo 1.18 oci-archive", "skopeo oci-archive with a tag", "oras"}
    if maker == "auditor --compress gzip":
        return {"ctr 1.6", "ctr 1.7", "skopeo docker-archive", "crane push", "oras"}
    if maker == "crane oci, bsdtar":
        return {
            *(f"ctr {version}" for version in VERSIONS),
            "ctr --all-platforms",
            *NO_DOCKER_MANIFEST,
        }
    return set(NO_DOCKER_MANIFEST) if maker in OCI_ONLY else set()


@pytest.mark.parametrize("maker", MAKERS)
def test_what_verify_accepts_is_loaded(bench: Bench, maker: str) -> None:
    ran = auditor_here("verify", "--no-progress", bench.made[maker])
    assert ran.status == 0, ran.out
    sparse = auditor_here("verify", "--no-progress", "--all-platforms", bench.made[maker])
    assert (sparse.status == 1) == (maker in SPARSE)
    assert {name for name, load in bench.loaders(maker) if not load()} == refused(maker)


def test_an_archive_without_names_is_loaded_by_its_digests(bench: Bench) -> None:
    path = bench.made["crane oci, bsdtar"]
    ran = auditor_here("verify", "--no-progress", "-v", path)
    assert "archive-unnamed" in ran.out
    for daemon in bench.daemons.values():
        daemon.ctr("images", "import", "--digests", "--base-name", "example.com/app", path, namespace="digests")
        assert list(daemon.images(namespace="digests")) == [f"example.com/app@{IMAGE.digest}"]


def hashed(path: Path) -> list[range]:
    """The bytes of a plain archive that a digest protects: the content of blobs and layers."""
    with tarfile.open(path) as archive:
        members = [info for info in archive if info.isreg() and info.name.rpartition("/")[2] not in UNHASHED]
    return [range(info.offset_data, info.offset_data + info.size) for info in members]


def verdict(path: Path, data: bytes) -> int:
    path.write_bytes(data)
    return auditor_here("verify", "--no-progress", "-q", path).status


@pytest.mark.parametrize("maker", MAKERS)
def test_a_cut_and_a_flipped_byte_are_found(bench: Bench, base: Path, maker: str) -> None:
    """At some places of each archive: cut in three, and one byte of each blob and layer changed."""
    path = bench.made[maker]
    data = path.read_bytes()
    packed = data.startswith(b"\x1f\x8b")
    end = len(data) if packed else len(data.rstrip(b"\0")) + 512
    for cut in (end // 3, end * 2 // 3 // 512 * 512, end - 512):
        assert verdict(base / "cut", data[:cut]) == 1, cut
    places = [len(data) // 2, len(data) - 3] if packed else [one[len(one) // 2] for one in hashed(path) if len(one)]
    for at in places:
        assert verdict(base / "flipped", data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]) == 1, at
