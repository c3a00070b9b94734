"""What a run is about, one row a branch: the whole choice, or the whole message and hint, is compared."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from auditor.audit.selection import (
    choose_images,
    choose_namespaces,
    choose_snapshotters,
    matches,
    require_content,
    require_platforms,
)
from auditor.errors import NothingExamined
from auditor.model.digest import Digest
from auditor.model.image_graph import Group, ImageGraph, ManifestNode
from auditor.model.oci import ATTESTATION_ANNOTATION, OCI_MANIFEST, Descriptor
from auditor.model.platforms import Platform, parse
from auditor.model.store import Blob, Image, Inventory, Snapshotter

TARGET, CONFIG, INDEX = (Digest.of(name) for name in (b"target", b"config", b"index"))
NGINX = Group(
    "k8s.io",
    ("docker.io/library/nginx:1.27", f"docker.io/library/nginx@{TARGET}", str(CONFIG)),
    Descriptor(OCI_MANIFEST, TARGET, 1),
)
LOCAL = Group("k8s.io", ("registry:5000/a/b:latest",), Descriptor(OCI_MANIFEST, Digest.of(b"other"), 1))
ODD = Group("k8s.io", ("not a reference!",), Descriptor(OCI_MANIFEST, Digest.of(b"odd"), 1))


@pytest.mark.parametrize(
    ("group", "wanted", "found"),
    [
        pytest.param(NGINX, "docker.io/library/nginx:1.27", True, id="the name as recorded"),
        pytest.param(NGINX, f"docker.io/library/nginx@{TARGET}", True, id="another name as recorded"),
        pytest.param(ODD, "not a reference!", True, id="a name that is no reference"),
        pytest.param(NGINX, "not a reference!", False, id="no reference, and no name"),
        pytest.param(NGINX, str(TARGET), True, id="the target"),
        pytest.param(NGINX, "nginx:1.27", True, id="a short name"),
        pytest.param(NGINX, "nginx:1.28", False, id="another tag"),
        pytest.param(LOCAL, "registry:5000/a/b", True, id="no tag is latest"),
        pytest.param(NGINX, "nginx", False, id="no tag is not another"),
        pytest.param(NGINX, TARGET.hex, True, id="the target's hex"),
        pytest.param(NGINX, TARGET.hex[:6], True, id="six digits of the target"),
        pytest.param(NGINX, TARGET.hex[:5], False, id="five digits of the target"),
        pytest.param(NGINX, str(TARGET)[: 7 + 6], True, id="six digits with the algorithm"),
        pytest.param(NGINX, str(TARGET)[: 7 + 5], False, id="five digits with the algorithm"),
        pytest.param(NGINX, str(CONFIG), True, id="the image id"),
        pytest.param(NGINX, CONFIG.hex[:6], True, id="six digits of the image id"),
        pytest.param(NGINX, TARGET.hex[1:13], False, id="digits from the middle"),
        pytest.param(NGINX, TARGET.hex[:12].upper(), False, id="upper case"),
        pytest.param(LOCAL, TARGET.hex[:12], False, id="another target"),
        pytest.param(NGINX, "docker.io/lib", False, id="the beginning of a name that is no digest"),
        pytest.param(NGINX, "sha256:", False, id="the algorithm alone"),
    ],
)
def test_matching(group: Group, wanted: str, found: bool) -> None:
    assert matches(group, wanted) is found


GROUPS = (LOCAL, NGINX, ODD)


@pytest.mark.parametrize(
    ("wanted", "chosen"),
    [
        pytest.param([], GROUPS, id="none named"),
        pytest.param(["nginx:1.27"], (NGINX,), id="one"),
        pytest.param(["nginx:1.27", str(TARGET)], (NGINX,), id="one named twice"),
        pytest.param(["nginx:1.27", "registry:5000/a/b"], (LOCAL, NGINX), id="two in their order"),
    ],
)
def test_images(wanted: list[str], chosen: tuple[Group, ...]) -> None:
    assert choose_images(list(GROUPS), wanted) == chosen


def test_an_image_in_two_namespaces_is_chosen_twice() -> None:
    twice = [NGINX, Group("moby", NGINX.names, NGINX.target)]
    assert choose_images(twice, ["nginx:1.27"]) == tuple(twice)


def refusal(call: Any, *arguments: Any) -> tuple[str, str]:
    """The message and the hint with which a call is refused."""
    with pytest.raises(NothingExamined) as refused:
        call(*arguments)
    return refused.value.message, refused.value.hint


def numbered(count: int) -> list[Group]:
    return [Group("k8s.io", (f"{n}/x:1",), Descriptor(OCI_MANIFEST, TARGET, 1)) for n in range(count)]


LONG = "z" * 300


@pytest.mark.parametrize(
    ("groups", "wanted", "answer"),
    [
        pytest.param(
            [NGINX, LOCAL],
            ["registry:5000/a/b:lates"],
            ("no image is named 'registry:5000/a/b:lates'", "did you mean registry:5000/a/b:latest?"),
            id="a typo",
        ),
        pytest.param(
            [NGINX],
            ["nginx:1.27", "zz"],
            ("no image is named 'zz'", "check --verbose of this store lists the images"),
            id="one of two",
        ),
        pytest.param([], ["zz"], ("no image is named 'zz'", "there are no images"), id="there is none"),
        pytest.param(
            numbered(7)[::-1],
            ["x:2"],
            ("no image is named 'x:2'", "did you mean 0/x:1 or 1/x:1 or 2/x:1?"),
            id="seven alike",
        ),
        pytest.param(
            numbered(1),
            [LONG],
            (f"no image is named {'z' * 200!r}", "check --verbose of this store lists the images"),
            id="a long name, shown in part",
        ),
    ],
)
def test_images_that_are_not_there(groups: list[Group], wanted: list[str], answer: tuple[str, str]) -> None:
    assert refusal(choose_images, groups, wanted) == answer


def test_a_long_name_is_compared_by_its_beginning() -> None:
    close = Group("k8s.io", ("z" * 200,), Descriptor(OCI_MANIFEST, TARGET, 1))
    assert refusal(choose_images, [close], [LONG])[1] == f"did you mean {'z' * 200}?"


@pytest.mark.parametrize(
    ("present", "wanted", "chosen"),
    [
        pytest.param(["b", "a"], [], ("a", "b"), id="none named"),
        pytest.param(["b", "a"], ["b", "b"], ("b",), id="one named twice"),
        pytest.param(["c", "b", "a"], ["c", "a"], ("a", "c"), id="two, sorted"),
        pytest.param([], [], (), id="there is none"),
    ],
)
def test_namespaces(present: list[str], wanted: list[str], chosen: tuple[str, ...]) -> None:
    assert choose_namespaces(present, wanted) == chosen


@pytest.mark.parametrize(
    ("present", "wanted", "answer"),
    [
        pytest.param(
            ["moby", "k8s.io"], ["k8sio"], ("there is no namespace 'k8sio'", "did you mean k8s.io?"), id="a typo"
        ),
        pytest.param(
            ["abcdef", "abcdeg", "abcdeh", "abcdei"],
            ["abcdex"],
            ("there is no namespace 'abcdex'", "did you mean abcdei or abcdeh or abcdeg?"),
            id="three at most",
        ),
        pytest.param(["moby"], ["moby", "zz", "yy"], ("there is no namespace 'zz'", "there are: moby"), id="the first"),
        pytest.param([], ["zz"], ("there is no namespace 'zz'", "no namespaces"), id="there is none"),
        # difflib's ratio: twice the letters in common by the letters of both.
        pytest.param(["abcxy"], ["abczw"], ("there is no namespace 'abczw'", "did you mean abcxy?"), id="just close"),
        pytest.param(["abcxyv"], ["abczw"], ("there is no namespace 'abczw'", "there are: abcxyv"), id="not close"),
    ],
)
def test_namespaces_that_are_not_there(present: list[str], wanted: list[str], answer: tuple[str, str]) -> None:
    assert refusal(choose_namespaces, present, wanted) == answer


OFFERED = [Snapshotter("overlayfs"), Snapshotter("native"), Snapshotter("zfs")]


@pytest.mark.parametrize(
    ("wanted", "chosen"),
    [
        pytest.param([], (), id="none named"),
        pytest.param(["native", "native"], ("native",), id="one named twice"),
        pytest.param(["zfs", "native"], ("native", "zfs"), id="two, sorted"),
    ],
)
def test_snapshotters(wanted: list[str], chosen: tuple[str, ...]) -> None:
    assert choose_snapshotters(OFFERED, wanted) == chosen


@pytest.mark.parametrize(
    ("present", "wanted", "answer"),
    [
        pytest.param(
            OFFERED,
            ["overlay"],
            ("the daemon offers no snapshotter 'overlay'", "did you mean overlayfs?"),
            id="a typo",
        ),
        pytest.param(
            OFFERED,
            ["zfs", "qq", "rr"],
            ("the daemon offers no snapshotter 'qq'", "there are: native, overlayfs, zfs"),
            id="the first",
        ),
        pytest.param([], ["qq"], ("the daemon offers no snapshotter 'qq'", "no snapshotters"), id="there is none"),
    ],
)
def test_snapshotters_that_are_not_there(
    present: list[Snapshotter], wanted: list[str], answer: tuple[str, str]
) -> None:
    assert refusal(choose_snapshotters, present, wanted) == answer


EMPTY = Inventory("empty")
BLOBS = Inventory("blobs", blobs={TARGET: Blob("blobs", TARGET, 1)})
IMAGES = Inventory("images", images=(Image("images", "a", NGINX.target),))
NOBODY = "check --address: is this the right daemon?"


@pytest.mark.parametrize(
    ("inventories", "groups", "wanted"),
    [
        pytest.param([BLOBS], [], [], id="a blob and no image"),
        pytest.param([IMAGES], [NGINX], [], id="an image and no blob"),
        pytest.param([EMPTY, BLOBS], [], [], id="an empty namespace that was not named"),
        pytest.param([EMPTY, BLOBS], [], ["blobs"], id="a blob in the namespace named"),
        pytest.param([EMPTY, IMAGES], [NGINX], ["images"], id="an image in the namespace named"),
    ],
)
def test_something_to_examine(inventories: list[Inventory], groups: list[Group], wanted: list[str]) -> None:
    require_content(inventories, groups, wanted)


@pytest.mark.parametrize(
    ("inventories", "groups", "wanted", "answer"),
    [
        pytest.param(
            [], [], [], ("there is no image and no blob to examine (no namespace)", NOBODY), id="no namespace"
        ),
        pytest.param(
            [EMPTY, EMPTY], [], [], ("there is no image and no blob to examine (2 namespaces)", NOBODY), id="empty ones"
        ),
        pytest.param(
            [EMPTY, BLOBS],
            [NGINX],
            ["blobs", "empty"],
            ("namespace 'empty' is empty: nothing was examined", "choose another with -n"),
            id="one of those named is empty",
        ),
        pytest.param(
            [BLOBS],
            [],
            ["elsewhere"],
            ("namespace 'elsewhere' is empty: nothing was examined", "choose another with -n"),
            id="one of those named is not there",
        ),
    ],
)
def test_nothing_to_examine(
    inventories: list[Inventory], groups: list[Group], wanted: list[str], answer: tuple[str, str]
) -> None:
    assert refusal(require_content, inventories, groups, wanted) == answer


def graph(*nodes: ManifestNode) -> ImageGraph:
    return ImageGraph(group=NGINX, manifests=nodes)


def node(platform: str, *, below: bool = True, attests: bool = False) -> ManifestNode:
    notes = {ATTESTATION_ANNOTATION: "attestation-manifest"} if attests else {}
    return ManifestNode(
        Descriptor(OCI_MANIFEST, TARGET, 1, annotations=notes),
        parse(platform) if platform else None,
        wanted=True,
        alike=False,
        path=(INDEX,) if below else (),
    )


AMD64, ARM64 = parse("linux/amd64"), parse("linux/arm64")


@pytest.mark.parametrize(
    ("graphs", "wanted"),
    [
        pytest.param([graph(node("linux/amd64"))], [AMD64], id="the platform"),
        pytest.param([graph(node("linux/386"))], [AMD64], id="one that runs on it"),
        pytest.param([graph(node("linux/s390x")), graph(node("linux/amd64"))], [AMD64], id="another image"),
        pytest.param([graph(node("linux/s390x"), node("linux/amd64"))], [AMD64], id="another manifest"),
        pytest.param([graph(node("linux/s390x", below=False))], [AMD64], id="an image without an index"),
        pytest.param([graph(node("", below=False))], [AMD64], id="an image without an index or a platform"),
        pytest.param([graph()], [AMD64], id="no manifest"),
        pytest.param([], [AMD64], id="no image"),
        pytest.param([graph(node("linux/s390x", attests=True))], [AMD64], id="attestations alone"),
        pytest.param([graph(node("linux/s390x"))], [], id="no platform asked for"),
    ],
)
def test_platforms_that_some_image_has(graphs: Sequence[ImageGraph], wanted: list[Platform]) -> None:
    require_platforms(graphs, wanted)


@pytest.mark.parametrize(
    ("graphs", "wanted", "answer"),
    [
        pytest.param(
            [graph(node("linux/s390x"))], [AMD64], ("no image is for linux/amd64", "there are: linux/s390x"), id="none"
        ),
        pytest.param(
            [graph(node("linux/amd64"))],
            [AMD64, ARM64],
            ("no image is for linux/arm64", "did you mean linux/amd64?"),
            id="one",
        ),
        pytest.param(
            [graph(node(""))], [AMD64], ("no image is for linux/amd64", "no platforms"), id="no platform known"
        ),
        pytest.param(
            [graph(node("linux/s390x"), node("linux/amd64", attests=True), node("", attests=True))],
            [AMD64],
            ("no image is for linux/amd64", "there are: linux/s390x"),
            id="an attestation is no image",
        ),
        pytest.param(
            [graph(node("zos/s390x"), node("aix/ppc64"), node(""), node("aix/ppc64"))],
            [AMD64],
            ("no image is for linux/amd64", "there are: aix/ppc64, zos/s390x"),
            id="each platform once, sorted",
        ),
    ],
)
def test_platforms_that_no_image_has(
    graphs: Sequence[ImageGraph], wanted: list[Platform], answer: tuple[str, str]
) -> None:
    assert refusal(require_platforms, graphs, wanted) == answer
