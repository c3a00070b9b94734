"""`auditor verify` on archives that real tools wrote: sound ones pass, and every planted fault is found and named."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from backports import zstd

from auditor.cli.choices import ReportFormat
from auditor.model.findings import Report, Severity
from tests import images, program
from tests.lab.checked import Run, auditor_here
from tests.lab.kit import bug
from tests.lab.kit.daemon import Containerd
from tests.lab.kit.dockerd import Dockerd
from tests.lab.kit.process import scratch
from tests.lab.kit.registry import Registry
from tests.lab.test_archive_export import Podman
from tests.program import ROOT
from tests.unit import archives
from tests.unit.archives import Member

LAYERS = [images.layer(images.files(f"verified-{n}", kilobytes=16)) for n in range(2)]
IMAGE = images.image(LAYERS)
TOOLS = ("ours", "ours-gzip", "ours-zstd", "ctr", "skopeo-oci", "skopeo-docker", "podman-oci", "podman-docker")
OCI = tuple(tool for tool in TOOLS if "docker" not in tool)
PLAIN = tuple(tool for tool in TOOLS if tool not in ("ours-gzip", "ours-zstd"))


@pytest.fixture(scope="module")
def theirs(registry: Registry) -> Iterator[Mapping[str, Path]]:
    """One image, archived by each tool."""
    with scratch() as folder, Containerd("1.7", folder) as daemon:
        name = registry.push(IMAGE, "lab/verified:1")
        daemon.cri_pull(name)
        paths = {tool: folder / tool for tool in TOOLS}
        daemon.ctr("images", "export", paths["ctr"], name)
        for tool, packing in (("ours", "none"), ("ours-gzip", "gzip"), ("ours-zstd", "zstd")):
            ran = auditor_here("export", "--address", daemon.socket, name, "-o", paths[tool], "--compress", packing)
            assert ran.status == 0, ran.err
        source = f"oci-archive:{paths['ctr']}:1"
        for target in (f"oci-archive:{paths['skopeo-oci']}:1", f"docker-archive:{paths['skopeo-docker']}:a/b:1"):
            subprocess.run(["skopeo", "--insecure-policy", "copy", source, target], check=True, capture_output=True)
        podman = Podman(folder / "podman")
        podman("load", "-i", paths["ctr"])
        for form in ("oci", "docker"):
            podman("save", "--format", f"{form}-archive", "-o", paths[f"podman-{form}"], name)
        yield paths


def verify(*arguments: str | Path) -> Run:
    return auditor_here("verify", "--no-progress", *arguments)


def report(*arguments: str | Path) -> tuple[int, Report]:
    ran = verify("--format", "json", *arguments)
    return ran.status, ran.report


def loud(found: Report) -> set[str]:
    return {f.code for f in found.findings if f.severity is not Severity.INFO}


def members(path: Path) -> list[Member]:
    """All members of a plain archive, to be written again with a fault."""
    found = []
    with tarfile.open(path) as archive:
        for info in archive:
            data = archive.extractfile(info) if info.isreg() else None
            name = f"{info.name}/" if info.isdir() else info.name
            found.append(Member(name, data.read() if data else b"", info.type, info.linkname))
    return found


def layer_of(found: Sequence[Member]) -> Member:
    """The largest file: a layer."""
    return max(found, key=lambda member: len(member.data))


@pytest.mark.parametrize("tool", TOOLS)
def test_sound_archives_pass(theirs: Mapping[str, Path], tool: str) -> None:
    status, found = report(theirs[tool])
    assert (status, loud(found)) == (0, set())
    assert (found.summary.images.total, found.summary.images.sound) >= (1, 1)
    assert found.summary.blobs.verified == found.summary.blobs.present
    assert found.verify == "layers"
    rewritten = theirs[tool].with_suffix(".again")
    if tool in PLAIN:
        rewritten.write_bytes(archives.tar(members(theirs[tool])))
        assert verify(rewritten).status == 0


@pytest.mark.parametrize("packing", ["plain", "gzip", "zstd"])
@pytest.mark.parametrize("tool", ["ours", "ctr", "skopeo-docker"])
def test_from_a_pipe(theirs: Mapping[str, Path], tool: str, packing: str, tmp_path: Path) -> None:
    data = theirs[tool].read_bytes()
    packed = {"plain": data, "gzip": gzip.compress(data), "zstd": zstd.compress(data)}[packing]
    for sent, wanted in ((packed, 0), (packed[: len(packed) // 2], 1)):
        (tmp_path / "sent").write_bytes(sent)
        with subprocess.Popen(["cat", tmp_path / "sent"], stdout=subprocess.PIPE) as cat:
            assert cat.stdout is not None
            done = program.run("verify", "-", "--format", "json", stdin=cat.stdout)
        assert done.returncode == wanted, done.stderr
        assert json.loads(done.stdout)["summary"]["images"]["total"] == (1 - wanted) or wanted


def test_a_layout_folder(theirs: Mapping[str, Path], base: Path) -> None:
    (base / "layout").mkdir()
    subprocess.run(["tar", "-xf", theirs["skopeo-oci"], "-C", base / "layout"], check=True)
    assert verify(base / "layout").status == 0
    victim = base / "layout/blobs/sha256" / LAYERS[0].digest.removeprefix("sha256:")
    victim.chmod(0o644)
    victim.write_bytes(victim.read_bytes()[:-1])
    status, found = report(base / "layout")
    assert (status, loud(found)) == (1, {"size-mismatch"})


Change = Callable[[list[Member]], list[Member]]


def flipped(found: list[Member]) -> list[Member]:
    layer = layer_of(found)
    middle = len(layer.data) // 2
    data = layer.data[:middle] + bytes([layer.data[middle] ^ 1]) + layer.data[middle + 1 :]
    return archives.swap(found, layer.name, data)


def shortened(found: list[Member]) -> list[Member]:
    return archives.swap(found, layer_of(found).name, layer_of(found).data[:-1024])


def emptied(found: list[Member]) -> list[Member]:
    return archives.swap(found, layer_of(found).name, b"")


def without_layer(found: list[Member]) -> list[Member]:
    return archives.drop(found, layer_of(found).name)


def doubled(found: list[Member]) -> list[Member]:
    return [*found, replace(layer_of(found), data=b"other")]


def outside(found: list[Member]) -> list[Member]:
    return [*found, Member("../../etc/passwd", b"x")]


def linked(found: list[Member]) -> list[Member]:
    return [*found, archives.symlink("innocent", "/etc/passwd")]


def hard_linked(found: list[Member]) -> list[Member]:
    return [*found, Member("hard", type=tarfile.LNKTYPE, link="../outside")]


def device(found: list[Member]) -> list[Member]:
    return [*found, Member("dev/mem", type=tarfile.CHRTYPE)]


def pipe(found: list[Member]) -> list[Member]:
    return [*found, Member("fifo", type=tarfile.FIFOTYPE)]


def not_utf8(found: list[Member]) -> list[Member]:
    return [*found, Member("na\udcffme", b"x")]


def sparse(found: list[Member]) -> list[Member]:
    return [*found, Member("sparse", type=tarfile.GNUTYPE_SPARSE)]


EVERYWHERE: Mapping[str, tuple[Change, set[str]]] = {
    "flipped": (flipped, {"digest-mismatch"}),
    "shortened": (shortened, {"size-mismatch"}),
    "emptied": (emptied, {"size-mismatch"}),
    "without a layer": (without_layer, {"incomplete-image", "archive-incomplete"}),
    "doubled": (doubled, {"archive-duplicate-member"}),
    "outside": (outside, {"archive-unsafe-member"}),
    "linked": (linked, {"archive-unsafe-member"}),
    "hard-linked": (hard_linked, {"archive-unsafe-member"}),
    "device": (device, {"archive-unsafe-member"}),
    "pipe": (pipe, {"archive-unsafe-member"}),
    "not UTF-8": (not_utf8, {"archive-unsafe-member"}),
    "sparse": (sparse, {"archive-unsafe-member"}),
}


@pytest.mark.parametrize("fault", EVERYWHERE)
@pytest.mark.parametrize("tool", PLAIN)
def test_a_planted_fault(theirs: Mapping[str, Path], base: Path, tool: str, fault: str) -> None:
    change, codes = EVERYWHERE[fault]
    path = base / "faulty"
    path.write_bytes(archives.tar(change(members(theirs[tool]))))
    status, found = report(path)
    assert status == 1
    # Layers of docker's archives have no digest of their own, and no size: what is wrong shows in the diffID.
    other = {"digest-mismatch", "size-mismatch", "layer-undecodable", "diffid-mismatch"}
    assert loud(found) & (codes | other if codes & other else codes), loud(found)


@pytest.mark.parametrize("name", ["index.json", "oci-layout"])
@pytest.mark.parametrize("tool", [tool for tool in PLAIN if tool in OCI])
def test_without_a_document_of_its_own(theirs: Mapping[str, Path], base: Path, tool: str, name: str) -> None:
    path = base / "faulty"
    path.write_bytes(archives.tar(archives.drop(members(theirs[tool]), name)))
    status, found = report(path)
    # Without oci-layout, importers load what manifest.json names.
    loads = name == "oci-layout" and tool in ("ours", "ctr")
    assert (status, "archive-incomplete" in loud(found)) == (0 if loads else 1, True)


@pytest.mark.parametrize("tool", TOOLS)
def test_garbage_behind_the_end(theirs: Mapping[str, Path], base: Path, tool: str) -> None:
    path = base / "faulty"
    path.write_bytes(theirs[tool].read_bytes() + b"an old longer file")
    status, found = report(path)
    assert status == 1
    assert loud(found) & {"archive-trailing-garbage", "archive-malformed"}


@pytest.mark.parametrize("tool", TOOLS)
def test_cut_anywhere(theirs: Mapping[str, Path], base: Path, tool: str) -> None:
    """At boundaries of blocks, where readers that look for whole members notice least."""
    path = base / "cut"
    data = theirs[tool].read_bytes()
    if tool in PLAIN:
        # Some tools pad with more zeros than the marker needs; what is cut from those is not missed.
        data = data.rstrip(b"\0")
        data += bytes(-len(data) % 512) + bytes(1024)
    cuts = range(0, len(data) - 1, max(512, len(data) // 24 // 512 * 512))
    for cut in (*cuts, len(data) - 512):
        path.write_bytes(data[:cut])
        assert verify(path, "-q").status in ((1, 3) if cut == 0 else (1,)), cut


def test_a_config_that_lies(base: Path) -> None:
    lying = images.image(LAYERS, diff_ids=[LAYERS[1].diff_id, LAYERS[0].diff_id])
    path = base / "lying"
    path.write_bytes(archives.tar(archives.oci(lying)))
    status, found = report(path)
    assert (status, loud(found)) == (1, {"diffid-mismatch"})
    assert verify(path, "--verify", "digests").status == 0


def test_images_of_different_platforms_in_one_archive(base: Path) -> None:
    """Each is held to what the archive has of it."""
    parts = [
        [
            images.image([images.layer(images.files(f"{name}-{arch}", kilobytes=4))], platform=f"linux/{arch}")
            for arch in ("amd64", "arm64")
        ]
        for name in ("first", "second")
    ]
    one, two = (images.index(pair) for pair in parts)
    left = {*parts[0][0].blobs, *parts[1][1].blobs}
    kept = [
        member
        for member in archives.oci(one, two, names=("first:1", "second:1"))
        if member.name not in {archives.blob_name(digest) for digest in left}
    ]
    path = base / "mixed"
    path.write_bytes(archives.tar(kept))
    status, found = report(path)
    assert (status, loud(found)) == (0, set())
    assert {f.code for f in found.findings} == {"platform-not-pulled"}
    assert verify(path, "--platform", "linux/amd64").status == 1
    assert verify(path, "--all-platforms").status == 1


@pytest.mark.parametrize("form", list(ReportFormat))
def test_every_format(theirs: Mapping[str, Path], base: Path, form: ReportFormat) -> None:
    bad = base / "bad"
    bad.write_bytes(archives.tar(flipped(members(theirs["ctr"]))))
    for paths, wanted in (((theirs["ctr"],), 0), ((bad,), 1), ((theirs["ctr"], bad), 1)):
        ran = verify("--format", str(form), *paths)
        assert ran.status == wanted, ran.err
        assert not wanted or "digest-mismatch" in ran.out
        assert ran.out


def test_several_paths_and_exit_statuses(theirs: Mapping[str, Path], base: Path) -> None:
    sound = theirs["ctr"]
    (base / "noise").write_bytes(images.noise("x", 5000))
    (base / "folder").mkdir()
    (base / "nothing").write_bytes(b"")
    assert verify(sound, theirs["ours"]).status == 0
    assert verify(sound, base / "noise").status == 1
    assert verify(base / "absent").status == 2
    assert verify(base / "folder").status == 1
    assert verify(base / "nothing").status == 1
    assert verify(sound, "-q").out == ""


def test_an_archive_of_a_docker_engine(dockerd: Dockerd, registry: Registry, base: Path) -> None:
    found = bug.reproduce_docker(dockerd, registry, name="verify-docker-save")
    sound, broken = base / "sound.tar", base / "broken.tar"
    sound.write_bytes(dockerd.save(found.first))
    broken.write_bytes(dockerd.save(found.second))
    assert verify(sound).status == 0
    status, seen = report(broken)
    assert (status, "archive-incomplete" in loud(seen)) == (1, True)


MEMORY = r"""
import re, sys
from pathlib import Path
from auditor.cli import app
status = app.main(["verify", "-q", sys.argv[1]])
print(status, re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1])
"""


def test_memory_does_not_grow_with_the_archive(base: Path) -> None:
    """A layer of 256 MiB that packs to nothing, in an archive that is packed itself."""
    sizes = []
    for mib in (1, 256):
        layer = images.layer({"zeros": bytes(mib << 20)}, level=1)
        path = base / f"{mib}.tar.gz"
        path.write_bytes(gzip.compress(archives.tar(archives.oci(images.image([layer]))), 1))
        done = subprocess.run(
            [sys.executable, "-c", MEMORY, str(path)], capture_output=True, text=True, check=True, cwd=ROOT
        )
        status, peak = map(int, done.stdout.split())
        assert status == 0
        sizes.append(peak)
    assert sizes[1] - sizes[0] < 64 << 10
