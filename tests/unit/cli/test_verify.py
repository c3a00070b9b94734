"""`auditor verify` of several paths, and of archives in which nothing can be examined."""

from __future__ import annotations

import json
import lzma
import subprocess
import sys
from pathlib import Path

from tests import images
from tests.unit import archives
from tests.unit.archives import Member, tar

ATTESTED = images.index([archives.image()], attestations=True)


def verify(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "auditor", "verify", *map(str, arguments)]
    done = subprocess.run(line, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    assert "Traceback" not in done.stderr
    return done


def written(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def test_a_path_that_cannot_be_read_is_named_and_the_others_are_verified(tmp_path: Path) -> None:
    good = written(tmp_path / "good.tar", tar(archives.oci(archives.image())))
    xz = written(tmp_path / "packed.tar.xz", lzma.compress(good.read_bytes()))
    bad = written(tmp_path / "bad.tar", good.read_bytes()[:-2000])
    done = verify(good, xz, "-f", "json")
    assert done.returncode == 3
    assert f"{xz}: the archive is packed with xz" in done.stderr
    complete = {node["name"]: node["complete"] for node in json.loads(done.stdout)["nodes"]}
    assert complete == {str(good): True, str(xz): False}
    worst = verify(xz, bad, good)
    assert worst.returncode == 1
    assert worst.stdout.startswith("3 archives: 1 damaged, 1 not fully checked\n\narchive ")
    assert verify(xz).returncode == 3


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
    proof = ATTESTED.children[1]
    assert isinstance(proof, images.BuiltImage)

    def without(*digests: str) -> Path:
        gone = {archives.blob_name(digest) for digest in digests}
        kept: list[Member] = [m for m in archives.oci(ATTESTED) if m.name not in gone | {"manifest.json"}]
        return written(tmp_path / "a.tar", tar(kept))

    assert verify(without()).returncode == 0
    half = verify(without(proof.layers[0].digest))
    assert half.returncode == 1
    assert "a part of the attestation" in half.stdout
    absent = without(*proof.blobs)
    assert [verify(absent).returncode, verify(absent, "--all-platforms").returncode] == [0, 1]
