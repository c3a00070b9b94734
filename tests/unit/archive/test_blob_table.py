"""Blobs in packed rows, and archives of which most blobs are packed."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace
from pathlib import Path

import pytest

from auditor.archive.blob_table import BlobTable
from auditor.archive.seen import Seen
from auditor.cli import app
from auditor.model.digest import Digest
from auditor.model.store import LayerVerification, LayerVerificationKind
from tests import images
from tests.unit import archives
from tests.unit.archives import Member, tar

LAYER = LayerVerification(
    LayerVerificationKind.SOUND, diff_id=Digest.of(b"inner"), size=1 << 33, compression="gzip", detail="x"
)


def seen(data: bytes, **changes: object) -> Seen:
    digest = Digest.of(data)
    fields = {"size": len(data), "read": len(data), "digest": digest, "offset": 1 << 40} | changes
    return Seen(name=f"blobs/sha256/{digest.hex}", **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize("layer", [None, LAYER, LayerVerification(LayerVerificationKind.UNDECODABLE, detail="no tar")])
@pytest.mark.parametrize("packing", ["", "gzip"])
def test_a_blob_is_returned_as_it_was_added(layer: LayerVerification | None, packing: str) -> None:
    table, blob = BlobTable(), seen(b"a", layer=layer, packing=packing)
    assert (table.add(blob), table.add(blob), len(table), table.bytes) == (True, True, 1, 1)
    assert table.get(blob.name) == blob
    assert seen(b"b").name not in table


@pytest.mark.parametrize(
    "changes",
    [
        {"read": 0},
        {"digest": Digest.of(b"other")},
        {"kept": b"{}"},
        {"error": "EIO"},
        {"path": Path("x"), "offset": None},
    ],
)
def test_a_blob_that_is_not_intact_or_is_kept_is_not_packed(changes: dict[str, object]) -> None:
    assert not BlobTable().add(seen(b"a", **changes))


def test_many_blobs_are_found() -> None:
    table, blobs = BlobTable(), [seen(b"%d" % n, layer=LAYER if n % 2 else None) for n in range(6000)]
    assert all(table.add(blob) for blob in blobs)
    assert [table.get(blob.name) for blob in blobs] == blobs


IMAGE = archives.image(repeat=True)
MANY = images.index(
    [archives.image(), images.image([images.layer({"a": b"arm"})], platform="linux/arm64")], attestations=True
)
SPARE = [Member(archives.blob_name(images.sha256(data)), data) for data in (b"spare", gzip.compress(b"x" * 600), b"{}")]
UNTYPED = [
    replace(m, data=m.data.replace(b'"mediaType":"', b'"mediaType":"x', 1)) if m.name == "index.json" else m
    for m in archives.oci(IMAGE)
]
LAYERS = {archives.blob_name(layer.digest) for layer in IMAGE.layers}


@pytest.mark.parametrize(
    "members",
    [
        pytest.param(archives.oci(IMAGE), id="an image"),
        pytest.param(archives.oci(MANY), id="an index"),
        pytest.param([*SPARE, *archives.oci(MANY), Member("x", b"y")], id="unreferenced blobs"),
        pytest.param([*SPARE, *UNTYPED], id="a root without a type"),
        pytest.param(archives.old_docker(IMAGE), id="docker"),
        pytest.param(archives.skopeo_docker(IMAGE), id="docker of skopeo"),
        pytest.param(archives.drop(archives.oci(IMAGE), "index.json")[:-1], id="manifest.json with blobs"),
        pytest.param([m for m in archives.oci(IMAGE) if m.name not in LAYERS], id="without layers"),
        pytest.param(archives.swap(archives.oci(IMAGE), min(LAYERS), b"damaged"), id="a damaged layer"),
        pytest.param([*archives.oci(IMAGE), *(m for m in archives.oci(IMAGE) if m.name in LAYERS)], id="layers twice"),
        pytest.param([*SPARE, *SPARE, *archives.oci(IMAGE)], id="unreferenced blobs twice"),
        pytest.param(
            [*archives.oci(images.image(IMAGE.layers, diff_ids=[layer.digest for layer in IMAGE.layers]))],
            id="wrong diffIDs",
        ),
    ],
)
def test_packing_changes_no_report(
    members: list[Member], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    path = tmp_path / "archive.tar"
    path.write_bytes(tar(members))
    reports = []
    for most, keep in ((1 << 20, 1 << 20), (-1, 1 << 20), (-1, 0)):  # the third keeps no document
        monkeypatch.setattr("auditor.archive.members.MAX_WHOLE", most)
        monkeypatch.setattr("auditor.archive.members.KEEP_TOTAL", keep)
        status = app.main(["verify", "--no-progress", "-f", "json", str(path)])
        report = json.loads(capsysbinary.readouterr().out)
        reports.append((status, {name: report[name] for name in ("summary", "findings", "images", "incomplete")}))
    assert reports[0] == reports[1] == reports[2]
