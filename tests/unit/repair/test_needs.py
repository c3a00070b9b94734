"""From findings to needs, one row a branch: whole needs and skips are compared, made from literal findings."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec
import pytest

from auditor.model import oci
from auditor.model.blob_source import Hints
from auditor.model.digest import Digest
from auditor.model.findings import Finding, ImageRef, Severity, Subject
from auditor.model.store import Blob, Inventory, Resource
from auditor.repair.gc_labels import Parent
from auditor.repair.needs import Held, Need, Place, Skip, assess, held, keeps, skip
from tests.unit.build import APP, BASE, CONTENT, GZIP, MIDDLE, OVERLAY, TOP, World

NAME = "docker.io/library/app:1"
DIFF_ID = "containerd.io/uncompressed"
SOURCE = "containerd.io/distribution.source.docker.io"
ORPHAN = Digest.of(b"an orphan")
PUBLISHED = "published with this fault: fetching it again brings the same bytes"
NOT_BYTES = "no blob is damaged"
DISAGREE = "record and descriptor name different sizes, so no content can match both"
POLICY = "the node discards layers by policy; --include-discarded fetches them against it"


def finding(code: str, digest: str = BASE.digest, *, namespace: str = "k8s.io", **fields: Any) -> Finding:
    made = Finding(
        code=code,
        severity=Severity.WARNING,
        namespace=namespace,
        subject=Subject(kind="layer", digest=digest),
        message="a message",
        images=(ref(NAME),),
    )
    return msgspec.structs.replace(made, **fields)


def ref(name: str) -> ImageRef:
    return ImageRef(namespace="k8s.io", name=name)


def skipped(code: str, reason: str, **fields: Any) -> Skip:
    made = Skip(
        code=code,
        severity=Severity.WARNING,
        namespace="k8s.io",
        kind="layer",
        id=str(BASE.digest),
        reason=reason,
        images=(NAME,),
    )
    return msgspec.structs.replace(made, **fields)


def pulled() -> World:
    world = World()
    world.pull(APP, NAME)
    return world


def assessed(
    world: World, *findings: Finding, elsewhere: Iterable[Inventory] = (), include_discarded: bool = False
) -> tuple[tuple[Need, ...], tuple[Skip, ...]]:
    evidence = world.audit().evidence
    return assess(evidence, findings, elsewhere=tuple(elsewhere), include_discarded=include_discarded)


HINTS = Hints(names=(NAME,))
LABELLED = Held("k8s.io", len(BASE.data), {DIFF_ID: BASE.diff_id})


def need(**fields: Any) -> Need:
    """What is needed of the lowest layer where its record is there and its file is bad."""
    made = Need(
        digest=BASE.digest,
        size=len(BASE.data),
        media_type=GZIP,
        role="layer",
        codes=("digest-mismatch",),
        damaged=True,
        holders=(LABELLED,),
        images=(NAME,),
        hints=HINTS,
    )
    return msgspec.structs.replace(made, **fields)


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("blob-discarded", POLICY),
        ("blob-lazy", "its snapshotter reads it from the registry when it is needed"),
        ("platform-not-pulled", "its platform is not wanted; --platform or --all-platforms wants it"),
        ("attestation-not-pulled", "pulls leave attestations behind"),
        ("foreign-layer", "registries do not carry layers of this type"),
        ("pull-in-progress", "a pull is in progress; check again when it has ended"),
        ("blob-unreadable", "it could not be read, so its content is unknown: check the disk first"),
        ("read-unsteady", "its content on the disk is right: check the memory"),
        ("malformed-manifest", PUBLISHED),
        ("diffid-mismatch", PUBLISHED),
        ("layer-undecodable", PUBLISHED),
        ("layer-count-mismatch", PUBLISHED),
        ("media-type-mismatch", PUBLISHED),
        ("broken-snapshot-chain", "snapshots are not blobs: remove the image and pull it again on a drained node"),
        ("snapshot-missing", "snapshots are not blobs: unpack the image again"),
        ("gc-unprotected", NOT_BYTES),
        ("stale-ingest", NOT_BYTES),
        ("suspect-storage", "check the disk and the memory before writing to them"),
    ],
)
def test_what_is_left_alone(code: str, reason: str) -> None:
    assert assessed(pulled(), finding(code)) == ((), (skipped(code, reason),))


def test_a_code_that_nothing_is_said_of_leads_to_nothing() -> None:
    assert assessed(pulled(), finding("unheard-of")) == ((), ())


@pytest.mark.parametrize("code", ["size-mismatch", "digest-mismatch", "blob-file-missing", "unheard-of"])
def test_records_that_disagree_lead_to_no_need(code: str) -> None:
    disagreeing = finding(code, cause="records-disagree")
    assert assessed(pulled(), disagreeing) == ((), (skipped(code, DISAGREE),))


def test_another_cause_is_no_reason_to_leave_a_blob_alone() -> None:
    assert assessed(pulled(), finding("digest-mismatch", cause="another"))[0] == (need(),)


@pytest.mark.parametrize("code", ["blob-file-missing", "size-mismatch", "digest-mismatch"])
def test_damage_leads_to_a_need(code: str) -> None:
    assert assessed(pulled(), finding(code)) == ((need(codes=(code,)),), ())


@pytest.mark.parametrize(
    "code",
    ["snapshot-without-blob", "incomplete-image", "missing-manifest", "missing-config", "shared-config-layers"],
)
def test_absence_leads_to_a_need(code: str) -> None:
    world = pulled()
    world.drop(BASE.digest)
    wanted = need(codes=(code,), damaged=False, holders=(), places=(Place("k8s.io"),))
    assert assessed(world, finding(code)) == ((wanted,), ())


@pytest.mark.parametrize("include", [False, True])
def test_discarded_blobs_are_needed_on_request_alone(include: bool) -> None:
    world = pulled()
    world.drop(BASE.digest)
    wanted = need(codes=("blob-discarded",), damaged=False, holders=(), places=(Place("k8s.io"),))
    expected = ((wanted,), ()) if include else ((), (skipped("blob-discarded", POLICY),))
    assert assessed(world, finding("blob-discarded"), include_discarded=include) == expected


def test_including_what_was_discarded_includes_nothing_else() -> None:
    left = (skipped("blob-lazy", "its snapshotter reads it from the registry when it is needed"),)
    assert assessed(pulled(), finding("blob-lazy"), include_discarded=True) == ((), left)


def test_findings_of_one_blob_make_one_need() -> None:
    first = finding("size-mismatch", images=(ref("b"), ref("a")), subject=Subject(kind="config", digest=BASE.digest))
    second = finding("digest-mismatch", images=(ref("a"), ref("c")))
    (made,), skips = assessed(pulled(), first, second)
    assert made == need(codes=("digest-mismatch", "size-mismatch"), role="config", images=("b", "a", "c"))
    assert skips == ()


def test_absent_here_and_damaged_there() -> None:
    world = pulled()
    lacking = finding("incomplete-image", namespace="moby", subject=Subject(kind="content", digest=BASE.digest))
    (made,), _ = assessed(world, finding("digest-mismatch"), lacking)
    assert made == need(
        codes=("digest-mismatch", "incomplete-image"), role="content", places=(Place("moby", {DIFF_ID: BASE.diff_id}),)
    )


def test_a_namespace_that_has_a_record_lacks_none_though_a_finding_says_so() -> None:
    (made,), _ = assessed(pulled(), finding("incomplete-image"), finding("digest-mismatch"))
    assert made == need(codes=("digest-mismatch", "incomplete-image"))


def test_needs_are_in_the_order_of_their_digests_and_skips_sorted() -> None:
    digests = [BASE.digest, MIDDLE.digest, TOP.digest]
    lefts = [finding("stale-ingest"), finding("blob-lazy")]
    needs, skips = assessed(pulled(), *lefts, *(finding("digest-mismatch", digest) for digest in digests))
    assert [made.digest for made in needs] == sorted(digests)
    assert [made.code for made in skips] == ["blob-lazy", "stale-ingest"]


@pytest.mark.parametrize("order", [1, -1])
def test_places_are_sorted_and_get_the_labels_that_another_record_has(order: int) -> None:
    world = pulled()
    lacking = [finding("incomplete-image", namespace=name) for name in ("a", "b")][::order]
    (made,), _ = assessed(world, *lacking)
    labels = {DIFF_ID: BASE.diff_id}
    assert made == need(codes=("incomplete-image",), damaged=False, places=(Place("a", labels), Place("b", labels)))


def test_a_place_gets_its_parents_source_and_the_label_that_keeps_it() -> None:
    world = pulled()
    world.drop(BASE.digest)
    world.unlabel(APP.digest, str(BASE.digest))
    world.relabel(APP.digest, lambda old: {**old, SOURCE: "library/app"})
    (made,), _ = assessed(world, finding("incomplete-image"))
    place = Place("k8s.io", {SOURCE: "library/app"}, Parent("k8s.io", APP.digest, f"{CONTENT}.l.0"))
    hints = Hints(names=(NAME,), origins={"docker.io": ("library/app",)})
    assert made == need(codes=("incomplete-image",), damaged=False, holders=(), places=(place,), hints=hints)


def test_namespaces_that_were_not_audited_hold_the_blob_too() -> None:
    other = Inventory("other", blobs={BASE.digest: Blob("other", BASE.digest, 7, {"a": "b"})})
    (made,), _ = assessed(pulled(), finding("digest-mismatch"), elsewhere=[Inventory("empty"), other])
    assert made == need(holders=(LABELLED, Held("other", 7, {"a": "b"})))


def test_labels_of_other_records_are_passed_over() -> None:
    other = Inventory("other", blobs={BASE.digest: Blob("other", BASE.digest, 7, {"a": "b"})})
    world = pulled()
    world.drop(BASE.digest)
    (made,), _ = assessed(world, finding("incomplete-image"), elsewhere=[other])
    assert made.places == (Place("k8s.io"),)


def test_a_blob_that_no_image_names_has_the_size_of_its_first_record() -> None:
    world = pulled()
    world.put(b"an orphan")
    other = Inventory("other", blobs={ORPHAN: Blob("other", ORPHAN, 7)})
    (made,), _ = assessed(world, finding("digest-mismatch", ORPHAN), elsewhere=[other])
    holders = (Held("k8s.io", 9), Held("other", 7))
    assert made == need(digest=ORPHAN, size=9, media_type="", holders=holders, hints=Hints())


def test_a_blob_of_no_known_size_cannot_be_needed() -> None:
    assert assessed(pulled(), finding("incomplete-image", ORPHAN)) == ((), ())


def test_a_skip_names_each_image_once() -> None:
    named = finding("blob-lazy", images=(ref("b"), ref("a"), ref("b")), severity=Severity.INFO)
    wanted = skipped("blob-lazy", "because", images=("b", "a"), severity=Severity.INFO)
    assert skip(named, "because") == wanted


def test_a_skip_is_known_by_the_name_of_what_has_no_digest() -> None:
    named = finding("stale-ingest", subject=Subject(kind="ingest", name="ref"))
    assert skip(named, "because") == skipped("stale-ingest", "because", kind="ingest", id="ref")


@pytest.mark.parametrize(
    ("labels", "wanted"),
    [
        pytest.param({}, (), id="no label"),
        pytest.param({"a": "b", DIFF_ID: "c"}, (), id="labels that protect nothing"),
        pytest.param({f"{CONTENT}.l.0": BASE.digest}, (Resource("content", BASE.digest),), id="content"),
        pytest.param(
            {f"containerd.io/gc.ref.snapshot.{OVERLAY}": "x"}, (Resource(f"snapshots/{OVERLAY}", "x"),), id="a snapshot"
        ),
        pytest.param(
            {f"{CONTENT}.l.1": TOP.digest, f"{CONTENT}.l.0": TOP.digest},
            (Resource("content", TOP.digest),),
            id="once each",
        ),
        pytest.param(
            {f"containerd.io/gc.ref.snapshot.{OVERLAY}": "x", f"{CONTENT}.config": BASE.digest},
            (Resource("content", BASE.digest), Resource(f"snapshots/{OVERLAY}", "x")),
            id="sorted",
        ),
    ],
)
def test_what_labels_protect(labels: dict[str, str], wanted: tuple[Resource, ...]) -> None:
    assert keeps(labels) == wanted
    inventory = Inventory("n", blobs={BASE.digest: Blob("n", BASE.digest, 5, labels)})
    assert held(inventory, BASE.digest) == Held("n", 5, labels, wanted)


def test_the_media_type_is_the_descriptors() -> None:
    (made,), _ = assessed(pulled(), finding("digest-mismatch", APP.config.digest))
    assert (made.media_type, made.size) == (oci.OCI_CONFIG, len(APP.config.data))


@pytest.mark.parametrize(
    ("more", "misrecorded"), [((), False), ((0,), False), ((0, 0), False), ((0, 1), True), ((1,), True)]
)
def test_a_record_of_another_size_is_told(more: tuple[int, ...], *, misrecorded: bool) -> None:
    made = need()
    holders = tuple(Held(namespace=f"n{number}", size=made.size + each) for number, each in enumerate(more))
    assert msgspec.structs.replace(made, holders=holders).misrecorded is misrecorded


@pytest.mark.parametrize("codes", [(), ("blob-discarded",), ("incomplete-image", "blob-discarded"), ("blob-lazy",)])
def test_a_discarded_blob_is_told(codes: tuple[str, ...]) -> None:
    assert msgspec.structs.replace(need(), codes=codes).discarded is ("blob-discarded" in codes)
