"""Referrers: what has a `subject` in the archive, and what refers to that."""

from __future__ import annotations

from collections.abc import Mapping

from auditor.export.model import ExportPlan, PlannedBlob, Role
from auditor.export.referrers import referrers
from auditor.model.digest import Digest
from auditor.model.oci import OCI_CONFIG, OCI_INDEX, OCI_LAYER, OCI_MANIFEST, Descriptor, Index, Manifest

IMAGE, CONFIG, LAYER = (Digest.of(text) for text in (b"image", b"config", b"layer"))
SIGNATURE, SBOM, DEEP, OTHER, FOLDER, CHILD = (Digest.of(bytes([n])) for n in range(6))
PLAN = ExportPlan(images=(), blobs=(PlannedBlob(IMAGE, 5, Role.MANIFEST), PlannedBlob(LAYER, 5, Role.LAYER)))


def manifest(subject: Digest | None, *, layer: Digest = LAYER) -> Manifest:
    return Manifest(
        config=Descriptor(OCI_CONFIG, CONFIG, 1),
        layers=(Descriptor(OCI_LAYER, layer, 1),),
        subject=None if subject is None else Descriptor(OCI_MANIFEST, subject, 1),
    )


def found(
    candidates: Mapping[Digest, Index | Manifest], *, absent: frozenset[Digest] = frozenset()
) -> tuple[set[Digest], set[str]]:
    got = referrers(PLAN, candidates, size=lambda _: 7, has=lambda digest: digest not in absent)
    assert all((group.target.size, group.names) == (7, (group.target.digest,)) for group in got.groups)
    return {group.target.digest for group in got.groups}, {row.digest for row in got.left_out}


def test_referrers_of_the_images_and_their_referrers() -> None:
    candidates = {SIGNATURE: manifest(SBOM), SBOM: manifest(IMAGE), OTHER: manifest(CHILD)}
    assert found(candidates) == ({SIGNATURE, SBOM}, set())


def test_a_layer_is_no_subject() -> None:
    assert found({OTHER: manifest(LAYER), DEEP: manifest(None)}) == (set(), set())


def test_an_index_refers_and_its_children_are_referred_to() -> None:
    index = Index(
        manifests=(Descriptor(OCI_MANIFEST, CHILD, 1),),
        subject=Descriptor(OCI_MANIFEST, IMAGE, 1),
        media_type=OCI_INDEX,
    )
    assert found({FOLDER: index, DEEP: manifest(CHILD)}) == ({FOLDER, DEEP}, set())


def test_a_referrer_in_part_is_left_out_and_named() -> None:
    assert found({SBOM: manifest(IMAGE, layer=CHILD)}, absent=frozenset({CHILD})) == (set(), {SBOM})


def test_a_circle_ends() -> None:
    assert found({SBOM: manifest(SIGNATURE), SIGNATURE: manifest(SBOM)}) == (set(), set())
    assert found({SBOM: manifest(IMAGE), IMAGE: manifest(SBOM)}) == ({SBOM}, set())
