"""Indexes that give an image another platform than its config does."""

from __future__ import annotations

import json

import pytest

from auditor.archive.platform_mismatch import platform_mismatches
from tests import images
from tests.unit import archives
from tests.unit.archives import opened, tar


@pytest.mark.parametrize(
    ("stated", "wrong"),
    [
        ({"os": "linux", "architecture": "arm64"}, True),
        ({"os": "windows", "architecture": "amd64"}, True),
        ({}, True),
        ({"os": "linux", "architecture": "amd64"}, False),
        ({"os": "linux", "architecture": "x86_64"}, False),
        ({"os": "linux", "architecture": "amd64", "variant": "v3"}, False),
        (None, False),
    ],
)
def test_a_platform_that_is_not_the_configs_is_noted(stated: dict[str, str] | None, *, wrong: bool) -> None:
    parts = archives.oci(archives.image())
    document = next(json.loads(member.data) for member in parts if member.name == "index.json")
    document["manifests"][0] |= {} if stated is None else {"platform": stated}
    store = opened(tar(archives.swap(parts, "index.json", json.dumps(document).encode())))
    found = list(platform_mismatches(store.inventory(""), store.documents))
    assert [problem.code for problem in found] == ["archive-platform-mismatch"] * wrong


def test_attestations_have_no_platform_to_compare() -> None:
    store = opened(tar(archives.oci(images.index([archives.image()], attestations=True))))
    assert list(platform_mismatches(store.inventory(""), store.documents)) == []
