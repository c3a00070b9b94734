"""Blobs without an image record: repaired by their digest, from the nearest copy, or from where their labels lead."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests import images
from tests.images import sha256
from tests.lab.checked import auditor_here
from tests.lab.kit import faults
from tests.lab.kit.binaries import VERSIONS
from tests.lab.kit.daemon import CRI_NAMESPACE, Containerd
from tests.lab.kit.process import scratch
from tests.lab.kit.registry import Registry
from tests.lab.repaired import repair

LAYER = images.layer(images.files("nearest", kilobytes=16))
IMAGE = images.image([LAYER])
OTHER = images.image([images.layer(images.files("nearest-other", kilobytes=16))])


@pytest.fixture(scope="module", params=VERSIONS)
def node(request: pytest.FixtureRequest) -> Iterator[Containerd]:
    """Start a daemon of each release without an image."""
    with scratch() as base, ExitStack() as running:
        yield running.enter_context(Containerd(request.param, base))


def ghost(daemon: Containerd, data: bytes, *, repository: str = "") -> str:
    """Leave a record without a file, as of an interrupted pull of a repository: no image record exists yet."""
    digest = faults.add_record_without_file(daemon, data)
    if repository:
        faults.set_labels(daemon, digest, {"containerd.io/distribution.source.127.0.0.1": repository})
    return digest


def test_the_bytes_of_a_power_cut_are_taken_from_the_unfinished_write(node: Containerd) -> None:
    data = b"left in ingest" * 100
    digest = ghost(node, data)
    folder = node.content_root / "ingest" / sha256(b"folder").removeprefix("sha256:")
    folder.mkdir()
    for name, content in (("data", data), ("ref", b""), ("total", b"")):
        (folder / name).write_bytes(content)
    done = repair(node, digest)
    assert (done.status, done.results) == (0, {digest: "repaired"})
    assert done.document["plan"]["actions"][0]["sources"] == [f"ingest: {folder}/data"]
    assert node.blob_path(digest).read_bytes() == data
    assert (folder / "data").read_bytes() == data


def test_a_label_without_port_is_completed_by_the_name_of_another_image(node: Containerd, registry: Registry) -> None:
    registry.push(IMAGE, "lab/nearest:1")
    name = registry.push(OTHER, "lab/nearest-other:1")
    node.cri_pull(name)
    digest = ghost(node, IMAGE.blobs[LAYER.digest], repository="lab/nearest")
    done = repair(node, digest)
    assert (done.status, done.results) == (0, {digest: "repaired"}), done.run
    assert sha256(node.blob_path(digest).read_bytes()) == digest
    node.ctr("images", "rm", "--sync", name, namespace=CRI_NAMESPACE)


def test_the_name_in_a_message_is_where_the_printed_command_asks(node: Containerd, registry: Registry) -> None:
    name = registry.push(IMAGE, "lab/nearest:1")
    digest = ghost(node, IMAGE.blobs[LAYER.digest])
    text = f'failed to pull image "{name}": blob {digest} expected at {node.blob_path(digest)}: blob not found'
    told = auditor_here("diagnose", "--address", node.socket, text)
    printed = next(line for line in told.out.splitlines() if re.match(r" +auditor repair .*registry:", line))
    assert name in printed
    words = shlex.split(printed, comments=True)[1:]
    ran = auditor_here(*words, *(() if "--dry-run" in words else ("--yes",)))
    assert "replace  blob" in ran.out
    done = repair(node, digest, "--from", f"registry:{name}")
    assert (done.status, done.results) == (0, {digest: "repaired"})


def test_a_repair_that_finds_nothing_says_what_it_did_not_read(node: Containerd, registry: Registry) -> None:
    name = registry.push(OTHER, "lab/nearest-other:1")
    node.cri_pull(name)
    faults.flip(node, OTHER.layers[0].digest)
    plain = repair(node, name)
    assert (plain.status, plain.document["plan"]["actions"]) == (0, [])
    assert "contents were not read: --verify digests reads them" in plain.document["notes"][0]
    deep = repair(node, "--verify", "digests", name)
    assert (deep.status, deep.results) == (0, {OTHER.layers[0].digest: "repaired"})
    assert deep.document["notes"] == []


def test_what_is_no_blob_here(node: Containerd, registry: Registry) -> None:
    node.cri_pull(registry.push(OTHER, "lab/nearest-other:1"))
    absent = sha256(b"absent")
    ran = auditor_here("repair", "--address", node.socket, "--yes", absent)
    assert ran.status == 3
    assert ran.err.splitlines() == [
        f"auditor: no image and no record has the digest {absent}",
        f"hint: auditor diagnose {absent}",
    ]
    mixed = auditor_here("repair", "--address", node.socket, "--yes", absent, "name")
    assert (mixed.status, "name images or blobs, not both" in mixed.err) == (2, True)
