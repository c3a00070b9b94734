"""Damage that only reading shows, planted in real stores: found under its code, with its images, and nothing else."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from auditor.model.findings import Finding, Report, Severity
from tests import images
from tests.lab.checked import auditor, check, loud, the
from tests.lab.kit import faults
from tests.lab.kit.binaries import VERSIONS
from tests.lab.kit.daemon import Containerd
from tests.lab.kit.registry import Registry

PACKED = images.layer(images.files("verify-packed", kilobytes=96))
TWO = tuple(images.layer(images.files(f"verify-{name}", kilobytes=32), compression="none") for name in ("one", "two"))
TAR, SAME_LENGTH = TWO
ZSTD = images.layer(images.files("verify-zstd", kilobytes=32), compression="zstd")
FIRST = images.image([PACKED, TAR, ZSTD])
SECOND = images.image([PACKED, SAME_LENGTH])
BOTH = {FIRST.digest, SECOND.digest}
BYSTANDER = images.image([images.layer(images.files("verify-bystander", kilobytes=16))])

FILES = ("--verify", "digests")
API = (*FILES, "--content-root", "none")


@pytest.fixture(scope="module", params=VERSIONS)
def pulled(request: pytest.FixtureRequest, session_base: Path, registry: Registry) -> Iterator[Containerd]:
    """Pull three images, two of which share a layer."""
    folder = Path(tempfile.mkdtemp(dir=session_base, prefix=f"verify-{request.param}-"))
    with Containerd(request.param, folder) as daemon:
        for name, image in (("first", FIRST), ("second", SECOND), ("bystander", BYSTANDER)):
            daemon.cri_pull(registry.push(image, f"lab/verify-{name}:1"))
        yield daemon


@pytest.fixture
def daemon(pulled: Containerd) -> Iterator[Containerd]:
    """Put all files back as they were, whatever a test made of them."""
    folder = pulled.content_root / "blobs" / "sha256"
    kept = {path: path.read_bytes() for path in folder.iterdir()}
    yield pulled
    for path in folder.iterdir():
        clear(path)
    for path, data in kept.items():
        path.write_bytes(data)
        path.chmod(0o444)


def clear(path: Path) -> None:
    mode = path.lstat().st_mode
    if stat.S_ISFIFO(mode):
        # Whoever waits for a writer has one now, and sees it go.
        os.close(os.open(path, os.O_RDWR | os.O_NONBLOCK))
    shutil.rmtree(path) if stat.S_ISDIR(mode) else path.unlink()


Plant = Callable[[Containerd, str], object]


@dataclass(frozen=True)
class Fault:
    """What is planted, and what must be said of it where files are seen and where they are not."""

    name: str
    plant: Plant
    code: str
    cause: str | None
    through_api: str | None = None
    #: Words of the message.
    words: str = ""

    @property
    def api(self) -> str | None:
        return self.through_api if self.through_api != "nothing" else None


def flipped(offset: int) -> Plant:
    return lambda daemon, digest: faults.flip(daemon, digest, offset=offset)


def in_the_middle(daemon: Containerd, digest: str) -> None:
    faults.flip(daemon, digest, offset=daemon.blob_path(digest).stat().st_size // 2)


def cut_to_pages(daemon: Containerd, digest: str) -> None:
    os.truncate(daemon.blob_path(digest), 2 * faults.PAGE)


def link_to_nowhere(daemon: Containerd, digest: str) -> None:
    faults.replace_with_symlink(daemon, digest, Path("/nonexistent"))


SAME = "digest-mismatch"
ON_LAYERS = [
    Fault("first byte", flipped(0), "digest-mismatch", "bytes-changed", SAME, "does not match its digest"),
    Fault("middle byte", in_the_middle, "digest-mismatch", "bytes-changed", SAME, "other bytes of the same length"),
    Fault("last byte", flipped(-1), "digest-mismatch", "bytes-changed", SAME, "other bytes of the same length"),
    Fault("a page of zeros", lambda d, x: faults.zero_page(d, x, page=3), SAME, "bytes-changed", SAME, "byte 12288"),
    Fault("emptied", faults.empty_file, "size-mismatch", "emptied", "size-mismatch", "zero-length"),
    Fault("one byte short", faults.shorten, "size-mismatch", "shortened", "size-mismatch", "on disk"),
    Fault("cut to pages", cut_to_pages, "size-mismatch", "shortened", "size-mismatch", "8192 bytes"),
    Fault("one byte more", faults.append, "size-mismatch", "lengthened", "nothing", "on disk"),
    Fault(
        "directory", faults.replace_with_directory, "blob-file-missing", "no-file", "blob-file-missing", "a directory"
    ),
    Fault("link to nowhere", link_to_nowhere, "blob-file-missing", "no-file", "blob-file-missing"),
]
HURT = {PACKED.digest: BOTH, ZSTD.digest: {FIRST.digest}}


@pytest.mark.in_turn
@pytest.mark.parametrize("digest", HURT, ids=["gzip", "zstd"])
@pytest.mark.parametrize("fault", ON_LAYERS, ids=lambda fault: fault.name)
def test_a_damaged_layer(daemon: Containerd, fault: Fault, digest: str) -> None:
    fault.plant(daemon, digest)
    ran = check(daemon, *FILES)
    finding = assert_only(ran.report, fault.code, digest, HURT[digest])
    assert (ran.status, finding.severity, finding.cause) == (1, Severity.CRITICAL, fault.cause)
    assert fault.words in finding.message
    assert ran.report.complete

    ran = check(daemon, *API)
    if fault.api is None:
        assert (ran.status, loud(ran.report)) == (0, set())
    else:
        assert_only(ran.report, fault.api, digest, HURT[digest])
        assert ran.status == 1


def assert_only(report: Report, code: str, digest: str, hurt: set[str]) -> Finding:
    """One finding over info, of this code, about this blob, with these images, the only ones that are not sound."""
    assert loud(report) == {(code, digest)}
    finding = the(report, code)
    assert {image.target for image in finding.images} == hurt
    assert {image.role for image in finding.images} <= {"layer", "config", "manifest"}
    assert {image.target for image in report.images if image.status != "sound"} == hurt
    return finding


@pytest.mark.parametrize("fault", ON_LAYERS[:4], ids=lambda fault: fault.name)
def test_a_damaged_layer_is_not_decompressed_as_well(daemon: Containerd, fault: Fault) -> None:
    """What a layer decompresses to is a question only where its bytes are right."""
    fault.plant(daemon, PACKED.digest)
    assert_only(check(daemon, "--verify", "layers").report, fault.code, PACKED.digest, BOTH)


@pytest.mark.parametrize("way", [FILES, API], ids=["files", "api"])
@pytest.mark.parametrize("offset", [0, 77, -1])
def test_one_bit_of_a_document_is_named(daemon: Containerd, way: tuple[str, ...], offset: int) -> None:
    faults.flip(daemon, FIRST.config_digest, offset=offset, mask=0x10)
    report = check(daemon, *way).report
    finding = assert_only(report, "digest-mismatch", FIRST.config_digest, {FIRST.digest})
    place = offset if offset >= 0 else len(FIRST.config) - 1
    assert f"one bit differs: bit 4 of byte {place}" in finding.message


@pytest.mark.parametrize("way", [FILES, API], ids=["files", "api"])
def test_two_blobs_of_one_length_are_swapped(daemon: Containerd, way: tuple[str, ...]) -> None:
    assert TAR.size == SAME_LENGTH.size
    faults.swap(daemon, TAR.digest, SAME_LENGTH.digest)
    report = check(daemon, *way).report
    assert loud(report) == {("digest-mismatch", TAR.digest), ("digest-mismatch", SAME_LENGTH.digest)}
    by = {finding.subject.digest: finding for finding in report.findings}
    for mine, other, image in ((TAR, SAME_LENGTH, FIRST), (SAME_LENGTH, TAR, SECOND)):
        assert by[mine.digest].facts["actual"] == other.digest
        assert f"these are the bytes of {other.digest}" in by[mine.digest].message
        assert {ref.target for ref in by[mine.digest].images} == {image.digest}


def test_two_blobs_of_different_lengths_are_swapped(daemon: Containerd) -> None:
    """Through the API the longer file is cut at the shorter blob's length."""
    small, large = sorted((PACKED, ZSTD), key=lambda layer: layer.size)
    faults.swap(daemon, PACKED.digest, ZSTD.digest)
    both = {("size-mismatch", PACKED.digest), ("size-mismatch", ZSTD.digest)}
    assert loud(check(daemon, *FILES).report) == both
    assert loud(check(daemon, *API).report) == {("size-mismatch", large.digest), ("digest-mismatch", small.digest)}


def test_a_link_to_the_right_bytes(daemon: Containerd) -> None:
    """containerd makes no links and follows them: the API alone sees sound bytes, and serves them."""
    aside = daemon.base / "aside"
    shutil.copy(daemon.blob_path(PACKED.digest), aside)
    faults.replace_with_symlink(daemon, PACKED.digest, aside)
    finding = assert_only(check(daemon, *FILES).report, "blob-file-missing", PACKED.digest, BOTH)
    assert "a symbolic link" in finding.message
    assert loud(check(daemon, *API).report) == set()


def test_a_pipe_in_the_place_of_a_file(daemon: Containerd) -> None:
    """The daemon waits for ever in opening it: that is this blob's fault and not the daemon's."""
    faults.replace_with_fifo(daemon, PACKED.digest)
    finding = assert_only(check(daemon, *FILES).report, "blob-file-missing", PACKED.digest, BOTH)
    assert "a special file" in finding.message
    ran = check(daemon, *API, "--timeout", "1")
    finding = assert_only(ran.report, "blob-unreadable", PACKED.digest, BOTH)
    assert (ran.status, ran.report.complete) == (1, False)
    assert ran.report.summary.blobs.verified == ran.report.summary.blobs.present - 1


def unprivileged() -> tuple[str, ...]:
    """What root runs a program through to be refused like anybody else."""
    dropped = "-dac_override,-dac_read_search"
    return ("setpriv", f"--bounding-set={dropped}", f"--inh-caps={dropped}")


def test_a_file_that_may_not_be_read(daemon: Containerd) -> None:
    path = daemon.blob_path(PACKED.digest)
    os.chown(path, 65534, 65534)
    path.chmod(0)
    ran = auditor("check", "--format", "json", "--address", daemon.socket, *FILES, through=unprivileged())
    finding = assert_only(ran.report, "blob-unreadable", PACKED.digest, BOTH)
    assert finding.facts["error"] == "Permission denied"
    assert (ran.status, ran.report.complete) == (1, False)
    assert {str(image.status) for image in ran.report.images if image.target in BOTH} == {"unknown"}
    assert loud(check(daemon, *API).report) == set()


@contextmanager
def mounted_over(path: Path) -> Iterator[None]:
    """Let reads of a file fail with EIO: its own memory is mapped nowhere at offset 0."""
    subprocess.run(["mount", "--bind", f"/proc/{os.getpid()}/mem", str(path)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", str(path)], check=True)


def test_a_sector_that_cannot_be_read(daemon: Containerd) -> None:
    with mounted_over(daemon.blob_path(PACKED.digest)):
        ran = check(daemon, *FILES)
    finding = assert_only(ran.report, "blob-unreadable", PACKED.digest, BOTH)
    assert str(finding.facts["error"]).lower().endswith("input/output error")
    assert (ran.status, ran.report.complete) == (1, False)


def test_a_sector_that_the_daemon_cannot_read(daemon: Containerd) -> None:
    faults.replace_with_symlink(daemon, PACKED.digest, Path(f"/proc/{os.getpid()}/mem"))
    ran = check(daemon, *API)
    finding = assert_only(ran.report, "blob-unreadable", PACKED.digest, BOTH)
    assert "input/output error" in finding.message
    assert (ran.status, ran.report.complete) == (1, False)


@pytest.mark.parametrize("way", [FILES, API], ids=["files", "api"])
def test_only_the_selected_image_is_read(daemon: Containerd, way: tuple[str, ...]) -> None:
    faults.flip(daemon, ZSTD.digest)
    other = check(daemon, *way, SECOND.digest)
    assert (other.status, loud(other.report)) == (0, set())
    assert other.report.summary.blobs.verified == other.report.summary.blobs.total == 4
    mine = check(daemon, *way, FIRST.digest)
    assert loud(mine.report) == {("digest-mismatch", ZSTD.digest)}


def test_orphans_are_read_with_no_selection(daemon: Containerd) -> None:
    digest = faults.add_blob(daemon, b"kept by a label alone, and read all the same")
    try:
        faults.flip(daemon, digest, offset=4)
        finding = the(check(daemon, *FILES).report, "digest-mismatch")
        assert (finding.subject.digest, finding.images) == (digest, ())
        assert loud(check(daemon, *FILES, FIRST.digest).report) == set()
    finally:
        faults.remove_record(daemon, digest)


@pytest.mark.parametrize("way", [FILES, API], ids=["files", "api"])
def test_three_unrelated_blobs_make_the_storage_suspect(daemon: Containerd, way: tuple[str, ...]) -> None:
    hurt = (TAR.digest, SAME_LENGTH.digest, BYSTANDER.layers[0].digest)
    for digest in hurt:
        faults.flip(daemon, digest)
    ran = check(daemon, *way)
    assert loud(ran.report) == {*(("digest-mismatch", digest) for digest in hurt), ("suspect-storage", "content")}
    assert the(ran.report, "suspect-storage").facts["unrelated"] == 3


def test_two_are_an_accident(daemon: Containerd) -> None:
    for digest in (TAR.digest, BYSTANDER.layers[0].digest):
        faults.flip(daemon, digest)
    assert {code for code, _ in loud(check(daemon, *FILES).report)} == {"digest-mismatch"}


@pytest.mark.parametrize("way", [FILES, API], ids=["files", "api"])
def test_a_sound_store_is_proven_to_the_last_byte(daemon: Containerd, way: tuple[str, ...]) -> None:
    ran = check(daemon, *way)
    summary = ran.report.summary
    assert (ran.status, loud(ran.report), ran.report.complete) == (0, set(), True)
    assert summary.blobs.verified == summary.blobs.present == len({*FIRST.blobs, *SECOND.blobs, *BYSTANDER.blobs})
    assert summary.bytes.read >= summary.bytes.present
