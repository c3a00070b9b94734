"""Layers whose digests are right and whose content is not, published so: `--verify layers` on three releases."""

from __future__ import annotations

import gzip
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final

import pytest
from backports import zstd

from auditor.model.findings import Report
from tests import images
from tests.lab.checked import Named, check, loud, quiet
from tests.lab.kit.binaries import VERSIONS
from tests.lab.kit.daemon import Containerd
from tests.lab.kit.process import ServerError
from tests.lab.kit.registry import Registry

BASE: Final = images.layer(images.files("layers-base", kilobytes=16))
OCI: Final = f"{images.OCI}layer.v1.tar"
DOCKER: Final = f"{images.DOCKER}image.rootfs.diff.tar"
ELSE: Final = images.sha256(b"something else")


def gz(data: bytes) -> bytes:
    return gzip.compress(data, mtime=0)


def members(data: bytes, size: int = 3000) -> bytes:
    """Many gzip members, as estargz and pgzip write."""
    return b"".join(gz(data[at : at + size]) for at in range(0, len(data), size))


def frames(data: bytes, size: int = 9000) -> bytes:
    """Many zstd frames with a skippable one between, as zstd:chunked writes."""
    skipped = b"\x50\x2a\x4d\x18" + (5).to_bytes(4, "little") + b"extra"
    return skipped.join(zstd.compress(data[at : at + size]) for at in range(0, len(data), size))


def checksum_off(data: bytes) -> bytes:
    packed = gz(data)
    return packed[:-8] + bytes([packed[-8] ^ 1]) + packed[-7:]


Pack = Callable[[bytes], bytes]
#: By name: how a tar of its own is packed, the media type, and what is said of it.
KINDS: Final[Mapping[str, tuple[Pack, str, str | None]]] = {
    "diffid": (gz, f"{OCI}+gzip", "diffid-mismatch"),
    "diffid-none": (lambda tar: tar + bytes(512), OCI, "diffid-mismatch"),
    "gzip-truncated": (lambda tar: gz(tar)[:-9], f"{OCI}+gzip", "layer-undecodable"),
    "gzip-empty": (lambda _: gz(b""), f"{OCI}+gzip", None),
    "gzip-of-nothing": (lambda _: b"\x1f\x8b\x08", f"{OCI}+gzip", "layer-undecodable"),
    "gzip-trailing-garbage": (lambda tar: gz(tar) + b"garbage", f"{OCI}+gzip", "layer-undecodable"),
    "gzip-trailing-zeros": (lambda tar: gz(tar) + bytes(100), f"{OCI}+gzip", "layer-undecodable"),
    "gzip-many-members": (members, f"{OCI}+gzip", None),
    "gzip-checksum": (checksum_off, f"{OCI}+gzip", "layer-undecodable"),
    "zstd-truncated": (lambda tar: zstd.compress(tar)[:-100], f"{OCI}+zstd", "layer-undecodable"),
    "zstd-trailing-garbage": (lambda tar: zstd.compress(tar) + b"garbage", f"{OCI}+zstd", "layer-undecodable"),
    "zstd-many-frames": (frames, f"{OCI}+zstd", None),
    "no-tar": (lambda _: b"just a text, long enough to be no header" * 99, OCI, "layer-undecodable"),
    "tar-cut": (lambda tar: tar[:20000], OCI, "layer-undecodable"),
    "zstd-as-gzip": (zstd.compress, f"{OCI}+gzip", "media-type-mismatch"),
    "tar-as-gzip": (lambda tar: tar, f"{OCI}+gzip", "media-type-mismatch"),
    "gzip-as-zstd": (gz, f"{OCI}+zstd", "media-type-mismatch"),
    "gzip-as-tar": (gz, OCI, "layer-undecodable"),
    "gzip-as-docker-tar": (gz, DOCKER, None),
    "encrypted": (lambda _: images.noise("secret", 5000), f"{OCI}+gzip+encrypted", None),
}
#: Whose config names the digest of the very bytes, or of others, instead of the tar's.
DIFF_IDS: Final = {
    "diffid": ELSE,
    "gzip-empty": images.sha256(b""),
    "no-tar": images.sha256(KINDS["no-tar"][0](b"")),
    "tar-cut": images.sha256(images.tar(images.files("tar-cut", kilobytes=48))[:20000]),
}


def made(name: str) -> images.BuiltLayer:
    pack, media_type, _ = KINDS[name]
    tar = images.tar(images.files(name, kilobytes=48))
    return images.raw_layer(pack(tar), DIFF_IDS.get(name, images.sha256(tar)), media_type=media_type)


LAYERS: Final = {name: (made(name), code) for name, (_, _, code) in KINDS.items()}
#: What containerd itself unpacks of these, tried below: whatever we call sound, and lying types that it sees through.
UNPACKS: Final = frozenset(name for name, (_, code) in LAYERS.items() if code in (None, "media-type-mismatch"))
IMAGES: Final = {name: images.image([BASE, layer]) for name, (layer, _) in LAYERS.items()}
FEW: Final = images.image([BASE, images.layer({"few": b"diff_ids"})], diff_ids=[BASE.diff_id])
#: The same layer, and a config that is right about it.
SHARING: Final = images.image([BASE, images.layer(images.files("diffid", kilobytes=48), level=9)])
ZEROS: Final = bytes(64 << 20)
BOMB: Final = images.image([images.raw_layer(gz(ZEROS), images.sha256(ZEROS))])
EXPECTED: Final[set[Named]] = {
    *((code, layer.digest) for layer, code in LAYERS.values() if code),
    ("layer-count-mismatch", FEW.digest),
}


@pytest.fixture(scope="module", params=VERSIONS)
def fetched(request: pytest.FixtureRequest, session_base: Path, registry: Registry) -> Iterator[Containerd]:
    """Fetch all of them without unpacking, each as an image of its own name."""
    folder = Path(tempfile.mkdtemp(dir=session_base, prefix=f"layers-{request.param}-"))
    with Containerd(request.param, folder) as daemon:
        for name, image in {**IMAGES, "few": FEW, "sharing": SHARING, "bomb": BOMB}.items():
            daemon.ctr("content", "fetch", "--plain-http", registry.push(image, f"lab/layers-{name}:1"))
        yield daemon


def name_of(report: Report, digest: str) -> set[str]:
    """The images that the findings about a blob name, by the part of the name that tells them apart."""
    named = {image.name for finding in report.findings if finding.subject.digest == digest for image in finding.images}
    return {name.partition("lab/layers-")[2].removesuffix(":1") for name in named}


@pytest.mark.parametrize("root", ["auto", "none"])
def test_each_is_found_under_its_code_with_its_image(fetched: Containerd, root: str) -> None:
    ran = check(fetched, "--verify", "layers", "--content-root", root)
    assert loud(ran.report) == EXPECTED
    assert SHARING.layers[1].digest == LAYERS["diffid"][0].digest
    for name, (layer, code) in LAYERS.items():
        if code:
            assert name_of(ran.report, layer.digest) == {name}
    assert (ran.status, ran.report.complete) == (1, True)
    unknown = {digest for code, digest in quiet(ran.report) if code == "layer-unverifiable"}
    assert unknown == {LAYERS["encrypted"][0].digest}
    hurt = {image.names[0].partition("lab/layers-")[2] for image in ran.report.images if image.status == "damaged"}
    wrong = {name for name, (_, code) in LAYERS.items() if code and code != "media-type-mismatch"}
    assert hurt == {f"{name}:1" for name in (*wrong, "few")}


def test_hashing_alone_finds_none_of_them(fetched: Containerd) -> None:
    report = check(fetched, "--verify", "digests").report
    assert loud(report) == {("layer-count-mismatch", FEW.digest)}


def test_a_bound_makes_a_bomb_unverifiable_and_a_bound_that_is_large_enough_does_not(fetched: Containerd) -> None:
    (bomb,) = BOMB.layers
    name = BOMB.digest
    bounded = check(fetched, "--verify", "layers", "--max-layer-size", "1MiB", name)
    assert (bounded.status, quiet(bounded.report) >= {("layer-unverifiable", bomb.digest)}) == (3, True)
    enough = check(fetched, "--verify", "layers", "--max-layer-size", "64MiB", name)
    assert (enough.status, loud(enough.report)) == (0, set())
    assert ("layer-unverifiable", bomb.digest) not in quiet(enough.report)


@pytest.mark.parametrize("name", sorted(set(LAYERS) - {"encrypted"}))
def test_containerd_unpacks_what_we_call_sound_and_nothing_else(fetched: Containerd, name: str) -> None:
    reference = next(image for image in fetched.images() if f"layers-{name}:" in image)
    # No release has a command that unpacks what is there; a pull of it does nothing else.
    local = ("--local",) if fetched.version == "2.1" else ()
    try:
        fetched.ctr("images", "pull", "--plain-http", *local, reference)
    except ServerError:
        unpacked = False
    else:
        unpacked = True
    assert unpacked is (name in UNPACKS)
