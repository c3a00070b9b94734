"""What a scrub reads and in which order, one row a branch: whole targets, orders and coverages are compared."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from auditor.model.digest import Digest
from auditor.model.oci import OCI_LAYER
from auditor.model.store import (
    Blob,
    Inventory,
    LayerVerification,
    LayerVerificationKind,
    Verification,
    VerificationKind,
)
from auditor.scrub.schedule import Coverage, coverage, plan
from auditor.scrub.state import Remembered
from auditor.scrub.targets import Target, largest_first, layers_of, targets_of, wanted
from tests.unit.build import APP, BASE, MIDDLE, TOP, Document, Layer, World, image, index

NOW = datetime(2026, 8, 1, 12, tzinfo=UTC)
DAY, HOUR, SECOND = timedelta(days=1), timedelta(hours=1), timedelta(seconds=1)
SOUND, CORRUPT = VerificationKind.SOUND, VerificationKind.CORRUPT
INSIDE = LayerVerification(LayerVerificationKind.SOUND)


def digest(name: str) -> Digest:
    return Digest.of(name.encode())


def target(name: str, size: int = 10, *, layer: bool = False) -> Target:
    return Target(digest(name), size, ("default",), layer=layer)


def known(
    name: str,
    kind: VerificationKind | None = None,
    *,
    age: timedelta | None = DAY,
    tried: timedelta | None = None,
    layer: LayerVerification | None = None,
) -> Remembered:
    """What is remembered of a blob: read `age` ago with this outcome, begun `tried` ago."""
    return Remembered(
        digest(name),
        tried_at=None if tried is None else NOW - tried,
        read_at=None if kind is None or age is None else NOW - age,
        verification=None if kind is None else Verification(digest(name), kind, layer=layer),
    )


def memory(*entries: Remembered) -> dict[Digest, Remembered]:
    return {entry.digest: entry for entry in entries}


def names(targets: list[Target]) -> str:
    by = {digest(name): name for name in "abcdefghij"}
    return "".join(by[found.digest] for found in targets)


#: a and b are known bad, c and d were never proven, e and f are proven; a, c and e for longer.
ALL = [target(name) for name in "fedcba"]
KNOWN = memory(
    known("a", CORRUPT, age=9 * DAY),
    known("b", CORRUPT, age=2 * DAY),
    known("c", tried=9 * DAY),
    known("d", tried=2 * DAY),
    known("e", SOUND, age=9 * DAY),
    known("f", SOUND, age=2 * DAY),
)


@pytest.mark.parametrize(
    ("options", "order"),
    [
        pytest.param({}, "abcdef", id="everything"),
        pytest.param({"max_age": 3 * DAY}, "abcde", id="what was proven within the age is not due"),
        pytest.param({"max_age": 99 * DAY}, "abcd", id="known bad and never proven are always due"),
        pytest.param({"known_bad": True}, "ab", id="known bad"),
        pytest.param({"new_only": True}, "cd", id="never proven"),
        pytest.param({"known_bad": True, "new_only": True}, "abcd", id="both"),
        pytest.param({"known_bad": True, "max_age": 3 * DAY}, "ab", id="known bad, and an age"),
        pytest.param({"layers": True}, "abcdef", id="no layer among them"),
    ],
)
def test_what_is_due(options: dict[str, Any], order: str) -> None:
    due = plan(ALL, KNOWN, now=NOW, **options)
    assert names(due) == order
    assert all(each in ALL for each in due)


@pytest.mark.parametrize(
    ("kind", "order"),
    [
        pytest.param(VerificationKind.CORRUPT, "xy", id="corrupt"),
        pytest.param(VerificationKind.UNSTEADY, "xy", id="unsteady"),
        pytest.param(VerificationKind.UNREADABLE, "xy", id="unreadable"),
        pytest.param(VerificationKind.MISSING, "xy", id="missing"),
        pytest.param(VerificationKind.GONE, "yx", id="gone"),
        pytest.param(VerificationKind.SOUND, "yx", id="sound"),
        pytest.param(None, "yx", id="never read"),
    ],
)
def test_a_bad_outcome_comes_before_what_is_new(kind: VerificationKind | None, order: str) -> None:
    by = {digest("x"): "x", digest("y"): "y"}
    due = plan([target("x", 1), target("y", 2)], memory(known("x", kind)), now=NOW)
    assert "".join(by[each.digest] for each in due) == order


@pytest.mark.parametrize(
    ("layer", "seen", "layers", "due"),
    [
        pytest.param(True, None, True, True, id="a layer that was only hashed, by a run that decompresses"),
        pytest.param(True, None, False, False, id="a layer that was only hashed, by a run that does not"),
        pytest.param(False, None, True, False, id="no layer"),
        pytest.param(True, INSIDE, True, False, id="a layer that was decompressed"),
    ],
)
def test_layers(layer: bool, seen: LayerVerification | None, layers: bool, due: bool) -> None:
    each = target("a", layer=layer)
    found = plan([each], memory(known("a", SOUND, layer=seen)), now=NOW, max_age=2 * DAY, layers=layers)
    assert found == [each] * due


@pytest.mark.parametrize(
    ("age", "due"),
    [
        pytest.param(DAY, True, id="as old as the age"),
        pytest.param(DAY - SECOND, False, id="a second younger"),
        pytest.param(DAY + SECOND, True, id="a second older"),
        pytest.param(timedelta(0), False, id="just read"),
        pytest.param(-DAY + SECOND, False, id="in the future, nearer than the age"),
        pytest.param(-DAY, True, id="in the future, as far as the age"),
        pytest.param(None, True, id="a verification without a time"),
    ],
)
def test_the_age(age: timedelta | None, due: bool) -> None:
    each = target("a")
    assert plan([each], memory(known("a", SOUND, age=age)), now=NOW, max_age=DAY) == [each] * due


@pytest.mark.parametrize(
    ("entries", "sizes", "order"),
    [
        pytest.param([], {"a": 1, "b": 3, "c": 2}, "bca", id="new ones by size"),
        pytest.param([known("b", tried=HOUR)], {"a": 1, "b": 3}, "ab", id="what was begun comes last among new ones"),
        pytest.param(
            [known("a", tried=HOUR), known("b", tried=2 * HOUR)],
            {"a": 3, "b": 1},
            "ba",
            id="the longest ago begun first",
        ),
        pytest.param(
            [known("a", SOUND, age=2 * DAY), known("b", SOUND, age=3 * DAY)],
            {"a": 3, "b": 1},
            "ba",
            id="the longest unproven first",
        ),
        pytest.param(
            [known("a", SOUND, age=3 * DAY, tried=HOUR), known("b", SOUND, age=2 * DAY, tried=2 * DAY)],
            {"a": 3, "b": 1},
            "ba",
            id="what was begun since comes later",
        ),
        pytest.param(
            [known("a", SOUND, age=DAY, tried=3 * DAY), known("b", SOUND, age=2 * DAY, tried=2 * DAY)],
            {"a": 3, "b": 1},
            "ba",
            id="the later of begun and read counts",
        ),
        pytest.param(
            [known("a", SOUND, age=2 * DAY, tried=HOUR), known("b", SOUND, age=3 * DAY, tried=HOUR)],
            {"a": 3, "b": 1},
            "ba",
            id="begun at the same time, the longest unproven first",
        ),
        pytest.param(
            [known("a", SOUND), known("b", SOUND)],
            {"a": 1, "b": 3},
            "ba",
            id="read at the same time, the largest first",
        ),
        pytest.param(
            [known("a", VerificationKind.GONE, age=HOUR), known("b", VerificationKind.GONE, age=DAY)],
            {"a": 3, "b": 1},
            "ab",
            id="when a new one was read does not count",
        ),
        pytest.param(
            [known("a", CORRUPT, age=HOUR), known("b", CORRUPT, age=DAY)],
            {"a": 3, "b": 1},
            "ba",
            id="when a bad one was read counts",
        ),
    ],
)
def test_the_order_within_a_kind(entries: list[Remembered], sizes: Mapping[str, int], order: str) -> None:
    targets = [target(name, size) for name, size in sizes.items()]
    assert names(plan(targets, memory(*entries), now=NOW)) == order
    assert names(plan(targets[::-1], memory(*entries), now=NOW)) == order


def test_equals_come_in_the_order_of_their_digests() -> None:
    targets = [target(name) for name in "abcdefghij"]
    assert plan(targets, {}, now=NOW) == sorted(targets, key=lambda each: each.digest)


def test_two_targets_of_one_digest_stay_as_they_came() -> None:
    twice = [target("a"), Target(digest("a"), 10, ("another",))]
    assert plan(twice, {}, now=NOW) == twice


def test_a_run_decompresses_on_request_alone() -> None:
    hashed = memory(known("a", SOUND))
    assert plan([target("a", layer=True)], hashed, now=NOW, max_age=2 * DAY) == []
    assert coverage([target("a", layer=True)], hashed) == Coverage(1, 10, 1, 10, 0, NOW - DAY)


@pytest.mark.parametrize(
    ("entries", "layers", "wanted"),
    [
        pytest.param([], False, Coverage(3, 111), id="nothing is known"),
        pytest.param([known("a", SOUND)], False, Coverage(3, 111, 1, 100, 0, NOW - DAY), id="one is proven"),
        pytest.param(
            [known("a", SOUND, age=2 * DAY), known("b", SOUND)],
            False,
            Coverage(3, 111, 2, 110, 0, NOW - 2 * DAY),
            id="the oldest of two",
        ),
        pytest.param(
            [known("a", SOUND), known("b", CORRUPT, age=9 * DAY)],
            False,
            Coverage(3, 111, 1, 100, 1, NOW - DAY),
            id="one is bad",
        ),
        pytest.param([known("a", CORRUPT), known("b", CORRUPT)], False, Coverage(3, 111, bad=2), id="two are bad"),
        pytest.param([known("a", VerificationKind.GONE)], False, Coverage(3, 111), id="one is gone"),
        pytest.param([known("a", tried=DAY)], False, Coverage(3, 111), id="one was begun"),
        pytest.param(
            [known("a", SOUND, age=None)], False, Coverage(3, 111, 1, 100), id="one verification without a time"
        ),
        pytest.param([known("z", SOUND)], False, Coverage(3, 111), id="one that is not there any more"),
        pytest.param([known("c", SOUND)], True, Coverage(3, 111), id="a layer that was only hashed"),
        pytest.param([known("c", SOUND)], False, Coverage(3, 111, 1, 1, 0, NOW - DAY), id="a hashed layer is enough"),
        pytest.param([known("b", SOUND)], True, Coverage(3, 111, 1, 10, 0, NOW - DAY), id="no layer need be more"),
        pytest.param(
            [known("c", SOUND, layer=INSIDE)], True, Coverage(3, 111, 1, 1, 0, NOW - DAY), id="a decompressed layer"
        ),
    ],
)
def test_coverage(entries: list[Remembered], layers: bool, wanted: Coverage) -> None:
    targets = (target("a", 100), target("b"), target("c", 1, layer=True))
    assert coverage(iter(targets), memory(*entries), layers=layers) == wanted


def test_coverage_of_nothing() -> None:
    assert coverage([], {}) == Coverage(0, 0, 0, 0, 0, None)


# What there is to read


def held(namespace: str, **sizes: int) -> Inventory:
    return Inventory(namespace, blobs={digest(n): Blob(namespace, digest(n), size) for n, size in sizes.items()})


A, B, C = (digest(name) for name in "abc")


@pytest.mark.parametrize(
    ("inventories", "layers", "wanted"),
    [
        pytest.param([], None, [], id="nothing"),
        pytest.param([held("n")], None, [], id="an empty namespace"),
        pytest.param([held("n", a=5)], None, [Target(A, 5, ("n",))], id="a blob"),
        pytest.param([held("n", a=5), held("m", a=5)], None, [Target(A, 5, ("m", "n"))], id="in two namespaces"),
        pytest.param([held("n", a=5), held("m", a=7)], None, [Target(A, 7, ("m", "n"))], id="the larger size, second"),
        pytest.param([held("m", a=7), held("n", a=5)], None, [Target(A, 7, ("m", "n"))], id="the larger size, first"),
        pytest.param([held("n", a=5)], {A: None}, [Target(A, 5, ("n",), layer=True)], id="a layer"),
        pytest.param(
            [held("n", a=5)],
            {A: "encrypted"},
            [Target(A, 5, ("n",), layer=True, unverifiable="encrypted")],
            id="a layer that is unverifiable",
        ),
        pytest.param([held("n", a=5)], {B: "encrypted"}, [Target(A, 5, ("n",))], id="another blob is a layer"),
    ],
)
def test_targets(
    inventories: list[Inventory], layers: Mapping[Digest, str | None] | None, wanted: list[Target]
) -> None:
    assert targets_of(inventories, layers=layers) == wanted


def test_targets_are_sorted_by_digest() -> None:
    found = targets_of([held("n", a=1, b=2, c=3), held("m", c=3)])
    assert found == sorted(
        [Target(A, 1, ("n",)), Target(B, 2, ("n",)), Target(C, 3, ("m", "n"))], key=lambda t: t.digest
    )


def test_the_largest_first() -> None:
    targets = [target("a", 1), target("b", 3), target("c", 3), target("d", 2)]
    assert largest_first(iter(targets)) == [*sorted(targets[1:3], key=lambda t: t.digest), targets[3], targets[0]]


ENCRYPTED = Layer("secret", "gzip", f"{OCI_LAYER}+gzip+encrypted")
PLAIN = Layer("secret", "gzip")
ODD = Layer("odd", "zip", f"{OCI_LAYER}+zip")
SPARE = Layer("spare", "none", "application/vnd.example.extra")
ARTIFACT = image(Layer("file", "gzip"), config={}, config_type="application/vnd.example.config.v1+json")
WHY = "its bytes are encrypted"


def world(*images: Document) -> World:
    made = World()
    for number, each in enumerate(images):
        made.pull(each, f"docker.io/library/app:{number}", unpack=False)
    return made


@pytest.mark.parametrize(
    ("images", "wanted"),
    [
        pytest.param([APP], {layer.digest: None for layer in (BASE, MIDDLE, TOP)}, id="layers"),
        pytest.param([image(ENCRYPTED)], {ENCRYPTED.digest: WHY}, id="an encrypted layer"),
        pytest.param([image(PLAIN), image(ENCRYPTED)], {PLAIN.digest: None}, id="one type of two is verifiable"),
        pytest.param([image(ENCRYPTED), image(PLAIN)], {PLAIN.digest: None}, id="the second type of two is verifiable"),
        pytest.param(
            [image(ODD)],
            {ODD.digest: f"{ODD.media_type} is not a type of a tar layer"},
            id="an unknown compression",
        ),
        pytest.param([image(PLAIN, SPARE)], {PLAIN.digest: None}, id="content that is no layer"),
        pytest.param([ARTIFACT], {}, id="an artifact"),
        pytest.param(
            [ARTIFACT, APP], {layer.digest: None for layer in (BASE, MIDDLE, TOP)}, id="an artifact and an image"
        ),
    ],
)
def test_layers_of_an_audit(images: list[Document], wanted: Mapping[Digest, str | None]) -> None:
    assert layers_of(world(*images).audit().evidence) == wanted


def test_of_two_reasons_the_first_is_given() -> None:
    other = Layer("secret", "gzip", f"{OCI_LAYER}+zip")
    first = {
        name: layers_of(world(image(each), image(last)).audit().evidence)
        for name, each, last in (("encrypted", ENCRYPTED, other), ("zip", other, ENCRYPTED))
    }
    assert first == {
        "encrypted": {ENCRYPTED.digest: WHY},
        "zip": {ENCRYPTED.digest: f"{other.media_type} is not a type of a tar layer"},
    }


def test_a_manifest_that_is_absent_has_no_layers() -> None:
    made = world(index(APP))
    made.drop(APP.digest)
    assert layers_of(made.audit().evidence) == {}


def described(layer: Layer) -> Target:
    return Target(layer.digest, len(layer.data), ("k8s.io",), layer=True)


def document(made: Document) -> Target:
    return Target(made.digest, len(made.data), ("k8s.io",))


OTHER = image(Layer("other"))


@pytest.mark.parametrize(
    ("request_", "images"),
    [
        pytest.param({}, [APP, OTHER], id="no selection, and orphans"),
        pytest.param({"images": ("docker.io/library/app:0",)}, [APP], id="an image"),
    ],
)
def test_what_check_reads(request_: dict[str, Any], images: list[Document]) -> None:
    made = world(APP, OTHER)
    orphan = made.put(b"an orphan")
    expected = [document(each) for one in images for each in (one, one.config)]
    expected += [described(layer) for one in images for layer in one.layers]
    if not request_:
        expected.append(Target(orphan, 9, ("k8s.io",)))
    assert wanted(made.audit(**request_).evidence) == largest_first(expected)


def test_what_check_does_not_read_is_absent() -> None:
    made = world(APP)
    made.drop(BASE.digest)
    expected = [document(APP), document(APP.config), described(MIDDLE), described(TOP)]
    assert wanted(made.audit(images=("docker.io/library/app:0",)).evidence) == largest_first(expected)
