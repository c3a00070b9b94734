"""Image trees for a page: flat lines with their depth; intact parts may be folded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Final

import msgspec

from auditor.formats.html import byte_totals
from auditor.formats.sanitize import plain, size
from auditor.model.findings import ImageState, Node, Report, Status
from auditor.model.plural import plural

#: Most lines of trees before those of intact images are folded, and before further trees become one sentence.
UNFOLDED: Final = 4_000
MOST: Final = 6_000
_NAME: Final = 140
#: States of unpacked files that are no fault.
_UNPACKED: Final = frozenset({"", "intact", "not compared"})
#: Parts whose layers can be folded into one line.
_FINE: Final = frozenset({"sound", "unproven", "design"})


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """A node; the digest of a damaged one is complete. `opens` begins a list, `ends` is the number of lists closed."""

    opens: bool
    ends: int
    what: str
    digest: str
    size: str
    state: str
    part: str


class Image(msgspec.Struct, frozen=True, kw_only=True):
    """An image as a row that opens; without `lines`, `note` summarises them. `key` is its namespace and target."""

    key: tuple[str, str]
    anchor: str
    name: str
    names: tuple[str, ...]
    namespace: str
    status: str
    rank: int
    platforms: str
    bytes: int
    size: str
    lines: tuple[Line, ...]
    note: str


def images(report: Report, nodes: byte_totals.Nodes) -> list[Image]:
    """Every image, the damaged first; trees up to MOST lines."""
    ordered = sorted(
        zip(report.images, nodes, strict=True), key=lambda i: (_RANK[i[0].status], i[0].namespace, i[0].names)
    )
    folded = sum(map(len, nodes)) > UNFOLDED
    left = MOST
    found = []
    for number, (image, mine) in enumerate(ordered):
        lines = tuple(_lines(image, fold=folded and image.status is Status.SOUND)) if left > 0 else ()
        left -= len(lines)
        found.append(_image(image, mine, lines, anchor=f"image-{number}"))
    return found


_RANK: Final = {Status.DAMAGED: 0, Status.UNKNOWN: 1, Status.SOUND: 2}


def _image(image: ImageState, nodes: Sequence[Node], lines: tuple[Line, ...], *, anchor: str) -> Image:
    total = byte_totals.total(nodes)
    name = image.names[0] if image.names else image.target
    return Image(
        key=(image.namespace, image.target),
        anchor=anchor,
        name=plain(name, width=_NAME),
        names=tuple(plain(other) for other in (image.names if len(name) > _NAME else image.names[1:])),
        namespace=plain(image.namespace, width=60),
        status=str(image.status),
        rank=_RANK[image.status],
        platforms=", ".join(plain(p.platform, width=40) or "no platform" for p in image.platforms[:4]),
        bytes=total,
        size=size(total) if nodes else "",
        lines=lines,
        note="" if lines else _note(nodes),
    )


def _note(nodes: Sequence[Node]) -> str:
    """The tree in one sentence."""
    if not nodes:
        return "This report has no image trees."
    states = Counter(node.state for node in nodes)
    counted = ", ".join(f"{number} {plain(state, width=40)}" for state, number in states.most_common())
    return f"{plural(len(nodes), 'object')}: {counted}. auditor tree prints them."


def _lines(image: ImageState, *, fold: bool) -> Iterator[Line]:
    """The lines of the tree, in order."""
    if image.tree is None:
        return
    flat = list(_flat(image.tree, 0, fold=fold))
    for (depth, node, what, total), following in zip(flat, [*flat[1:], None], strict=True):
        then = following[0] if following else 0
        part = byte_totals.kind(node) if node.snapshot in _UNPACKED else "fault"
        yield Line(
            opens=then > depth,
            ends=max(0, depth - then),
            what=what,
            digest=plain(node.digest if part in ("corrupt", "fault") else node.digest.partition(":")[2][:12]),
            size=size(max(0, total)),
            state=plain(f"{node.state}; unpacked files: {node.snapshot}" if node.snapshot else node.state, width=80),
            part=part,
        )


def _flat(node: Node, depth: int, *, fold: bool) -> Iterator[tuple[int, Node, str, int]]:
    platform = f" {plain(node.platform, width=40)}" if node.platform else ""
    yield depth, node, f"{plain(node.kind, width=40)}{platform}", node.size
    for _, same in groupby(node.children, key=lambda child: _fold_key(child, fold=fold)):
        group = list(same)
        if len(group) > 1:
            total = sum(max(0, child.size) for child in group)
            yield depth + 1, group[0], _folded(group), total
            continue
        for child in group:
            yield from _flat(child, depth + 1, fold=fold)


def _fold_key(node: Node, *, fold: bool) -> object:
    """Siblings with the same key are one line: platforms that were not pulled always, intact layers if `fold`."""
    if node.state == "not pulled" and not node.children:
        return "not pulled", node.kind.split(" ")[0]
    if fold and node.kind.startswith("layer") and byte_totals.kind(node) in _FINE and node.snapshot in _UNPACKED:
        return "layers", node.state, node.snapshot
    return id(node)


def _folded(group: Sequence[Node]) -> str:
    if group[0].kind.startswith("layer"):
        return f"{plain(group[0].kind, width=40)} to {plain(group[-1].kind.removeprefix('layer '), width=20)}"
    platforms = ", ".join(plain(node.platform, width=30) for node in group[:6] if node.platform)
    return plural(len(group), f"other {plain(group[0].kind, width=20)}") + (f" ({platforms})" if platforms else "")
