"""The labels of a document that is brought back are those that a pull would have left."""

from __future__ import annotations

from auditor.model import oci
from auditor.repair.gc_labels import child_labels, document_labels, free_label
from tests.unit.build import APP, BASE, CONTENT, MIDDLE, OVERLAY, TOP, World, index


def test_children_are_numbered_by_kind_as_containerd_does() -> None:
    manifest = oci.parse(APP.data, oci.OCI_MANIFEST)
    assert isinstance(manifest, oci.Manifest)
    assert child_labels([manifest.config, *manifest.layers]) == {
        f"{CONTENT}.config": APP.config.digest,
        f"{CONTENT}.l.0": BASE.digest,
        f"{CONTENT}.l.1": MIDDLE.digest,
        f"{CONTENT}.l.2": TOP.digest,
    }


def test_a_document_gets_the_labels_that_its_pull_gave_it() -> None:
    world = World()
    top = index(APP)
    world.pull(top)
    for document in (top, APP, APP.config):
        made = document_labels(document.data, document.media_type, world.inventory, discards=False)
        assert made == world.inventory.blobs[document.digest].labels


def test_a_node_that_discards_layers_goes_on_to() -> None:
    world = World()
    world.pull(APP)
    world.drop(BASE.digest)
    made = document_labels(APP.data, APP.media_type, world.inventory, discards=True)
    assert BASE.digest not in made.values()
    assert {MIDDLE.digest, TOP.digest, APP.config.digest} == set(made.values())


def test_a_config_names_only_snapshots_that_are_there() -> None:
    world = World()
    world.pull(APP, unpack=False)
    assert document_labels(APP.config.data, oci.OCI_CONFIG, world.inventory, discards=False) == {}
    world.unpack(APP)
    made = document_labels(APP.config.data, oci.OCI_CONFIG, world.inventory, discards=False)
    assert made == {f"containerd.io/gc.ref.snapshot.{OVERLAY}": APP.chain[-1]}


def test_what_is_no_document_has_no_labels() -> None:
    assert document_labels(b"not JSON", oci.OCI_MANIFEST, World().inventory, discards=False) == {}


def test_a_label_that_is_taken_gives_way_to_the_next_number() -> None:
    assert free_label("x.l.0", {}) == "x.l.0"
    assert free_label("x.l.0", {"x.l.0": "a", "x.l.1": "b"}) == "x.l.2"
    assert free_label("x.config", {"x.config": "a"}) == "x.config0"
