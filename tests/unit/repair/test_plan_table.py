"""The plan of a repair, one row a branch: whole actions and skips are compared, made from literal needs and offers."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from auditor.model import oci
from auditor.model.blob_source import Offer
from auditor.model.digest import Digest
from auditor.model.findings import Severity
from auditor.model.store import Resource
from auditor.repair.gc_labels import Parent
from auditor.repair.needs import Held, Need, Place, Skip
from auditor.repair.plan import Action, Capabilities, Kind, Plan, Way, plan

A, B, C, D = (Digest.of(name) for name in (b"a", b"b", b"c", b"d"))
LAYER = f"{oci.OCI_LAYER}+gzip"
FILES, API = Capabilities(files=True), Capabilities(files=False)
NEW = "a new record in k8s.io"
ONE_STEP = "the file, by an atomic rename; no record, label or lease"
REMADE = "the record in k8s.io: deleted, collected, and created again with its labels"
BELOW = "after a document is fetched, its children are checked and fetched as needed"
DISK = "several blobs that share no image are damaged: check the disk first, because a repair writes to it"


def absent(**fields: Any) -> Need:
    """A layer that k8s.io has no record of."""
    made = Need(
        digest=A,
        size=10,
        media_type=LAYER,
        role="layer",
        codes=("incomplete-image",),
        damaged=False,
        places=(Place("k8s.io"),),
        images=("app:1",),
    )
    return msgspec.structs.replace(made, **fields)


def damaged(**fields: Any) -> Need:
    """A layer that k8s.io has a record of, with a file that is bad."""
    made = absent(codes=("digest-mismatch",), damaged=True, places=(), holders=(Held("k8s.io", 10),))
    return msgspec.structs.replace(made, **fields)


def offer(source: str = "registry", digest: Digest = A) -> Offer:
    return Offer(source, digest, 10, LAYER, f"{source}, somewhere", certain=False)


def action(
    need: Need, kind: Kind, way: Way, *touches: str, offers: tuple[Offer, ...], warnings: tuple[str, ...] = ()
) -> Action:
    return Action(kind=kind, way=way, need=need, offers=offers, touches=touches, warnings=warnings)


KEEPING = Held("k8s.io", 10, keeps=(Resource("content", "x"), Resource("snapshots/overlayfs", "y")))
TIE = Place("k8s.io", {}, Parent("k8s.io", B, "containerd.io/gc.ref.content.l.0"))
LABEL = f"a label on {B.short} in k8s.io that protects it: containerd.io/gc.ref.content.l.0"
POLICY = "its label exempts this layer from the node's policy of discarding layers"
WRONG_SIZE = "its record has a wrong size too, so it is created again"
MISRECORDED = damaged(holders=(Held("k8s.io", 11),))
HALF = damaged(holders=(Held("a", 10), Held("b", 9)))
SHARED = damaged(holders=(Held("a", 10, keeps=KEEPING.keeps), Held("b", 10, keeps=KEEPING.keeps[:1])))
BOTH = damaged(places=(Place("moby"),))


@pytest.mark.parametrize(
    ("need", "sources", "means", "wanted"),
    [
        pytest.param(absent(), ["registry"], FILES, (Kind.FETCH, Way.COMMIT, NEW), id="absent, from a registry"),
        pytest.param(absent(), ["registry"], API, (Kind.FETCH, Way.COMMIT, NEW), id="absent, over the API alone"),
        pytest.param(absent(), ["archive:a.tar"], FILES, (Kind.FETCH, Way.COMMIT, NEW), id="absent, from an archive"),
        pytest.param(absent(), ["namespace:moby"], FILES, (Kind.ADOPT, Way.COMMIT, NEW), id="absent, in a namespace"),
        pytest.param(
            absent(), ["a namespace:"], FILES, (Kind.FETCH, Way.COMMIT, NEW), id="absent, a source of that name"
        ),
        pytest.param(absent(), ["twin"], FILES, (Kind.REBUILD, Way.COMMIT, NEW), id="absent, from a twin"),
        pytest.param(absent(), ["twins"], FILES, (Kind.FETCH, Way.COMMIT, NEW), id="absent, a source like a twin"),
        pytest.param(
            absent(), ["registry", "namespace:moby"], FILES, (Kind.FETCH, Way.COMMIT, NEW), id="the first offer decides"
        ),
        pytest.param(
            absent(),
            ["namespace:moby", "twin"],
            FILES,
            (Kind.ADOPT, Way.COMMIT, NEW),
            id="the first offer, not the last",
        ),
        pytest.param(
            absent(places=(TIE,)), ["registry"], FILES, (Kind.FETCH, Way.COMMIT, NEW, LABEL), id="absent, with a label"
        ),
        pytest.param(
            absent(places=(Place("moby"), TIE)),
            ["registry"],
            FILES,
            (Kind.FETCH, Way.COMMIT, "a new record in moby", NEW, LABEL),
            id="absent in two namespaces",
        ),
        pytest.param(
            absent(holders=(Held("moby", 11),)),
            ["registry"],
            FILES,
            (Kind.FETCH, Way.COMMIT, NEW),
            id="absent, and a record elsewhere has another size",
        ),
        pytest.param(
            absent(codes=("blob-discarded",)),
            ["registry"],
            FILES,
            (Kind.FETCH, Way.COMMIT, NEW, POLICY),
            id="discarded",
        ),
        pytest.param(
            absent(codes=("blob-discarded", "incomplete-image")),
            ["registry"],
            FILES,
            (Kind.FETCH, Way.COMMIT, NEW, POLICY),
            id="discarded in one namespace",
        ),
        pytest.param(
            damaged(), ["registry"], FILES, (Kind.REPLACE, Way.FILE, ONE_STEP), id="damaged, its file in reach"
        ),
        pytest.param(damaged(), ["registry"], API, (Kind.REPLACE, Way.API, REMADE), id="damaged, over the API"),
        pytest.param(damaged(), ["twin"], FILES, (Kind.REBUILD, Way.FILE, ONE_STEP), id="damaged, from a twin"),
        pytest.param(
            MISRECORDED, ["registry"], FILES, (Kind.REPLACE, Way.API, REMADE, WRONG_SIZE), id="damaged and misrecorded"
        ),
        pytest.param(
            HALF,
            ["registry"],
            FILES,
            (
                Kind.REPLACE,
                Way.API,
                "the record in a, b: deleted, collected, and created again with its labels",
                WRONG_SIZE,
            ),
            id="misrecorded in one of two namespaces",
        ),
        pytest.param(
            damaged(holders=(KEEPING,)),
            ["registry"],
            API,
            (Kind.REPLACE, Way.API, REMADE, "a lease protects 2 of its children and snapshots meanwhile"),
            id="damaged, and protects others",
        ),
        pytest.param(
            SHARED,
            ["registry"],
            API,
            (
                Kind.REPLACE,
                Way.API,
                "the record in a, b: deleted, collected, and created again with its labels",
                "a lease protects 3 of its children and snapshots meanwhile",
            ),
            id="damaged in two namespaces, and protects others",
        ),
        pytest.param(
            damaged(holders=(KEEPING,)),
            ["registry"],
            FILES,
            (Kind.REPLACE, Way.FILE, ONE_STEP),
            id="damaged, and protects others, its file in reach",
        ),
        pytest.param(
            BOTH,
            ["registry"],
            FILES,
            (Kind.REPLACE, Way.FILE, ONE_STEP, "a new record in moby"),
            id="damaged here and absent there",
        ),
        pytest.param(
            BOTH,
            ["registry"],
            API,
            (Kind.REPLACE, Way.API, REMADE, "a new record in moby"),
            id="damaged here and absent there, over the API",
        ),
    ],
)
def test_actions(need: Need, sources: list[str], means: Capabilities, wanted: tuple[Any, ...]) -> None:
    kind, way, *words = wanted
    offers = tuple(offer(source) for source in sources)
    warnings = tuple(word for word in words if word in (POLICY, WRONG_SIZE))
    touches = [word for word in words if word not in warnings]
    expected = action(need, kind, way, *touches, offers=offers, warnings=warnings)
    assert plan([need], [], {A: offers}, means) == Plan(actions=(expected,))


def test_a_damaged_blob_is_not_taken_from_another_namespace_which_shares_its_file() -> None:
    offers = [offer("namespace:moby"), offer("registry"), offer("twin")]
    (made,) = plan([damaged()], [], {A: offers}, FILES).actions
    assert made == action(damaged(), Kind.REPLACE, Way.FILE, ONE_STEP, offers=tuple(offers[1:]))


def left(reason: str, **fields: Any) -> Skip:
    made = Skip(
        code="incomplete-image",
        severity=Severity.ERROR,
        namespace="k8s.io",
        kind="layer",
        id=str(A),
        reason=reason,
        images=("app:1",),
    )
    return msgspec.structs.replace(made, **fields)


NONE = "no source offers it"
SEVERAL = absent(
    codes=("incomplete-image", "missing-config"),
    role="config",
    places=(Place("b"), Place("a")),
    holders=(Held("c", 10),),
    images=("app:1", "app:2"),
)


@pytest.mark.parametrize(
    ("need", "offers", "failed", "wanted"),
    [
        pytest.param(absent(), [], {}, left(NONE), id="no offer"),
        pytest.param(absent(), [], {A: "refused"}, left("refused"), id="no offer, and it failed before"),
        pytest.param(absent(), [offer()], {A: "refused"}, left("refused"), id="an offer, and it failed before"),
        pytest.param(damaged(), [], {}, left(NONE, code="digest-mismatch"), id="damaged, the holder's namespace"),
        pytest.param(
            damaged(),
            [offer("namespace:moby")],
            {},
            left(NONE, code="digest-mismatch"),
            id="damaged, and only another namespace has it",
        ),
        pytest.param(absent(places=()), [], {}, left(NONE, namespace=""), id="in no namespace"),
        pytest.param(
            SEVERAL,
            [],
            {},
            left(NONE, namespace="b", kind="config", images=("app:1", "app:2")),
            id="the first code and the first place",
        ),
    ],
)
def test_what_is_left(need: Need, offers: list[Offer], failed: dict[Digest, str], wanted: Skip) -> None:
    assert plan([need], [], {A: offers}, FILES, failed=failed) == Plan(skips=(wanted,))


def test_a_failure_of_another_blob_changes_nothing() -> None:
    assert plan([absent()], [], {A: [offer()]}, FILES, failed={B: "refused"}).actions[0].digest == A


def test_offers_of_another_blob_are_not_taken() -> None:
    assert plan([absent()], [], {B: [offer(digest=B)]}, FILES) == Plan(skips=(left(NONE),))


def test_skips_are_kept_and_sorted_with_what_is_left() -> None:
    given = [left("z", code="z"), left("a", code="a")]
    assert plan([absent()], given, {}, FILES).skips == (given[1], left(NONE), given[0])
    assert [skip.code for skip in given] == ["z", "a"]


def kinds(*needs: Need) -> list[Digest]:
    """The digests of a plan's actions in their order."""
    return [made.digest for made in plan(needs, [], {n.digest: [offer(digest=n.digest)] for n in needs}, FILES).actions]


SMALL, LARGE = absent(digest=B, size=1), absent(digest=C, size=99)


@pytest.mark.parametrize("media_type", sorted(oci.INDEX_TYPES))
def test_an_index_comes_before_a_manifest(media_type: str) -> None:
    index = absent(digest=D, size=1, media_type=media_type)
    manifest = absent(digest=A, size=99, media_type=oci.OCI_MANIFEST)
    assert kinds(SMALL, manifest, index, LARGE) == [D, A, C, B]


@pytest.mark.parametrize("media_type", sorted(oci.MANIFEST_TYPES))
def test_a_manifest_comes_before_a_layer(media_type: str) -> None:
    assert kinds(LARGE, absent(digest=D, size=1, media_type=media_type)) == [D, C]


def test_a_config_has_no_precedence_and_the_largest_comes_first() -> None:
    assert kinds(absent(digest=D, size=2, media_type=oci.OCI_CONFIG), SMALL, LARGE) == [C, D, B]


def test_equals_come_in_the_order_of_their_digests() -> None:
    needs = [absent(digest=digest) for digest in (A, B, C, D)]
    assert kinds(*needs) == kinds(*reversed(needs)) == sorted((A, B, C, D))


@pytest.mark.parametrize(
    ("role", "code", "notes"),
    [
        pytest.param("index", "blob-lazy", (BELOW,), id="an index"),
        pytest.param("manifest", "blob-lazy", (BELOW,), id="a manifest"),
        pytest.param("config", "blob-lazy", (BELOW,), id="a config"),
        pytest.param("layer", "blob-lazy", (), id="a layer"),
        pytest.param("layer", "suspect-storage", (DISK,), id="the disk is suspect"),
        pytest.param("index", "suspect-storage", (BELOW, DISK), id="both"),
    ],
)
def test_notes(role: str, code: str, notes: tuple[str, ...]) -> None:
    skip = left("because", code=code)
    assert plan([absent(role=role)], [skip], {A: [offer()]}, FILES).notes == notes
    assert plan([SMALL], [left("because", code="zzz"), skip], {}, FILES).notes == notes[notes[:1] == (BELOW,) :]


def test_the_size_of_a_plan_is_of_what_it_brings() -> None:
    needs = [SMALL, LARGE, absent()]
    made = plan(needs, [], {need.digest: [offer(digest=need.digest)] for need in needs[:2]}, FILES)
    assert (made.size, Plan().size) == (100, 0)


@pytest.mark.parametrize(
    ("need", "misrecorded", "discarded"),
    [
        pytest.param(damaged(), False, False, id="neither"),
        pytest.param(MISRECORDED, True, False, id="a record too large"),
        pytest.param(damaged(holders=(Held("k8s.io", 9),)), True, False, id="a record too small"),
        pytest.param(HALF, True, False, id="one of two records"),
        pytest.param(absent(), False, False, id="no record"),
        pytest.param(absent(codes=("blob-discarded",)), False, True, id="discarded"),
        pytest.param(absent(codes=("a", "blob-discarded")), False, True, id="discarded among others"),
    ],
)
def test_what_a_need_says_of_itself(need: Need, misrecorded: bool, discarded: bool) -> None:
    assert (need.misrecorded, need.discarded) == (misrecorded, discarded)
