"""`auditor repair --from archive:PATH`, with the archives that people have: ours, ctr's, docker's, packed ones."""

from __future__ import annotations

import gzip
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from backports import zstd

from tests import images
from tests.lab.checked import auditor_here
from tests.lab.kit import faults
from tests.lab.kit.daemon import Containerd
from tests.lab.kit.process import scratch
from tests.lab.kit.registry import Registry
from tests.lab.repaired import repair

LAYERS = [images.layer(images.files(f"again-{n}", kilobytes=64)) for n in range(2)]
IMAGE = images.image(LAYERS)
#: Layers as docker's own archives have them: not compressed, so that each digest is the diffID.
LOOSE = images.image([images.layer(images.files(f"loose-{n}"), compression="none") for n in range(2)])


@pytest.fixture(scope="module")
def archives(registry: Registry) -> Iterator[Path]:
    """A folder of archives of both images."""
    with scratch() as base, Containerd("1.7", base) as daemon:
        for name, built in (("image", IMAGE), ("loose", LOOSE)):
            reference = registry.push(built, f"lab/again-{name}:1")
            daemon.cri_pull(reference)
            for packing in ("none", "gzip", "zstd"):
                ran = auditor_here(
                    *("export", "--address", daemon.socket, reference),
                    *("-o", base / f"{name}-{packing}", "--compress", packing),
                )
                assert ran.status == 0, ran.err
            source, target = f"oci-archive:{base / f'{name}-none'}:1", f"docker-archive:{base / f'{name}-docker'}:a/b:1"
            subprocess.run(["skopeo", "--insecure-policy", "copy", source, target], check=True, capture_output=True)
        docker = (base / "loose-docker").read_bytes()
        (base / "loose-docker-gzip").write_bytes(gzip.compress(docker))
        (base / "loose-docker-zstd").write_bytes(zstd.compress(docker))
        yield base


@pytest.fixture
def broken(daemon: Containerd, registry: Registry) -> Callable[[str], str]:
    """Pull one of the images and damage it: a layer flipped, a config emptied."""

    def pull(name: str) -> str:
        built = {"image": IMAGE, "loose": LOOSE}[name]
        reference = registry.push(built, f"lab/again-{name}:1")
        daemon.cri_pull(reference)
        faults.flip(daemon, built.layers[0].digest)
        faults.empty_file(daemon, built.config_digest)
        return reference

    return pull


@pytest.mark.in_turn
@pytest.mark.parametrize(
    "archive", ["image-none", "image-gzip", "image-zstd", "loose-docker", "loose-docker-gzip", "loose-docker-zstd"]
)
def test_from_an_archive(daemon: Containerd, broken: Callable[[str], str], archives: Path, archive: str) -> None:
    kind = archive.partition("-")[0]
    broken(kind)
    built = {"image": IMAGE, "loose": LOOSE}[kind]
    done = repair(daemon, "--verify", "digests", "--from", f"archive:{archives / archive}")
    assert done.status == 0, done.run
    assert set(done.results.values()) == {"repaired"}
    for digest in (built.layers[0].digest, built.config_digest):
        assert images.sha256(daemon.blob_path(digest).read_bytes()) == digest


def test_an_archive_that_unpacked_the_layers_has_only_the_config(
    daemon: Containerd, broken: Callable[[str], str], archives: Path
) -> None:
    """Docker's archives hold layers uncompressed: those are other blobs, and are not taken for the ones wanted."""
    broken("image")
    done = repair(daemon, "--verify", "digests", "--from", f"archive:{archives / 'image-docker'}")
    assert done.status == 1
    assert done.results == {IMAGE.config_digest: "repaired"}


def test_an_export_refetches_from_an_archive(
    daemon: Containerd, broken: Callable[[str], str], archives: Path, base: Path
) -> None:
    name = broken("image")
    ran = auditor_here(
        *("export", "--address", daemon.socket, name, "-o", base / "a.tar"),
        *("--refetch", "--from", f"archive:{archives / 'image-zstd'}"),
    )
    assert ran.status == 0, ran.err
    assert (base / "a.tar").read_bytes() == (archives / "image-none").read_bytes()
