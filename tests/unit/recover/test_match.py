"""Which name leads to which image, and how sure."""

from __future__ import annotations

from pathlib import Path

import msgspec

from auditor.model.digest import Digest
from auditor.offline.store import OfflineStore
from auditor.recover.blob_documents import BlobDocuments, scan
from auditor.recover.match import Certainty, Matched, match
from auditor.recover.name_sources import NameHint
from tests import images
from tests.unit.recover.disks import disk, image

ONE, TWO = image("one"), image("two")
INDEX = images.index([ONE, TWO])


def found(folder: Path, *held: images.Built) -> BlobDocuments:
    store = OfflineStore(disk(folder, *held))
    return scan(store.content, store.files())


def hint(name: str, digest: str, source: str = "log", *, possible: bool = False) -> NameHint:
    return NameHint(name=name, digest=Digest(digest), source=source, possible=possible)


def rows(matched: Matched) -> dict[str, tuple[str, Certainty, str]]:
    return {image.name: (str(image.target.digest), image.certainty, image.note) for image in matched.images}


def test_images_are_found_by_their_shape(tmp_path: Path) -> None:
    thing = images.artifact([images.blob_layer(b"sbom")])
    lone = image("three")
    seen = found(tmp_path, INDEX, thing, lone)
    assert {str(digest) for digest in seen.roots()} == {INDEX.digest, lone.digest}


def test_a_damaged_document_is_no_image(tmp_path: Path) -> None:
    root = disk(tmp_path, ONE)
    path = root / "io.containerd.content.v1.content/blobs/sha256" / ONE.digest.partition(":")[2]
    path.write_bytes(ONE.manifest.replace(b"1", b"2"))
    store = OfflineStore(root)
    seen = scan(store.content, store.files())
    assert (seen.roots(), [str(digest) for digest in seen.damaged]) == ((), [ONE.digest])


def test_a_digest_is_a_target_a_manifest_or_a_config(tmp_path: Path) -> None:
    seen = found(tmp_path, INDEX)
    hints = [hint("host.io/i:1", INDEX.digest), hint("host.io/m:1", ONE.digest), hint("host.io/c:1", ONE.config_digest)]
    named = rows(match(hints, seen))
    assert named["host.io/i:1"] == (INDEX.digest, Certainty.ASSERTED, "")
    assert named["host.io/m:1"] == (ONE.digest, Certainty.ASSERTED, "")
    assert named["host.io/c:1"] == (INDEX.digest, Certainty.ASSERTED, "")
    assert len(named) == 3


def test_a_config_below_two_indexes_leads_to_its_manifest(tmp_path: Path) -> None:
    other = images.index([ONE])
    named = rows(match([hint("host.io/c:1", ONE.config_digest)], found(tmp_path, INDEX, other)))
    assert named["host.io/c:1"][0] == ONE.digest
    more = [hint("host.io/c:1", ONE.config_digest), hint("host.io/c:1", other.digest, "pods")]
    assert rows(match(more, found(tmp_path / "b", INDEX, other)))["host.io/c:1"] == (
        other.digest,
        Certainty.ASSERTED,
        "",
    )


def test_a_name_with_its_own_digest_is_proven(tmp_path: Path) -> None:
    seen = found(tmp_path, ONE, TWO)
    hints = [hint(f"host.io/a@{ONE.digest}", ONE.digest), hint(f"host.io/b@{ONE.digest}", TWO.digest)]
    named = rows(match([*hints, hint(ONE.config_digest, ONE.digest)], seen))
    assert named[f"host.io/a@{ONE.digest}"][1] is Certainty.PROVEN
    assert named[f"host.io/b@{ONE.digest}"][1] is Certainty.ASSERTED
    assert named[ONE.config_digest][1] is Certainty.PROVEN


def test_the_first_source_counts_and_the_other_is_told(tmp_path: Path) -> None:
    hints = [hint("host.io/a:1", ONE.digest), hint("host.io/a:1", TWO.digest, "pods")]
    named = rows(match(hints, found(tmp_path, ONE, TWO)))
    assert named["host.io/a:1"] == (ONE.digest, Certainty.ASSERTED, f"pods also states {Digest(TWO.digest).short}")
    assert [name for name, row in named.items() if row[1] is Certainty.NONE] == [
        f"recovered.invalid/{Digest(TWO.digest).hex[:24]}:unnamed"
    ]


def test_a_name_that_leads_nowhere_is_no_image(tmp_path: Path) -> None:
    matched = match([hint("host.io/a:1", f"sha256:{'0' * 64}")], found(tmp_path, ONE))
    assert [gone.name for gone in matched.elsewhere] == ["host.io/a:1"]
    assert [image.certainty for image in matched.images] == [Certainty.NONE]


def test_a_name_on_an_unused_page_is_possible(tmp_path: Path) -> None:
    named = rows(match([hint("host.io/a:1", ONE.digest, "page 7", possible=True)], found(tmp_path, ONE)))
    assert named["host.io/a:1"][1] is Certainty.POSSIBLE


def test_a_source_that_states_two_images_is_possible_only(tmp_path: Path) -> None:
    hints = [hint("host.io/a:1", ONE.digest, "pods"), hint("host.io/a:1", TWO.digest, "pods")]
    seen = found(tmp_path, ONE, TWO)
    note = f"pods also states {Digest(TWO.digest).short}"
    assert rows(match(hints, seen))["host.io/a:1"] == (ONE.digest, Certainty.POSSIBLE, note)
    log = [msgspec.structs.replace(each, ordered=True) for each in hints]
    assert rows(match(log, seen))["host.io/a:1"] == (ONE.digest, Certainty.ASSERTED, note)
    gone = [hints[0], hint("host.io/a:1", f"sha256:{'0' * 64}", "pods")]
    assert rows(match(gone, seen))["host.io/a:1"] == (ONE.digest, Certainty.ASSERTED, "")
