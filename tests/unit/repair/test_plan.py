"""From findings to a plan: what is fetched, adopted, replaced and rebuilt, by which way, and what is left alone."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
import pytest

from auditor.model.blob_source import Offer
from auditor.model.digest import Digest
from auditor.model.store import Blob, Inventory, Resource, Verification, VerificationKind
from auditor.repair.needs import Need, Skip, assess
from auditor.repair.plan import Capabilities, Kind, Plan, Way, plan
from tests.unit.build import APP, BASE, CONTENT, MIDDLE, OVERLAY, TOP, Layer, World, image, index

FILES, API = Capabilities(files=True), Capabilities(files=False)
SOURCE = "containerd.io/distribution.source.docker.io"


def needs(
    world: World, *, elsewhere: Iterable[Inventory] = (), include_discarded: bool = False, **request: object
) -> tuple[dict[Digest, Need], tuple[Skip, ...]]:
    seen = world.audit(**request)
    found, skips = assess(seen.evidence, seen.findings, elsewhere=tuple(elsewhere), include_discarded=include_discarded)
    return {need.digest: need for need in found}, skips


def offer(need: Need, source: str = "registry") -> Offer:
    return Offer(source, need.digest, need.size, need.media_type, source, certain=False)


def planned(world: World, *sources: str, capabilities: Capabilities = FILES, **more: object) -> Plan:
    """The plan where each source offers everything."""
    found, skips = needs(world, **more)  # type: ignore[arg-type]
    offers = {need.digest: tuple(offer(need, source) for source in sources or ("registry",)) for need in found.values()}
    return plan(list(found.values()), skips, offers, capabilities)


def pulled() -> World:
    world = World()
    world.pull(APP)
    return world


def corrupt(world: World, digest: Digest) -> None:
    world.verifications[digest] = Verification(
        digest, VerificationKind.CORRUPT, size=world.inventory.blobs[digest].size
    )


# What is needed


def test_a_sound_store_needs_nothing() -> None:
    assert planned(pulled(), verify="digests") == Plan()


def test_a_skipped_layer_is_fetched_into_its_namespace_and_needs_no_label() -> None:
    world = pulled()
    world.relabel(APP.digest, lambda old: {**old, SOURCE: "library/app"})
    world.drop(BASE.digest)
    (need,) = needs(world)[0].values()
    assert (need.digest, need.size, need.role) == (BASE.digest, len(BASE.data), "layer")
    assert not need.damaged
    (place,) = need.places
    assert place.namespace == "k8s.io"
    assert place.gc_parent is None
    assert place.labels == {SOURCE: "library/app"}
    assert need.hints.names == ("docker.io/library/app:1",)
    assert need.hints.origins == {"docker.io": ("library/app",)}


def test_a_layer_that_no_label_names_gets_one() -> None:
    world = pulled()
    world.drop(BASE.digest, MIDDLE.digest)
    world.drop_snapshots(*APP.chain)
    world.unlabel(APP.digest, str(BASE.digest))
    found, _ = needs(world)
    parent = found[BASE.digest].places[0].gc_parent
    assert parent is not None
    assert (parent.digest, parent.label) == (APP.digest, f"{CONTENT}.l.0")
    assert found[MIDDLE.digest].places[0].gc_parent is None


def test_a_target_needs_no_label_and_gets_its_source_from_its_name() -> None:
    world = pulled()
    world.drop(APP.digest)
    need = needs(world)[0][APP.digest]
    assert need.places[0].gc_parent is None
    assert need.places[0].labels == {SOURCE: "library/app"}


def test_what_only_the_records_labels_protect_is_to_be_held() -> None:
    world = pulled()
    corrupt(world, APP.digest)
    corrupt(world, APP.config.digest)
    found, _ = needs(world, verify="digests")
    kept = {resource.id for resource in found[APP.digest].holders[0].keeps}
    assert kept == {APP.config.digest, BASE.digest, MIDDLE.digest, TOP.digest}
    assert found[APP.config.digest].holders[0].keeps == (Resource(f"snapshots/{OVERLAY}", APP.chain[-1]),)


def test_a_namespace_that_was_not_audited_holds_the_same_bad_file() -> None:
    world = pulled()
    corrupt(world, BASE.digest)
    other = Inventory("other", blobs={BASE.digest: Blob("other", BASE.digest, len(BASE.data), {"a": "b"})})
    need = needs(world, elsewhere=[other], verify="digests")[0][BASE.digest]
    assert [(held.namespace, held.labels) for held in need.holders][1:] == [("other", {"a": "b"})]


def test_a_blob_that_no_image_uses_is_looked_for_where_its_own_label_leads() -> None:
    world = pulled()
    digest = world.put(b"an orphan", **{SOURCE: "library/orphan"})
    corrupt(world, digest)
    need = needs(world, verify="digests")[0][digest]
    assert need.images == ()
    assert need.size == len(b"an orphan")
    assert need.hints.origins == {"docker.io": ("library/orphan",)}


# What is left alone


def test_discarded_layers_are_left_alone_unless_asked_for() -> None:
    world = pulled()
    world.drop(BASE.digest)
    world.unlabel(APP.digest, str(BASE.digest))
    found, (skip,) = needs(world)
    assert not found
    assert skip.code == "blob-discarded"
    assert "--include-discarded" in skip.reason
    (action,) = planned(world, include_discarded=True).actions
    assert "exempts this layer from the node's policy" in action.warnings[0]
    assert action.need.places[0].gc_parent is not None


def test_records_that_disagree_are_not_a_matter_of_bytes() -> None:
    world = pulled()
    blob = world.inventory.blobs[BASE.digest]
    world.record(msgspec.structs.replace(blob, size=blob.size + 1))
    world.store.content[BASE.digest] = BASE.data + b"x"
    found, skips = needs(world)
    assert not found
    assert any("name different sizes" in skip.reason for skip in skips)


def test_a_record_of_a_wrong_size_is_made_again_with_its_file() -> None:
    world = pulled()
    blob = world.inventory.blobs[BASE.digest]
    world.record(msgspec.structs.replace(blob, size=blob.size + 1))
    (action,) = planned(world).actions
    assert (action.way, action.need.size) == (Way.API, len(BASE.data))
    assert "wrong size" in action.warnings[0]


def test_other_platforms_are_not_wanted() -> None:
    world = World()
    world.pull(index(APP, image(Layer("arm"), platform="linux/arm64")))
    found, (skip,) = needs(world)
    assert not found
    assert skip.code == "platform-not-pulled"
    assert len(needs(world, all_platforms=True)[0]) == 1


def test_what_no_source_offers_is_said() -> None:
    world = pulled()
    world.drop(BASE.digest)
    found, skips = needs(world)
    made = plan(list(found.values()), skips, {}, FILES)
    assert not made.actions
    assert [(skip.id, skip.reason) for skip in made.skips] == [(str(BASE.digest), "no source offers it")]


def test_what_failed_before_is_not_tried_again() -> None:
    world = pulled()
    world.drop(BASE.digest)
    found, skips = needs(world)
    offers = {BASE.digest: (offer(found[BASE.digest]),)}
    made = plan(list(found.values()), skips, offers, FILES, failed={BASE.digest: "it was refused"})
    assert not made.actions
    assert made.skips[0].reason == "it was refused"


# How


@pytest.mark.parametrize(
    ("source", "kind"),
    [("registry", Kind.FETCH), ("namespace:other", Kind.ADOPT), ("archive:a.tar", Kind.FETCH), ("twin", Kind.REBUILD)],
)
def test_what_has_no_record_is_committed(source: str, kind: Kind) -> None:
    world = pulled()
    world.drop(BASE.digest)
    (action,) = planned(world, source).actions
    assert (action.kind, action.way) == (kind, Way.COMMIT)
    assert action.touches == ("a new record in k8s.io",)


@pytest.mark.parametrize(("capabilities", "way"), [(FILES, Way.FILE), (API, Way.API)])
def test_a_bad_file_is_replaced_by_the_way_that_there_is(capabilities: Capabilities, way: Way) -> None:
    world = pulled()
    corrupt(world, BASE.digest)
    (action,) = planned(world, "registry", capabilities=capabilities, verify="digests").actions
    assert (action.kind, action.way) == (Kind.REPLACE, way)


def test_a_bad_file_is_not_taken_from_another_namespace_which_has_the_same() -> None:
    world = pulled()
    corrupt(world, BASE.digest)
    (action,) = planned(world, "namespace:other", "registry", verify="digests").actions
    assert [o.source for o in action.offers] == ["registry"]
    assert not planned(world, "namespace:other", verify="digests").actions


def test_documents_come_first_then_the_largest() -> None:
    world = World()
    big = Layer("b" * 100)
    target = image(BASE, big)
    world.pull(target)
    world.drop(target.config.digest, BASE.digest, big.digest)
    world.verifications = {}
    corrupt(world, target.digest)
    made = planned(world, verify="digests")
    order = [action.digest for action in made.actions]
    assert order[0] == target.digest
    assert "its children are checked" in made.notes[0]
