"""Layers that are applied over one another, as in the directories of the native snapshotter."""

from __future__ import annotations

import tarfile
from collections.abc import Mapping

from auditor.snapshots.play import Played, play
from auditor.snapshots.tree import UNKNOWN, Node, NodeKind, copied
from tests.unit.snapshots.test_compare import FILES, NS, entry, layer

Entry = tuple[tarfile.TarInfo, bytes]


def over(*entries: Entry, base: tuple[Entry, ...] = FILES) -> Played:
    """Apply a layer to what another one leaves."""
    below = play([layer(*base)], lowest=True)
    assert not below.refusal
    return play([layer(*entries)], lowest=False, base=copied(below.tree))


def names(tree: Node, *path: bytes) -> set[bytes]:
    return set(at(tree, *path).children or {})


def at(tree: Node, *path: bytes) -> Node:
    for name in path:
        children: Mapping[bytes, Node] = tree.children or {}
        tree = children[name]
    return tree


def test_an_empty_layer_keeps_all_but_the_times_of_directories() -> None:
    tree = over().tree
    assert names(tree) == {b"usr", b"deep"}
    assert at(tree, b"usr").mtime == UNKNOWN
    assert (at(tree, b"usr", b"tool").mtime, at(tree, b"usr", b"tool").links) == (NS, 2)
    assert at(tree, b"usr", b"hard") is at(tree, b"usr", b"tool")


def test_a_directory_with_an_entry_has_its_time_and_attributes() -> None:
    tree = over((entry("usr", type=tarfile.DIRTYPE, mode=0o700), b"")).tree
    assert (at(tree, b"usr").mtime, at(tree, b"usr").mode) == (NS, 0o700)
    assert names(tree, b"usr") == {b"tool", b"empty", b"link", b"hard", b"pipe"}


def test_whiteouts_delete() -> None:
    tree = over((entry("usr/.wh.tool"), b""), (entry(".wh.deep"), b""), (entry(".wh.absent"), b"")).tree
    assert names(tree) == {b"usr"}
    assert names(tree, b"usr") == {b"empty", b"link", b"hard", b"pipe"}
    assert at(tree, b"usr", b"hard").links == 1


def test_an_opaque_marker_leaves_what_this_layer_unpacked() -> None:
    kept = (entry("usr/sub/new"), b"1")
    made = (entry("usr/sub", type=tarfile.DIRTYPE), b"")
    tree = over((entry("usr/first"), b"1"), made, kept, (entry("usr/.wh..wh..opq"), b""), (entry("usr/last"), b"")).tree
    assert names(tree, b"usr") == {b"first", b"sub", b"last"}
    assert names(tree, b"usr", b"sub") == {b"new"}
    assert not at(tree, b"usr").opaque
    without_entry = over(kept, (entry("usr/.wh..wh..opq"), b"")).tree
    assert names(without_entry, b"usr") == set()


def test_a_hard_link_to_a_lower_layer_changes_its_file() -> None:
    tree = over((entry("again", type=tarfile.LNKTYPE, linkname="usr/tool", mode=0o600), b"")).tree
    assert at(tree, b"again") is at(tree, b"usr", b"tool")
    assert (at(tree, b"usr", b"hard").mode, at(tree, b"again").links) == (0o600, 3)


def test_symbolic_links_of_lower_layers_are_followed() -> None:
    base = (*FILES, (entry("lib", type=tarfile.SYMTYPE, linkname="usr"), b""))
    tree = over((entry("lib/new"), b"1"), base=base).tree
    assert at(tree, b"lib").kind is NodeKind.SYMLINK
    assert b"new" in names(tree, b"usr")


def test_a_copy_breaks_hard_links_of_symbolic_links() -> None:
    links = [(entry(f"usr/more{n}", type=tarfile.LNKTYPE, linkname="usr/link", mode=0o777), b"") for n in range(2)]
    tree = over(base=(*FILES, *links)).tree
    found = [at(tree, b"usr", name) for name in (b"link", b"more0", b"more1")]
    assert len({id(node) for node in found}) == 3
    assert {node.target for node in found} == {b"tool"}
    assert {node.links for node in found} == {1}
