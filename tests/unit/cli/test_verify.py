"""`auditor verify` of several paths, and of archives in which nothing can be examined."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest

from tests import images, program
from tests.unit import archives
from tests.unit.archives import Member, tar

ATTESTED = images.index([archives.image()], attestations=True)


def verify(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    done = program.run("verify", *arguments)
    assert "Traceback" not in done.stderr
    return done


def written(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def test_a_path_that_cannot_be_read_is_named_and_the_others_are_verified(tmp_path: Path) -> None:
    good = written(tmp_path / "good.tar", tar(archives.oci(archives.image())))
    lz4 = written(tmp_path / "packed.tar.lz4", b"\x04\x22\x4d\x18" + good.read_bytes())
    bad = written(tmp_path / "bad.tar", good.read_bytes()[:-2000])
    done = verify(good, lz4, "-f", "json")
    assert done.returncode == 3
    assert f"{lz4}: the archive is packed with lz4" in done.stderr
    complete = {node["name"]: node["complete"] for node in json.loads(done.stdout)["nodes"]}
    assert complete == {str(good): True, str(lz4): False}
    worst = verify(lz4, bad, good)
    assert worst.returncode == 1
    assert worst.stdout.startswith("3 archives: 1 damaged, 1 not fully checked\n\nCRITICAL archive-truncated\n")
    assert verify(lz4).returncode == 3
    absent = verify(tmp_path / "absent.tar", good)
    assert absent.returncode == 3
    assert f"there is no {tmp_path / 'absent.tar'}" in absent.stderr
    assert absent.stdout.startswith("2 archives: 1 not fully checked\n")
    assert verify(tmp_path / "absent.tar").returncode == 2


@pytest.mark.parametrize("packing", ["xz", "bzip2"])
def test_what_no_containerd_reads_is_verified_with_a_warning(packing: str, tmp_path: Path) -> None:
    path = written(tmp_path / "a.tar", archives.packed(tar(archives.oci(archives.image())), packing))
    done = verify(path)
    assert done.returncode == 0
    assert f"the archive is compressed with {packing}: `ctr images import` reads no {packing}" in done.stdout
    assert verify(path, "--fail-on", "warning").returncode == 1


def test_an_index_that_lists_nothing_is_not_intact(tmp_path: Path) -> None:
    parts = archives.oci(archives.image())
    for body in (b'{"manifests":null}', b'{"manifests":[]}', b"{}"):
        empty = archives.swap(parts, "index.json", body)
        bare = written(tmp_path / "a.tar", tar(archives.drop(empty, "manifest.json")))
        done = verify(bare, "-f", "json")
        assert (done.returncode, json.loads(done.stdout)["complete"]) == (1, False)
        nothing = written(tmp_path / "b.tar", tar(archives.swap(empty, "manifest.json", b"[]")))
        done = verify(nothing)
        assert done.returncode == 3
        assert "holds no image: nothing was examined" in done.stderr


def test_half_an_attestation_fails(tmp_path: Path) -> None:
    verification = ATTESTED.children[1]
    assert isinstance(verification, images.BuiltImage)

    def without(*digests: str) -> Path:
        gone = {archives.blob_name(digest) for digest in digests}
        kept: list[Member] = [m for m in archives.oci(ATTESTED) if m.name not in gone | {"manifest.json"}]
        return written(tmp_path / "a.tar", tar(kept))

    assert verify(without()).returncode == 0
    half = verify(without(verification.layers[0].digest))
    assert half.returncode == 1
    assert "a part of the attestation" in half.stdout
    absent = without(*verification.blobs)
    assert [verify(absent).returncode, verify(absent, "--all-platforms").returncode] == [0, 1]


#: Words of a node, which say nothing of an archive.
NODE_WORDS = re.compile(
    r"namespace|snapshot|pulled|\bpull\b|\brecord\b|publish|auditor repair|second read|\bnode\b", re.IGNORECASE
)


def faulty(kind: str) -> list[Member]:
    """The members of an archive with one fault in its image."""
    built = archives.image()
    layers = built.layers
    parts = archives.oci(built)
    match kind:
        case "a lying config":
            return archives.oci(images.image(layers, diff_ids=[layers[1].diff_id, layers[0].diff_id]))
        case "a lying config of docker":
            return archives.old_docker(images.image(layers, diff_ids=[layers[1].diff_id, layers[0].diff_id]))
        case "a count that differs":
            return archives.oci(images.image(layers, diff_ids=[layers[0].diff_id]))
        case "no manifest":
            return archives.drop(parts, archives.blob_name(built.digest))
        case "no config":
            return archives.drop(parts, archives.blob_name(built.config_digest))
        case "no layer":
            return archives.drop(parts, archives.blob_name(layers[0].digest))
        case "a flipped layer":
            data = layers[0].blob
            return archives.swap(parts, archives.blob_name(layers[0].digest), data[:-1] + bytes([data[-1] ^ 1]))
        case "a short layer":
            return archives.swap(parts, archives.blob_name(layers[0].digest), layers[0].blob[:-1])
        case "another platform and its attestation":
            arm = images.image([images.layer(images.files("arm"))], platform="linux/arm64")
            gone = {archives.blob_name(digest) for digest in arm.blobs}
            return [m for m in archives.oci(images.index([built, arm], attestations=True)) if m.name not in gone]
        case _:
            raise AssertionError(kind)


@pytest.mark.parametrize(
    "kind",
    [
        "a lying config",
        "a lying config of docker",
        "a count that differs",
        "no manifest",
        "no config",
        "no layer",
        "a flipped layer",
        "a short layer",
        "another platform and its attestation",
    ],
)
def test_findings_are_in_the_words_of_an_archive(tmp_path: Path, kind: str) -> None:
    path = written(tmp_path / "a.tar", tar(faulty(kind)))
    done = verify(path, "--verbose")
    assert done.returncode == (0 if kind.startswith("another") else 1)
    # The codes are the same for every kind of store, and so is the code of a cause.
    text = re.sub(r"[a-z]+(-[a-z]+)+", "", done.stdout)
    assert "means:" in text
    assert NODE_WORDS.findall(text) == []
    [*findings] = json.loads(verify(path, "-f", "json").stdout)["findings"]
    assert NODE_WORDS.findall(" ".join(f"{found['message']} {found['hint']}" for found in findings)) == []


def test_layouts_that_are_sparse_on_purpose(tmp_path: Path) -> None:
    for kind in ("no layer", "no config", "no manifest"):
        for parts in (faulty(kind), archives.drop(faulty(kind), "manifest.json")):
            path = written(tmp_path / "a.tar", tar(parts))
            assert [verify(path).returncode, verify(path, "--sparse").returncode] == [1, 0]
    flipped = written(tmp_path / "b.tar", tar(faulty("a flipped layer")))
    assert verify(flipped, "--sparse").returncode == 1
    bare = written(
        tmp_path / "c.tar", tar([m for m in archives.oci(archives.image()) if m.name in ("index.json", "oci-layout")])
    )
    done = verify(bare, "--sparse")
    assert done.returncode == 3
    assert "nothing was examined" in done.stderr


def test_documents_of_a_sparse_layout_that_disagree(tmp_path: Path) -> None:
    """Nothing is absent that could lead to the image of manifest.json."""
    other = next(m for m in archives.oci(archives.image(seed="two")) if m.name == "manifest.json")
    parts = [*archives.drop(archives.oci(archives.image()), "manifest.json"), other]
    done = verify(written(tmp_path / "a.tar", tar(parts)), "--sparse")
    assert done.returncode == 1
    assert "archive-manifests-disagree" in done.stdout


def test_blobs_in_a_shared_folder(tmp_path: Path) -> None:
    parts = archives.oci(archives.image())
    archives.unpack([m for m in parts if m.name.startswith("blobs/")], tmp_path / "pool")
    bare = [m for m in parts if not m.name.startswith("blobs/")]
    layout = archives.unpack(archives.drop(bare, "manifest.json"), tmp_path / "layout")
    assert verify(layout).returncode == 1
    for folder in ("pool", "pool/blobs"):
        assert verify(layout, "--blobs", tmp_path / folder).returncode == 0
    wrong = verify(layout, "--blobs", tmp_path)
    assert wrong.returncode == 2
    assert "has no folder sha256" in wrong.stderr
