"""The texts and numbers of the page of several nodes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from auditor.checks.rule import Rule
from auditor.formats.fleet import copies
from auditor.formats.html.node_page import Verdict
from auditor.formats.sanitize import plain
from auditor.model.findings import Status
from auditor.model.plural import plural
from auditor.report.fleet import Fleet, FleetFinding, FleetImage

FINDINGS: Final = 1_500
IMAGES: Final = 5_000
#: Nodes named in a cell; the rest is counted.
NODES: Final = 8
_RANKS: Final = {Status.DAMAGED: 0, Status.UNKNOWN: 1, Status.SOUND: 2}
_MARKS: Final = {Status.SOUND: "sound", Status.DAMAGED: "damaged", Status.UNKNOWN: "unknown"}


class NodeRow(msgspec.Struct, frozen=True, kw_only=True):
    """A node in the table."""

    name: str
    status: str
    rank: int
    images: int
    damaged: int
    critical: int
    error: int
    warning: int
    looked: str
    when: str


class FindingRow(msgspec.Struct, frozen=True, kw_only=True):
    """A finding, the nodes that have it, and the nodes with a good copy."""

    severity: str
    rank: int
    code: str
    message: str
    subject: str
    nodes: tuple[str, ...]
    more_nodes: int
    images: tuple[str, ...]
    copy: str
    saved: bool


class ImageRow(msgspec.Struct, frozen=True, kw_only=True):
    """An image: its worst status, the nodes on which it is damaged, and the numbers of others that have it."""

    name: str
    status: str
    rank: int
    damaged: tuple[str, ...]
    more_damaged: int
    unknown: int
    sound: int


class FleetPage(msgspec.Struct, frozen=True, kw_only=True):
    """Everything on the page."""

    title: str
    verdict: Verdict
    nodes: tuple[NodeRow, ...]
    rows: tuple[FindingRow, ...]
    hidden_rows: int
    images: tuple[ImageRow, ...]
    hidden_images: int
    advice: Mapping[str, Rule]


def page(fleet: Fleet, *, advice: Mapping[str, Rule]) -> FleetPage:
    """Build the page."""
    judged = _verdict(fleet)
    return FleetPage(
        title=judged.words,
        verdict=judged,
        nodes=_nodes(fleet),
        rows=tuple(_row(finding) for finding in fleet.findings[:FINDINGS]),
        hidden_rows=max(0, len(fleet.findings) - FINDINGS),
        images=tuple(map(_image, fleet.images[:IMAGES])),
        hidden_images=max(0, len(fleet.images) - IMAGES),
        advice=advice,
    )


def _verdict(fleet: Fleet) -> Verdict:
    damaged = sum(node.status is Status.DAMAGED for node in fleet.nodes)
    unknown = sum(node.status is Status.UNKNOWN for node in fleet.nodes)
    number = plural(len(fleet.nodes), "node")
    if damaged:
        words = f"{damaged} of {number} damaged"
        return Verdict(
            "bad", words, f"{plural(len(fleet.findings), 'finding')} in total" + _and(unknown) + _unread(fleet)
        )
    if unknown or fleet.unread:
        what = f"on {unknown} of {number}; no problems in what could be checked{_unread(fleet)}"
        return Verdict("unknown", "Not fully checked", what)
    if fleet.findings:
        return Verdict("warn", "Warnings", f"{plural(len(fleet.findings), 'warning')} on {number}, no damage")
    return Verdict("good", "No problems found", number)


def _and(unknown: int) -> str:
    return f"; {plural(unknown, 'node')} could not be fully checked" if unknown else ""


def _unread(fleet: Fleet) -> str:
    if not fleet.unread:
        return ""
    first = plain(fleet.unread[0].reason, width=200)
    return f"; {plural(len(fleet.unread), 'file')} could not be read, the first: {first}"


def _nodes(fleet: Fleet) -> tuple[NodeRow, ...]:
    return tuple(
        NodeRow(
            name=plain(node.name, width=80),
            status=_MARKS[node.status],
            rank=_RANKS[node.status],
            images=node.images.total,
            damaged=node.images.damaged,
            critical=node.findings.critical,
            error=node.findings.error,
            warning=node.findings.warning,
            looked=str(node.verify),
            when=f"{node.finished_at:%Y-%m-%d %H:%M}",
        )
        for node in fleet.nodes
    )


def _row(finding: FleetFinding) -> FindingRow:
    return FindingRow(
        severity=str(finding.severity),
        rank=finding.severity.rank,
        code=plain(finding.code, width=60),
        message=plain(finding.message, width=500),
        subject=plain(finding.subject.id, width=160),
        nodes=_names(finding.nodes),
        more_nodes=max(0, len(finding.nodes) - NODES),
        images=tuple(plain(name, width=140) for name in finding.images[:4]),
        copy=plain(copies(finding), width=300),
        saved=bool(finding.proven_on or finding.held_on),
    )


def _image(image: FleetImage) -> ImageRow:
    worst = Status.DAMAGED if image.damaged else Status.UNKNOWN if image.unknown else Status.SOUND
    return ImageRow(
        name=plain(image.name, width=140),
        status=_MARKS[worst],
        rank=_RANKS[worst],
        damaged=_names(image.damaged),
        more_damaged=max(0, len(image.damaged) - NODES),
        unknown=len(image.unknown),
        sound=len(image.sound),
    )


def _names(nodes: Sequence[str]) -> tuple[str, ...]:
    return tuple(plain(node, width=60) for node in nodes[:NODES])
