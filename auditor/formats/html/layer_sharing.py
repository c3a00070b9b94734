"""A grid of shared layers: one row per image, one column per layer that several images use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from auditor.formats.html import byte_totals
from auditor.formats.sanitize import plain
from auditor.model.findings import ImageState, Node, Report, Status

ROWS: Final = 14
COLUMNS: Final = 28
#: Sizes of the drawing in its units: name column, cell, row, total width; bars take the rest.
_NAMES, _CELL, _ROW = 300.0, 16.0, 24.0
_WIDTH: Final = 1120.0


class Cell(msgspec.Struct, frozen=True):
    """A layer of an image; `part` is the part of the store it belongs to."""

    x: float
    part: str


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """An image: its shared and own bytes, and their widths in the drawing."""

    name: str
    y: float
    bad: bool
    cells: tuple[Cell, ...]
    shared: int
    own: int
    shared_width: float
    own_width: float


class Layer(msgspec.Struct, frozen=True, kw_only=True):
    """A layer that several images use."""

    digest: str
    size: int
    state: str
    part: str
    images: int


class Sharing(msgspec.Struct, frozen=True, kw_only=True):
    """The grid; `saved` is the number of bytes that sharing saves."""

    rows: tuple[Row, ...]
    layers: tuple[Layer, ...]
    images: int
    saved: int
    bars_x: float
    width: float
    height: float


def draw(report: Report, nodes: byte_totals.Nodes) -> Sharing | None:
    """The images that share most layers, damaged ones first; None if no two images share a layer."""
    layers = [(image, _layers(mine)) for image, mine in zip(report.images, nodes, strict=True)]
    shared = _shared(layers)
    if not shared:
        return None
    ranked = sorted(
        shared.values(), key=lambda layer: (layer.part not in ("corrupt", "fault"), -layer.images, layer.digest)
    )
    columns = {layer.digest: index for index, layer in enumerate(ranked[:COLUMNS])}
    users = [(image, mine) for image, mine in layers if any(digest in shared for digest in mine)]
    users.sort(key=lambda user: (user[0].status is Status.SOUND, -sum(d in shared for d in user[1]), user[0].names))
    most = max(sum(node.size for node in mine.values()) for _, mine in users[:ROWS]) or 1
    bars = _NAMES + len(columns) * _CELL + 16
    rows = (
        _row(i, *user, columns=columns, shared=shared, scale=(_WIDTH - bars - 10) / most)
        for i, user in enumerate(users[:ROWS])
    )
    return Sharing(
        rows=tuple(rows),
        layers=tuple(ranked[:COLUMNS]),
        images=len(users),
        saved=sum(layer.size * (layer.images - 1) for layer in shared.values()),
        bars_x=bars,
        width=_WIDTH,
        height=min(len(users), ROWS) * _ROW + 8,
    )


_Images = Sequence[tuple[ImageState, Mapping[str, Node]]]


def _layers(nodes: Sequence[Node]) -> dict[str, Node]:
    return {node.digest: node for node in nodes if node.kind.startswith("layer") and node.state != "not pulled"}


def _shared(images: _Images) -> dict[str, Layer]:
    """By digest, the layers of two images or more; an image in two namespaces is one image."""
    users: dict[str, set[str]] = {}
    nodes: dict[str, Node] = {}
    for image, mine in images:
        for digest, node in mine.items():
            users.setdefault(digest, set()).add(image.target)
            nodes[digest] = node
    return {
        digest: Layer(
            digest=digest,
            size=max(0, node.size),
            state=node.state,
            part=byte_totals.kind(node),
            images=len(users[digest]),
        )
        for digest, node in nodes.items()
        if len(users[digest]) > 1
    }


def _row(
    index: int,
    image: ImageState,
    mine: Mapping[str, Node],
    *,
    columns: Mapping[str, int],
    shared: Mapping[str, Layer],
    scale: float,
) -> Row:
    common = sum(max(0, node.size) for digest, node in mine.items() if digest in shared)
    own = sum(max(0, node.size) for digest, node in mine.items() if digest not in shared)
    cells = (Cell(_NAMES + columns[d] * _CELL, byte_totals.kind(node)) for d, node in mine.items() if d in columns)
    return Row(
        name=plain(image.names[0] if image.names else image.target, width=42),
        y=4 + index * _ROW,
        bad=image.status is not Status.SOUND,
        cells=tuple(sorted(cells, key=lambda cell: cell.x)),
        shared=common,
        own=own,
        shared_width=round(common * scale, 1),
        own_width=round(own * scale, 1),
    )
