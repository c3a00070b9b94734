"""What a run is about: names as people write them, and a word about what there is where nothing matches."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditor.audit.selection import choose_images, choose_namespaces, choose_snapshotters, matches, require_content
from auditor.errors import NothingExamined
from auditor.model.digest import Digest
from auditor.model.image_graph import Group
from auditor.model.oci import OCI_INDEX, Descriptor
from auditor.model.store import Blob, Inventory, Snapshotter

TARGET, CONFIG = Digest.of(b"target"), Digest.of(b"config")
NGINX = Group(
    "k8s.io",
    ("docker.io/library/nginx:1.27", f"docker.io/library/nginx@{TARGET}", str(CONFIG)),
    Descriptor(OCI_INDEX, TARGET, 1),
)
OTHER = Group("k8s.io", ("registry:5000/a/b:latest",), Descriptor(OCI_INDEX, Digest.of(b"other"), 1))


@pytest.mark.parametrize(
    "wanted",
    [
        "docker.io/library/nginx:1.27",
        "nginx:1.27",
        "library/nginx:1.27",
        "docker.io/nginx:1.27",
        f"nginx@{TARGET}",
        str(TARGET),
        TARGET.hex,
        TARGET.hex[:6],
        str(TARGET)[:20],
        str(CONFIG),
        CONFIG.hex[:12],
    ],
)
def test_an_image_is_known_by_each_of_its_names(wanted: str) -> None:
    assert matches(NGINX, wanted)
    assert not matches(OTHER, wanted)
    assert choose_images([OTHER, NGINX], [wanted]) == (NGINX,)


@pytest.mark.parametrize("wanted", ["nginx", "nginx:1.2", "ngin", "", "sha256:", TARGET.hex[:5], "NGINX:1.27", "*"])
def test_near_misses_match_nothing_and_the_hint_says_what_there_is(wanted: str) -> None:
    with pytest.raises(NothingExamined) as said:
        choose_images([NGINX, OTHER], [wanted])
    assert said.value.hint


def test_no_tag_means_latest() -> None:
    assert matches(OTHER, "registry:5000/a/b")


def test_a_typo_is_answered_with_what_was_meant() -> None:
    with pytest.raises(NothingExamined, match="no image is named") as said:
        choose_images([NGINX, OTHER], ["registry:5000/a/b:lates"])
    assert "did you mean registry:5000/a/b:latest" in said.value.hint


def test_a_name_leads_only_to_repositories_that_are_spelled_alike() -> None:
    with pytest.raises(NothingExamined) as said:
        choose_images([NGINX, OTHER], ["docker.io/library/redis:1.27"])
    assert said.value.hint == "check --verbose of this store lists the images"
    with pytest.raises(NothingExamined) as said:
        choose_images([NGINX, OTHER], ["ngnix"])
    assert said.value.hint == f"did you mean docker.io/library/nginx:1.27 or docker.io/library/nginx@{TARGET}?"


def test_the_beginning_of_two_digests_is_refused_with_both() -> None:
    twins = [Group("k8s.io", (f"{n}:1",), Descriptor(OCI_INDEX, Digest(f"sha256:abcdef{n * 58}"), 1)) for n in "12"]
    with pytest.raises(NothingExamined, match="abcdef begins the digests of several images") as said:
        choose_images(twins, ["abcdef"])
    assert said.value.hint == "give more digits: sha256:abcdef111111 (1:1), sha256:abcdef222222 (2:1)"
    assert choose_images(twins, ["abcdef1"]) == (twins[0],)
    named = Group("k8s.io", ("docker.io/library/abcdef:latest",), Descriptor(OCI_INDEX, TARGET, 1))
    assert choose_images([*twins, named], ["abcdef"]) == (named,)


def test_images_named_twice_are_chosen_once_and_in_their_order() -> None:
    assert choose_images([OTHER, NGINX], ["nginx:1.27", str(CONFIG), "registry:5000/a/b:latest"]) == (OTHER, NGINX)
    assert choose_images([OTHER, NGINX], []) == (OTHER, NGINX)


def test_one_name_that_matches_nothing_is_said_though_another_does() -> None:
    with pytest.raises(NothingExamined):
        choose_images([NGINX], ["nginx:1.27", "nope:1"])


@given(st.text(max_size=300), st.lists(st.text(max_size=20), max_size=9))
def test_any_text_matches_or_is_refused_in_a_short_sentence(wanted: str, names: list[str]) -> None:
    groups = [Group("n", (name,), Descriptor(OCI_INDEX, Digest.of(name.encode(errors="replace")), 1)) for name in names]
    try:
        chosen = choose_images(groups, [wanted])
    except NothingExamined as error:
        message = error.message
    else:
        assert chosen
        return
    assert len(message) < 4000


def test_namespaces() -> None:
    assert choose_namespaces(["b", "a"], []) == ("a", "b")
    assert choose_namespaces(["b", "a"], ["b", "b"]) == ("b",)
    with pytest.raises(NothingExamined, match="there is no namespace 'k8s'") as said:
        choose_namespaces(["moby", "k8s.io"], ["k8s"])
    assert "k8s.io" in said.value.hint
    with pytest.raises(NothingExamined) as said:
        choose_namespaces(["moby"], ["zzz"])
    assert "moby" in said.value.hint


def test_snapshotters() -> None:
    offered = [Snapshotter("overlayfs"), Snapshotter("native")]
    assert choose_snapshotters(offered, []) == ()
    assert choose_snapshotters(offered, ["native"]) == ("native",)
    with pytest.raises(NothingExamined, match="offers no snapshotter 'overlay'") as said:
        choose_snapshotters(offered, ["overlay"])
    assert "overlayfs" in said.value.hint


def test_nothing_at_all_is_not_sound() -> None:
    empty = Inventory("a")
    full = Inventory("b", blobs={TARGET: Blob("b", TARGET, 1)})
    with pytest.raises(NothingExamined):
        require_content([], [], [])
    with pytest.raises(NothingExamined):
        require_content([empty], [], [])
    with pytest.raises(NothingExamined, match="namespace 'a' is empty"):
        require_content([empty, full], [], ["a"])
    require_content([empty, full], [], [])
    require_content([full], [NGINX], ["b"])
