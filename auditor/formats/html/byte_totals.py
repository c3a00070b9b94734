"""The bytes of a store by state: verified, unverified, absent by design or by fault, corrupt; from the image trees."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

import msgspec

from auditor.model.findings import Node, Report

_BAD: Final = frozenset({"corrupt", "wrong size", "malformed", "undecodable"})
_FAULT: Final = frozenset({"missing", "skipped by the unpacker", "lost to a shared config", "no file"})
_DESIGN: Final = frozenset({"discarded", "lazy", "foreign", "not pulled", "pull in progress", "absent"})


class Share(msgspec.Struct, frozen=True, kw_only=True):
    """One part of the store.

    `x` and `width` are in thousandths of the picture; `percent` is of all bytes present or required.
    """

    key: str
    label: str
    means: str
    bytes: int
    blobs: int
    x: float = 0
    width: float = 0
    percent: str = ""


_SHARES: Final = (
    ("sound", "verified", "read, and the digest matches"),
    ("unproven", "not verified", "present, contents not read by this run"),
    ("loose", "in no image", "present, referenced by no image"),
    ("design", "absent by design", "discarded after unpacking, lazy, or of another platform"),
    ("fault", "absent by fault", "required and missing"),
    ("corrupt", "corrupt", "present, and does not match its digest"),
)
#: Smallest width of a part, so that few corrupt bytes stay visible beside terabytes.
_NARROWEST: Final = 8.0
_WHOLE: Final = 1000.0


_PARTS: Final = {
    **dict.fromkeys(("verified", "embedded"), "sound"),
    **dict.fromkeys(_DESIGN, "design"),
    **dict.fromkeys(_FAULT, "fault"),
    **dict.fromkeys(_BAD, "corrupt"),
}

#: The nodes of each image's tree, in the order of the report's images.
Nodes = Sequence[Sequence[Node]]


def kind(node: Node) -> str:
    """Which part of the store a node belongs to."""
    if node.state == "absent" and node.kind.startswith("layer"):
        return "fault"
    return _PARTS.get(node.state, "unproven")


def take(report: Report, nodes: Nodes) -> tuple[Share, ...]:
    """The shares of the store; each digest counts once, by its worst state. Empty shares are left out."""
    found = _by_digest(nodes)
    sums = {key: [0, 0] for key, _, _ in _SHARES}
    for what, size in found.values():
        sums[what][0] += size
        sums[what][1] += 1
    held = [entry for entry in found.values() if entry[0] in ("sound", "unproven", "corrupt")]
    sums["loose"] = _loose(report, sum(size for _, size in held), len(held))
    shares = (
        Share(key=key, label=label, means=means, bytes=sums[key][0], blobs=sums[key][1])
        for key, label, means in _SHARES
    )
    return tuple(_laid([share for share in shares if share.bytes or share.blobs]))


_ORDER: Final = {part: rank for rank, part in enumerate(("design", "unproven", "sound", "fault", "corrupt"))}


def _by_digest(nodes: Nodes) -> dict[str, tuple[str, int]]:
    found: dict[str, tuple[str, int]] = {}
    for same in nodes:
        for node in same:
            what = kind(node)
            before = found.get(node.digest)
            if before is None or _ORDER[what] > _ORDER[before[0]]:
                found[node.digest] = (what, max(0, node.size))
    return found


def _loose(report: Report, size: int, blobs: int) -> list[int]:
    """Bytes and blobs that are present and in no tree."""
    s = report.summary
    return [max(0, s.bytes.present - size), max(0, s.blobs.present - blobs)]


def _laid(shares: list[Share]) -> Iterator[Share]:
    total = sum(share.bytes for share in shares) or 1
    widths = [max(_NARROWEST, _WHOLE * share.bytes / total) for share in shares]
    scale = _WHOLE / (sum(widths) or 1)
    x = 0.0
    for share, width in zip(shares, widths, strict=True):
        percent = _percent(share.bytes / total)
        yield msgspec.structs.replace(share, x=round(x, 1), width=round(width * scale, 1), percent=percent)
        x += width * scale


def _percent(part: float) -> str:
    if 0 < part < 0.001:  # noqa: PLR2004 - smaller would be shown as nothing
        return "< 0.1 %"
    return f"{part * 100:.1f} %"


def total(nodes: Iterable[Node]) -> int:
    """The bytes of some nodes, each digest once."""
    here = {node.digest: node.size for node in nodes if node.state != "not pulled"}
    return sum(size for size in here.values() if size > 0)
