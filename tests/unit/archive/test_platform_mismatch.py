"""Platforms in an index that are not the config's, or that importers do not find."""

from __future__ import annotations

import json

import pytest

from auditor.archive.platform_mismatch import platform_mismatches
from auditor.archive.problems import ArchiveProblem
from auditor.model.findings import Severity
from tests import images
from tests.images import BuiltImage, BuiltIndex, Descriptor
from tests.unit import archives
from tests.unit.archives import opened, tar

Stated = dict[str, str] | None
AMD64 = {"os": "linux", "architecture": "amd64"}


def judged(data: bytes) -> list[ArchiveProblem]:
    store = opened(data)
    return list(platform_mismatches(store.inventory(""), store.documents))


def below_index_json(stated: Stated) -> bytes:
    parts = archives.oci(archives.image())
    document = next(json.loads(member.data) for member in parts if member.name == "index.json")
    document["manifests"][0] |= {} if stated is None else {"platform": stated}
    return tar(archives.swap(parts, "index.json", json.dumps(document).encode()))


def below_an_index(image: BuiltImage, stated: Stated) -> bytes:
    entry = {**image.target.json(), "platform": stated}
    document = images.dump({"schemaVersion": 2, "mediaType": images.INDEX_TYPES["oci"], "manifests": [entry]})
    target = Descriptor(images.INDEX_TYPES["oci"], images.sha256(document), len(document))
    return tar(archives.oci(BuiltIndex(target, (target,), {**image.blobs, target.digest: document}, (image,))))


@pytest.mark.parametrize(
    ("stated", "level"),
    [
        ({"os": "linux", "architecture": "arm64"}, Severity.WARNING),
        ({"os": "windows", "architecture": "amd64"}, Severity.WARNING),
        ({}, Severity.ERROR),
        ({"os": "linux"}, Severity.ERROR),
        ({"architecture": "amd64"}, None),
        (AMD64, None),
        ({"os": "linux", "architecture": "x86_64"}, None),
        (AMD64 | {"variant": "v3"}, None),
        (None, None),
    ],
)
def test_a_platform_in_index_json(stated: Stated, level: Severity | None) -> None:
    assert [(each.code, each.severity) for each in judged(below_index_json(stated))] == [
        ("archive-platform-mismatch", level) for _ in range(level is not None)
    ]


@pytest.mark.parametrize(
    ("stated", "wanted"),
    [
        ({"os": "linux", "architecture": "x86_64"}, "linux/x86_64; podman and skopeo look for linux/amd64"),
        ({"os": "Linux", "architecture": "AMD64"}, "Linux/AMD64; podman and skopeo look for linux/amd64"),
        ({"architecture": "amd64"}, "unknown/amd64; podman and skopeo look for linux/amd64"),
        (AMD64 | {"variant": "v1"}, "linux/amd64/v1; podman and skopeo look for linux/amd64"),
        ({"os": "linux"}, "has no architecture"),
        ({}, "has no architecture"),
        (AMD64, ""),
        (None, ""),
    ],
)
def test_a_platform_in_a_nested_index(stated: Stated, wanted: str) -> None:
    found = judged(below_an_index(archives.image(), stated))
    assert len(found) == bool(wanted)
    assert all(wanted in problem.message for problem in found)


@pytest.mark.parametrize(
    ("platform", "stated", "count"),
    [("linux", None, 1), ("linux", AMD64, 0), ("linux/arm64", {"os": "linux", "architecture": "arm64"}, 0)]
    + [
        ("linux/arm64", {"os": "linux", "architecture": "arm64", "variant": variant}, n)
        for variant, n in (("v8", 0), ("8", 1))
    ],
)
def test_a_platform_in_the_config(platform: str, stated: Stated, count: int) -> None:
    image = images.image([images.layer({"a": b"b"})], platform=platform)
    assert len(judged(below_an_index(image, stated))) == count


def test_attestations_have_no_platform_to_compare() -> None:
    assert judged(tar(archives.oci(images.index([archives.image()], attestations=True)))) == []
