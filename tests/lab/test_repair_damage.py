"""Damaged blobs of every role, repaired through files and through the API alone, in one namespace and in two."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from pathlib import Path

import pytest

from tests import images
from tests.images import sha256
from tests.lab.kit import faults
from tests.lab.kit.binaries import VERSIONS
from tests.lab.kit.daemon import CRI_NAMESPACE, Containerd
from tests.lab.kit.registry import Registry
from tests.lab.repaired import Dump, dump, ours, repair, sound

LAYERS = [images.layer(images.files(f"damage-{number}", kilobytes=200)) for number in range(3)]
IMAGE = images.image(LAYERS)
INDEX = images.index([IMAGE])
OTHER = images.index([images.image([LAYERS[0], images.layer(images.files("damage-other"))])])
ROLES = {"layer": LAYERS[1].digest, "config": IMAGE.config_digest, "manifest": IMAGE.digest, "index": INDEX.digest}
SECOND = "second"


def flip_middle(daemon: Containerd, digest: str) -> None:
    faults.flip(daemon, digest, offset=daemon.blob_path(digest).stat().st_size // 2)


FAULTS: dict[str, Callable[[Containerd, str], None]] = {
    "flipped": flip_middle,
    "emptied": faults.empty_file,
    "deleted": faults.delete_file,
}


def cases(first: int, *, wide: bool) -> list[tuple[str, str]]:
    """Every fault with every role; without `wide` a third of them, another third for each `first`."""
    every = list(product(FAULTS, ROLES))
    return every if wide else every[first % 3 :: 3]


def others(whole: Dump, digest: str) -> Dump:
    return whole.without([digest])


@pytest.fixture
def names(daemon: Containerd, registry: Registry, request: pytest.FixtureRequest) -> list[tuple[str, str]]:
    """Pull the images, into two namespaces where the test wants that, and collect what the pulls left."""
    found = []
    for built, name in ((INDEX, "lab/damage:1"), (OTHER, "lab/damage-other:1")):
        reference = registry.push(built, name)
        daemon.cri_pull(reference)
        found.append((CRI_NAMESPACE, reference))
        if request.param == 2:
            daemon.ctr("images", "pull", "--plain-http", reference, namespace=SECOND)
            found.append((SECOND, reference))
    for namespace in dict.fromkeys(namespace for namespace, _ in found):
        daemon.force_gc(namespace)
    return found


@pytest.mark.sweep
@pytest.mark.parametrize("root", ["auto", "none"])
@pytest.mark.parametrize("names", [1, 2], indirect=True)
def test_every_fault_of_every_role_is_mended_and_nothing_else_changes(
    daemon: Containerd, names: list[tuple[str, str]], root: str, base: Path, request: pytest.FixtureRequest
) -> None:
    whole = dump(daemon)
    way = {"auto": "file", "none": "api"}[root]
    first = VERSIONS.index(daemon.version) + len(names) + ("auto", "none").index(root)
    for fault, role in cases(first, wide=request.config.getoption("--wide")):
        digest = ROLES[role]
        FAULTS[fault](daemon, digest)
        done = repair(daemon, "--verify", "digests", "--content-root", root)
        assert done.status == 0, (role, fault, done.run)
        assert done.results == {digest: "repaired"}, (role, fault)
        assert done.planned == {digest: ("replace", way)}, (role, fault)
        assert dump(daemon) == whole, (role, fault)
        assert not ours(daemon), (role, fault)
    sound(daemon, (INDEX, OTHER), names, base)
    assert dump(daemon) == whole


@pytest.mark.in_turn
@pytest.mark.parametrize("root", ["auto", "none"])
@pytest.mark.parametrize("names", [2], indirect=True)
def test_everything_at_once(daemon: Containerd, names: list[tuple[str, str]], root: str, base: Path) -> None:
    whole = dump(daemon)
    for digest in INDEX.blobs:
        flip_middle(daemon, digest)
    done = repair(daemon, "--verify", "digests", "--content-root", root, "--jobs", "4")
    assert done.status == 0, done.run
    assert set(done.results) == set(INDEX.blobs)
    assert dump(daemon) == whole
    assert not ours(daemon)
    sound(daemon, (INDEX, OTHER), names, base)


@pytest.mark.in_turn
@pytest.mark.parametrize("names", [1], indirect=True)
@pytest.mark.parametrize("fault", ["lengthened", "directory", "symlink", "fifo"])
def test_whatever_lies_in_the_place_of_a_file(
    daemon: Containerd, names: list[tuple[str, str]], fault: str, base: Path
) -> None:
    whole = dump(daemon)
    digest = LAYERS[2].digest
    match fault:
        case "lengthened":
            faults.append(daemon, digest)
        case "directory":
            faults.replace_with_directory(daemon, digest)
        case "symlink":
            faults.replace_with_symlink(daemon, digest, Path("/etc/hostname"))
        case _:
            faults.replace_with_fifo(daemon, digest)
    done = repair(daemon, "--verify", "digests", "--timeout", "1000")  # nobody waits for a pipe that nobody writes to
    assert done.results == {digest: "repaired"}, done.run
    assert dump(daemon) == whole
    sound(daemon, (INDEX, OTHER), names, base)


@pytest.mark.in_turn
@pytest.mark.parametrize("names", [1], indirect=True)
@pytest.mark.parametrize("root", ["auto", "none"])
def test_records_of_documents_that_were_deleted_come_back_with_their_labels(
    daemon: Containerd, names: list[tuple[str, str]], root: str, base: Path
) -> None:
    whole = dump(daemon)
    for digest in (INDEX.digest, IMAGE.digest, IMAGE.config_digest):
        faults.remove_record(daemon, digest)
    done = repair(daemon, "--content-root", root)
    assert done.status == 0, done.run
    assert set(done.results) >= {INDEX.digest, IMAGE.digest, IMAGE.config_digest}
    sound(daemon, (INDEX, OTHER), names, base)
    after = dump(daemon)
    assert after.snapshots == whole.snapshots
    for key, (size, labels) in whole.records.items():
        kept = {k for k in dict(labels) if "gc.ref" in k or "distribution.source" in k}
        assert after.records[key][0] == size
        assert {k: dict(after.records[key][1]).get(k) for k in kept} == {k: dict(labels)[k] for k in kept}, key


@pytest.mark.in_turn
@pytest.mark.parametrize("names", [1], indirect=True)
@pytest.mark.parametrize("root", ["auto", "none"])
def test_an_image_of_which_only_the_name_is_left_is_fetched_down_to_the_layers(
    daemon: Containerd, names: list[tuple[str, str]], root: str, base: Path
) -> None:
    whole = dump(daemon)
    for digest in INDEX.blobs.keys() - OTHER.blobs.keys():
        faults.remove_record(daemon, digest)
    daemon.force_gc()
    assert len(daemon.blobs()) == len(OTHER.blobs)
    done = repair(daemon, "--content-root", root)
    assert done.status == 0, done.run
    assert set(done.results) == INDEX.blobs.keys() - OTHER.blobs.keys()
    sound(daemon, (INDEX, OTHER), names, base)
    assert dump(daemon).files == whole.files


@pytest.mark.in_turn
@pytest.mark.parametrize("names", [1], indirect=True)
@pytest.mark.parametrize("root", ["auto", "none"])
def test_a_damaged_file_that_no_record_names_is_not_taken_for_the_blob(
    daemon: Containerd, names: list[tuple[str, str]], root: str, base: Path
) -> None:
    whole = dump(daemon)
    digest = LAYERS[1].digest
    flip_middle(daemon, digest)
    faults.remove_record(daemon, digest)
    done = repair(daemon, "--content-root", root)
    assert done.status == 0, done.run
    assert sha256(daemon.blob_path(digest).read_bytes()) == digest
    assert others(dump(daemon), digest) == others(whole, digest)
    sound(daemon, (INDEX, OTHER), names, base)


@pytest.mark.in_turn
@pytest.mark.parametrize("names", [2], indirect=True)
@pytest.mark.parametrize("root", ["auto", "none"])
def test_a_blob_that_another_namespace_holds_damaged_is_mended_for_both(
    daemon: Containerd, names: list[tuple[str, str]], root: str, base: Path
) -> None:
    digest = LAYERS[1].digest
    flip_middle(daemon, digest)
    faults.remove_record(daemon, digest)
    done = repair(daemon, "--content-root", root)
    assert done.results == {digest: "repaired"}, done.run
    sound(daemon, (INDEX, OTHER), names, base)


@pytest.mark.in_turn
@pytest.mark.parametrize("root", ["auto", "none"])
@pytest.mark.parametrize("names", [1], indirect=True)
def test_the_bad_copy_is_kept_where_it_was_asked_for(
    daemon: Containerd, names: list[tuple[str, str]], base: Path, root: str
) -> None:
    assert names
    digest = LAYERS[1].digest
    flip_middle(daemon, digest)
    bad = daemon.blob_path(digest).read_bytes()
    done = repair(daemon, "--verify", "digests", "--keep-quarantine", base / "kept", "--content-root", root)
    (row,) = done.document["outcomes"]
    assert Path(row["aside"]).read_bytes() == bad
    assert Path(row["aside"]).parent == base / "kept"


@pytest.fixture
def discarding(start_daemon: Callable[..., Containerd], daemon: Containerd) -> Containerd:
    daemon.stop()
    return start_daemon(daemon.version, discard_unpacked_layers=True)


@pytest.mark.parametrize("names", [2], indirect=True)
def test_a_large_layer_goes_through_the_file_of_its_write(
    daemon: Containerd, names: list[tuple[str, str]], registry: Registry, base: Path
) -> None:
    large = images.image([images.layer({"data": images.noise("large", 5 << 20)})])
    reference = registry.push(large, "lab/large:1")
    daemon.cri_pull(reference)
    whole = dump(daemon)
    (layer,) = large.layers
    faults.remove_record(daemon, layer.digest)
    daemon.force_gc()
    assert repair(daemon).results == {layer.digest: "repaired"}
    assert dump(daemon).files == whole.files
    assert not ours(daemon)
    sound(daemon, (large, INDEX, OTHER), [*names, (CRI_NAMESPACE, reference)], base)


def test_discarded_layers_are_left_alone_unless_asked_for(discarding: Containerd, registry: Registry) -> None:
    reference = registry.push(INDEX, "lab/damage:1")
    discarding.cri_pull(reference)
    discarding.force_gc()
    before = dump(discarding)
    plain = repair(discarding)
    assert plain.status == 0
    assert not plain.results
    assert {skip["code"] for skip in plain.document["plan"]["skips"]} == {"blob-discarded"}
    assert dump(discarding) == before

    done = repair(discarding, "--include-discarded")
    assert set(done.results) == {layer.digest for layer in LAYERS}, done.run
    assert set(done.results.values()) == {"repaired"}
    assert "exempts this layer from the node's policy" in done.messages
    discarding.force_gc()
    assert discarding.blobs() >= {layer.digest for layer in LAYERS}
