"""Parts that importers need: attestations, and blobs whose descriptors have inline data."""

from __future__ import annotations

import base64
import json

from auditor.archive.parts_missing import parts_missing
from auditor.archive.store import ArchiveStore
from tests import images
from tests.images import BuiltImage
from tests.unit import archives
from tests.unit.archives import Member, opened, tar

ATTESTED = images.index([archives.image()], attestations=True)
PROOF = ATTESTED.children[1]


def missing(store: ArchiveStore, *, everything: bool = False) -> list[str]:
    found = parts_missing(store.inventory(""), store.documents, everything=everything)
    return [problem.member for problem in found if problem.code == "archive-incomplete" and problem.message]


def without(*digests: str) -> ArchiveStore:
    gone = {archives.blob_name(digest) for digest in digests}
    return opened(tar(member for member in archives.oci(ATTESTED) if member.name not in gone))


def test_half_an_attestation_is_damage_and_an_absent_one_only_of_all_platforms() -> None:
    assert isinstance(PROOF, BuiltImage)
    layer = PROOF.layers[0].digest
    for everything in (False, True):
        assert missing(without(), everything=everything) == []
        assert missing(without(layer), everything=everything) == [layer]
    assert missing(without(*PROOF.blobs)) == []
    assert missing(without(*PROOF.blobs), everything=True) == [PROOF.digest]


def test_a_blob_that_is_only_inline_is_missing() -> None:
    built = archives.image()
    members = []
    manifest = json.loads(built.blobs[built.digest])
    manifest["config"]["data"] = base64.b64encode(built.config).decode()
    raw = json.dumps(manifest).encode()
    digest = images.sha256(raw)
    for member in archives.drop(archives.oci(built), "manifest.json"):
        if member.name == archives.blob_name(built.digest):
            members.append(Member(archives.blob_name(digest), raw))
        elif member.name == "index.json":
            index = json.loads(member.data)
            index["manifests"][0] |= {"digest": digest, "size": len(raw)}
            members.append(Member("index.json", json.dumps(index).encode()))
        else:
            members.append(member)
    assert missing(opened(tar(members))) == []
    assert missing(opened(tar(archives.drop(members, archives.blob_name(built.config_digest))))) == [
        built.config_digest
    ]
